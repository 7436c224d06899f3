"""A cgroup per node, in every hierarchy of cgroup v1, for its kubelet to put pods into."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .console import RigError, wait_until
from .places import NodePlace

ROOT = Path("/sys/fs/cgroup")
#: Of all pods of a node together, in the kernel's units: without it they weigh as much as one process beside them.
SHARES = 4 * 1024


def make(node: NodePlace) -> None:
    """Raises RigError where the machine has only cgroup v2, which this rig was never seen to run on."""
    if not (ROOT / "cpuset" / "cpuset.cpus").exists():
        raise RigError(
            "this machine has no cgroup v1, on which alone the test cluster was seen to run. Use another cluster, for "
            "example one that kind makes: KUBECONFIG=… make test-cluster"
        )
    for hierarchy in _hierarchies():
        (hierarchy / node.cgroup).mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):
        (ROOT / "cpuset" / node.cgroup / name).write_text((ROOT / "cpuset" / name).read_text())
    (ROOT / "cpu" / node.cgroup / "cpu.shares").write_text(f"{SHARES}")


def remove(node: NodePlace) -> None:
    """Waits for the last processes in them to end."""

    def removed() -> bool:
        for hierarchy in _hierarchies():
            for group, _, _ in os.walk(hierarchy / node.cgroup, topdown=False):
                with suppress(OSError):
                    os.rmdir(group)
        return not any((hierarchy / node.cgroup).exists() for hierarchy in _hierarchies())

    wait_until(removed, f"the end of the cgroups {node.cgroup}", seconds=20)


def _hierarchies() -> Iterator[Path]:
    """Links, such as cpu to cpu,cpuacct, are left out."""
    return (path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink())
