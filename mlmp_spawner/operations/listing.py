"""Lists of bookings, page by page, and what the API shows besides each."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable

from sqlalchemy import ColumnElement, and_, or_, select

from mlmp_spawner.errors import Invalid
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import policy
from mlmp_spawner.rules.reservations import Interval, Outage, Reservation, State, chain_end
from mlmp_spawner.store import classes
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import allocation, job_attempt
from mlmp_spawner.store.tables import reservation as table
from mlmp_spawner.store.transaction import read

LONGEST_PAGE = 200
MANY = 500


def listing(
    site: Site,
    *,
    now: int,
    window: Interval | None = None,
    owner: str | None = None,
    state: State | None = None,
    node: str | None = None,
    kind: str | None = None,
    viewer: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[Reservation], str | None]:
    """One page of bookings, by start and id, and the cursor of the next page, None behind the last.

    :param window: only those that overlap it. :param state: only those in this state at ``now``.
    :param node: only those with a place on this node. :param kind: only of this kind; None: of all but jobs.
    :param viewer: who sees no seats of others, since these would tell who is in a course; None: sees all.
    :raises Invalid: the cursor is not one that this function gave.
    """
    conditions: list[ColumnElement[bool]] = [store.is_booking() if kind is None else table.c.kind == kind]
    if window is not None:
        conditions.append(store.overlapping(window))
    if owner is not None:
        conditions.append(table.c.owner == owner)
    if state is not None:
        conditions.append(_in_state(state, now))
    if viewer is not None:
        conditions.append(classes.not_others_seats(viewer))
    if node is not None:
        conditions.append(table.c.id.in_(select(allocation.c.reservation).where(allocation.c.node == node)))
    if cursor is not None:
        start, last = _read_cursor(cursor)
        conditions.append(or_(table.c.start > start, and_(table.c.start == start, table.c.id > last)))
    limit = max(1, min(limit, LONGEST_PAGE))
    with read(site.engine) as connection:
        found = store.select_where(connection, *conditions, limit=limit + 1)
    if len(found) <= limit:
        return found, None
    return found[:limit], _cursor(found[limit - 1])


def by_ids(site: Site, ids: Collection[str]) -> dict[str, Reservation]:
    """The bookings with these ids; those that are gone are left out."""
    wanted = sorted(ids)
    found: list[Reservation] = []
    if wanted:
        with read(site.engine) as connection:
            for at in range(0, len(wanted), MANY):
                found += store.select_where(connection, table.c.id.in_(wanted[at : at + MANY]))
    return {row.id: row for row in found}


def job_behind(site: Site, reservation_id: str) -> str | None:
    """The id of the job whose units a reservation holds."""
    with read(site.engine) as connection:
        found: str | None = connection.execute(
            select(job_attempt.c.job).where(job_attempt.c.reservation == reservation_id)
        ).scalar()
    return found


def turned(site: Site, after: int, until: int) -> tuple[list[Reservation], list[Outage]]:
    """The bookings and outages that began or ended by the time alone in ``(after, until]``."""
    with read(site.engine) as connection:
        away = [
            outage
            for outage in store.outages(connection, Interval(after, until + 1))
            if after < outage.start <= until or after < outage.end <= until
        ]
        return store.turned(connection, after, until), away


def stops(site: Site, bookings: Iterable[Reservation], *, now: int) -> dict[str, int]:
    """When the server of each booking begins to stop (ms UTC), at the end of its owner's unbroken chain; only for
    those that are not over."""
    open_ones = [row for row in bookings if row.state(now) in ("booked", "active") and row.kind != "job"]
    if not open_ones:
        return {}
    owners = sorted({row.owner for row in open_ones})
    theirs: dict[str, list[Reservation]] = {owner: [] for owner in owners}
    with read(site.engine) as connection:
        since = min(row.start for row in open_ones)
        for at in range(0, len(owners), MANY):
            mine = table.c.owner.in_(owners[at : at + MANY])
            for row in store.select_where(connection, mine, table.c.end > since, table.c.cancelled_at.is_(None)):
                theirs[row.owner].append(row)
    return {row.id: chain_end(row, theirs[row.owner]).stop_at(site.stop_lead) for row in open_ones}


def used(site: Site, owner: str, *, now: int) -> policy.Usage:
    """What an owner uses of the limits just now: units at this moment, unit-hours of the fullest seven days around
    it, bookings that are not over."""
    with read(site.engine) as connection:
        mine = store.of_owner(connection, owner, since=now - policy.WEEK)
    return _used(site, mine, now)


def used_by_all(site: Site, *, now: int) -> dict[str, policy.Usage]:
    """The same for everybody who had a booking in the last seven days, or has one."""
    with read(site.engine) as connection:
        rows = store.select_where(
            connection, store.is_booking(), table.c.owner_id.is_not(None), table.c.end > now - policy.WEEK,
            table.c.cancelled_at.is_(None),
        )  # fmt: skip
    theirs: dict[str, list[Reservation]] = {}
    for row in rows:
        theirs.setdefault(row.owner, []).append(row)
    return {owner: _used(site, mine, now) for owner, mine in theirs.items()}


def _used(site: Site, mine: Iterable[Reservation], now: int) -> policy.Usage:
    nothing = policy.Ask(units_total=0, start=now, end=now + 1, now=now)
    return policy.usage(nothing, mine, uncounted=site.catalog.uncounted())


def _in_state(state: State, now: int) -> ColumnElement[bool]:
    """The same as :meth:`Reservation.state`, for the database."""
    c = table.c
    alive = and_(store.not_given_back(), c.end > now)
    if state == "ended":
        return or_(c.cancelled_at.is_not(None), c.end_reason.is_not(None), c.end <= now)
    if state == "waiting":
        return and_(alive, c.waiting_reason.is_not(None))
    begun = c.start <= now if state == "active" else c.start > now
    return and_(alive, c.waiting_reason.is_(None), begun)


def _cursor(last: Reservation) -> str:
    return base64.urlsafe_b64encode(f"{last.start}.{last.id}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[int, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        start, _, last = text.partition(".")
        if start.isdecimal() and len(start) <= 15 and last.isalnum() and len(last) <= 30:
            return int(start), last
    except (binascii.Error, UnicodeError, ValueError):
        pass
    raise Invalid.field("cursor", "it is not one that this service gave; begin without one")
