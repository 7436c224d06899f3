"""The nodes as they are now: what they have, what of it is booked, whether they are away."""

from __future__ import annotations

from dataclasses import dataclass

from mlmp_spawner.operations.catalog_sync import known
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.nodes import Key, lacks
from mlmp_spawner.rules.reservations import Interval, Outage
from mlmp_spawner.store import outages
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.transaction import read


@dataclass(frozen=True, slots=True)
class Units:
    """Units of one resource on a node: how many there are, and how many are booked at this moment.

    ``listed``: how many the catalog has. Where these are more, ``why`` says it.
    """

    resource: str
    model: str
    capacity: int
    taken: int
    listed: int

    @property
    def why(self) -> str:
        """Why fewer can be booked than the catalog lists; "" where that is not so."""
        return lacks(self.resource, self.listed, self.capacity) if self.capacity < self.listed else ""


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node; the outage under way, the last to end if there are several, and those to come."""

    name: str
    units: tuple[Units, ...]
    outage: Outage | None
    planned: tuple[Outage, ...]


def figures(site: Site, *, now: int) -> tuple[int, int]:
    """How many bookings wait for a place, and how many nodes take no bookings now."""
    with read(site.engine) as connection:
        away = {outage.node for outage in outages.current(connection, since=now) if outage.start <= now}
        return len(store.waiting(connection, now)), len(away)


def node_states(site: Site, *, now: int) -> list[NodeState]:
    """Every node of the catalog, by name."""
    nodes = site.catalog.nodes
    taken: dict[Key, int] = {}
    with read(site.engine) as connection:
        away = outages.current(connection, since=now)
        there = known(connection)
        for resource in sorted({key[1] for key in site.catalog.capacity()}):
            for _, node, booked, _, _ in store.taken(connection, resource, nodes, Interval(now, now + 1)):
                taken[node, resource] = taken.get((node, resource), 0) + booked
    found = []
    for name in sorted(nodes):
        mine = [outage for outage in away if outage.node == name]
        units = tuple(
            Units(
                one.resource, one.model, there.get((name, one.resource), one.count),
                taken.get((name, one.resource), 0), one.count,
            )
            for one in nodes[name].accelerators
        )  # fmt: skip
        begun = max((outage for outage in mine if outage.start <= now), key=lambda one: one.end, default=None)
        found.append(NodeState(name, units, begun, tuple(outage for outage in mine if outage.start > now)))
    return found
