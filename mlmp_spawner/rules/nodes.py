"""The nodes of a cluster: what was seen of them, and what follows from it for what can be booked.

What is seen has to stay so for a while (the *patience*) before anything follows, in both directions, so that a kubelet
that is restarted or a node that flaps moves nobody's booking. What was decided is in the database, never here: a
:class:`Memory` only knows since when it has been seen, and losing one costs no more than the patience once again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mlmp_spawner.rules.catalog import Catalog, is_in_cluster
from mlmp_spawner.rules.reservations import Outage

T = TypeVar("T")
Key = tuple[str, str]
"""Node and resource."""

MARK = "cluster-"
"""Begins the id of an outage that the watch opened: those it closes, and nobody else's."""

GONE = "not in the cluster"
NOT_READY = "not ready in the cluster"
CORDONED = "cordoned in the cluster"


@dataclass(frozen=True, slots=True)
class Taint:
    """What keeps pods off a node unless they tolerate it."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A node as Kubernetes has it. ``units``: what pods may take of each extended resource; ``cpus`` and ``memory``
    (bytes) likewise; ``images``: the names of those that are there, as far as the kubelet lists them (50 by default).

    ``message``: why it is not ready, in the cluster's words.
    """

    name: str
    ready: bool = True
    cordoned: bool = False
    units: Mapping[str, int] = field(default_factory=dict)
    cpus: float = 0.0
    memory: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    images: frozenset[str] = frozenset()
    message: str = ""


def why_away(node: ClusterNode | None) -> str:
    """Why no pod can start on a node; "" where one can."""
    if node is None:
        return GONE
    if not node.ready:
        return NOT_READY
    return CORDONED if node.cordoned else ""


def is_automatic(outage: Outage) -> bool:
    """Whether the watch opened it, and will close it."""
    return outage.id.startswith(MARK)


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """What every look since ``since`` (ms UTC) saw."""

    value: T
    since: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What the looks up to ``at`` saw, by node: whether it is away, why, and its units of each resource."""

    at: int | None = None
    away: Mapping[str, Seen[bool]] = field(default_factory=dict)
    why: Mapping[str, Seen[str]] = field(default_factory=dict)
    units: Mapping[Key, Seen[int]] = field(default_factory=dict)


def look(memory: Memory, nodes: Iterable[ClusterNode], catalog: Catalog, *, now: int, patience: int) -> Memory:
    """Takes in a look at all nodes of the cluster. Nothing is known of the time before a pause in looking that was
    longer than ``patience`` (ms). The units of a node that is away say nothing: they are seen anew when it is back."""
    if memory.at is None or now - memory.at > patience:
        memory = Memory()
    there = {node.name: node for node in nodes}
    names = there.keys() | catalog.nodes.keys()
    why = {name: why_away(there.get(name)) for name in names}
    units = {(name, resource): 0 for name, resource in _counted(catalog) if name in there}
    units |= {(node.name, resource): count for node in there.values() for resource, count in node.units.items()}
    return Memory(
        at=now,
        away={name: _seen(memory.away.get(name), bool(text), now) for name, text in why.items()},
        why={name: _seen(memory.why.get(name), text, now) for name, text in why.items()},
        units={key: _seen(memory.units.get(key), count, now) for key, count in units.items() if there[key[0]].ready},
    )


def _seen(before: Seen[T] | None, value: T, now: int) -> Seen[T]:
    return before if before is not None and before.value == value else Seen(value, now)


def _counted(catalog: Catalog) -> list[Key]:
    """What of the catalog the cluster counts too: neither what is MLMP's own, nor what is simulated."""
    return [
        (node.name, one.resource)
        for node in catalog.nodes.values()
        for one in node.accelerators
        if is_in_cluster(one.resource) and not one.simulated
    ]


@dataclass(frozen=True, slots=True)
class Open:
    """The node takes no bookings from now on."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reason:
    """It still does not, but for another reason."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Close:
    """It takes bookings again."""

    node: str


@dataclass(frozen=True, slots=True)
class SetUnits:
    """So many units of a resource can be booked on it."""

    node: str
    resource: str
    units: int


Action = Open | Reason | Close | SetUnits


def actions(
    memory: Memory,
    catalog: Catalog,
    *,
    away: Mapping[str, str],
    units: Mapping[Key, int],
    now: int,
    patience: int,
) -> list[Action]:
    """What to do about what was seen for ``patience`` ms.

    :param away: the nodes that the watch took out of use, with the reason that was written.
    :param units: the capacities as they are in the database.
    """

    def holds(seen: Seen[T] | None) -> bool:
        return seen is not None and now - seen.since >= patience

    found: list[Action] = []
    for name in sorted(catalog.nodes):
        seen, why = memory.away.get(name), memory.why.get(name)
        if seen is None or why is None or not holds(seen):
            continue
        if seen.value and name not in away:
            found.append(Open(name, why.value))
        elif seen.value and holds(why) and away[name] != why.value:
            found.append(Reason(name, why.value))
        elif not seen.value and name in away:
            found.append(Close(name))
    found += [Close(name) for name in sorted(away.keys() - catalog.nodes.keys())]
    counted = set(_counted(catalog))
    for key, listed in sorted(catalog.capacity().items()):
        there = memory.units.get(key)
        if key in counted and (there is None or not holds(there)):
            continue
        target = min(listed, there.value) if key in counted and there is not None else listed
        if units.get(key) != target:
            found.append(SetUnits(*key, target))
    return found


def until_seen(catalog: Catalog, before: Mapping[Key, int]) -> dict[Key, int]:
    """The capacities that hold until the cluster is looked at: what the cluster lacked still lacks."""
    counted = set(_counted(catalog))
    return {
        key: min(listed, before.get(key, listed)) if key in counted else listed
        for key, listed in catalog.capacity().items()
    }


def lacks(resource: str, listed: int, there: int) -> str:
    """Why fewer units can be booked than the catalog lists: "the cluster has 3 of 4 nvidia.com/gpu"."""
    return f"the cluster has {there} of {listed} {resource}"
