"""Claims whose files are on the rig's NFS server, as an admin makes them: a volume of a path, and its claim."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubernetes import client

from tests.cluster.rig.cluster import Cluster


def folder(cluster: Cluster, export: str, name: str, mode: int = 0o755) -> Path:
    """A folder of an export, root's, as this machine sees it."""
    made = cluster.nfs.folder(export) / name
    made.mkdir()
    os.chmod(made, mode)
    return made


@contextmanager
def claim(cluster: Cluster, namespace: str, name: str, path: str) -> Iterator[str]:
    """The name of a claim of ``path`` on the server. The volume is gone afterwards, the claim with its namespace."""
    core = cluster.core()
    volume = f"{namespace}-{name}"
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    core.create_persistent_volume(
        {
            "metadata": {"name": volume},
            "spec": {
                **common,
                "capacity": {"storage": "1Gi"},
                "persistentVolumeReclaimPolicy": "Retain",
                "mountOptions": cluster.nfs.mount_options,
                "nfs": {"server": cluster.nfs.address, "path": path},
                "claimRef": {"namespace": namespace, "name": name},
            },
        }
    )
    spec = {**common, "volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}}
    core.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": name}, "spec": spec})
    try:
        yield name
    finally:
        core.delete_persistent_volume(volume, body=client.V1DeleteOptions(grace_period_seconds=0))


def give(path: Path, uid: int, *, make: bool = False) -> None:
    """Makes it somebody's; ``make``: as a folder that is new."""
    if make:
        path.mkdir(mode=0o700)
    os.chown(path, uid, uid)
