"""Queries on reservations and their allocations: rows in, :class:`Reservation` out.

Every function takes an open connection; who calls it decides on the transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, literal, or_, select, update

from mlmp_spawner.errors import Changed
from mlmp_spawner.rules.reservations import LONGEST, Allocation, Interval, Outage, Reservation
from mlmp_spawner.store import tables
from mlmp_spawner.store.tables import LENGTH, allocation, reservation

_COLUMNS = [column.name for column in reservation.columns]
_CHUNK = 500  # SQLite's and psycopg's limits on bound parameters are far above this


def _reservation(row: Row[Any], allocations: Sequence[Allocation]) -> Reservation:
    return Reservation(**dict(zip(_COLUMNS, row, strict=True)), allocations=tuple(allocations))


def _allocation(row: Row[Any]) -> Allocation:
    return Allocation(row.reservation, row.node, row.resource, row.units, row.start, row.end, row.root)


def select_where(
    connection: Connection, *conditions: ColumnElement[bool], order: Any = None, limit: int | None = None
) -> list[Reservation]:
    """The reservations that meet all conditions, with their allocations, by start unless told otherwise."""
    query = select(reservation).where(*conditions)
    query = query.order_by(*(order or (reservation.c.start, reservation.c.id)))
    if limit is not None:
        query = query.limit(limit)
    rows = connection.execute(query).all()
    places: dict[str, list[Allocation]] = {row.id: [] for row in rows}
    ids = list(places)
    for at in range(0, len(ids), _CHUNK):
        chunk = select(allocation).where(allocation.c.reservation.in_(ids[at : at + _CHUNK]))
        for row in connection.execute(chunk.order_by(allocation.c.node, allocation.c.start)):
            places[row.reservation].append(_allocation(row))
    return [_reservation(row, places[row.id]) for row in rows]


def find(connection: Connection, reservation_id: str) -> Reservation | None:
    """One reservation, or None."""
    found = select_where(connection, reservation.c.id == reservation_id)
    return found[0] if found else None


def user_id(connection: Connection, name: str) -> int | None:
    """The hub's id of a user, or None where the hub has no such user."""
    return connection.execute(select(tables.users.c.id).where(tables.users.c.name == name)).scalar()


def overlapping(window: Interval) -> ColumnElement[bool]:
    """Reservations that share an instant with ``window``.

    The longest reservation that there is bounds where they start, so that not the whole history is read.
    """
    c = reservation.c
    longest = select(func.coalesce(func.max(LENGTH), 0)).scalar_subquery()
    return and_(c.start < window.end, c.end > window.start, c.start > literal(window.start) - longest)


def not_given_back() -> ColumnElement[bool]:
    """Reservations that nobody cancelled, released or lost."""
    return and_(reservation.c.cancelled_at.is_(None), reservation.c.end_reason.is_(None))


def is_booking() -> ColumnElement[bool]:
    """Reservations that people made; those that hold the units of jobs are no bookings."""
    return reservation.c.kind != "job"


def owned_by(name: str) -> ColumnElement[bool]:
    """The bookings of the living user of that name; a namesake of a deleted one gets nothing of his."""
    return and_(reservation.c.owner == name, reservation.c.owner_id.is_not(None), is_booking())


def of_owner(connection: Connection, owner: str, *, since: int) -> list[Reservation]:
    """The owner's bookings that end after ``since`` and were not cancelled; those given back early are among them."""
    return select_where(connection, owned_by(owner), reservation.c.end > since, reservation.c.cancelled_at.is_(None))


def versions_of_owners(connection: Connection, owners: Collection[str], *, since: int) -> dict[str, tuple[int, int]]:
    """``owner: (bookings, sum of their versions)`` of what ends after ``since``; it differs where a booking does."""
    names = sorted(owners)
    found: dict[str, tuple[int, int]] = {}
    c = reservation.c
    for at in range(0, len(names), _CHUNK):
        query = select(c.owner, func.count(), func.sum(c.version)).group_by(c.owner)
        query = query.where(c.owner.in_(names[at : at + _CHUNK]), c.end > since, is_booking())
        found |= {owner: (count, int(total)) for owner, count, total in connection.execute(query)}
    return found


