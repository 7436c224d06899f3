#!/usr/bin/env bash
# Resolves requirements/*.lock for every Python from 3.10 on. Further arguments go to uv, as in: make lock, or
# tools/lock.sh --upgrade
set -euo pipefail
cd "$(dirname "$0")/.."

resolve() { # NAME, then uv's arguments
    name=$1
    shift
    .venv/bin/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-emit-index-url \
        --no-emit-find-links --output-file "requirements/$name.lock" "$@" setup.cfg
}

resolve hub --extra hub --constraints requirements/limits.txt "$@"
# The same versions everywhere: what the others add is chosen to fit the hub.
resolve kube --extra hub --extra kube --extra oauth --extra ldap --extra ssh --constraints requirements/hub.lock "$@"
resolve lab --extra lab --constraints requirements/hub.lock "$@"
resolve dev --extra hub --extra kube --extra ssh --extra lab --extra spark --extra dev --constraints requirements/kube.lock "$@"

# What the images of images/ hold: for their Python alone, so that each line is one package that is there.
image() { # OUTPUT, then uv's arguments
    output=$1
    shift
    .venv/bin/uv pip compile --quiet --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links \
        --output-file "$output" "$@"
}

image requirements/hub-image.lock --python-platform linux --extra hub --extra kube --extra oauth --extra ldap --extra ssh \
    --constraints requirements/kube.lock --overrides images/hub/without.txt "$@" setup.cfg
image images/build.lock --python-platform linux "$@" images/build.in
image images/lab/node.lock --python-platform linux --constraints requirements/hub.lock "$@" images/lab/node.in
image images/ssh/ssh.lock --python-platform linux --constraints requirements/lab.lock "$@" images/ssh/ssh.in setup.cfg
# PyTorch as on Windows, where PyPI has it without CUDA: which CUDA packages are needed, the chosen build itself says.
image images/lab-pytorch/torch.lock --python-platform windows --constraints requirements/lab.lock "$@" \
    images/lab-pytorch/torch.in
image images/lab-spark/spark.lock --python-platform linux --extra spark --constraints requirements/lab.lock "$@" \
    images/lab-spark/spark.in setup.cfg
