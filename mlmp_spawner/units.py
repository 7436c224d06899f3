"""Durations, times and sizes as people write them, and as the program counts them.

Inside, every instant is whole milliseconds since the Unix epoch in UTC, every duration whole milliseconds, every size
whole bytes. Only this module reads and writes the texts that stand for them; a text that it can't read is a
``ValueError`` whose message names the forms that it can.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone
from itertools import pairwise

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

LONGEST_DURATION = 3660 * DAY
"""Ten years: what is longer is a slip of the finger, and would overflow a date further on."""

DURATION_FORMS = "90m, 4h, 2d, 30s or 1h30m"
SIZE_FORMS = "512MiB, 64GiB or 1.5TiB"
TIME_FORMS = "2026-11-21T10:00:00Z or 2026-11-21T11:00:00+01:00"

_DURATION_UNITS = {"d": DAY, "h": HOUR, "min": MINUTE, "m": MINUTE, "s": SECOND}
_DURATION_PART = re.compile(r"\s*([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*(d|h|min|m|s)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+\s*")

_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
_DECIMAL_SIZE_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_SIZE = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,6})?)\s*(?:([KMGTP])i(?:B)?|([kKMGTP]?)B)\s*")

_TIME = re.compile(
    r"\s*([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r"(?:([Zz])|([+ -])([0-9]{2}):?([0-9]{2})?)\s*"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def now() -> int:
    """This moment in ms since the epoch. The one place where the program reads the clock."""
    return time.time_ns() // 1_000_000


def parse_duration(text: str) -> int:
    """A duration in ms.

    :raises ValueError: naming the valid forms; for anything else, and beyond ten years.
    """
    if not _DURATION.fullmatch(text.lower()):
        raise ValueError(f"{_shown(text)} is not a duration; write {DURATION_FORMS}")
    parts = _DURATION_PART.findall(text.lower())
    units = [_DURATION_UNITS[unit] for _, unit in parts]
    if any(larger <= smaller for larger, smaller in pairwise(units)):
        raise ValueError(f"{_shown(text)} is not a duration: largest unit first, each once; write {DURATION_FORMS}")
    total = sum(_scaled(number, unit) for (number, _), unit in zip(parts, units, strict=True))
    if total > LONGEST_DURATION:
        raise ValueError(f"{_shown(text)} is too long; at most {LONGEST_DURATION // DAY}d")
    return total


def format_duration(ms: int) -> str:
    """A duration for people: ``"1 h 12 min"``, ``"45 s"``, ``"3 d 4 h"``. Parts of a second are left out.

    Hours are counted up to two days ("40 h"), and seconds are named below an hour only.
    """
    if ms < 0:
        return f"-{format_duration(-ms)}"
    days, rest = divmod(ms, DAY) if ms >= 2 * DAY else (0, ms)
    hours, rest = divmod(rest, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    seconds = 0 if ms >= HOUR else rest // SECOND
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def compact_duration(ms: int) -> str:
    """A duration as options and the API take it: ``"1h30m"``. Parts of a second are left out."""
    parts = []
    for unit, letter in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s")):
        number, ms = divmod(ms, unit)
        if number:
            parts.append(f"{number}{letter}")
    return "".join(parts) or "0s"


def to_iso(ms: int) -> str:
    """An instant as ISO 8601 in UTC: ``"2026-11-21T10:00:00Z"``; with parts of a second only if there are any."""
    instant = _EPOCH + timedelta(milliseconds=ms)
    part = f".{ms % SECOND:03}" if ms % SECOND else ""
    return f"{instant:%Y-%m-%dT%H:%M:%S}".zfill(19) + f"{part}Z"


def from_iso(text: str) -> int:
    """An instant in ms since the epoch from ISO 8601 with an offset.

    A space stands for the ``+`` of the offset too: that is what a query string makes of it.

    :raises ValueError: naming the valid forms; also when the offset is missing.
    """
    match = _TIME.fullmatch(text)
    if not match:
        raise ValueError(f"{_shown(text)} is not a time with an offset; write {TIME_FORMS}")
    year, month, day, hour, minute, second, fraction, zulu, sign, ahead, ahead_minutes = match.groups()
    offset = timedelta() if zulu else timedelta(hours=int(ahead), minutes=int(ahead_minutes or 0))
    try:
        zone = timezone(-offset if sign == "-" else offset)
        instant = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), tzinfo=zone)
    except ValueError as error:
        raise ValueError(f"{_shown(text)} is not a time: {error}; write {TIME_FORMS}") from None
    return (instant - _EPOCH) // timedelta(milliseconds=1) + int((fraction or "0").ljust(3, "0")[:3])


def parse_size(text: str) -> int:
    """A size in bytes: ``KiB``, ``MiB``, ``GiB``, ``TiB`` (or ``Ki``, … as Kubernetes has it), ``kB`` … ``TB``.

    A bare ``G`` is refused, since some count it as 10^9 and some as 2^30.

    :raises ValueError: naming the valid forms.
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{_shown(text)} is not a size; write {SIZE_FORMS}")
    number, binary, decimal = match.groups()
    return _scaled(number, _SIZE_UNITS[binary] if binary else _DECIMAL_SIZE_UNITS[decimal])


def compact_size(size: int) -> str:
    """A size as options, the API and the catalog take it, exactly: ``"64GiB"``, ``"1536MiB"``, ``"0B"``."""
    prefix = next((prefix for prefix in "TGMK" if size and size % _SIZE_UNITS[prefix] == 0), "")
    return f"{size // _SIZE_UNITS[prefix]}{prefix}iB" if prefix else f"{size}B"


def format_size(size: int) -> str:
    """A size for people: ``"64 GiB"``, ``"1.5 TiB"``; one digit after the point at most."""
    if size < 0:
        return f"-{format_size(-size)}"
    prefix = ""
    for prefix in ("P", "T", "G", "M", "K", ""):
        if size >= _SIZE_UNITS[prefix]:
            break
    number = f"{size / _SIZE_UNITS[prefix]:.1f}".removesuffix(".0")
    return f"{number} {prefix}iB" if prefix else f"{size} B"


def _scaled(number: str, unit: int) -> int:
    """``number`` (decimal digits, maybe with a point) times ``unit``, exactly, rounded down."""
    whole, _, part = number.partition(".")
    denominator: int = 10 ** len(part)
    return int(whole + part) * unit // denominator


def _shown(text: str) -> str:
    """The text as a message may show it: quoted, and no longer than a line."""
    return repr(text if len(text) <= 40 else text[:40] + "…")