def open_at(connection: Connection, now: int) -> list[Reservation]:
    """What the clock looks at: bookings that are not over, and those whose server may still run."""
    live = and_(reservation.c.starting_at.is_not(None), reservation.c.stopped_at.is_(None))
    soon = and_(reservation.c.end > now, reservation.c.start <= now + LONGEST, not_given_back())
    return select_where(connection, or_(live, soon), is_booking())


def waiting(connection: Connection, now: int) -> list[Reservation]:
    """The bookings that wait for a place, by the partial index; those whose window is over are left out."""
    return select_where(
        connection, reservation.c.waiting_reason.is_not(None), not_given_back(), reservation.c.end > now
    )


def last_end(connection: Connection, now: int) -> tuple[int | None, int | None]:
    """When a booking and an outage ended last; the time alone makes room then."""
    ended = (reservation.c.end, tables.outage.c.end)
    found = [connection.execute(select(func.max(end)).where(end <= now)).scalar() for end in ended]
    return found[0], found[1]


def turned(connection: Connection, after: int, until: int) -> list[Reservation]:
    """The bookings that began or ended by the time alone in ``(after, until]``."""
    c = reservation.c
    times = or_(and_(c.start > after, c.start <= until), and_(c.end > after, c.end <= until))
    return select_where(connection, times, not_given_back(), is_booking())


def live(connection: Connection) -> list[Reservation]:
    """The bookings whose server may be running, by the partial index."""
    server = (reservation.c.starting_at.is_not(None), reservation.c.stopped_at.is_(None))
    return select_where(connection, *server, is_booking())


def chain(connection: Connection, server_id: str) -> list[Reservation]:
    """The bookings under which the server with this id was started or carried on."""
    return select_where(connection, or_(reservation.c.id == server_id, reservation.c.continues == server_id))


def server_id_of(connection: Connection, reservation_id: str) -> str | None:
    """The server id of a reservation; None where there is no such reservation."""
    row = find(connection, reservation_id)
    return row.server_id if row else None


def live_server(connection: Connection, server_id: str) -> list[Reservation]:
    """The bookings under which the server with this id was started or carried on, and is not known to be gone."""
    return select_where(
        connection,
        or_(reservation.c.id == server_id, reservation.c.continues == server_id),
        reservation.c.starting_at.is_not(None),
        reservation.c.stopped_at.is_(None),
    )


def insert_reservation(connection: Connection, new: Reservation) -> None:
    """Writes a reservation and its allocations; the database refuses what does not fit."""
    connection.execute(insert(reservation), {name: getattr(new, name) for name in _COLUMNS})
    insert_allocations(connection, new.allocations)


def insert_allocations(connection: Connection, rows: Iterable[Allocation]) -> None:
    """Writes allocations, longer ones as touching rows, since the range scan relies on a longest row."""
    values = [
        {
            "reservation": row.reservation,
            "root": row.root,
            "node": row.node,
            "resource": row.resource,
            "units": row.units,
            "start": start,
            "end": min(start + LONGEST, row.end),
        }
        for row in rows
        for start in range(row.start, row.end, LONGEST)
    ]
    if values:
        connection.execute(insert(allocation), values)


def delete_allocations(connection: Connection, reservation_id: str) -> None:
    """Deletes what a reservation takes; what was is in the history."""
    connection.execute(delete(allocation).where(allocation.c.reservation == reservation_id))


def cut_allocations(connection: Connection, reservation_id: str, end: int) -> None:
    """Shortens what a reservation takes so that nothing of it lies after ``end``."""
    mine = allocation.c.reservation == reservation_id
    connection.execute(delete(allocation).where(mine, allocation.c.start >= end))
    connection.execute(update(allocation).where(mine, allocation.c.end > end).values(end=end))


