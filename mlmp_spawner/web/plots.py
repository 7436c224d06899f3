"""Bars of what was booked and used, as numbers that a template draws: no script, no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from itertools import groupby

from mlmp_spawner.operations.usage import Day, Spent
from mlmp_spawner.rules.days import day_of
from mlmp_spawner.units import HOUR

HEIGHT = 180
"""Of the plot, in pixels."""

MANY = 62
"""Days above which a bar is a week."""

KINDS = ("used", "idle", "not_started", "jobs")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a bar from ``at`` on, ``size`` long: in pixels from the top, or in per cent from the left."""

    kind: str
    at: float
    size: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A day, or the days of a week. ``x`` and ``width`` in per cent; ``label``: under it, or empty."""

    start: int
    end: int
    spent: Spent
    x: float
    width: float
    parts: tuple[Part, ...]
    label: bool
    wide_only: bool


@dataclass(frozen=True, slots=True)
class Plot:
    """Bars, and the lines behind them as (pixels from the top, hours)."""

    bars: list[Bar]
    lines: list[tuple[float, float]]
    weekly: bool


def plot(days: Sequence[Day], zone: tzinfo) -> Plot:
    """Stacked bars of what was used, idle and not started, and on top of it what jobs had."""
    weekly = len(days) > MANY
    spans = _weeks(days, zone) if weekly else list(days)
    step = _nice(max((day.spent.taken / HOUR for day in spans), default=0))
    top = step * max(1, math.ceil(max((_height(day.spent) / HOUR for day in spans), default=0) / step))
    count = max(1, len(spans))
    every, wide = -(-count // 16), -(-count // 6)
    bars = []
    for number, day in enumerate(spans):
        parts, at = [], float(HEIGHT)
        for kind in KINDS:
            size = getattr(day.spent, kind) / HOUR / top * HEIGHT
            at -= size
            if size > 0:
                parts.append(Part(kind, round(at, 2), round(size, 2)))
        x, width = 100 * number / count, 100 / count
        label = number % every == 0
        bars.append(
            Bar(
                day.start, day.end, day.spent, round(x + width * 0.14, 3), round(width * 0.72, 3), tuple(parts),
                label, label and number % wide != 0,
            )
        )  # fmt: skip
    lines = [(HEIGHT - HEIGHT * n * step / top, n * step) for n in range(round(top / step) + 1)]
    return Plot(bars, lines, weekly)


def across(spent: Spent, most: int) -> tuple[Part, ...]:
    """One row of a table as a bar; ``most`` is as long as there is room."""
    parts, at = [], 0.0
    for kind in KINDS:
        size = 100 * getattr(spent, kind) / most if most else 0
        if size > 0:
            parts.append(Part(kind, round(at, 3), round(size, 3)))
        at += size
    return tuple(parts)


def _height(spent: Spent) -> int:
    return spent.used + spent.idle + spent.not_started + spent.jobs


def _nice(most: float) -> float:
    """The step of about four lines up to ``most``: 1, 2 or 5 times a power of ten, in hours; a whole hour at least."""
    if most <= 4:
        return 1
    power = 10 ** math.floor(math.log10(most / 4))
    return next(power * n for n in (1, 2, 5, 10) if power * n * 4 >= most)


def _weeks(days: Sequence[Day], zone: tzinfo) -> list[Day]:
    found = []
    for _, group in groupby(days, key=lambda day: day_of(day.start, zone).isocalendar()[:2]):
        week = list(group)
        found.append(Day(week[0].start, week[-1].end, sum((day.spent for day in week), Spent())))
    return found
