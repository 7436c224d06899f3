"""Where the test cluster lies and how its parts are called: names, subnets and ports that no other cluster has."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

#: What one run writes; gone after it. One per machine, since bridge and addresses are the machine's.
STATE = Path("/var/lib/mlmp-test-cluster")
RUN = STATE / "run"
LOGS = RUN / "logs"
#: Binaries, and the layers of images, which outlive a run.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlmp-test-cluster"
PROJECT = Path(__file__).resolve().parents[3]
FILES = Path(__file__).parent / "files"
#: Logs of runs that failed.
KEPT_LOGS = PROJECT / "build" / "test-cluster"

BRIDGE = "mlmp0"
HOST = "192.168.78.1"
PODS = "10.245.0.0/16"
SERVICES = "10.97.0.0/16"
KUBERNETES_SERVICE = "10.97.0.1"
DNS_SERVICE = "10.97.0.10"
#: What pods must not reach listens here: all of 127/8 is the machine itself.
LOOPBACK = "127.78.0.1"
API = f"https://{HOST}:6443"
ETCD = f"http://{LOOPBACK}:2379"
#: The registry, as pod specs name it and as the machine pushes to it.
REGISTRY = "registry.mlmp.test"
PUSH_TO = f"{HOST}:5078"

ADMIN = RUN / "admin.kubeconfig"
BIN = RUN / "bin"
CERTIFICATES = RUN / "certificates"


@dataclass(frozen=True)
class NodePlace:
    """A node's name and addresses."""

    name: str
    address: str
    pods: str

    @property
    def folder(self) -> Path:
        return RUN / self.name

    @property
    def netns(self) -> str:
        return f"mlmp-{self.name}"

    @property
    def interface(self) -> str:
        return f"mlmp-{self.name[-1]}"

    @property
    def cgroup(self) -> str:
        return f"mlmp-{self.name}"


@dataclass(frozen=True)
class NfsPlace:
    """Where the NFS server is: beside the nodes, as a storage system is."""

    address: str
    netns: str
    interface: str


NODES = (
    NodePlace("node-a", "192.168.78.11", "10.245.11.0/24"),
    NodePlace("node-b", "192.168.78.12", "10.245.12.0/24"),
)
NFS = NfsPlace("192.168.78.20", "mlmp-nfs", "mlmp-nfs")
