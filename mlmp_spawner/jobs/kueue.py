"""What the look at jobs asks of Kueue, and tells it: a seam, behind which tests have a Kueue of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mlmp_spawner.errors import NotTaken
from mlmp_spawner.kube.job_pods import name_of
from mlmp_spawner.kube.job_queues import MANAGER, made_by_us, takes_from
from mlmp_spawner.kube.objects import Objects
from mlmp_spawner.kube.workloads import Workload, ungated, workload

Json = Mapping[str, Any]


class Kueue(Protocol):
    """Kueue in one cluster. Every call raises :class:`~mlmp_spawner.errors.Unavailable` where the cluster does not
    answer or refuses, and may be repeated."""

    async def workloads(self) -> list[Workload]:
        """All of ours, as they were at one moment."""

    async def cluster_queues(self) -> list[dict[str, Any]]:
        """All ClusterQueues of the cluster, whoever made them."""

    async def apply(self, objects: Sequence[Json]) -> list[dict[str, Any]]:
        """Makes or changes objects, one after the other in this order; what the cluster has of each then.

        By server-side apply as :data:`~mlmp_spawner.kube.job_queues.MANAGER`: what others add to them stays.

        :raises NotTaken: a ClusterQueue of that name is another MLMP's.
        """

    async def status(self, patch: Json) -> dict[str, Any]:
        """Writes a part of a status: :func:`~mlmp_spawner.kube.workloads.ready`,
        :func:`~mlmp_spawner.kube.job_queues.check_status`; what the cluster has then.

        :raises Changed: it is another version by now. :raises NotFound: there is no such object.
        """

    async def change(self, patch: Json) -> dict[str, Any]:
        """Changes a part of a Workload: :func:`~mlmp_spawner.kube.workloads.active`; what the cluster has then.

        :raises Changed: it is another version by now. :raises NotFound: there is no such object.
        """

    async def ungate(self, attempt: str) -> None:
        """Lets an attempt ask for the first time. Does nothing where there is no gate.

        :raises NotFound: there is no such Job.
        """


class ClusterKueue:
    """:class:`Kueue` as it is. :param objects: of the namespace of users' pods.

    ClusterQueues are the whole cluster's, and two MLMPs give them the same names. Who comes second is told so, rather
    than taking them over again and again: what the last list of them says decides.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._takes_from: dict[str, str] = {}

    async def workloads(self) -> list[Workload]:
        """Lists them."""
        items = await self._objects.items("Workload")
        return [one for item in items if (one := workload(item)) is not None]

    async def cluster_queues(self) -> list[dict[str, Any]]:
        """Lists them."""
        found = await self._objects.items("ClusterQueue")
        self._takes_from = {
            str((one.get("metadata") or {}).get("name")): namespace
            for one in found
            if (namespace := takes_from(one)) and made_by_us(one)
        }
        return found

    async def apply(self, objects: Sequence[Json]) -> list[dict[str, Any]]:
        """Applies them."""
        return [await self._apply(item) for item in objects]

    async def _apply(self, item: Json) -> dict[str, Any]:
        name, wanted = item["metadata"]["name"], takes_from(item)
        other = self._takes_from.get(name, wanted) if item["kind"] == "ClusterQueue" else wanted
        if other != wanted:
            raise NotTaken(
                f"The ClusterQueue {name} is of another MLMP: it takes jobs from {other}, not from {wanted}.",
                hint="One MLMP in a cluster can run jobs. Switch them off in one; of one that is gone, an admin takes "
                f"the queue away by: kubectl delete clusterqueue {name}",
            )
        return await self._objects.apply(item, MANAGER)

    async def status(self, patch: Json) -> dict[str, Any]:
        """Applies it to the status."""
        return await self._objects.apply(patch, MANAGER, status=True)

    async def change(self, patch: Json) -> dict[str, Any]:
        """Merges it."""
        return await self._objects.patch(patch)

    async def ungate(self, attempt: str) -> None:
        """Takes the annotation away."""
        patch = ungated()
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name_of(attempt), **patch["metadata"]}}
        await self._objects.patch(job)
