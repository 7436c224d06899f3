"""Recurrence rules (RFC 5545): which days they give, and which instants these are in a zone.

The rule counts on the wall clock of its zone: weekly 08:15 stays 08:15 when the clocks change. A start in the hour
that is left out when they go forward moves by that much (RFC 5545, 3.3.5); in the hour that comes twice the first is
meant. The length is time that passes, so a booking across a change keeps its number of hours. A day that a zone leaves
out altogether moves onto the next one, and counts once if that day is given as well. 29 February skips other years.

Rules come from strangers. Each day up to a horizon is looked at once, whatever the rule says: python-dateutil looks on
until the year 9999 for the next day of a rule that gives none, such as 30 February. The tests compare the two.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any, Literal
from zoneinfo import ZoneInfo

from mlmp_spawner.errors import Invalid
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.units import format_duration

Frequency = Literal["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]
FREQUENCIES: tuple[Frequency, ...] = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")

MOST = 100
"""The most occurrences of one series."""

LONGEST_TEXT = 300
LONGEST_INTERVAL = 100
LONGEST_ZONE = 64
EXAMPLE = "FREQ=WEEKLY;BYDAY=MO,WE;UNTIL=20261218"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MS = timedelta(milliseconds=1)
_BY_DAY = re.compile(rf"([+-]?[0-9]{{1,2}})?({'|'.join(DAYS)})")
_UNTIL = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:T([0-9]{2})([0-9]{2})([0-9]{2})(Z)?)?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that was checked. ``text`` is it without ``RRULE:``, as it was written.

    ``by_day``: ``(n, weekday)``, Monday is 0; n is 0 for every such day, 2 for the second, -1 for the last of the
    month (of the year in a yearly rule without months). ``until`` is a day of the zone, or an instant (ms UTC).
    """

    text: str
    frequency: Frequency
    interval: int = 1
    by_day: tuple[tuple[int, int], ...] = ()
    by_month_day: tuple[int, ...] = ()
    by_month: tuple[int, ...] = ()
    count: int | None = None
    until: date | int | None = None
    week_start: int = 0

    def ending(self, *, until: date | None = None, count: int | None = None) -> Rule:
        """The same rule with another end."""
        kept = [part for part in self.text.split(";") if not part.startswith(("COUNT=", "UNTIL="))]
        kept.append(f"COUNT={count}" if until is None else f"UNTIL={until:%Y%m%d}")
        return replace(self, text=";".join(kept), until=until, count=count)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One time of a series: the day that the rule gives, and when it is."""

    day: date
    interval: Interval


def parse_rule(text: str) -> Rule:
    """A rule as RFC 5545 writes it; ``RRULE:`` may stand before it.

    :raises Invalid: it is none, or one that is not for bookings; the field is ``recurrence.rrule``.
    """
    if len(text) > LONGEST_TEXT:
        raise _wrong(f"it is longer than {LONGEST_TEXT} characters")
    plain = text.strip().upper().removeprefix("RRULE:").strip(";")
    parts: dict[str, str] = {}
    for part in plain.split(";"):
        name, equals, value = part.partition("=")
        if not equals or name not in _READERS:
            raise _wrong(f"{part[:40]!r} is not part of a rule here; valid: {', '.join(_READERS)}, as in {EXAMPLE}")
        if name in parts:
            raise _wrong(f"{name} is there twice")
        parts[name] = value
    if parts.get("FREQ") not in FREQUENCIES:
        raise _wrong(f"FREQ={parts.get('FREQ', '')[:20]} is not for bookings; valid: {', '.join(FREQUENCIES)}")
    if ("COUNT" in parts) == ("UNTIL" in parts):
        raise _wrong(f"say when it ends, by COUNT or by UNTIL, as in {EXAMPLE}")
    fields: dict[str, Any] = {_READERS[name][0]: _READERS[name][1](name, value) for name, value in parts.items()}
    rule = Rule(plain, **fields)
    if rule.frequency == "WEEKLY" and rule.by_month_day:
        raise _wrong("BYMONTHDAY does not go with FREQ=WEEKLY; take MONTHLY")
    if any(n for n, _ in rule.by_day) and rule.frequency not in ("MONTHLY", "YEARLY"):
        raise _wrong("a numbered day (1MO, -1FR) goes with FREQ=MONTHLY or YEARLY only")
    if any(abs(n) > 5 for n, _ in rule.by_day) and (rule.frequency == "MONTHLY" or rule.by_month):
        raise _wrong("a month has at most five of a day; valid: 1MO to 5MO, -1MO to -5MO")
    return rule


def occurrences(
    rule: Rule, zone: ZoneInfo, first: datetime, duration: int, *, without: Collection[date] = (), horizon: int
) -> list[Occurrence]:
    """All times of a series, by start.

    :param first: the day from which the rule counts and the time of day, in ``zone`` or naive. Where the rule does
        not give that day, the series begins on the next that it gives.
    :param duration: of each, in ms. :param without: days that are left out; COUNT counts them.
    :param horizon: ms UTC; none may begin after it.
    :raises Invalid: it gives none, more than :data:`MOST`, or overlapping ones, or goes on after the horizon; or a day
        to be left out is none of its days.
    """
    found: list[Occurrence] = []
    left_out = set(without)
    for given, day in enumerate(days(rule, first.date(), local(horizon, zone).date()), 1):
        # Of a time that comes twice the first one is meant, unless the very first booking said otherwise.
        fold = first.fold if day == first.date() else 0
        start = instant(datetime.combine(day, first.time(), zone).replace(fold=fold))
        if isinstance(rule.until, int) and start > rule.until:
            break
        if start > horizon:
            raise _wrong("it goes on for longer than one can book ahead; end it earlier")
        again = found and found[-1].interval.start == start  # the zone left out the day before
        if day in left_out:
            left_out.discard(day)
        elif not again:
            found.append(Occurrence(day, Interval(start, start + duration)))
        if len(found) > MOST:
            raise _wrong(f"it gives more than {MOST} bookings; end it earlier")
        if given == rule.count:
            break
    else:
        if rule.count is not None or _goes_on(rule, horizon, zone):
            raise _wrong("it goes on for longer than one can book ahead; end it earlier")
    if left_out:
        raise Invalid.field("recurrence.except", f"{min(left_out)} is none of its days")
    return _checked(found, duration)


def _checked(found: list[Occurrence], duration: int) -> list[Occurrence]:
    if not found:
        raise _wrong("it gives no date at all between its start and its end")
    for one, following in pairwise(found):
        if following.interval.start < one.interval.end:
            apart = format_duration(following.interval.start - one.interval.start)
            raise Invalid.field(
                "duration", f"each lasts {format_duration(duration)}, but two of them begin {apart} apart"
            )
    return found


def _goes_on(rule: Rule, horizon: int, zone: ZoneInfo) -> bool:
    if isinstance(rule.until, int):
        return rule.until > horizon
    return rule.until is not None and rule.until > local(horizon, zone).date()


def days(rule: Rule, first: date, last: date) -> Iterator[date]:
    """The days from ``first`` to ``last`` that a rule gives, leaving its COUNT out of account."""
    rule = _filled(rule, first)
    if isinstance(rule.until, date):
        last = min(last, rule.until)
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        if _in_turn(rule, first, day) and _fits(rule, day):
            yield day


def _filled(rule: Rule, first: date) -> Rule:
    """With what a rule takes from its first day where it says nothing."""
    if rule.by_day or rule.by_month_day or rule.frequency == "DAILY":
        return rule
    if rule.frequency == "WEEKLY":
        return replace(rule, by_day=((0, first.weekday()),))
    month = rule.by_month or ((first.month,) if rule.frequency == "YEARLY" else ())
    return replace(rule, by_month=month, by_month_day=(first.day,))


def _in_turn(rule: Rule, first: date, day: date) -> bool:
    if rule.frequency == "DAILY":
        passed = (day - first).days
    elif rule.frequency == "WEEKLY":
        passed = (_week(day, rule.week_start) - _week(first, rule.week_start)).days // 7
    elif rule.frequency == "MONTHLY":
        passed = (day.year - first.year) * 12 + day.month - first.month
    else:
        passed = day.year - first.year
    return passed % rule.interval == 0


def _week(day: date, starts: int) -> date:
    return day - timedelta(days=(day.weekday() - starts) % 7)


def _fits(rule: Rule, day: date) -> bool:
    if rule.by_month and day.month not in rule.by_month:
        return False
    if rule.by_month_day and not {day.day, day.day - 1 - _month_length(day)} & set(rule.by_month_day):
        return False
    if not rule.by_day:
        return True
    in_month = rule.frequency == "MONTHLY" or bool(rule.by_month)
    length = _month_length(day) if in_month else date(day.year, 12, 31).timetuple().tm_yday
    place = day.day if in_month else day.timetuple().tm_yday
    numbers = {0, (place - 1) // 7 + 1, -((length - place) // 7 + 1)}
    return any(day.weekday() == weekday and n in numbers for n, weekday in rule.by_day)


def _month_length(day: date) -> int:
    following = date(day.year + day.month // 12, day.month % 12 + 1, 1)
    return (following - timedelta(days=1)).day


def zone_of(name: str) -> ZoneInfo:
    """A zone by its IANA name.

    :raises Invalid: there is none.
    """
    try:
        if len(name) <= LONGEST_ZONE and name.isascii() and name.isprintable():
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, not a name, a folder
        pass
    raise Invalid.field("recurrence.zone", f"{name[:40]!r} is not a zone; write its IANA name, such as Europe/Zurich")


def day_of(text: str) -> date:
    """A day that is left out, as ``2026-12-25``.

    :raises Invalid: it is none.
    """
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise Invalid.field("recurrence.except", f"{text[:40]!r} is not a day; write it as 2026-12-25")


def local(ms: int, zone: ZoneInfo) -> datetime:
    """An instant (ms UTC) on the clock of a zone."""
    return (_EPOCH + ms * _MS).astimezone(zone)


def instant(local: datetime) -> int:
    """What the clock of a zone shows, as ms UTC."""
    return (local - _EPOCH) // _MS


def _frequency(name: str, value: str) -> Frequency:
    return next(one for one in FREQUENCIES if one == value)


def _number(name: str, value: str) -> int:
    most = MOST if name == "COUNT" else LONGEST_INTERVAL
    if not _NUMBER.fullmatch(value) or not 1 <= int(value) <= most:
        raise _wrong(f"{name}={value[:20]} is not possible; valid is 1 to {most}")
    return int(value)


def _numbers(name: str, value: str) -> tuple[int, ...]:
    most = 12 if name == "BYMONTH" else 31
    words = value.split(",")
    found = [int(word) for word in words if _NUMBER.fullmatch(word)]
    right = [n for n in found if 1 <= n <= most or (name == "BYMONTHDAY" and -most <= n <= -1)]
    if len(right) != len(words):
        also = f", or -{most} to -1 from the end" if name == "BYMONTHDAY" else ""
        raise _wrong(f"{name}={value[:40]} is not possible; valid are numbers from 1 to {most}{also}")
    return tuple(sorted(set(right)))


def _by_day(name: str, value: str) -> tuple[tuple[int, int], ...]:
    found = [_BY_DAY.fullmatch(word) for word in value.split(",")]
    days = [(int(match[1] or 0), DAYS.index(match[2])) for match in found if match]
    numbered = [match for match in found if match and match[1]]
    if len(days) != len(found) or any(not 1 <= abs(int(match[1])) <= 53 for match in numbered):
        raise _wrong(f"BYDAY={value[:40]} is not possible; valid: {', '.join(DAYS)}, and 1MO or -1FR in a month")
    return tuple(sorted(set(days)))


def _until(name: str, value: str) -> date | int:
    match = _UNTIL.fullmatch(value)
    try:
        if match is None:
            raise ValueError
        year, month, day, hour, minute, second, zulu = match.groups()
        if hour is None:
            return date(int(year), int(month), int(day))
        until = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=timezone.utc)
    except ValueError:
        raise _wrong(f"UNTIL={value[:20]} is not possible; write 20261218, or 20261218T235900Z") from None
    if not zulu:
        raise _wrong("a time of UNTIL is in UTC, with a Z at its end; or name the day alone")
    return instant(until)


def _weekday(name: str, value: str) -> int:
    if value not in DAYS:
        raise _wrong(f"WKST={value[:20]} is not possible; valid: {', '.join(DAYS)}")
    return DAYS.index(value)


_READERS = {
    "FREQ": ("frequency", _frequency),
    "INTERVAL": ("interval", _number),
    "BYDAY": ("by_day", _by_day),
    "BYMONTHDAY": ("by_month_day", _numbers),
    "BYMONTH": ("by_month", _numbers),
    "COUNT": ("count", _number),
    "UNTIL": ("until", _until),
    "WKST": ("week_start", _weekday),
}
"""Part of a rule to (field of :class:`Rule`, what reads it)."""


def _wrong(message: str) -> Invalid:
    return Invalid.field("recurrence.rrule", message)
