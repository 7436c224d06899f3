"""Book the classes of a course: every date of a rule, or none of them.

As with other bookings, what goes where is planned before the write transaction, and the database has the last word. A
refusal has a report of each date that does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from mlmp_spawner.errors import Conflict, Invalid, NoCapacity, NotFound, TooLate, Unavailable
from mlmp_spawner.operations import history, planning
from mlmp_spawner.operations.booking import ATTEMPTS
from mlmp_spawner.operations.changes import leave_out
from mlmp_spawner.operations.courses import placing
from mlmp_spawner.operations.courses.courses import own
from mlmp_spawner.operations.idempotency import Repeatable
from mlmp_spawner.operations.requests import HORIZON, LATE, Recurrence
from mlmp_spawner.operations.series import as_json
from mlmp_spawner.operations.site import Actor, Site, new_id
from mlmp_spawner.rules import class_seats as rules
from mlmp_spawner.rules import recurrence
from mlmp_spawner.rules.class_seats import CourseClass, Placed, Short
from mlmp_spawner.rules.courses import MOST_SEATS, Course
from mlmp_spawner.rules.placement import Board
from mlmp_spawner.rules.reservations import LONGEST, Interval, Reservation
from mlmp_spawner.store import classes as store
from mlmp_spawner.store import reservations
from mlmp_spawner.store import series as series_store
from mlmp_spawner.store.classes import Booked
from mlmp_spawner.store.series import Series
from mlmp_spawner.store.transaction import Busy, Refused, lock_owner, read, transaction
from mlmp_spawner.units import DAY, MINUTE, compact_duration, format_duration, to_iso

STEP = 30 * MINUTE
"""In which steps another time of the day is looked for where a class does not fit."""

Which = Literal["this", "following", "all"]


@dataclass(frozen=True, slots=True)
class ClassRequest:
    """What an instructor asks for. ``start``: when the (first) class begins; the time for setting up comes before.
    ``seats``: None for the course's number. ``holidays``: days that are left out wherever the rule gives them, unlike
    those of ``recurrence.without``, which must be days of it. ``zone``: whose days a report goes by, where there is no
    recurrence that says it."""

    course: str
    start: int
    end: int | None = None
    duration: int | None = None
    seats: int | None = None
    recurrence: Recurrence | None = None
    holidays: tuple[str, ...] = ()
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Slot:
    """One date: ``begins`` is when the class does, ``row`` what would be booked, from setting up on."""

    day: date
    begins: int
    row: Reservation


@dataclass(frozen=True, slots=True)
class Dates:
    """What would be booked: the dates, where the seats of each go, and the nodes that were looked at."""

    course: Course
    seats: int
    series: Series | None
    zone: ZoneInfo
    slots: list[Slot]
    placed: list[Placed | None]
    nodes: list[str]
    versions: dict[str, int]


def book(
    site: Site, request: ClassRequest, *, actor: Actor, now: int, idempotency_key: str | None = None
) -> Reservation:
    """Books a class, or all those of ``request.recurrence``; returns the first.

    :param idempotency_key: see :func:`mlmp_spawner.operations.booking.book`.
    :raises NotFound, NotAllowed: it is no course of the actor's. :raises Invalid: it makes no sense.
    :raises NoCapacity: on some dates the seats don't fit, and nothing was booked; ``dates`` has for each of these how
        many would and when on that day all would, ``alternatives`` what can be posted instead.
    :raises Conflict: the idempotency key was used for another request, or the course's profile is gone.
    """
    repeatable = Repeatable(actor, request, idempotency_key)
    for _ in range(ATTEMPTS):
        with read(site.engine) as connection:
            if known := repeatable.known(connection, now):
                return known
            dates = _dates(connection, site, request, actor, now)
            if None in dates.placed:
                raise _refusal(connection, request, dates, now)
        try:
            locks = [(node, dates.slots[0].row.resource) for node in dates.nodes]
            with transaction(site.engine, lock=locks) as connection:
                lock_owner(connection, dates.course.owner)
                if known := repeatable.known(connection, now):
                    return known
                own(connection, request.course, actor)
                first = _write(connection, dates, actor, now)
                repeatable.remember(connection, first, now)
                return first
        except (Refused, Busy):
            continue
    raise Unavailable("The database is too busy to book just now.", hint="Nothing was changed; try again in a moment.")


def check(site: Site, request: ClassRequest, *, actor: Actor, now: int) -> Dates:
    """What :func:`book` would book. :raises MLMPError: as it would."""
    with read(site.engine) as connection:
        dates = _dates(connection, site, request, actor, now)
        if None in dates.placed:
            raise _refusal(connection, request, dates, now)
        return dates


def listing(site: Site, course: str, *, window: Interval) -> list[Booked]:
    """The classes of a course that overlap ``window``, by start, without those that were cancelled."""
    with read(site.engine) as connection:
        found = store.of_course(connection, course, window)
    return [(one, row) for one, row in found if row.cancelled_at is None]


def get(site: Site, course: str, class_id: str) -> tuple[CourseClass, Reservation, list[Reservation]]:
    """One class with its seats. :raises NotFound: the course has no such class."""
    with read(site.engine) as connection:
        found = store.find(connection, class_id)
        if found is None or found[0].course != course:
            raise NotFound(f"The course has no class {class_id[:40]!r}.")
        return *found, store.seats(connection, class_id)


def cancel(
    site: Site, course: str, class_id: str, *, actor: Actor, now: int, which: Which = "this"
) -> list[Reservation]:
    """Cancels a class, or those of its series that follow too, or all that have not begun; what has begun ends now,
    and the servers of its seats are stopped. The classes that were given back.

    :raises NotFound, NotAllowed: it is no class of the actor's. :raises TooLate: it is over.
    :raises Invalid: it is of no series.
    """
    for _ in range(ATTEMPTS):
        with read(site.engine) as connection:
            own(connection, course, actor, lock=False)
            locks = _locks(connection, _found(connection, course, class_id)[1])
        try:
            with transaction(site.engine, lock=locks) as connection:
                own(connection, course, actor)
                chosen = _found(connection, course, class_id)[1]
                rows = _chosen(connection, chosen, which, now)
                for row in rows:
                    give_back(connection, row, actor=actor.name, now=now)
                    if which == "this" and row.series is not None and row.start > now:
                        leave_out(connection, row)
                return rows
        except (Refused, Busy):
            continue
    raise Unavailable("The database is too busy just now.", hint="Nothing was changed; try again in a moment.")


def give_back(connection: Connection, row: Reservation, *, actor: str, now: int, reason: str = "cancelled") -> None:
    """Ends a class now, its seats first; what was is in the history."""
    begun = row.start < now
    for seat in placing.open_seats(connection, row.id, now):
        placing.end_seat(connection, seat, reason="released", action="released", actor=actor, now=now)
    if begun:
        reservations.cut_allocations(connection, row.id, now)
        reservations.update_reservation(connection, row, end=now, end_reason=reason)
    else:
        reservations.delete_allocations(connection, row.id)
        reservations.update_reservation(connection, row, cancelled_at=now, end_reason=reason)
    history.record(connection, "cancelled", actor=actor, at=now, reservation=row, start=row.start, end=row.end,
                   units=row.units, nodes=list(row.nodes))  # fmt: skip


def _locks(connection: Connection, row: Reservation) -> list[tuple[str, str]]:
    return [(node, row.resource) for node in reservations.capacities(connection, row.resource)]


def _found(connection: Connection, course: str, class_id: str) -> Booked:
    found = store.find(connection, class_id)
    if found is None or found[0].course != course:
        raise NotFound(f"The course has no class {class_id[:40]!r}.")
    return found


def _chosen(connection: Connection, chosen: Reservation, which: Which, now: int) -> list[Reservation]:
    if which == "this":
        if chosen.state(now) == "ended":
            raise TooLate("The class is already over.")
        return [chosen]
    if chosen.series is None:
        raise Invalid.field("which", "this class is of no series; leave it out")
    since = chosen.start if which == "following" else now
    rows = series_store.bookings(connection, chosen.series)
    return [row for row in rows if row.start >= max(since, now) and row.state(now) == "booked"]


def _dates(connection: Connection, site: Site, request: ClassRequest, actor: Actor, now: int) -> Dates:
    course = own(connection, request.course, actor, lock=False)
    profile = site.catalog.profiles.get(course.profile)
    if profile is None:
        raise Conflict(f"The profile {course.profile!r} of the course is gone.", hint="Give the course another one.")
    seats = course.seats if request.seats is None else request.seats
    if not 1 <= seats <= MOST_SEATS:
        raise Invalid.field("seats", f"{seats} is not possible; valid is 1 to {MOST_SEATS}")
    length = _length(request, course, now)
    series, found = _occurrences(request, course, length, now)
    like = Reservation(
        id="", owner=course.owner, profile=profile.name, resource=profile.resource, units=course.units_of(site.catalog),
        start=0, end=1, kind="class", title=course.title, image=course.image if site.images else None, created_at=now,
        series=series.id if series else None,
    )  # fmt: skip
    slots: list[Slot] = []
    for one in found:
        earliest = max(now, slots[-1].row.end if slots else now)
        start = max(one.interval.start - course.setup, earliest)
        row = replace(like, id=new_id(), start=start, end=one.interval.end,
                      occurrence=one.interval.start if series else None)  # fmt: skip
        slots.append(Slot(one.day, max(one.interval.start, now), row))
    nodes = placing.nodes_for(site, like, course.nodes)
    if not nodes:
        raise Conflict("No node has what a seat of this course needs.", hint="Give the course other nodes.")
    versions = {node: version for node, (_, version) in reservations.capacities(connection, like.resource).items()}
    placed = [rules.place(_boards(connection, slot, nodes), slot.row.interval, like.units, seats) for slot in slots]
    zone = recurrence.zone_of(series.zone if series else request.zone)
    return Dates(course, seats, series, zone, slots, placed, sorted(set(nodes) & versions.keys()), versions)


def _length(request: ClassRequest, course: Course, now: int) -> int:
    if (request.end is None) == (request.duration is None):
        raise Invalid.field("duration", "say when it ends or how long it lasts, one of them")
    if request.start < now - LATE:
        ago = format_duration(now - request.start)
        raise Invalid.field("start", f"it lies {ago} in the past; book from now on")
    if request.start > now + HORIZON:
        raise Invalid.field("start", f"it lies more than {format_duration(HORIZON)} ahead")
    length = request.duration if request.duration is not None else (request.end or 0) - request.start
    if length <= 0 or request.start + length <= now:
        raise Invalid.field("duration" if request.end is None else "end", "a class ends after it begins")
    if length + course.setup > LONGEST:
        raise Invalid.field("duration", f"a class lasts less than {format_duration(LONGEST)}")
    return length


def _occurrences(
    request: ClassRequest, course: Course, length: int, now: int
) -> tuple[Series | None, list[recurrence.Occurrence]]:
    asked = request.recurrence
    if asked is None:
        day = recurrence.local(request.start, recurrence.zone_of(request.zone)).date()
        return None, [recurrence.Occurrence(day, Interval(request.start, request.start + length))]
    rule, zone = recurrence.parse_rule(asked.rrule), recurrence.zone_of(asked.zone)
    first = recurrence.local(request.start, zone)
    holidays = {recurrence.day_of(day) for day in request.holidays}
    without = {recurrence.day_of(day) for day in asked.without}
    last = recurrence.local(now + HORIZON, zone).date()
    without |= holidays & set(recurrence.days(rule, first.date(), last)) if holidays else set()
    ordered = sorted(without)
    found = recurrence.occurrences(rule, zone, first, length, without=ordered, horizon=now + HORIZON)
    series = Series(new_id(), course.owner, rule.text, zone.key, request.start, length,
                    tuple(day.isoformat() for day in ordered), now)  # fmt: skip
    return series, found


def _boards(connection: Connection, slot: Slot, nodes: Sequence[str], around: int = 0) -> tuple[Board, ...]:
    """The boards over a date. :param around: how much before and after it, too (ms)."""
    window = Interval(slot.row.start - around, slot.row.end + around)
    return planning.view(connection, slot.row.resource, nodes, window).boards


def _write(connection: Connection, dates: Dates, actor: Actor, now: int) -> Reservation:
    """Writes all of it, planned anew where somebody changed one of the nodes meanwhile."""
    resource = dates.slots[0].row.resource
    seen = {node: version for node, (_, version) in reservations.capacities(connection, resource).items()}
    stale = any(seen.get(node) != dates.versions.get(node) for node in dates.nodes)
    if dates.series is not None:
        series_store.add(connection, dates.series)
    for slot, known in zip(dates.slots, dates.placed, strict=True):
        row, placed = slot.row, known
        if stale:
            placed = rules.place(_boards(connection, slot, dates.nodes), row.interval, row.units, dates.seats)
        if placed is None:
            raise Refused("capacity")  # overtaken: nothing of it is written
        placing.write(connection, row, placed, now)
        store.add(connection, CourseClass(row.id, dates.course.name, slot.begins, dates.seats,
                                          slot.begins + dates.course.grace))  # fmt: skip
        history.record(
            connection, "booked", actor=actor.name, at=now, reservation=row, start=row.start, end=row.end,
            units=row.units, seats=dates.seats, nodes=sorted(placed.seats), profile=row.profile,
            **({"series": row.series} if row.series else {}),
        )  # fmt: skip
    first = reservations.find(connection, dates.slots[0].row.id)
    assert first is not None
    return first


def _refusal(connection: Connection, request: ClassRequest, dates: Dates, now: int) -> NoCapacity:
    short = [
        _short(connection, dates, slot, now)
        for slot, placed in zip(dates.slots, dates.placed, strict=True)
        if placed is None
    ]
    number = f"On {len(short)} of {len(dates.slots)} dates" if dates.series else "Then"
    fewest = min(one.seats for one in short)
    at_most = f"at most {fewest} of them would be." if fewest else "none of them would be."
    alternatives = _alternatives(connection, request, dates, short, now)
    return NoCapacity(
        f"{number} {dates.seats} seats are not free; {at_most}",
        hint="Take one of the alternatives, or another time on the dates that don't fit." if alternatives else
        "Ask for fewer seats, or at another time.",
        dates=[as_report(one) for one in short],
        clashes=[one.day.isoformat() for one in short],
        alternatives=alternatives,
    )  # fmt: skip


def as_report(one: Short) -> dict[str, Any]:
    """A date that does not fit, as JSON."""
    instead = None if one.instead is None else to_iso(one.instead)
    return {"day": one.day.isoformat(), "start": to_iso(one.begins), "end": to_iso(one.end), "seats": one.seats,
            "instead": instead}  # fmt: skip


def _short(connection: Connection, dates: Dates, slot: Slot, now: int) -> Short:
    boards = _boards(connection, slot, dates.nodes, DAY)
    row = slot.row
    shifts = [by for by in _shifts(dates.zone, slot) if row.start + by >= now]
    by = rules.other_time(boards, row.interval, row.units, dates.seats, shifts)
    most = min(dates.seats, rules.most(boards, row.interval, row.units))
    return Short(slot.day, slot.begins, row.end, most, None if by is None else slot.begins + by)


def _shifts(zone: ZoneInfo, slot: Slot) -> list[int]:
    """By how much (ms) a class could be moved so that it begins on the same day, the nearest first."""
    steps = [by for at in range(STEP, DAY, STEP) for by in (at, -at)]
    return [by for by in steps if _day(slot.begins + by, zone) == _day(slot.begins, zone)]


def _day(at: int, zone: ZoneInfo) -> date:
    return recurrence.local(at, zone).date()


def _alternatives(
    connection: Connection, request: ClassRequest, dates: Dates, short: Sequence[Short], now: int
) -> list[dict[str, Any]]:
    """What would fit instead, ready to POST."""
    found: list[dict[str, Any]] = []
    if dates.series is not None and len(short) < len(dates.slots):
        found.append({"kind": "except", "request": _again(request, dates, without=[one.day for one in short])})
    fewest = min(one.seats for one in short)
    if fewest:
        found.append({"kind": "smaller", "request": _again(request, dates, seats=fewest)})
    boards = [(slot, _boards(connection, slot, dates.nodes, DAY)) for slot in dates.slots]
    for by in _shifts(dates.zone, dates.slots[0]):
        if dates.slots[0].row.start + by >= now and all(_fits(dates, slot, here, by) for slot, here in boards):
            found.append({"kind": "later" if by > 0 else "earlier", "request": _again(request, dates, by=by)})
            break
    return found


def _fits(dates: Dates, slot: Slot, boards: Sequence[Board], by: int) -> bool:
    row = slot.row
    return rules.other_time(boards, row.interval, row.units, dates.seats, [by]) is not None


def _again(
    request: ClassRequest, dates: Dates, *, without: Sequence[date] = (), seats: int | None = None, by: int = 0
) -> dict[str, Any]:
    length = dates.slots[0].row.end - dates.slots[0].begins
    if dates.series is not None:
        length = dates.series.duration
    body: dict[str, Any] = {"start": to_iso(request.start + by), "duration": compact_duration(length),
                            "seats": dates.seats if seats is None else seats}  # fmt: skip
    if dates.series is not None and request.recurrence is not None:
        left_out = tuple(sorted({*dates.series.without, *(day.isoformat() for day in without)}))
        asked = Recurrence(request.recurrence.rrule, request.recurrence.zone, left_out)
        return body | {"recurrence": as_json(asked)}
    return body | {"zone": request.zone}
