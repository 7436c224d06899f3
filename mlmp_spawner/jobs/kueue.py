"""What the look at jobs asks of Kueue, and tells it: a seam, behind which tests have a Kueue of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mlmp_spawner.kube.workloads import Workload

Json = Mapping[str, Any]


class Kueue(Protocol):
    """Kueue in one cluster. Every call raises :class:`~mlmp_spawner.errors.Unavailable` where the cluster does not
    answer or refuses, and may be repeated."""

    async def workloads(self) -> list[Workload]:
        """All of ours, as they were at one moment."""

    async def apply(self, objects: Sequence[Json]) -> list[dict[str, Any]]:
        """Makes or changes objects, one after the other in this order; what the cluster has of each then.

        By server-side apply as :data:`~mlmp_spawner.kube.job_queues.MANAGER`: what others add to them stays.
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
