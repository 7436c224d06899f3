"""Plain words to an instant, in the user's own zone.

What is taken: an instant with its offset (``2026-11-24T09:00Z``); a date and a time (``2026-11-24 9:00``,
``24 Nov 09:00``); a time of day (``14:00``, ``2pm``, ``noon``: the next one, so tomorrow's when today's is past); a
day and a time (``today 14:00``, ``tomorrow 9:00``, ``Tue 08:15``: the next one); ``now``; ``in 25 min``, ``in 2h``.

A day without a time is refused, and so is a time that the clocks leave out when they go forward. One that they show
twice when they go back means the first.
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta, tzinfo

from mlmp_spawner.units import MINUTE, from_iso, parse_duration

EXAMPLES = "14:00, tomorrow 9:00, Tue 08:15, 24 Nov 09:00, in 2h or 2026-11-24T09:00+01:00"

JUST_NOW = MINUTE
"""Ms: a time of day this little ago still means today's."""

_CLOCK = re.compile(
    r"""(?:^|[\sT])(?:at\s+)?
    (?: (?P<hour>\d{1,2})[:.](?P<minute>\d{2})(?::(?P<second>\d{2}))?\s*(?P<half>[ap]\.?m\.?)?
      | (?P<full>\d{1,2})\s*(?P<full_half>[ap]\.?m\.?)
      | (?P<noon>noon) )$""",
    re.IGNORECASE | re.VERBOSE,
)
_OFFSET = re.compile(r"\d[Tt ]\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s*(?:[Zz]|[+-]\d{2}:?\d{2})$")
_ISO_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def local_zone() -> tzinfo:
    """The zone of this user: ``TZ`` or the system's. :raises ValueError: it can't be found out."""
    import tzlocal

    try:
        return tzlocal.get_localzone()
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"the time zone of this machine is not known ({os.environ.get('TZ', error)})") from error


def parse_when(text: str, *, now: int, zone: tzinfo) -> int:
    """The instant that ``text`` means, in ms UTC.

    :param now: ms UTC. :param zone: in which times without an offset are meant.
    :raises ValueError: it can't be understood, with examples of what can.
    """
    words = " ".join(text.split())
    lowered = words.lower()
    if lowered == "now":
        return now
    if lowered.startswith("in "):
        return _ahead(words, now)
    if _OFFSET.search(words):
        return from_iso(re.sub(r"\s+(?=(?:[Zz]|[+-][\d:]+)$)", "", words))
    clock = _CLOCK.search(words)
    if clock is None:
        if _weekday(lowered) is not None or lowered in ("today", "tomorrow") or _ISO_DATE.fullmatch(words):
            raise ValueError(f"{_shown(text)} does not say at what time; write {words + ' 9:00'!r}")
        raise _not_understood(text)
    hour, minute, second = _time_of_day(clock, text)
    day_words = lowered[: clock.start()].strip().removesuffix(" at").rstrip(",").strip()
    today = datetime.fromtimestamp(now / 1000, zone).replace(tzinfo=None)

    def on(day: datetime) -> int:
        return _instant(day.replace(hour=hour, minute=minute, second=second, microsecond=0), zone, text)

    if not day_words:
        soonest = on(today)
        return soonest if soonest >= now - JUST_NOW else on(today + timedelta(days=1))
    weekday = _weekday(day_words)
    if weekday is not None:
        day = today + timedelta(days=(weekday - today.weekday()) % 7)
        soonest = on(day)
        return soonest if soonest >= now - JUST_NOW else on(day + timedelta(days=7))
    found = _day(day_words, today)
    if found is None:
        raise _not_understood(text)
    return on(found)


def _ahead(words: str, now: int) -> int:
    length = re.sub(r"(?i)\b(hours?|hrs?)\b", "h", words[3:])
    length = re.sub(r"(?i)\b(minutes?|mins?)\b", "m", length)
    length = re.sub(r"(?i)\bdays?\b", "d", length)
    try:
        return now + parse_duration(re.sub(r"(?i)^an?\s+", "1", length))
    except ValueError:
        raise _not_understood(words) from None


def _time_of_day(clock: re.Match[str], text: str) -> tuple[int, int, int]:
    if clock["noon"]:
        return 12, 0, 0
    hour, minute, second = int(clock["hour"] or clock["full"]), int(clock["minute"] or 0), int(clock["second"] or 0)
    half = (clock["half"] or clock["full_half"] or "").lower()
    valid = 1 <= hour <= 12 if half else hour < 24
    if not valid or minute > 59 or second > 59:
        raise ValueError(f"{_shown(text)} has a time that no clock shows; write {EXAMPLES}")
    if half:
        hour = hour % 12 + (12 if half.startswith("p") else 0)
    return hour, minute, second


def _weekday(words: str) -> int | None:
    """0 for Monday; None when ``words`` are not a day of the week ("next Tue" is the same as "Tue")."""
    name = words.removeprefix("next ").removeprefix("on ").removesuffix(".")
    found = [number for number, day in enumerate(_WEEKDAYS) if len(name) >= 3 and day.startswith(name)]
    return found[0] if found else None


def _day(words: str, today: datetime) -> datetime | None:
    """The date that ``words`` name, seen from ``today``."""
    if words in ("today", "tomorrow"):
        return today + timedelta(days=words == "tomorrow")
    if _ISO_DATE.fullmatch(words):
        year, month, day = (int(part) for part in words.split("-"))
        try:
            return datetime(year, month, day)  # noqa: DTZ001 wall clock; the zone comes with the time
        except ValueError:
            return None
    if not re.search(r"[a-z]|\d\.", words):  # 3/4: which is the month?
        return None
    from dateparser import DateDataParser

    settings = {
        "PREFER_DATES_FROM": "future",
        "RELATIVE_BASE": today,
        "REQUIRE_PARTS": ["day"],
        "DATE_ORDER": "DMY",
        "PARSERS": ["absolute-time", "relative-time"],
    }
    found = DateDataParser(languages=["en"], settings=settings).get_date_data(words)
    return found.date_obj.replace(tzinfo=None) if found and found.date_obj and found.period == "day" else None


def _instant(wall: datetime, zone: tzinfo, text: str) -> int:
    """What the clocks of ``zone`` show, as ms UTC; the first of two when they are put back."""
    try:
        instant = wall.replace(tzinfo=zone, fold=0)
        ms = int(instant.timestamp() * 1000)
        shown = datetime.fromtimestamp(ms / 1000, zone).replace(tzinfo=None)
    except (OverflowError, ValueError, OSError):
        raise _not_understood(text) from None
    if shown != wall:
        raise ValueError(
            f"{_shown(text)} does not exist: the clocks go forward to {shown:%H:%M} then; write {shown:%Y-%m-%d %H:%M}"
        )
    return ms


def _not_understood(text: str) -> ValueError:
    return ValueError(f"{_shown(text)} is not a time that can be understood; write {EXAMPLES}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
