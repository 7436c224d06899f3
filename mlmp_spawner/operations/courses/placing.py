"""The seats of a class on their nodes: written, made fewer or more, given to people.

A seat is an ordinary booking of its owner whose allocation draws on that of the class, so that the database keeps it
within the class. Every function takes an open connection that holds all nodes of the class's resource.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from sqlalchemy import Connection, select

from mlmp_spawner.operations import history, planning, yielding
from mlmp_spawner.operations.site import Site, new_id
from mlmp_spawner.rules.class_seats import Placed
from mlmp_spawner.rules.placement import Board
from mlmp_spawner.rules.reservations import Allocation, Interval, Reservation
from mlmp_spawner.store import classes
from mlmp_spawner.store import courses as courses_store
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import allocation


def nodes_for(site: Site, row: Reservation, course_nodes: Iterable[str]) -> list[str]:
    """The nodes on which the seats of a class may be: those that its course names, else all with its profile."""
    known = planning.nodes_of(site, row.profile) if row.profile in site.catalog.profiles else []
    named = set(course_nodes)
    return [node for node in known if not named or node in named]


def there(row: Reservation, at: int) -> dict[str, int]:
    """How many seats a class has on each node at an instant; one that has not begun, at its start."""
    at = max(at, row.start)
    found: Counter[str] = Counter()
    for one in row.allocations:
        if one.start <= at < one.end:
            found[one.node] += one.units // row.units
    return dict(found)


def taken(seats: Iterable[Reservation], at: int) -> dict[str, int]:
    """How many of the seats on each node somebody has at an instant."""
    return dict(Counter(one.node for seat in seats for one in seat.allocations if one.start <= at < one.end))


def free(row: Reservation, seats: Iterable[Reservation], at: int) -> dict[str, int]:
    """How many seats of a class nobody has, on each node."""
    gone = taken(seats, at)
    return {node: count - gone.get(node, 0) for node, count in there(row, at).items()}


def allocations(row: Reservation, seats: Mapping[str, int], start: int) -> list[Allocation]:
    """The rows of a class with so many seats on each node from ``start`` on."""
    return [
        Allocation(row.id, node, row.resource, row.units * count, start, row.end)
        for node, count in sorted(seats.items())
        if count
    ]


def write(connection: Connection, row: Reservation, placed: Placed, now: int) -> None:
    """Writes the booking of a class with its seats; jobs make way first."""
    for one in placed.yields:
        yielding.cut(connection, [one.reservation], one.at, now)
    store.insert_reservation(connection, replace(row, allocations=tuple(allocations(row, placed.seats, row.start))))


def resize(connection: Connection, row: Reservation, seats: Mapping[str, int], now: int) -> None:
    """Makes these the seats of a class on each node from now on; what was until now stays as it was.

    The seats that people have on a node must be no more than that. Theirs are cut and written again around those of
    the class, since at no moment they may take more than it has.
    """
    start = max(row.start, now)
    before = there(row, start)
    a = allocation.c
    for node in sorted(before.keys() | seats.keys()):
        count = seats.get(node, 0)
        if count == before.get(node, 0):
            continue
        theirs = connection.execute(select(allocation).where(a.root == row.id, a.node == node, a.end > start)).all()
        here = (a.node == node, a.resource == row.resource)
        _cut(connection, [one.id for one in theirs], start)
        mine = connection.execute(select(a.id).where(a.reservation == row.id, *here, a.end > start)).scalars().all()
        _cut(connection, mine, start)
        store.insert_allocations(connection, allocations(row, {node: count}, start))
        store.insert_allocations(
            connection,
            [Allocation(one.reservation, node, one.resource, one.units, max(one.start, start), one.end, one.root)
             for one in theirs],
        )  # fmt: skip


def _cut(connection: Connection, ids: Iterable[int], at: int) -> None:
    """Shortens rows of allocations to an instant; those that begin then or later go."""
    a = allocation.c
    for one in ids:
        connection.execute(allocation.delete().where(a.id == one, a.start >= at))
        connection.execute(allocation.update().where(a.id == one).values(end=at))


def give(
    connection: Connection, row: Reservation, owner: str, owner_id: int, node: str, server: str | None, now: int
) -> Reservation:
    """Gives somebody a seat on a node until the end of the class. :param server: None for one of its own."""
    start = max(row.start, now)
    new = Reservation(
        id=new_id(), owner=owner, owner_id=owner_id, parent=row.id, profile=row.profile, resource=row.resource,
        units=row.units, title=row.title, start=start, end=row.end, image=row.image, created_at=now,
    )  # fmt: skip
    part = Allocation(new.id, node, row.resource, row.units, start, row.end, row.id)
    new = replace(new, server=new.id if server is None else server, allocations=(part,))
    store.insert_reservation(connection, new)
    history.record(connection, "seated", actor="clock", at=now, reservation=new, start=start, end=new.end, node=node,
                   units=new.units, course_class=row.id)  # fmt: skip
    return new


def end_seat(connection: Connection, seat: Reservation, *, reason: str, action: str, actor: str, now: int) -> None:
    """Ends a seat now: it goes back to its class. A job never runs inside one."""
    begun = seat.start < now
    if begun:
        store.cut_allocations(connection, seat.id, now)
        store.update_reservation(connection, seat, end=now, end_reason=reason)
    else:
        store.delete_allocations(connection, seat.id)
        store.update_reservation(connection, seat, cancelled_at=now, end_reason=reason)
    history.record(connection, action, actor=actor, at=now, reservation=seat, start=seat.start, end=seat.end,
                   units=seat.units, nodes=list(seat.nodes))  # fmt: skip


def open_seats(connection: Connection, class_id: str, now: int) -> list[Reservation]:
    """The seats of a class that somebody has."""
    return [seat for seat in classes.seats(connection, class_id) if seat.state(now) == "active"]


def boards(connection: Connection, site: Site, row: Reservation, now: int) -> tuple[Board, ...]:
    """The nodes on which (further) seats of a class could be, over the rest of its time."""
    found = classes.find(connection, row.id)
    course = courses_store.find(connection, found[0].course) if found else None
    nodes = nodes_for(site, row, course.nodes if course else ())
    return planning.view(connection, row.resource, nodes, rest(row, now)).boards


def rest(row: Reservation, now: int) -> Interval:
    """What is still to come of a class."""
    return Interval(max(row.start, now), row.end)
