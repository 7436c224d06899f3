"""Book a series: every date of a rule, or none of them.

As with a single booking, what goes where is planned before the write transaction, and the database has the last word.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import date

from sqlalchemy import Connection

from mlmp_spawner.errors import Invalid, NoCapacity, OverLimit, Unavailable
from mlmp_spawner.operations import booking, limits, planning
from mlmp_spawner.operations.booking import ATTEMPTS, OPTIMISTIC, Planned
from mlmp_spawner.operations.idempotency import Repeatable
from mlmp_spawner.operations.requests import HORIZON, BookingRequest, Recurrence, Wish, draft
from mlmp_spawner.operations.site import Actor, Site, new_id
from mlmp_spawner.rules import recurrence as rules
from mlmp_spawner.rules.placement import Board, Plan, Wanted, place
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store import series as series_store
from mlmp_spawner.store.series import Series
from mlmp_spawner.store.transaction import Busy, Refused, lock_owner, read, transaction
from mlmp_spawner.units import HOUR, MINUTE, compact_duration, format_duration, to_iso

STEP = 30 * MINUTE
LATEST = 12 * HOUR
"""How much later in the day all of a series is looked for where it does not fit, and in which steps."""


AGAIN = ("node", "title", "server", "image", "owner")
"""What of a request is said again in an alternative to it, where it was said."""


def book(
    site: Site, request: BookingRequest, *, actor: Actor, now: int, idempotency_key: str | None = None
) -> Reservation:
    """Books what is asked for, once or again and again: see :func:`.booking.book` and :func:`book_series`."""
    way = booking.book if request.recurrence is None else book_series
    return way(site, request, actor=actor, now=now, idempotency_key=idempotency_key)


def book_series(
    site: Site, request: BookingRequest, *, actor: Actor, now: int, idempotency_key: str | None = None
) -> Reservation:
    """Books every date of ``request.recurrence``; returns the first booking.

    :param idempotency_key: see :func:`~mlmp_spawner.operations.booking.book`.
    :raises Invalid, NotAllowed, NotFound: see :func:`~mlmp_spawner.operations.requests.draft`; or the rule is none.
    :raises OverLimit: together they pass a limit. :raises Conflict: the key was used for another request.
    :raises NoCapacity: on some dates nothing fits: ``clashes`` are their days in the zone of the series.
    """
    repeatable = Repeatable(actor, request, idempotency_key)
    for attempt in range(ATTEMPTS):
        with read(site.engine) as connection:
            if known := repeatable.known(connection, now):
                return known
            series, wishes = _wishes(connection, site, request, actor, now)
            limits.check_together(connection, site, wishes, now)
            planned = [booking.plan_for(connection, site, wish.draft, now) for wish in wishes]
            if any(one.plan is None for one in planned):
                raise _refusal(connection, site, request, wishes, planned, now)
        try:
            with transaction(site.engine, lock=touched(wishes, planned, attempt)) as connection:
                lock_owner(connection, series.owner)
                if known := repeatable.known(connection, now):
                    return known
                limits.check_together(connection, site, wishes, now)
                booked = _write(connection, site, series, wishes, planned, request, actor, now, attempt)
                repeatable.remember(connection, booked, now)
                return booked
        except (Refused, Busy):
            continue
    raise Unavailable("The database is too busy to book just now.", hint="Nothing was changed; try again in a moment.")


def touched(wishes: Sequence[Wish], planned: Sequence[Planned], attempt: int) -> set[tuple[str, str]]:
    """The capacity rows to lock: those that the plans need, or all where something is planned anew inside."""
    inside = attempt >= OPTIMISTIC or any(one.plan is None or not one.plan.alone for one in planned)
    nodes = {node for one in planned for node in (one.view.versions if inside or not one.plan else one.plan.nodes)}
    return {(node, wishes[0].draft.reservation.resource) for node in nodes}


def plan_again(
    connection: Connection, site: Site, wish: Wish, planned: Planned, attempt: int, now: int
) -> Plan | None:
    """The plan to write: as it was made before, unless it moves others or was overtaken."""
    if planned.plan is not None and planned.plan.alone and attempt < OPTIMISTIC:
        return planned.plan
    return booking.plan_for(connection, site, wish.draft, now).plan


def _wishes(
    connection: Connection, site: Site, request: BookingRequest, actor: Actor, now: int
) -> tuple[Series, list[Wish]]:
    recurrence = request.recurrence
    if recurrence is None:
        raise Invalid.field("recurrence", "say how often")
    if request.waitlist:
        raise Invalid.field("waitlist", "a series does not wait; leave out the dates on which nothing is free")
    rule, zone = rules.parse_rule(recurrence.rrule), rules.zone_of(recurrence.zone)
    without = sorted({rules.day_of(day) for day in recurrence.without})
    drafted = draft(connection, site, replace(request, recurrence=None), actor, now)
    first = drafted.reservation
    start = now - now % MINUTE if request.start is None else request.start
    length = first.interval.length if request.end is None else request.end - start
    found = rules.occurrences(rule, zone, rules.local(start, zone), length, without=without, horizon=now + HORIZON)
    series = Series(new_id(), first.owner, rule.text, zone.key, start, length,
                    tuple(day.isoformat() for day in without), now)  # fmt: skip
    wishes = []
    for one in found:
        # The first may have begun a moment ago.
        interval = one.interval if one.interval.start >= now else one.interval.at(now)
        new = replace(first, id=new_id(), start=interval.start, end=interval.end, series=series.id,
                      occurrence=one.interval.start)  # fmt: skip
        wishes.append(Wish(one.day, replace(drafted, reservation=new, preferred=())))
    return series, wishes


def _write(
    connection: Connection,
    site: Site,
    series: Series,
    wishes: Sequence[Wish],
    planned: Sequence[Planned],
    request: BookingRequest,
    actor: Actor,
    now: int,
    attempt: int,
) -> Reservation:
    series_store.add(connection, series)
    grace = limits.for_owner(connection, site, wishes[0].draft).no_show_grace
    first = wishes[0].draft.reservation.id
    for wish, one in zip(wishes, planned, strict=True):
        plan = plan_again(connection, site, wish, one, attempt, now)
        if plan is None:
            raise Refused("capacity")  # overtaken: nothing of it is written
        mine = wish.draft.reservation.id == first
        told = {"series": series.id, "bookings": len(wishes)} if mine else {"series": series.id}
        booking.write(connection, wish.draft, plan, request, actor, now, grace=grace, **told)
    booked = store.find(connection, first)
    assert booked is not None
    return booked


def _refusal(
    connection: Connection,
    site: Site,
    request: BookingRequest,
    wishes: Sequence[Wish],
    planned: Sequence[Planned],
    now: int,
) -> NoCapacity:
    """The refusal, with how many dates clash, which, and what could be had instead: ready to POST."""
    clashing = [wish.day for wish, one in zip(wishes, planned, strict=True) if one.plan is None]
    possible = []
    if len(clashing) < len(wishes):
        possible.append({"kind": "except", "request": _again(request, wishes, without=clashing)})
    if request.node is not None:
        elsewhere = replace(request, node=None)
        nodes = planning.nodes_of(site, request.profile)
        if _fit(_boards(connection, wishes, nodes, 0), wishes, 0):
            possible.append({"kind": "node", "request": _again(elsewhere, wishes)})
    later = _later(connection, site, wishes, now)
    if later is not None:
        possible.append({"kind": "later", "request": _again(request, wishes, later=later)})
    return clash(site, wishes, planned, alternatives=possible)


def clash(site: Site, wishes: Sequence[Wish], planned: Sequence[Planned], **data: object) -> NoCapacity:
    """That nothing is free on some days, which are named."""
    clashing = [(wish, one) for wish, one in zip(wishes, planned, strict=True) if one.plan is None]
    new = clashing[0][0].draft.reservation
    most = max((max(0, board.for_bookings().room(wish.draft.reservation.interval)) for wish, one in clashing
                for board in one.view.boards), default=0)  # fmt: skip
    title, length = site.catalog.profiles[new.profile].title, format_duration(new.interval.length)
    return NoCapacity(
        f"On {len(clashing)} of {len(wishes)} dates {new.units} × {title} for {length} is not free: at most {most} "
        "on a node would be.",
        hint="Take one of the alternatives." if data.get("alternatives") else "Ask for less, or at another time.",
        clashes=[wish.day.isoformat() for wish, _ in clashing],
        **data,
    )


def _boards(connection: Connection, wishes: Sequence[Wish], nodes: Collection[str], longer: int) -> list[list[Board]]:
    found = []
    for wish in wishes:
        new = wish.draft.reservation
        window = Interval(new.start, new.end + longer)
        found.append(list(planning.view(connection, new.resource, nodes, window).boards))
    return found


def _fit(boards: Sequence[Sequence[Board]], wishes: Sequence[Wish], shift: int) -> bool:
    for here, wish in zip(boards, wishes, strict=True):
        new = wish.draft.reservation
        interval = Interval(new.start + shift, new.end + shift)
        if place(here, Wanted(new.units, interval, new.node_count), repack=False) is None:
            return False
    return True


def _later(connection: Connection, site: Site, wishes: Sequence[Wish], now: int) -> int | None:
    """By how much later (ms) on each day all of it would fit as things lie."""
    boards = _boards(connection, wishes, wishes[0].draft.nodes, LATEST)
    for shift in range(STEP, LATEST + 1, STEP):
        if not _fit(boards, wishes, shift):
            continue
        moved = [_shifted(wish, shift) for wish in wishes]
        try:
            limits.check_together(connection, site, moved, now)
        except OverLimit:
            continue
        return shift
    return None


def _shifted(wish: Wish, shift: int) -> Wish:
    new = wish.draft.reservation
    moved = replace(new, start=new.start + shift, end=new.end + shift)
    return replace(wish, draft=replace(wish.draft, reservation=moved))


def _again(
    request: BookingRequest, wishes: Sequence[Wish], *, without: Sequence[date] = (), later: int = 0
) -> dict[str, object]:
    """The request again, with what is different: ready to POST."""
    assert request.recurrence is not None
    first = wishes[0].draft.reservation
    start = (first.start if request.start is None else request.start) + later
    asked = request.recurrence
    left_out = tuple(sorted({*asked.without, *(day.isoformat() for day in without)}))
    body: dict[str, object] = {
        "profile": request.profile, "units": first.units, "start": to_iso(start),
        "duration": compact_duration(first.interval.length),
        "recurrence": as_json(Recurrence(asked.rrule, asked.zone, left_out)),
    }  # fmt: skip
    if request.node_count != 1:
        body["node_count"] = request.node_count
    return body | {name: value for name in AGAIN if (value := getattr(request, name))}


def as_json(recurrence: Recurrence) -> dict[str, object]:
    """A recurrence as the API has it."""
    return {"rrule": recurrence.rrule, "zone": recurrence.zone, "except": list(recurrence.without)}
