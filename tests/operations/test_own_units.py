"""The service keeps the cluster told of MLMP's own units."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mlmp_spawner.errors import NotTaken
from mlmp_spawner.kube.objects import ClusterObjects
from mlmp_spawner.operations.own_units import OwnUnits
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Accelerator
from mlmp_spawner.rules.nodes import ClusterNode

SLOT = "mlmp.dev/slot"


class Nodes(ClusterObjects):
    """Nodes whose kubelets take over at once what is declared. ``refused``: of these, nothing."""

    def __init__(self, *names: str) -> None:
        self.there = {name: ClusterNode(name) for name in names}
        self.refused: set[str] = set()
        self.writes = 0

    async def apply(self, item: Mapping[str, Any], manager: str, *, status: bool = False) -> dict[str, Any]:
        assert status, "of a node nothing else is ours to write"
        name = item["metadata"]["name"]
        if name in self.refused:
            raise NotTaken("The cluster refuses: nodes/status is forbidden")
        self.writes += 1
        units = {resource: int(count) for resource, count in item["status"]["capacity"].items()}
        self.there[name] = replace(self.there[name], units=units)
        return {}


@pytest.fixture
def slots(site: Site) -> Site:
    """Its nodes have eight slots each."""
    more = Accelerator(resource=SLOT, count=8)
    nodes = {name: one.model_copy(update={"accelerators": (*one.accelerators, more)})
             for name, one in site.catalog.nodes.items()}  # fmt: skip
    return replace(site, catalog=site.catalog.model_copy(update={"nodes": nodes}))


async def test_each_node_is_told_once_and_anew_when_it_has_lost_it(slots: Site) -> None:
    cluster = Nodes("gpu-a", "gpu-b")
    units = OwnUnits(lambda: slots, cluster.there.values, cluster)
    await units.look()
    await units.look()
    assert {name: dict(one.units) for name, one in cluster.there.items()} == {"gpu-a": {SLOT: 8}, "gpu-b": {SLOT: 8}}
    assert cluster.writes == 2
    cluster.there["gpu-b"] = ClusterNode("gpu-b")
    await units.look()
    assert cluster.there["gpu-b"].units == {SLOT: 8} and cluster.writes == 3


async def test_a_refusal_of_one_node_is_told_once_and_in_no_other_nodes_way(
    slots: Site, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Nodes("gpu-a", "gpu-b")
    cluster.refused.add("gpu-a")
    units = OwnUnits(lambda: slots, cluster.there.values, cluster)
    with caplog.at_level(logging.WARNING):
        await units.look()
        await units.look()
    assert cluster.there["gpu-b"].units == {SLOT: 8}
    (said,) = [one.getMessage() for one in caplog.records]
    assert "gpu-a: The cluster refuses" in said
    cluster.refused.clear()
    await units.look()
    assert cluster.there["gpu-a"].units == {SLOT: 8}
