"""Pods of servers without a cluster: a small subclass of our own seam, and what makes one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Unavailable
from mlmp_spawner.kube.pods import Pods, ServerPod

AWAY = "The Kubernetes cluster does not answer."


def a_pod(server_id: str = "ann000000001", *, deadline: Deadline | None = None, **fields: object) -> ServerPod:
    """A running pod of ann's default server."""
    made = ServerPod(f"jupyter-{server_id}", f"uid-{server_id}", "1", server_id, "ann", "", deadline, "Running", "n")
    return replace(made, **fields)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Deleted:
    """What was asked of the cluster."""

    pod: str
    grace: int


class KeptPods(Pods):
    """Keeps its pods in memory. ``away``: the cluster does not answer; ``refuses``: changes to these pods fail.

    A deleted pod stays, as one whose grace is not over, until the test takes it away.
    """

    def __init__(self, *pods: ServerPod) -> None:
        super().__init__("test")
        self.pods = {pod.name: pod for pod in pods}
        self.deleted: list[Deleted] = []
        self.published: list[str] = []
        self.asked = 0
        self.away = False
        self.refuses: set[str] = set()
        self.now = 0

    async def servers(self, server_id: str | None = None) -> list[ServerPod]:
        self._ask("")
        return [pod for pod in self.pods.values() if server_id in (None, pod.server_id)]

    async def publish(self, pod: ServerPod, deadline: Deadline) -> bool:
        self._ask(pod.name)
        if not self._is_there(pod):
            return False
        self.published.append(pod.name)
        self.change(pod.name, deadline=deadline)
        return True

    async def delete(self, pod: ServerPod, *, grace: int, unchanged: bool = False) -> bool:
        self._ask(pod.name)
        if not self._is_there(pod) or (unchanged and self.pods[pod.name].version != pod.version):
            return False
        self.deleted.append(Deleted(pod.name, grace))
        self.change(pod.name, deleting_at=self.now + grace * 1000)
        return True

    async def close(self) -> None:
        pass

    def change(self, name: str, **fields: object) -> None:
        """Something about a pod changes, and with it its version."""
        pod = self.pods[name]
        self.pods[name] = replace(pod, version=str(int(pod.version) + 1), **fields)  # type: ignore[arg-type]

    def _is_there(self, pod: ServerPod) -> bool:
        return pod.name in self.pods and self.pods[pod.name].uid == pod.uid

    def _ask(self, name: str) -> None:
        self.asked += 1
        if self.away or name in self.refuses:
            raise Unavailable(AWAY)
