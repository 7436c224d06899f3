#!/usr/bin/env bash
# Process 1 of the NFS server's namespaces: all that it starts ends with it.
# nfs_server.sh GANESHA_CONF LOG
set -euo pipefail

mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/rpcbind /run/ganesha
# Without it nfs-ganesha can't register NFSv3, and ends.
rpcbind -w -f &
for _ in $(seq 100); do
    [ -S /run/rpcbind.sock ] && break
    sleep 0.05
done
exec ganesha.nfsd -F -f "$1" -L "$2" -p /run/ganesha.pid
