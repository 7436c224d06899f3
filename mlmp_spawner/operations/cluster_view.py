"""Catalog beside cluster, node by node, as the last look saw it: for the admin's page and the API."""

from __future__ import annotations

from dataclasses import dataclass

from mlmp_spawner.operations.cluster_look import ClusterLook
from mlmp_spawner.rules.catalog import Catalog, is_in_cluster
from mlmp_spawner.rules.cluster_compare import Difference, compare
from mlmp_spawner.rules.nodes import ClusterNode

_ALL = {"operator": "Exists"}  # what users' pods tolerate is a setting of the hub's: `mlmp check` knows it


@dataclass(frozen=True, slots=True)
class UnitsBeside:
    """Units of one resource: how many the catalog lists and how many pods may take; None: it does not know it."""

    resource: str
    listed: int | None
    there: int | None


@dataclass(frozen=True, slots=True)
class NodeBeside:
    """A node of the catalog, of the cluster, or of both (``node``: None where the cluster has none of that name)."""

    name: str
    listed: bool
    node: ClusterNode | None
    units: tuple[UnitsBeside, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Beside:
    """All nodes by name; ``differences`` that are about no node alone."""

    nodes: tuple[NodeBeside, ...] = ()
    differences: tuple[Difference, ...] = ()


def beside(catalog: Catalog, look: ClusterLook) -> Beside:
    """The catalog beside what the last look saw; empty where there was none yet."""
    if look.at is None:
        return Beside()
    found = compare(catalog, look.nodes, (), [_ALL])
    there = {node.name: node for node in look.nodes}
    mentioned = {one.node for one in found if one.node}
    return Beside(
        tuple(
            NodeBeside(
                name,
                name in catalog.nodes,
                there.get(name),
                _units(catalog, name, there.get(name)),
                tuple(one for one in found if one.node == name),
            )
            for name in sorted(catalog.nodes.keys() | mentioned)
        ),
        tuple(one for one in found if not one.node),
    )


def _units(catalog: Catalog, name: str, node: ClusterNode | None) -> tuple[UnitsBeside, ...]:
    known = catalog.nodes.get(name)
    listed = {one.resource: one.count for one in known.accelerators if is_in_cluster(one.resource)} if known else {}
    there = dict(node.units) if node else {}
    names = listed.keys() if known else there.keys()
    return tuple(UnitsBeside(each, listed.get(each), there.get(each)) for each in sorted(names))
