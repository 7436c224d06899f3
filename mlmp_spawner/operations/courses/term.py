"""What an instructor asks for, as dates, and where the seats of each would go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from mlmp_spawner.errors import Conflict, Invalid
from mlmp_spawner.operations import planning
from mlmp_spawner.operations.courses import placing
from mlmp_spawner.operations.courses.courses import own
from mlmp_spawner.operations.requests import HORIZON, LATE, Recurrence
from mlmp_spawner.operations.site import Actor, Site, new_id
from mlmp_spawner.rules import class_seats as rules
from mlmp_spawner.rules import recurrence
from mlmp_spawner.rules.class_seats import Placed
from mlmp_spawner.rules.courses import MOST_SEATS, Course
from mlmp_spawner.rules.placement import Board
from mlmp_spawner.rules.reservations import LONGEST, Interval, Reservation
from mlmp_spawner.store import reservations
from mlmp_spawner.store.series import Series
from mlmp_spawner.units import format_duration


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


def dates_of(connection: Connection, site: Site, request: ClassRequest, actor: Actor, now: int) -> Dates:
    """The dates of a request, each with where its seats would go, None where they don't fit.

    :raises NotFound, NotAllowed: it is no course of the actor's. :raises Invalid, Conflict: it makes no sense.
    """
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
        id="", owner=course.owner, profile=profile.name, resource=profile.resource,
        units=course.units_of(site.catalog), start=0, end=1, kind="class", title=course.title,
        image=course.image if site.images else None, created_at=now, series=series.id if series else None,
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
    placed = [
        rules.place(boards_over(connection, slot, nodes), slot.row.interval, like.units, seats) for slot in slots
    ]
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


def boards_over(connection: Connection, slot: Slot, nodes: Sequence[str], around: int = 0) -> tuple[Board, ...]:
    """The boards of ``nodes`` over a date. :param around: how much before and after it, too (ms)."""
    window = Interval(slot.row.start - around, slot.row.end + around)
    return planning.view(connection, slot.row.resource, nodes, window).boards
