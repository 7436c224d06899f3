"""Where a benchmark runs, and what all of them do there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.kube.labels import KIND, OWNER, RESERVATION, SERVER, SERVER_NAME, deadline_annotations
from tests.cluster.hub_here import Hub, wait_for
from tests.cluster.rig.cluster import Cluster

GPU = "nvidia.com/gpu"
FITS = "c.MLMPKubeSpawner.requested_share = 0.05\n"
"""So that servers which may use a core each find room on a small node."""
TOLERATED = {"key": "kwok.x-k8s.io/node", "operator": "Exists"}


@dataclass(frozen=True)
class Place:
    """A namespace of its own on a cluster, and a folder that is gone afterwards."""

    cluster: Cluster
    core: client.CoreV1Api
    namespace: str
    folder: Path

    @contextmanager
    def hub(self, name: str, *, image: str, settings: str = "") -> Iterator[Hub]:
        """A hub on this machine whose users' servers are pods here, with MLMP's spawner unless ``settings`` differ."""
        folder = self.folder / name
        folder.mkdir()
        made = Hub(
            folder, self.core, self.namespace, kubeconfig=self.cluster.kubeconfig, image=image, resource=GPU,
            nodes={self.cluster.nodes[0]: 2}, settings=FITS + settings, cpus=1, memory="1GiB",
        )  # fmt: skip
        try:
            yield made.start()
        finally:
            made.close()

    def server_pod(self, number: int, *, stops_at: int, end: int, simulated: bool) -> dict[str, Any]:
        """A pod that looks like a server whose booking ends then (ms UTC)."""
        spec: dict[str, Any] = {
            "containers": [{"name": "notebook", "image": self.cluster.debian, "command": ["sleep", "3600"]}],
            "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False, "restartPolicy": "Never",
        }  # fmt: skip
        if simulated:
            spec |= {"nodeSelector": {"type": "kwok"}, "tolerations": [TOLERATED]}
        deadline = deadline_annotations(Deadline(stop_at=stops_at, end=end))
        metadata = {
            "name": f"server-{number}",
            "labels": {KIND: SERVER, RESERVATION: f"r{number}"},
            "annotations": {OWNER: f"user{number}", SERVER_NAME: "", **deadline},
        }
        return {"metadata": metadata, "spec": spec}

    def running(self) -> int:
        """How many pods run."""
        pods = self.core.list_namespaced_pod(self.namespace, resource_version="0").items
        return sum(pod.status.phase == "Running" for pod in pods)


def seconds_until_ready(hub: Hub, name: str, **options: str) -> float:
    """From asking for a server until the hub says that it is ready; then ends the server, but not its booking.

    ``options``: what the spawner is asked for.
    """
    hub.api.post(f"/hub/api/users/{name}").raise_for_status()
    began = time.perf_counter()
    hub.api.post(f"/hub/api/users/{name}/server", json=options).raise_for_status()
    wait_for(lambda: hub.ready(name) or not hub.pending(name), 300, f"{name}'s server")
    taken = time.perf_counter() - began
    if not hub.ready(name):
        raise RuntimeError(f"{name}'s server did not start; the end of the hub's log:\n{hub.log[-3000:]}")
    hub.api.delete(f"/hub/api/users/{name}/server")
    wait_for(lambda: not hub.pending(name) and not hub.ready(name), 120, f"the end of {name}'s server")
    return taken


def booking(hub: Hub) -> dict[str, str]:
    """What MLMP's spawner is asked for: a GPU of the hub's node."""
    return {"profile": "gpu", "duration": "20m", "node": hub.node}
