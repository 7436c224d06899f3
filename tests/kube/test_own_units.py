"""What nodes are told to have of MLMP's own units."""

from __future__ import annotations

from mlmp_spawner.kube.own_units import to_declare
from mlmp_spawner.rules.catalog import Accelerator, Catalog, Node
from mlmp_spawner.rules.nodes import ClusterNode

GPU, SLOT = "nvidia.com/gpu", "mlmp.dev/slot"


def catalog(**slots: int) -> Catalog:
    """Nodes with so many slots, and four GPUs each."""
    gpus = Accelerator(resource=GPU, count=4)
    nodes = {name: Node(name=name, accelerators=(gpus, *_slots(count))) for name, count in slots.items()}
    return Catalog(nodes=nodes)


def _slots(count: int) -> tuple[Accelerator, ...]:
    return (Accelerator(resource=SLOT, count=count),) if count else ()


def declared(listed: Catalog, *nodes: ClusterNode) -> dict[str, dict[str, str]]:
    return {one["metadata"]["name"]: one["status"]["capacity"] for one in to_declare(listed, nodes)}


def test_a_node_is_told_what_the_catalog_lists_of_mlmps_own_and_nothing_of_what_a_device_plugin_names() -> None:
    assert declared(catalog(a=8), ClusterNode("a", units={GPU: 1})) == {"a": {SLOT: "8"}}


def test_a_node_that_has_it_is_told_nothing_and_one_with_another_number_is() -> None:
    there = (ClusterNode("a", units={SLOT: 8}), ClusterNode("b", units={SLOT: 8}))
    assert declared(catalog(a=8, b=6), *there) == {"b": {SLOT: "6"}}


def test_neither_a_node_without_such_units_nor_one_that_the_catalog_does_not_list_is_told_anything() -> None:
    assert declared(catalog(a=0), ClusterNode("a"), ClusterNode("stray")) == {}
