"""Claim what is due: one transaction that sees whether it still is, and writes that it was done.

What was decided from an older view is decided again, by the same rules, from what the transaction sees; the version of
the booking is compared as it is written. So of two clocks one claims, and neither undoes what somebody did meanwhile.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from mlmp_spawner.errors import Changed
from mlmp_spawner.operations import history, offers, yielding
from mlmp_spawner.operations.changes import give_back
from mlmp_spawner.operations.site import CLOCK, Site
from mlmp_spawner.rules.due import (
    Action,
    Announce,
    Continue,
    IdleRelease,
    IdleWarn,
    NoShow,
    Offer,
    Stop,
    Warn,
    due,
)
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import unit_in_use
from mlmp_spawner.store.transaction import Busy, Refused, read, transaction


def claim(site: Site, action: Action, now: int) -> bool:
    """Claims an action and does what the database can do of it; False where it is not due, or another was quicker.

    :raises MLMPError: it failed; the next tick tries again.
    """
    if isinstance(action, Offer) and not _possible(site, action.reservation, now):
        return False  # seen without a lock: it is asked anew at each tick
    if isinstance(action, NoShow) and _used_by_jobs(site, action.reservation):
        return False
    locks = [(node, action.reservation.resource) for node in action.reservation.nodes]
    try:
        with transaction(site.engine, lock=locks) as connection:
            still = _still_due(connection, site, action, now)
            return still is not None and _carry_out(connection, site, still, now)
    except (Refused, Busy, Changed):
        return False


def _possible(site: Site, seen: Reservation, now: int) -> bool:
    with read(site.engine) as connection:
        return offers.longest_end(connection, site, seen, now) is not None


def _used_by_jobs(site: Site, seen: Reservation) -> bool:
    """Whether its owner came with a job instead of a server."""
    with read(site.engine) as connection:
        return yielding.has_inside(connection, seen.id)


def _still_due(connection: Connection, site: Site, action: Action, now: int) -> Action | None:
    current = store.find(connection, action.reservation.id)
    if current is None:
        return None
    mine = store.of_owner(connection, current.owner, since=current.start - 1)
    rows = [current, *(row for row in mine if row.id != current.id)]
    return next((a for a in due(now, rows, site) if type(a) is type(action) and a.reservation.id == current.id), None)


def _carry_out(connection: Connection, site: Site, action: Action, now: int) -> bool:
    row = action.reservation
    if isinstance(action, Stop):
        if action.first:
            store.update_reservation(connection, row, stopping_at=now)
            _record(connection, "stopping", row, now, end=row.end)
    elif isinstance(action, Continue):
        _hand_on(connection, row, action.following, now)
    elif isinstance(action, NoShow):
        give_back(connection, row, reason="no_show", actor=CLOCK.name, now=now)
    elif isinstance(action, IdleRelease):
        give_back(connection, row, reason="idle", actor=CLOCK.name, now=now)
    elif isinstance(action, Warn):
        store.update_reservation(connection, row, warned_at=now)
        _record(connection, "warned", row, now, end=row.end)
    elif isinstance(action, Announce):
        store.update_reservation(connection, row, announced_at=now)
        _record(connection, "announced", row, now, start=row.start, end=row.end, nodes=list(row.nodes))
    elif isinstance(action, IdleWarn):
        store.update_reservation(connection, row, idle_warned_at=now)
        release_at = None if site.idle_release is None else now + site.idle_release
        _record(connection, "idle_warned", row, now, idle_since=row.idle_since, release_at=release_at)
    else:
        longest = offers.longest_end(connection, site, row, now)
        if longest is None:
            return False
        store.update_reservation(connection, row, offered_at=now)
        _record(connection, "offered", row, now, end=row.end, longest_end=longest)
    return True


def _record(connection: Connection, action: str, row: Reservation, now: int, **details: Any) -> None:
    history.record(connection, action, actor=CLOCK.name, at=now, reservation=row, **details)


def _hand_on(connection: Connection, current: Reservation, following: Reservation, now: int) -> None:
    """The owner's next booking takes over the running server and the units it holds."""
    store.update_reservation(
        connection, following, starting_at=current.starting_at, started_at=current.started_at, stopped_at=None,
        continues=current.server_id, idle_since=current.idle_since, idle_warned_at=current.idle_warned_at,
    )  # fmt: skip
    store.update_reservation(connection, current, stopped_at=now, end_reason="continued")
    connection.execute(
        unit_in_use.update().where(unit_in_use.c.holder == current.id).values(holder=following.id, since=now)
    )
    _record(connection, "continued", following, now, previous=current.id)
