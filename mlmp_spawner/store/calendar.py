"""The calendar of many nodes at once: all that is taken in a window, with just what is drawn of each booking."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from mlmp_spawner.rules.reservations import LONGEST, Allocation, Interval, Reservation
from mlmp_spawner.store.tables import allocation, capacity, reservation

_DRAWN = (
    "id", "owner", "owner_id", "profile", "resource", "units", "node_count", "start", "end", "kind", "title",
    "pinned", "preemptible", "created_at", "waiting_reason", "cancelled_at", "starting_at", "started_at",
    "stopping_at", "stopped_at", "end_reason", "version",
)  # fmt: skip
_CHUNK = 500


def placed(connection: Connection, nodes: Collection[str], window: Interval) -> list[tuple[Reservation, Allocation]]:
    """What is taken on ``nodes`` in ``window``, each root allocation with its booking, by start; of the booking only
    what is drawn is read."""
    columns = [reservation.c[name].label(f"r_{name}") for name in _DRAWN]
    a = allocation.c
    places = (a.node, a.resource, a.units, a.start, a.end)
    names = sorted(nodes)
    found: list[tuple[Reservation, Allocation]] = []
    for at in range(0, len(names), _CHUNK):
        query = (
            select(*columns, *places)
            .join_from(allocation, reservation, a.reservation == reservation.c.id)
            .where(
                a.node.in_(names[at : at + _CHUNK]),
                a.start > window.start - LONGEST,
                a.start < window.end,
                a.end > window.start,
                a.root.is_(None),
            )
        )
        count = len(_DRAWN)
        for row in connection.execute(query):
            booking = Reservation(**dict(zip(_DRAWN, row[:count], strict=True)))
            found.append((booking, Allocation(booking.id, *row[count:])))
    found.sort(key=lambda pair: (pair[1].start, pair[0].id, pair[1].node))
    return found


def capacities(connection: Connection) -> dict[tuple[str, str], int]:
    """Units of every ``(node, resource)``."""
    query = select(capacity.c.node, capacity.c.resource, capacity.c.units)
    return {(row.node, row.resource): row.units for row in connection.execute(query)}
