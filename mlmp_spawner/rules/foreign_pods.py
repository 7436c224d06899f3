"""Pods on the units that people book, which are not MLMP's: somebody starts them past the calendar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mlmp_spawner.rules.catalog import Catalog
from mlmp_spawner.rules.nodes import Key


@dataclass(frozen=True, slots=True)
class ClusterPod:
    """A pod that has a node and is not over. ``units``: what it takes of extended resources; ``kind``: what MLMP says
    it is for, "" where it says nothing; ``since``: when it was made, in ms UTC. ``cpus`` and ``memory`` (bytes) are
    what it asks for; ``everywhere``: each node has one like it (a DaemonSet's, or the node's own)."""

    namespace: str
    name: str
    node: str
    since: int
    units: Mapping[str, int] = field(default_factory=dict)
    kind: str = ""
    cpus: float = 0.0
    memory: int = 0
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Foreigner:
    """A pod that takes units of the catalog without a booking. ``short``: how many units are missing on its node just
    now for those who booked there, all such pods together; 0 where there is room beside the bookings."""

    namespace: str
    name: str
    node: str
    resource: str
    units: int
    since: int
    short: int


def foreigners(
    pods: Iterable[ClusterPod], catalog: Catalog, *, namespace: str, booked: Mapping[Key, int]
) -> list[Foreigner]:
    """The pods that take units of the catalog and are not MLMP's, the oldest first.

    :param namespace: of MLMP's own pods: a label alone, which everybody can write, makes none of them.
    :param booked: units that are booked just now.
    """
    listed = catalog.capacity()
    found = [
        (pod, resource, units)
        for pod in pods
        if not (pod.kind and pod.namespace == namespace)
        for resource, units in pod.units.items()
        if units > 0 and (pod.node, resource) in listed
    ]
    taken: dict[Key, int] = {}
    for pod, resource, units in found:
        taken[pod.node, resource] = taken.get((pod.node, resource), 0) + units
    foreign = [
        Foreigner(
            pod.namespace, pod.name, pod.node, resource, units, pod.since,
            max(0, booked.get((pod.node, resource), 0) + taken[pod.node, resource] - listed[pod.node, resource]),
        )
        for pod, resource, units in found
    ]  # fmt: skip
    return sorted(foreign, key=lambda one: (one.since, one.namespace, one.name, one.resource))
