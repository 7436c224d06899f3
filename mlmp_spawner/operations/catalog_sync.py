"""Bring the capacity table in line with the catalog, and see to bookings that lost their place by it.

Nothing is dropped silently. What does not run is moved or goes back to waiting (:mod:`.relocating`); what runs on
units that are really gone ends with ``end_reason: capacity_lost``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from sqlalchemy import Connection, insert, select, update

from mlmp_spawner.errors import Changed
from mlmp_spawner.operations import history, planning
from mlmp_spawner.operations.changes import give_back
from mlmp_spawner.operations.relocating import Lost, relocate
from mlmp_spawner.operations.requests import HORIZON
from mlmp_spawner.operations.site import CLOCK, Site
from mlmp_spawner.rules.due import is_live
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import capacity, unit_in_use
from mlmp_spawner.store.tables import reservation as reservation_table
from mlmp_spawner.store.transaction import Busy, Refused, read, transaction

TRIES = 5


def sync(site: Site, *, now: int) -> list[Lost]:
    """Writes the catalog's capacities and resolves what no longer fits; returns what became of whom."""
    wanted = site.catalog.capacity()
    with read(site.engine) as connection:
        before = {(row.node, row.resource): row.units for row in connection.execute(select(capacity))}
    changed = {key for key in wanted.keys() | before.keys() if wanted.get(key, 0) != before.get(key)}
    if changed:
        with transaction(site.engine, lock=changed & before.keys()) as connection:
            for node, resource in sorted(changed):
                _write(connection, node, resource, wanted.get((node, resource), 0), (node, resource) in before)
            history.record(connection, "capacity", actor=CLOCK.name, at=now, changed=sorted(map(list, changed)))
    found: list[Lost] = []
    for node, resource in sorted(wanted.keys() | before.keys()):
        found += resolve(site, node, resource, now=now)
    return found


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
        found: list[Lost] = []
        gone = _running_on_lost_units(connection, site, node, resource)
        for row in sorted(_affected(connection, node, resource, from_now), key=lambda row: _order(row, gone)):
            rest = Interval(max(now, row.start), row.end)
            if row.id not in gone and not _over(connection, node, resource, rest):
                continue
            if is_live(row):
                give_back(connection, row, reason="capacity_lost", actor=CLOCK.name, now=now)
                found.append(Lost(row.id, row.owner, "ended", node))
            else:
                found.append(Lost(row.id, row.owner, relocate(connection, site, row, now), node))
        return found


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


def _order(row: Reservation, gone: Collection[str]) -> tuple[bool, bool, int]:
    """First what runs on a unit that is gone, then what does not run, the youngest booking first."""
    return row.id not in gone, is_live(row), -row.created_at
