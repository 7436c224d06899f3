#!/usr/bin/env bash
# Process 1 of a node, in net, mount and pid namespaces of its own: all that it starts and mounts ends with it.
# node_init.sh NAME ADDRESS FOLDER LOGS, with PATH leading to kubelet and kube-proxy.
set -euo pipefail
name=$1 address=$2 node=$3 logs=$4

mount --make-rprivate /
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/netns
put() { # a folder of the node's own over one of the machine's
    mkdir -p "$node/$1" "$2"
    mount --bind "$node/$1" "$2"
}
put kubelet /var/lib/kubelet
put containerd /var/lib/containerd
put cni /etc/cni/net.d
put cni-state /var/lib/cni
put pod-logs /var/log/pods
put container-logs /var/log/containers
mount --make-rshared /var/lib/kubelet
# A kernel without an NFS client: ours takes the place of nfs-common's mount.nfs.
modprobe --quiet nfsv3 2>/dev/null || true
grep -qw nfs /proc/filesystems || mount --bind "$(command -v mount.nfs.mlmp)" "$(realpath /sbin/mount.nfs)"
mount --bind "$node/resolv.conf" "$(realpath /etc/resolv.conf)"

containerd --config "$node/containerd.toml" >>"$logs/containerd-$name.log" 2>&1 &
for _ in $(seq 300); do
    ctr --address /run/containerd/containerd.sock version >/dev/null 2>&1 && break
    sleep 0.1
done
while :; do
    kube-proxy --config "$node/kube-proxy.json" >>"$logs/kube-proxy-$name.log" 2>&1 || true
    sleep 0.2
done &

# The file no-kubelet keeps it down; otherwise it is started again, as systemd would.
while :; do
    if [ -e "$node/no-kubelet" ]; then
        sleep 0.2
        continue
    fi
    kubelet --config "$node/kubelet.json" --kubeconfig "$node/kubeconfig" --hostname-override "$name" \
        --node-ip "$address" --v 2 >>"$logs/kubelet-$name.log" 2>&1 || echo "kubelet ended: $?" >>"$logs/kubelet-$name.log"
    sleep 0.2
done
