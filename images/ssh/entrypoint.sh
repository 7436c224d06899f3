#!/bin/sh
# Listens at $MLMP_SSH_SOCKET for as long as the pod is there. What ends the listener has it started again here: a
# container that ended at once would keep the server beside it from starting.
set -u
umask 077
: "${MLMP_SSH_SOCKET:?says where to listen; MLMP sets it in the container beside a server}"
while :; do
    mkdir -p "${MLMP_SSH_SOCKET%/*}"
    python3 -I -m mlmp_spawner.lab.ssh_listener "$MLMP_SSH_SOCKET"
    echo "the listener ended ($?); it is started again" >&2
    sleep 2
done
