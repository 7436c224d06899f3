"""The rules of sharing: whether what somebody asks for stays within the limits that hold for them.

Pure: the caller loads the person's other bookings, ``usage`` counts them, ``check`` compares. Which limits hold for
whom (the most generous of several groups; what is set for the user wins) is ``Catalog.limits_for``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise

from mlmp_spawner.errors import OverLimit
from mlmp_spawner.rules.catalog import Limits, Profile
from mlmp_spawner.rules.reservations import Interval, Reservation, peak_use
from mlmp_spawner.units import DAY, HOUR, format_duration

WEEK = 7 * DAY

Taken = tuple[int, int, int]
"""Start, end (ms UTC), units."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for; instants in ms UTC.

    :param units_total: on all nodes together.
    :param counted: whether the profile counts against units and hours.
    :param opens: how many further bookings it makes: 1, 0 for a change of one, more for a series.
    :param extends: by how many ms it makes a booking longer, if that is what it does.
    """

    units_total: int
    start: int
    end: int
    now: int
    counted: bool = True
    opens: int = 1
    extends: int | None = None

    @property
    def hours(self) -> float:
        """Unit-hours that it adds to a week."""
        return self.units_total * min(self.end - self.start, WEEK) / HOUR


@dataclass(frozen=True, slots=True)
class Usage:
    """What the person's *other* bookings take, as far as it matters for what is asked.

    ``units_at_peak``: the most at any moment of it. ``hours_in_week``: unit-hours in the fullest seven days that it
    touches. ``open_bookings``: how many have not ended.
    """

    units_at_peak: int = 0
    hours_in_week: float = 0
    open_bookings: int = 0


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit that would be passed. In ``unit``: 'units', 'hours', 'bookings', or 'ms'."""

    limit: str
    allowed: float
    used: float
    asked: float
    unit: str


def usage(ask: Ask, others: Iterable[Reservation], *, uncounted: Collection[str] = ()) -> Usage:
    """What ``others`` take: all bookings of one person that have not ended or touch the seven days around ``ask``,
    without the one that is asked to be changed.

    :param uncounted: names of the profiles whose units and hours do not count.
    """
    roots = [row for row in others if row.parent is None]
    taken = [part for row in roots if row.profile not in uncounted for part in _taken(row, ask.now)]
    asked = Interval(ask.start, ask.end)
    total = busiest_week([*taken, (ask.start, ask.end, ask.units_total)], asked)
    return Usage(
        units_at_peak=peak_use(taken, asked),
        hours_in_week=total / HOUR - ask.hours,
        open_bookings=sum(row.state(ask.now) != "ended" for row in roots),
    )


def _taken(row: Reservation, now: int) -> list[Taken]:
    """What a booking takes, or took: its allocations; before they are known, what it asks for; nothing if it waits."""
    if row.allocations:
        return [(one.start, one.end, one.units) for one in row.allocations]
    given_back = row.cancelled_at is not None or row.end_reason not in (None, "expired")
    if given_back or row.waiting_reason is not None:
        return []
    return [(row.start, row.end, row.units * row.node_count)]


def busiest_week(taken: Sequence[Taken], touching: Interval) -> int:
    """Unit-ms in the fullest seven days on end that share an instant with ``touching``.

    What a week holds rises and falls evenly while the week slides between the begins and ends of bookings, so the
    fullest one begins or ends at one of these.
    """
    instants, used = _used_until(taken)

    def until(instant: int) -> int:
        before = bisect_right(instants, instant) - 1
        if before < 0:
            return 0
        if before == len(instants) - 1:
            return used[before]
        left, right = instants[before], instants[before + 1]
        return used[before] + (used[before + 1] - used[before]) * (instant - left) // (right - left)

    first, last = touching.start - WEEK, touching.end
    begins = {first, last} | {t for edge in instants for t in (edge, edge - WEEK) if first <= t <= last}
    return max(until(begin + WEEK) - until(begin) for begin in begins)


def _used_until(taken: Sequence[Taken]) -> tuple[list[int], list[int]]:
    """The instants at which the units taken change, and the unit-ms used until each."""
    changes: dict[int, int] = {}
    for start, end, units in taken:
        changes[start] = changes.get(start, 0) + units
        changes[end] = changes.get(end, 0) - units
    instants = sorted(changes)
    levels = accumulate(changes[instant] for instant in instants)
    spans = (level * (right - left) for level, (left, right) in zip(levels, pairwise(instants), strict=False))
    return instants, list(accumulate(spans, initial=0))


def check(limits: Limits, request: Ask, usage: Usage) -> list[Violation]:
    """The limits that ``request`` would pass; empty if it may be booked."""
    length = request.end - request.start
    found: list[Violation] = []

    def at_most(limit: str, allowed: float | None, used: float, asked: float, unit: str) -> None:
        if allowed is not None and used + asked > allowed:
            found.append(Violation(limit, allowed, used, asked, unit))

    if request.counted:
        at_most("units_at_once", limits.units_at_once, usage.units_at_peak, request.units_total, "units")
        # In hours of six digits, since a third of an hour is none that adds up.
        used, asked = round(usage.hours_in_week, 6), round(request.hours, 6)
        if limits.hours_per_week is not None and round(used + asked - limits.hours_per_week, 5) > 0:
            found.append(Violation("hours_per_week", limits.hours_per_week, used, asked, "hours"))
    if limits.min_duration is not None and length < limits.min_duration:
        found.append(Violation("min_duration", limits.min_duration, 0, length, "ms"))
    at_most("max_duration", limits.max_duration, 0, length, "ms")
    at_most("ahead", limits.ahead, 0, max(0, request.start - request.now), "ms")
    if request.opens:
        at_most("open_bookings", limits.open_bookings, usage.open_bookings, request.opens, "bookings")
    if request.extends is not None:
        at_most("extension", limits.extension, 0, request.extends, "ms")
    return found


def durations(profile: Profile, limits: Limits) -> tuple[int, int]:
    """The shortest and the longest booking of ``profile`` under ``limits``, in ms; the first may exceed the second."""
    shortest = max(profile.min_duration, limits.min_duration or 0)
    longest = profile.max_duration if limits.max_duration is None else min(profile.max_duration, limits.max_duration)
    return shortest, longest


def violations_error(violations: Sequence[Violation]) -> OverLimit:
    """The refusal, with every number in it."""
    return OverLimit(
        " ".join(_sentence(violation) for violation in violations),
        hint="Ask for less, or ask an admin for higher limits.",
        limits=[asdict(violation) for violation in violations],
    )


def _sentence(violation: Violation) -> str:
    allowed, used, asked = (_shown(n, violation.unit) for n in (violation.allowed, violation.used, violation.asked))
    others = f"other bookings take {used}, this asks for {asked}."
    return {
        "units_at_once": f"At most {allowed} at once: {others}",
        "hours_per_week": f"At most {allowed} in any 7 days: {others}",
        "min_duration": f"A booking lasts at least {allowed}; this asks for {asked}.",
        "max_duration": f"A booking lasts at most {allowed}; this asks for {asked}.",
        "ahead": f"A booking starts at most {allowed} ahead; this asks for {asked}.",
        "open_bookings": f"At most {allowed} open at once: {used} now"
        + (f", this asks for {asked} more." if violation.asked > 1 else "."),
        "extension": f"An extension adds at most {allowed}; this asks for {asked}.",
    }[violation.limit]


def _shown(number: float, unit: str) -> str:
    if unit == "ms":
        return format_duration(round(number))
    shown = f"{round(number, 2):g}"
    return f"{shown} {unit.removesuffix('s')}" if number == 1 else f"{shown} {unit}"