def extend_allocations(connection: Connection, old: Reservation, end: int) -> None:
    """Lengthens what a reservation takes: its last rows where they stay short enough, else with rows that touch."""
    for row in old.allocations:
        if row.end != old.end:
            continue
        if end - row.start <= LONGEST:
            mine = (allocation.c.reservation == old.id, allocation.c.node == row.node, allocation.c.end == old.end)
            connection.execute(update(allocation).where(*mine).values(end=end))
        else:
            insert_allocations(connection, [replace(row, start=old.end, end=end)])


def next_waitlist_position(connection: Connection) -> int:
    """The place behind everybody who waits."""
    waiting = reservation.c.waiting_reason.is_not(None)
    last = connection.execute(select(func.max(reservation.c.waitlist_position)).where(waiting)).scalar()
    return (last or 0) + 1


def update_reservation(connection: Connection, old: Reservation, **changes: Any) -> None:
    """Changes a reservation that is still as it was read.

    :raises Changed: somebody else changed it meanwhile.
    """
    changed = connection.execute(
        update(reservation)
        .where(reservation.c.id == old.id, reservation.c.version == old.version)
        .values(**changes, version=old.version + 1)
    )
    if changed.rowcount != 1:
        raise Changed("The booking was changed meanwhile.", hint="Look at it as it is now and try again.")


def taken(
    connection: Connection, resource: str, nodes: Collection[str], window: Interval
) -> list[tuple[str, str, int, int, int]]:
    """``(reservation, node, units, start, end)`` of all root allocations in ``window``, by the range index."""
    columns = (allocation.c.reservation, allocation.c.node, allocation.c.units, allocation.c.start, allocation.c.end)
    names = sorted(nodes)
    found: list[tuple[str, str, int, int, int]] = []
    for at in range(0, len(names), _CHUNK):
        # One search of the index for each node, in one query.
        query = select(*columns).where(
            allocation.c.node.in_(names[at : at + _CHUNK]),
            allocation.c.resource == resource,
            allocation.c.start > window.start - LONGEST,
            allocation.c.start < window.end,
            allocation.c.end > window.start,
            allocation.c.root.is_(None),
        )
        found += [tuple(row) for row in connection.execute(query)]
    return found


def made_at(connection: Connection, ids: Collection[str]) -> dict[str, int]:
    """When each of these was made (ms UTC)."""
    c = tables.reservation.c
    query = select(c.id, c.created_at).where(c.id.in_(sorted(ids)))
    return {row.id: row.created_at for row in connection.execute(query)}


def capacities(connection: Connection, resource: str) -> dict[str, tuple[int, int]]:
    """``node: (units, version)`` of one resource; the version rises with each write to the node's allocations."""
    query = select(tables.capacity.c.node, tables.capacity.c.units, tables.capacity.c.version).where(
        tables.capacity.c.resource == resource
    )
    return {row.node: (row.units, row.version) for row in connection.execute(query)}


def versions_of_all(connection: Connection) -> tuple[int, int]:
    """Numbers that differ after each write to an allocation, an outage or the capacity of a node."""
    versions = select(func.sum(tables.capacity.c.version)).scalar_subquery()
    outages = select(func.count()).select_from(tables.outage).scalar_subquery()  # nothing rises when one is deleted
    total, count = connection.execute(select(versions, outages)).one()
    return int(total or 0), int(count)


def outages(connection: Connection, window: Interval, nodes: Collection[str] | None = None) -> list[Outage]:
    """The outages that overlap ``window``."""
    o = tables.outage.c
    query = select(tables.outage).where(o.start < window.end, o.end > window.start).order_by(o.start)
    rows = [Outage(row.id, row.node, row.start, row.end, row.reason) for row in connection.execute(query)]
    return [row for row in rows if nodes is None or row.node in nodes]
