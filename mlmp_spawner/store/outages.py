"""Queries on outages: maintenance and drain of nodes."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, delete, insert, select, update

from mlmp_spawner.rules.reservations import Outage
from mlmp_spawner.store.tables import capacity, outage


def of_node(connection: Connection, node: str, *, since: int) -> list[Outage]:
    """The outages of a node that end after ``since``, by start."""
    o = outage.c
    query = select(outage).where(o.node == node, o.end > since).order_by(o.start, o.end, o.id)
    return [Outage(row.id, row.node, row.start, row.end, row.reason) for row in connection.execute(query)]


def current(connection: Connection, *, since: int) -> list[Outage]:
    """The outages of all nodes that end after ``since``, by start."""
    o = outage.c
    query = select(outage).where(o.end > since).order_by(o.start, o.node, o.id)
    return [Outage(row.id, row.node, row.start, row.end, row.reason) for row in connection.execute(query)]


def keys_of(connection: Connection, node: str) -> list[tuple[str, str]]:
    """The capacity rows of all nodes that have anything that ``node`` has: what a change of its outages may touch."""
    mine = select(capacity.c.resource).where(capacity.c.node == node)
    rows = connection.execute(select(capacity.c.node, capacity.c.resource).where(capacity.c.resource.in_(mine)))
    return [(row.node, row.resource) for row in rows]


def add(connection: Connection, new: Iterable[Outage]) -> None:
    """Writes outages; from then on the database refuses bookings into them."""
    rows = [{"id": o.id, "node": o.node, "start": o.start, "end": o.end, "reason": o.reason} for o in new]
    if rows:
        connection.execute(insert(outage), rows)


def change(connection: Connection, known: Outage, *, end: int, reason: str) -> None:
    """Ends an outage at another time, or says another reason."""
    connection.execute(update(outage).where(outage.c.id == known.id).values(end=end, reason=reason))


def remove(connection: Connection, known: Outage) -> None:
    """Deletes an outage that has not begun."""
    connection.execute(delete(outage).where(outage.c.id == known.id))
    # Whoever made a plan without its time has to look again, as after every other change of what is free.
    connection.execute(update(capacity).where(capacity.c.node == known.node).values(version=capacity.c.version + 1))
