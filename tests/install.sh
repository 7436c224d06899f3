#!/usr/bin/env bash
# Installs what the tests need of the system, PostgreSQL, Chromium, OpenSSH, slapd and a C compiler, from Debian's packages, as
# root or by sudo. `tests/install.sh faults` installs PyTorch and Java as well, `tests/install.sh cluster` what the test cluster needs.
# Elsewhere it says what will be skipped and how to get it; with CI=true nothing may be skipped.
set -euo pipefail

what=${1:-}
case $what in
"" | faults | cluster) ;;
*)
    echo "tests/install.sh takes no argument, 'faults' or 'cluster', not '$what'" >&2
    exit 2
    ;;
esac

have_postgresql() { command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }
have_chromium() { command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; }

# PROGRAM:PACKAGE; system programs need not be on the PATH of a user.
programs="sshd:openssh-server ssh:openssh-client rsync:rsync slapd:slapd"
cluster_programs="containerd:containerd runc:runc /usr/lib/cni/bridge:containernetworking-plugins ip:iproute2
    iptables:iptables nft:nftables conntrack:conntrack socat:socat buildah:buildah /usr/lib/podman/netavark:netavark mmdebstrap:mmdebstrap
    docker-registry:docker-registry setpriv:util-linux sysctl:procps
    ganesha.nfsd:nfs-ganesha rpcbind:rpcbind mount.nfs:nfs-common fusermount3:fuse3 pkg-config:pkg-config"
# PKG-CONFIG'S NAME:PACKAGE
cluster_libraries="fuse3:libfuse3-dev libnfs:libnfs-dev"

missing() {
    have_postgresql || echo postgresql
    have_chromium || echo chromium
    command -v cc >/dev/null || command -v gcc >/dev/null || echo gcc libc6-dev
    [ "$what" != faults ] || [ -x /usr/bin/torchrun ] || echo python3-torch
    [ "$what" != faults ] || command -v java >/dev/null || echo openjdk-17-jre-headless
    [ "$what" != cluster ] || programs="$programs $cluster_programs"
    for word in $programs; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${word%%:*}" >/dev/null || echo "${word#*:}"
    done
    [ "$what" = cluster ] || return 0
    for word in $cluster_libraries; do
        command -v pkg-config >/dev/null && pkg-config --exists "${word%%:*}" || echo "${word#*:}"
    done
    compgen -G '/usr/lib/*/ganesha/libfsalvfs.so' >/dev/null || echo nfs-ganesha-vfs
}

wanted=$(missing)
[ -z "$wanted" ] && exit 0

root=
if [ "$(id -u)" != 0 ]; then
    root=none
    command -v sudo >/dev/null && sudo -n true 2>/dev/null && root="sudo -n"
fi
if [ "$root" != none ] && command -v apt-get >/dev/null; then
    log=$(mktemp)
    echo "installing $(echo $wanted)"
    # Nothing of what is installed is started: the tests run their own servers in temporary directories.
    policy=/usr/sbin/policy-rc.d
    [ -e $policy ] && policy= || printf '#!/bin/sh\nexit 101\n' | $root install -m 755 /dev/stdin $policy
    if ! { $root apt-get update &&
        $root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
            -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 $wanted; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
    fi
    rm -f "$log"
    [ -z "$policy" ] || $root rm -f $policy
    case $wanted in
    *openssh-server*) command -v systemctl >/dev/null && $root systemctl disable --quiet ssh 2>/dev/null || true ;;
    esac
    case $wanted in
    *nfs-ganesha*) command -v systemctl >/dev/null &&
        $root systemctl disable --quiet nfs-ganesha rpcbind.socket rpcbind.service 2>/dev/null || true ;;
    esac
fi

wanted=$(missing)
[ -z "$wanted" ] && exit 0
echo "not here, so its tests are skipped: $(echo $wanted). To get it: sudo apt-get install $(echo $wanted)" >&2
if [ "${CI:-}" = true ]; then
    echo "CI=true: nothing may be skipped" >&2
    exit 1
fi
