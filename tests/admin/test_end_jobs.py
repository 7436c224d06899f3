"""What an uninstall does to jobs: nothing of them is left that nobody would end or start."""

from __future__ import annotations

from typing import Any

from mlmp_spawner.admin.end_jobs import end_jobs
from mlmp_spawner.kube.job_queues import (
    MANAGER,
    NodeQuota,
    admission_check,
    cluster_queue,
    local_queue,
    priority_classes,
    resource_flavor,
)

GPU = "nvidia.com/gpu"
JOB = {"mlmp.dev/kind": "job"}
KUEUE = ["kueue.x-k8s.io/managed"]


class Cluster:
    """Objects as a list. A pod goes once it was deleted, nothing of it runs and it has no finalizer.

    ``hanging``: pods that no node ends.
    """

    def __init__(self, *objects: dict[str, Any], hanging: tuple[str, ...] = ()) -> None:
        self.objects = list(objects)
        self.hanging = hanging
        self.graces: dict[str, int | None] = {}

    async def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        found = [one for one in self.objects if one["kind"] == kind]
        if selector:
            key, _, value = selector.partition("=")
            found = [one for one in found if (one["metadata"].get("labels") or {}).get(key) == value]
        return found

    async def metadata(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        return [one["metadata"] for one in await self.items(kind, selector)]

    async def delete(self, kind: str, name: str, *, uid: str = "", grace: int | None = None) -> None:
        for one in await self.items(kind):
            if one["metadata"]["name"] == name:
                if kind == "Pod":
                    self.graces[name] = grace
                    one["metadata"]["deletionGracePeriodSeconds"] = grace
                    if name not in self.hanging and not one["spec"].get("schedulingGates"):
                        one["status"] = {"phase": "Succeeded", "containerStatuses": []}
                    self._sweep()
                else:
                    self.objects.remove(one)

    async def patch(self, item: dict[str, Any]) -> dict[str, Any]:
        (one,) = [
            each for each in await self.items(item["kind"]) if each["metadata"]["uid"] == item["metadata"]["uid"]
        ]
        one["metadata"]["finalizers"] = item["metadata"]["finalizers"] or []
        self._sweep()
        return one

    def _sweep(self) -> None:
        for one in [each for each in self.objects if each["kind"] == "Pod"]:
            metadata = one["metadata"]
            waits = one["status"].get("phase") == "Running" or metadata.get("finalizers")
            if "deletionGracePeriodSeconds" in metadata and not waits:
                self.objects.remove(one)

    def left(self) -> set[str]:
        return {f"{one['kind']} {one['metadata']['name']}" for one in self.objects}


def made(kind: str, name: str, **more: Any) -> dict[str, Any]:
    """Something of an attempt."""
    return {"kind": kind, "metadata": {"name": name, "uid": f"{kind}-{name}", "labels": JOB}, **more}


def pod(name: str, *, finalizers: list[str] | None = None, gated: bool = False) -> dict[str, Any]:
    """A worker that runs, or waits for its turn."""
    gates = [{"name": "kueue.x-k8s.io/admission"}]
    one = made("Pod", name, spec={"schedulingGates": gates} if gated else {"nodeName": "a"})
    one["status"] = {"phase": "Pending" if gated else "Running"}
    one["metadata"]["finalizers"] = list(finalizers or [])
    return one


def in_kueue(item: dict[str, Any], manager: str = MANAGER) -> dict[str, Any]:
    """As whoever applied it left it."""
    return item | {"metadata": item["metadata"] | {"managedFields": [{"manager": manager}]}}


def queues(namespace: str = "users") -> list[dict[str, Any]]:
    """All that MLMP makes in Kueue."""
    node = NodeQuota("a", "a", 2, 8.0, 1 << 30)
    return [in_kueue(one) for one in (
        resource_flavor(node), admission_check(), *priority_classes(), cluster_queue(GPU, [node], namespace),
        local_queue(GPU, "red", namespace),
    )]  # fmt: skip


async def test_nothing_of_a_job_is_left_and_servers_are():
    server = made("Pod", "jupyter-ann", spec={}, status={"phase": "Running"})
    server["metadata"]["labels"] = {"mlmp.dev/kind": "server"}
    cluster = Cluster(
        server, made("Job", "j1"), pod("j1"), pod("j2-w0", finalizers=KUEUE), pod("j2-w1", finalizers=KUEUE),
        pod("j3-w0", finalizers=KUEUE, gated=True), made("ConfigMap", "j1"), made("Secret", "j1"),
        made("Service", "j2"),
        made("NetworkPolicy", "j2"), *queues(),
    )  # fmt: skip
    assert await end_jobs(cluster, "users", every=0)
    assert cluster.left() == {"Pod jupyter-ann"}
    assert set(cluster.graces.values()) == {30}


async def test_a_pod_that_was_asked_to_end_sooner_is_not_given_more_time():
    leaving = pod("j1")
    leaving["metadata"]["deletionGracePeriodSeconds"] = 5
    leaving["status"] = {"phase": "Running"}
    cluster = Cluster(leaving, hanging=("j1",))
    assert not await end_jobs(cluster, "users", patience=0, every=0)
    assert cluster.graces == {}


async def test_what_a_lost_node_does_not_end_holds_up_nothing_else():
    cluster = Cluster(pod("j1"), pod("j2"), made("ConfigMap", "j1"), made("Secret", "j1"), *queues(), hanging=("j1",))
    assert not await end_jobs(cluster, "users", patience=0, every=0)
    assert cluster.left() == {"Pod j1"}


async def test_queues_of_others_stay_and_what_another_mlmp_shares_with_them():
    theirs = in_kueue({"kind": "ResourceFlavor", "metadata": {"name": "theirs"}}, "kubectl")
    cluster = Cluster(*queues(), in_kueue(cluster_queue("amd.com/gpu", [], "elsewhere")), theirs)
    assert await end_jobs(cluster, "users", every=0)
    kinds = {name.split()[0] for name in cluster.left()}
    assert kinds == {"ClusterQueue", "ResourceFlavor", "AdmissionCheck", "WorkloadPriorityClass"}
    alone = Cluster(*queues(), theirs)
    assert await end_jobs(alone, "users", every=0)
    assert alone.left() == {"ResourceFlavor theirs"}


async def test_it_may_be_killed_and_run_again():
    cluster = Cluster(pod("j1"), made("ConfigMap", "j1"), made("Secret", "j1"), *queues())
    for _ in range(2):
        assert await end_jobs(cluster, "users", every=0)
    assert cluster.left() == set()
