"""Up and down, from whatever state the machine is in."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import Template

from . import binaries, certificates, control_plane, hardware, images, network, nfs, nodes, registry, volumes
from .console import RigError, run, say, step, wait_until
from .places import ADMIN, BIN, DNS_SERVICE, FILES, NODES, PUSH_TO, REGISTRY, RUN, STATE
from .processes import kill_everything, marked

#: What a cluster that is up says of itself; read by ``cluster.py``.
DESCRIPTION = RUN / "cluster.json"


@contextmanager
def alone() -> Iterator[None]:
    """Holds the machine's one test cluster. Raises RigError where another process does."""
    if os.geteuid() != 0:
        raise RigError(
            "the test cluster makes namespaces, bridges and mounts and therefore needs root. "
            "With another cluster it needs none: KUBECONFIG=… make test-cluster"
        )
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise RigError(
                f"process {lock.read().strip() or '?'} uses this machine's test cluster, of which there is but one. "
                "Wait until it has ended, or end it."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def is_up() -> bool:
    """Whether a whole cluster is there and answers."""
    return DESCRIPTION.exists() and all(
        process.alive for process in (control_plane.etcd, control_plane.api_server, *nodes.nodes())
    )


def is_kept() -> bool:
    """Whether it was brought up to stay, by ``up``."""
    return is_up() and bool(json.loads(DESCRIPTION.read_text())["kept"])


def up(*, kept: bool, programs: Sequence[str] = ()) -> None:
    """Two Ready nodes, DNS, storage (claims and NFS) and a registry.

    ``programs``: builds beyond those of every cluster, ``kwok`` and ``kueue``. Raises RigError; what is then there
    is for ``down`` to remove.
    """
    folders = binaries.ensure((*binaries.CLUSTER, *programs))
    binaries.link(folders, BIN)
    with step("control plane, network, registry, NFS server"):
        certificates.make()
        network.up()
        registry.up()
        nfs.up()
        control_plane.up()
    pause, coredns = images.pause(), images.coredns()
    with step(f"nodes {', '.join(node.name for node in NODES)}"):
        for node in nodes.nodes():
            node.define_all()
            node.configure_containerd(pause)
            node.start()
        _introduce(coredns)
        wait_until(_nodes_ready, "two Ready nodes", seconds=90, every=0.3)
    hardware.install()
    volumes.up()
    with step("DNS"):
        kubectl = control_plane.kubectl()
        run(*kubectl, "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=90s")
    images.debian()
    describe(kept=kept, images_there={})
    say(f"up: KUBECONFIG={ADMIN}")


def build_images() -> None:
    """All images into the registry, with nothing else running."""
    down()
    try:
        RUN.mkdir(parents=True)
        network.up()
        registry.up()
        for make in (images.pause, images.coredns, images.kueue, images.debian, images.project):
            make()
    finally:
        down()


def describe(*, kept: bool, images_there: dict[str, str]) -> None:
    """Writes what ``cluster.py`` reads."""
    description = {
        "kubeconfig": str(ADMIN),
        "registry": REGISTRY,
        "push_to": PUSH_TO,
        "nodes": [node.name for node in NODES],
        "images": images_there,
        "kept": kept,
    }
    unfinished = DESCRIPTION.with_suffix(".new")
    unfinished.write_text(json.dumps(description, indent=1))
    unfinished.rename(DESCRIPTION)


def down() -> None:
    """Removes all that is left of any run, also of one that was killed half-way. The caches stay."""
    if not RUN.exists() and not marked():
        network.down()
        return
    with step("down"):
        kill_everything()
        nodes.remove_cgroups()
        network.down()
        _unmount()
        shutil.rmtree(RUN, ignore_errors=True)


def _introduce(coredns: str) -> None:
    kubectl = control_plane.kubectl()
    manifest = Template((FILES / "coredns.yaml").read_text()).substitute(image=coredns, address=DNS_SERVICE)
    run(*kubectl, "apply", "-f", "-", text_in=manifest)
    binding = ("create", "clusterrolebinding", "kube-proxy", "--clusterrole=system:node-proxier")
    run(*kubectl, *binding, "--user=system:kube-proxy")


def _nodes_ready() -> bool:
    for node in nodes.nodes():
        node.require()
    said = run(*control_plane.kubectl(), "get", "nodes", "-o", "json")
    ready = [
        item["metadata"]["name"]
        for item in json.loads(said)["items"]
        for condition in item["status"].get("conditions", [])
        if condition["type"] == "Ready" and condition["status"] == "True"
    ]
    return sorted(ready) == [node.name for node in NODES]


def _unmount() -> None:
    """What a node mounted is gone with it; this is for what a killed start left."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        point = line.split()[1]
        if point.startswith(f"{RUN}/"):
            subprocess.run(["umount", "--lazy", point], capture_output=True)
