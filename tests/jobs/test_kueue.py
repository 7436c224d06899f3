"""What the service tells Kueue, where somebody else does, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mlmp_spawner.errors import NotTaken
from mlmp_spawner.jobs.kueue import ClusterKueue
from mlmp_spawner.kube.job_queues import MANAGER, NodeQuota, admission_check, cluster_queue, resource_flavor
from tests.jobs.played_cluster import PlayedCluster

GPU = "nvidia.com/gpu"
NODE = NodeQuota("a", "a", 2, 8.0, 1 << 30)


class Applied(PlayedCluster):
    """Keeps what is applied, with who did."""

    async def apply(self, item: Mapping[str, Any], manager: str, *, status: bool = False) -> dict[str, Any]:
        """By force."""
        made = {**item, "metadata": {**item["metadata"], "managedFields": [{"manager": manager}]}}
        self.objects[item["kind"], item["metadata"]["name"]] = made
        return made


async def test_queues_of_another_mlmp_are_not_taken_over_and_it_says_whose_they_are():
    cluster = Applied()
    first, second = ClusterKueue(cluster), ClusterKueue(cluster)
    theirs, ours = cluster_queue(GPU, [NODE], "theirs"), cluster_queue(GPU, [NODE], "ours")
    await first.cluster_queues()
    await first.apply([theirs])
    await second.cluster_queues()
    with pytest.raises(NotTaken, match="takes jobs from theirs, not from ours") as refused:
        await second.apply([ours])
    assert refused.value.hint is not None and "kubectl delete clusterqueue" in refused.value.hint
    assert (await first.cluster_queues())[0]["spec"] == theirs["spec"]
    await first.apply([theirs])
    await second.apply([resource_flavor(NODE), admission_check(), cluster_queue("amd.com/gpu", [NODE], "ours")])

    del cluster.objects["ClusterQueue", theirs["metadata"]["name"]]
    await second.cluster_queues()
    await second.apply([ours])
    assert cluster.objects["ClusterQueue", ours["metadata"]["name"]]["spec"] == ours["spec"]


async def test_one_that_nobody_made_for_jobs_of_mlmp_is_taken_over():
    cluster = Applied()
    await cluster.apply(cluster_queue(GPU, [NODE], "elsewhere"), "kubectl")
    kueue = ClusterKueue(cluster)
    await kueue.cluster_queues()
    (made,) = await kueue.apply([cluster_queue(GPU, [NODE], "ours")])
    assert made["metadata"]["managedFields"] == [{"manager": MANAGER}]
