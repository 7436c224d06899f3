"""The refusal of classes that don't fit: a report of each date, and what can be posted instead."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from mlmp_spawner.errors import NoCapacity
from mlmp_spawner.operations.courses.term import ClassRequest, Dates, Slot, boards_over
from mlmp_spawner.operations.requests import Recurrence
from mlmp_spawner.operations.series import as_json
from mlmp_spawner.rules import class_seats as rules
from mlmp_spawner.rules import recurrence
from mlmp_spawner.rules.class_seats import Short
from mlmp_spawner.units import DAY, MINUTE, compact_duration, to_iso

STEP = 30 * MINUTE
"""In which steps another time of the day is looked for where a class does not fit."""


def refusal(connection: Connection, request: ClassRequest, dates: Dates, now: int) -> NoCapacity:
    """That on some dates the seats don't fit."""
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
        dates=[_as_json(one) for one in short],
        clashes=[one.day.isoformat() for one in short],
        alternatives=alternatives,
    )  # fmt: skip


def _as_json(one: Short) -> dict[str, Any]:
    instead = None if one.instead is None else to_iso(one.instead)
    return {"day": one.day.isoformat(), "start": to_iso(one.begins), "end": to_iso(one.end), "seats": one.seats,
            "instead": instead}  # fmt: skip


def _short(connection: Connection, dates: Dates, slot: Slot, now: int) -> Short:
    boards = boards_over(connection, slot, dates.nodes, DAY)
    row = slot.row
    shifts = [by for by in _shifts(dates.zone, slot) if row.start + by >= now]
    by = next(iter(rules.other_times(boards, row.interval, row.units, dates.seats, shifts)), None)
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
    shifts = [by for by in _shifts(dates.zone, dates.slots[0]) if dates.slots[0].row.start + by >= now]
    for slot in dates.slots:
        boards = boards_over(connection, slot, dates.nodes, DAY)
        shifts = rules.other_times(boards, slot.row.interval, slot.row.units, dates.seats, shifts)
    if shifts:
        found.append(
            {"kind": "later" if shifts[0] > 0 else "earlier", "request": _again(request, dates, by=shifts[0])}
        )
    return found


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
