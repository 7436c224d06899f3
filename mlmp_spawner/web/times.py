"""Times as people say them, in the viewer's zone. ``static/times.js`` says them in the same way in the browser."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from mlmp_spawner.units import from_iso

ZONE_COOKIE = "mlmp-zone"
"""The browser's zone; the page's script sets it."""


def find_zone(name: str | None) -> ZoneInfo | None:
    """A zone by its IANA name; None for anything that is not one."""
    if not name or len(name) > 60 or not name.isascii() or not name.isprintable():
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, not a name, a folder
        return None


def local(ms: int, zone: tzinfo) -> datetime:
    """An instant on the viewer's clock."""
    return datetime.fromtimestamp(ms / 1000, timezone.utc).astimezone(zone)


def said(ms: int, show: str, *, now: int, zone: tzinfo) -> str:
    """An instant in words.

    :param show: ``clock``: "14:00", "tomorrow 09:00", "Tue 08:15", "24 Nov 09:00"; ``end``: the time of day alone, for
        the end of a span; ``date``: "Tue 24 Nov"; ``exact``: everything.
    """
    then = local(ms, zone)
    if show == "date":
        return f"{then:%a} {then.day} {then:%b}"
    if show == "exact":
        return f"{then:%A} {then.day} {then:%B %Y, %H:%M:%S %Z}"
    day = "" if show == "end" else day_of(then, local(now, zone))
    return f"{day} {then:%H:%M}".strip()


def day_of(then: datetime, today: datetime) -> str:
    """The day as one says it today; "" for today itself."""
    days = (then.date() - today.date()).days
    if days == 0:
        return ""
    if days in (-1, 1):
        return "tomorrow" if days == 1 else "yesterday"
    if 0 < days < 7:  # of the past, a weekday alone could be the coming one
        return f"{then:%a}"
    year = f" {then:%Y}" if abs(days) > 300 else ""
    return f"{then.day} {then:%b}{year}"


def from_input(text: str, zone: tzinfo) -> int:
    """What a ``datetime-local`` field sends, on the viewer's clock, or a time with its own offset; in ms UTC.

    :raises ValueError: neither.
    """
    try:
        return from_iso(text)
    except ValueError:
        naive = datetime.fromisoformat(text)
    if naive.tzinfo is not None or not 2000 <= naive.year < 2200:
        raise ValueError(f"{text[:40]!r} is not a time")
    return (naive.replace(tzinfo=zone) - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(milliseconds=1)


def to_input(ms: int, zone: tzinfo) -> str:
    """An instant as a ``datetime-local`` field takes it."""
    return f"{local(ms, zone):%Y-%m-%dT%H:%M}"
