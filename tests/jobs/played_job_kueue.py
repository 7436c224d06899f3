"""Kueue, as far as a back-end of jobs asks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlmp_spawner.kube.job_pods import POD_GROUP, attempt_of
from mlmp_spawner.kube.workloads import Workload, workload
from tests.jobs.played_cluster import PlayedCluster

Json = dict[str, Any]


class PlayedKueue:
    """:class:`~mlmp_spawner.jobs.kueue.Kueue`, as far as a back-end asks it. ``listed``: how often it was asked."""

    def __init__(self, cluster: PlayedCluster) -> None:
        self.cluster = cluster
        self.inactive: set[str] = set()
        self.listed = 0

    async def workloads(self) -> list[Workload]:
        """Lists all."""
        self.listed += 1
        return await self._workloads()

    async def _workloads(self) -> list[Workload]:
        """One for each Job, and for each group of pods."""
        jobs = [one["metadata"] for one in await self.cluster.items("Job")]
        pods = [one["metadata"] for one in await self.cluster.items("Pod", "")]
        groups = {one["labels"][POD_GROUP]: one for one in pods if POD_GROUP in one["labels"]}
        made = [
            *((f"job-{one['name']}-x", [{"kind": "Job", "name": one["name"]}]) for one in jobs),
            *((group, []) for group in groups),
        ]
        items = [
            {
                "metadata": {"name": name, "namespace": "users", "uid": name, "ownerReferences": owners},
                "spec": {"active": name not in self.inactive},
            }
            for name, owners in made
        ]
        return [one for item in items if (one := workload(item)) is not None]

    async def change(self, patch: Mapping[str, Any]) -> Json:
        """Takes back what it let in."""
        name = patch["metadata"]["name"]
        assert patch["spec"] == {"active": False}
        self.inactive.add(name)
        (attempt,) = [one.attempt for one in await self._workloads() if one.name == name]
        assert attempt == attempt_of(name.removeprefix("job-").removesuffix("-x"))
        self.cluster.deactivate(attempt)
        return {}

    async def apply(self, objects: Sequence[Mapping[str, Any]]) -> list[Json]:
        """No back-end does that."""
        raise NotImplementedError

    async def status(self, patch: Mapping[str, Any]) -> Json:
        """No back-end does that."""
        raise NotImplementedError

    async def ungate(self, attempt: str) -> None:
        """No back-end does that."""
        raise NotImplementedError
