"""Bring the capacity table in line with the catalog, and see to bookings that lost their place by it.

Nothing is dropped silently. What does not run is moved or goes back to waiting (:mod:`.relocating`); what runs on
units that are really gone ends with ``end_reason: capacity_lost``. Jobs end before any booking loses its place, and
are tried again elsewhere. On a cluster nobody knows whose units are gone, so that there nothing ends that runs but
preemptible jobs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, insert, select, update

from mlmp_spawner.errors import Changed
from mlmp_spawner.operations import history, planning, yielding
from mlmp_spawner.operations.changes import give_back
from mlmp_spawner.operations.courses import placing
from mlmp_spawner.operations.relocating import Lost, relocate
from mlmp_spawner.operations.requests import HORIZON
from mlmp_spawner.operations.site import CLOCK, Site
from mlmp_spawner.rules.due import is_live
from mlmp_spawner.rules.nodes import Key, until_seen
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import capacity, unit_in_use
from mlmp_spawner.store.tables import reservation as reservation_table
from mlmp_spawner.store.transaction import Busy, Refused, read, transaction

TRIES = 5


def sync(site: Site, *, now: int) -> list[Lost]:
    """Writes the catalog's capacities and resolves what no longer fits; returns what became of whom.

    On a cluster none is raised: that more units are there is for the watch on its nodes to see.
    """
    with read(site.engine) as connection:
        before = known(connection)
    wanted = until_seen(site.catalog, before) if site.cluster else site.catalog.capacity()
    set_units(site, before, {key: wanted.get(key, 0) for key in wanted.keys() | before.keys()}, now=now)
    found: list[Lost] = []
    for node, resource in sorted(wanted.keys() | before.keys()):
        found += resolve(site, node, resource, now=now)
    return found


def known(connection: Connection) -> dict[Key, int]:
    """The capacities as they are in the database."""
    return {(row.node, row.resource): row.units for row in connection.execute(select(capacity))}


def set_units(site: Site, before: Mapping[Key, int], wanted: Mapping[Key, int], *, now: int, reason: str = "") -> None:
    """Writes the capacities that differ from ``before``, with the reason for the history."""
    changed = {key for key, units in wanted.items() if units != before.get(key)}
    if not changed:
        return
    details: dict[str, Any] = {"reason": reason} if reason else {}
    with transaction(site.engine, lock=changed & before.keys()) as connection:
        for node, resource in sorted(changed):
            _write(connection, node, resource, wanted[node, resource], (node, resource) in before)
        listed = sorted(map(list, changed))
        history.record(connection, "capacity", actor=CLOCK.name, at=now, changed=listed, **details)


def _write(connection: Connection, node: str, resource: str, units: int, known: bool) -> None:
    if known:
        here = (capacity.c.node == node, capacity.c.resource == resource)
        connection.execute(update(capacity).where(*here).values(units=units, version=capacity.c.version + 1))
    else:
        connection.execute(insert(capacity).values(node=node, resource=resource, units=units))


def resolve(site: Site, node: str, resource: str, *, now: int) -> list[Lost]:
    """Finds new places for what is booked on a node above its capacity, or says that it has none."""
    for _ in range(TRIES):
        try:
            return _resolve(site, node, resource, now)
        except (Refused, Busy, Changed):
            continue
    return []  # the next sync tries again


def _resolve(site: Site, node: str, resource: str, now: int) -> list[Lost]:
    from_now = Interval(now, now + HORIZON)
    with read(site.engine) as connection:
        if not _over(connection, node, resource, from_now):
            return []
        nodes = sorted(store.capacities(connection, resource))
    with transaction(site.engine, lock=[(name, resource) for name in nodes]) as connection:
        gone = _running_on_lost_units(connection, site, node, resource)
        found = _seats_on(connection, gone, node, now)
        for row in sorted(_affected(connection, node, resource, from_now), key=lambda row: _order(row, gone)):
            rest = Interval(max(now, row.start), row.end)
            if row.id not in gone and not _over(connection, node, resource, rest):
                continue
            if row.kind == "job":
                if _job_yields(connection, site, row, row.id in gone, now):
                    found.append(Lost(row.id, row.owner, "yielded", node))
                continue
            if is_live(row) and site.cluster:
                continue
            if is_live(row):
                give_back(connection, row, reason="capacity_lost", actor=CLOCK.name, now=now)
                found.append(Lost(row.id, row.owner, "ended", node))
            elif (outcome := relocate(connection, site, row, now)) != "kept":
                found.append(Lost(row.id, row.owner, outcome, node))
        return found if site.cluster else found + _seats_of_kept_classes(connection, site, node, resource, now)


def _seats_of_kept_classes(connection: Connection, site: Site, node: str, resource: str, now: int) -> list[Lost]:
    """Ends running seats, the last given first, while classes have more units on a node than it has."""
    found = []
    rows = _affected(connection, node, resource, Interval(now, now + HORIZON))
    for row in sorted((row for row in rows if row.kind == "class"), key=lambda row: -row.created_at):
        seats = [seat for seat in placing.open_seats(connection, row.id, now) if seat.nodes[0] == node]
        while _over(connection, node, resource, Interval(now, row.end)):
            if relocate(connection, site, store.find(connection, row.id) or row, now) != "kept":
                continue
            if not seats:
                break
            seat = seats.pop()
            placing.end_seat(connection, seat, reason="capacity_lost", action="capacity_lost", actor=CLOCK.name,
                             now=now)  # fmt: skip
            found.append(Lost(seat.id, seat.owner, "ended", node))
    return found


def _seats_on(connection: Connection, gone: Collection[str], node: str, now: int) -> list[Lost]:
    """Ends the seats of classes that run on units that are gone, so that their classes may lose these."""
    seats = [row for row in (store.find(connection, holder) for holder in sorted(gone)) if row and row.is_seat]
    open_ones = [seat for seat in seats if seat.state(now) == "active"]
    for seat in open_ones:
        placing.end_seat(connection, seat, reason="capacity_lost", action="capacity_lost", actor=CLOCK.name, now=now)
    return [Lost(seat.id, seat.owner, "ended", node) for seat in open_ones]


def _job_yields(connection: Connection, site: Site, row: Reservation, gone: bool, now: int) -> bool:
    if row.preemptible and not gone:
        return bool(yielding.cut(connection, [row.id], now, now))
    if gone or not site.cluster:
        yielding.lose(connection, row.id, now)
    return gone or not site.cluster


def _over(connection: Connection, node: str, resource: str, window: Interval) -> bool:
    """Whether more is booked in ``window`` than there is; outages are somebody else's matter."""
    boards = planning.view(connection, resource, [node], window).boards
    return bool(boards) and replace(boards[0], outages=()).room(window) < 0


def _affected(connection: Connection, node: str, resource: str, window: Interval) -> list[Reservation]:
    ids = {row[0] for row in store.taken(connection, resource, [node], window)}
    return store.select_where(connection, reservation_table.c.id.in_(ids))


def _running_on_lost_units(connection: Connection, site: Site, node: str, resource: str) -> Collection[str]:
    known = site.catalog.unit_ids(node, resource)
    rows = connection.execute(
        select(unit_in_use).where(unit_in_use.c.node == node, unit_in_use.c.resource == resource)
    ).all()
    return {row.holder for row in rows if known and row.unit not in known}


def _order(row: Reservation, gone: Collection[str]) -> tuple[int, int]:
    """First what runs on a unit that is gone, then jobs, preemptible ones before others, then what does not run; of
    equals the youngest first."""
    rank = 0 if row.id in gone else (2 - row.preemptible) if row.kind == "job" else 3 + is_live(row)
    return rank, -row.created_at
