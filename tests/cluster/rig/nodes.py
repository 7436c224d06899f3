"""The two nodes: containerd, kubelet and kube-proxy, in namespaces that end together."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from . import cgroups
from .certificates import key, kubeconfig, path
from .console import run, wait_until
from .places import BIN, DNS_SERVICE, FILES, LOGS, NODES, PODS, PUSH_TO, REGISTRY, RUN, NodePlace
from .processes import Process, marked, signal_all


class Kubelet:
    """The kubelet of one node. A killed one comes back by itself within a second, as under systemd."""

    def __init__(self, place: NodePlace) -> None:
        self._place = place
        self._off = place.folder / "no-kubelet"

    @property
    def pids(self) -> list[int]:
        return marked(self._place.name, "kubelet")

    def kill(self) -> None:
        """As a crash: it is started again."""
        signal_all(self.pids, signal.SIGKILL)

    def stop(self) -> None:
        """Keeps it down: the node goes NotReady after some 50 s, its pods run on."""
        self._off.touch()
        signal_all(self.pids, signal.SIGKILL)
        wait_until(lambda: not self.pids, f"the end of {self._place.name}'s kubelet", seconds=10)

    def start(self) -> None:
        self._off.unlink(missing_ok=True)
        wait_until(lambda: bool(self.pids), f"the start of {self._place.name}'s kubelet", seconds=10)

    def freeze(self) -> None:
        """It hangs, as with a stuck disk."""
        signal_all(self.pids, signal.SIGSTOP)

    def thaw(self) -> None:
        signal_all(self.pids, signal.SIGCONT)


class Node(Process):
    """One node. ``stop()`` is a power cut: all of its containers die with it; ``start()`` boots it again."""

    def __init__(self, place: NodePlace) -> None:
        super().__init__(place.name)
        self.place = place
        self.kubelet = Kubelet(place)

    def define_all(self) -> None:
        """Its configuration and the command that starts it."""
        folder = self.place.folder
        for name, config in (
            ("kubelet.json", _kubelet(self.place)),
            ("kube-proxy.json", _kube_proxy(self.place)),
            ("cni/10-mlmp.conflist", _pod_network(self.place)),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(json.dumps(config, indent=1))
        (folder / "kubeconfig").write_bytes(kubeconfig(self.name).read_bytes())
        (folder / "kubeconfig").chmod(0o600)
        # Nothing outside can be reached from here: to ask nobody is to fail at once.
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        mirror = folder / "registries" / REGISTRY
        mirror.mkdir(parents=True, exist_ok=True)
        (mirror / "hosts.toml").write_text(
            f'server = "http://{PUSH_TO}"\n[host."http://{PUSH_TO}"]\n  capabilities = ["pull", "resolve"]\n'
        )
        self.define(
            "env", f"PATH={BIN}:{os.environ['PATH']}",
            "nsenter", f"--net=/run/netns/{self.place.netns}",
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
            "bash", FILES / "node_init.sh", self.name, self.place.address, folder, LOGS,
        )  # fmt: skip

    def configure_containerd(self, pause: str) -> None:
        """``pause``: the image that holds a pod's namespaces."""
        (self.place.folder / "containerd.toml").write_text(CONTAINERD.format(folder=self.place.folder, pause=pause))

    def start(self) -> None:
        cgroups.make(self.place)
        super().start()

    def restart_programs(self) -> None:
        """Kills kubelet and kube-proxy, which come back by themselves; containers and connections go on."""
        for program in ("kubelet", "kube-proxy"):
            before = marked(self.name, program)
            signal_all(before, signal.SIGKILL)
            wait_until(
                lambda program=program, before=before: bool(set(marked(self.name, program)) - set(before)),
                f"{self.name}'s new {program}",
                seconds=10,
            )

    def run(self, *command: str) -> str:
        """What the command prints inside the node: ``run("ctr", "-n", "k8s.io", "images", "list")``."""
        inside = next(pid for pid in marked(self.name, "bash") if _is_first(pid))
        return run("nsenter", f"--target={inside}", "--mount", "--pid", "--net", *command)


def nodes() -> list[Node]:
    """Both."""
    return [Node(place) for place in NODES]


def _is_first(pid: int) -> bool:
    """Whether it is process 1 of its namespace."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
    return line.split()[-1] == "1"


CONTAINERD = """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE no sandbox could be made otherwise.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{folder}/registries"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
"""


def _kubelet(place: NodePlace) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.cgroup}",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(path("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(path(f"{place.name}-serving")),
        "tlsPrivateKeyFile": str(key(f"{place.name}-serving")),
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": str(place.folder / "resolv.conf"),
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        # The disk is the machine's: its being full by the standards of a node says nothing.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
        "serializeImagePulls": False,
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
    }


def _kube_proxy(place: NodePlace) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": PODS,
        "clientConnection": {"kubeconfig": str(RUN / "kube-proxy.kubeconfig")},
        "hostnameOverride": place.name,
        "oomScoreAdj": 0,
        # All zero: it may not set these limits here, and would end.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _pod_network(place: NodePlace) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": place.pods}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "mlmp", "plugins": [bridge, ports]}


def remove_cgroups() -> None:
    """Of nodes that have ended."""
    for place in NODES:
        cgroups.remove(place)
