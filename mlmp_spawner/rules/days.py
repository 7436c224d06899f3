"""Days on a clock with a zone: when they begin, and where the lines of a calendar are drawn.

A day has 23, 24 or 25 hours; where clocks skip midnight it begins later, where they repeat it, with the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Literal

from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.units import MINUTE

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LOOK = 15 * MINUTE  # every offset there is, is a multiple of it


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of a calendar at ``at`` (ms UTC): where a day begins, or an hour."""

    at: int
    kind: Literal["day", "hour"]
    label: str


def beginning(day: date, zone: tzinfo) -> int:
    """The first instant of a day, in ms UTC."""
    return (datetime.combine(day, time(), zone) - _EPOCH) // timedelta(milliseconds=1)


def window(first: date, days: int, zone: tzinfo) -> Interval:
    """So many days from ``first`` on; a day that the zone left out (one that crossed the date line) is none."""
    start, last = beginning(first, zone), first + timedelta(days=days)
    while (end := beginning(last, zone)) <= start:
        last += timedelta(days=1)
    return Interval(start, end)


def day_of(instant: int, zone: tzinfo) -> date:
    """The day on which an instant (ms UTC) lies."""
    return _local(instant, zone).date()


def ticks(span: Interval, zone: tzinfo, *, every: int) -> list[Tick]:
    """The lines over a span: one for each beginning of a day, and one for every ``every``-th hour of the clock.

    An hour that the clock shows twice has two lines, one that it skips none.
    """
    found: list[Tick] = []
    day = day_of(span.start - 1, zone)
    for at in range(-(-span.start // _LOOK) * _LOOK, span.end, _LOOK):
        local = _local(at, zone)
        if local.date() != day:
            day = local.date()
            found.append(Tick(at, "day", f"{local:%a} {local.day} {local:%b}"))
        elif local.minute == 0 and local.hour % every == 0:
            found.append(Tick(at, "hour", f"{local:%H:%M}"))
    return found


def _local(instant: int, zone: tzinfo) -> datetime:
    return (_EPOCH + timedelta(milliseconds=instant)).astimezone(zone)
