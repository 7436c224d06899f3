"""What the pages show of a scan: a table of rows, and the plot of parallel coordinates over it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.rules.scan_parameters import Value
from mlmp_spawner.rules.scan_parameters import said as as_written

WIDTH, HEIGHT = 900, 220
LEFT, TOP = 50, 30
MOST_SHOWN = 1000
"""Rows on one page."""
MOST_LINES = 300
"""Rows in the plot: the best one and the last of those that are shown."""
MOST_AXES = 12
MANY_TIMES = 50
"""From so many times the lowest value on an axis goes by the logarithm."""
NEAREST = 14
"""Ticks are at least so far apart."""
LONGEST_AXIS = 40
"""Characters of the name of a parameter that PScan takes."""
_LOW = ("loss", "err", "perplexity", "time", "mse", "mae", "rmse")


@dataclass(frozen=True, slots=True)
class ShownRow:
    """``cells``: its value under each column, None for none; ``texts``: these as people read them."""

    number: int
    job: Job | None
    state: str
    cells: tuple[Value | None, ...]
    texts: tuple[str, ...]
    best: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """A column in the plot at ``x``, with ticks (y, text)."""

    name: str
    x: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A row in the plot."""

    number: int
    points: str
    best: bool
    title: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Parallel coordinates: an axis for each column, a line for each row that has a value on all of them."""

    axes: tuple[Axis, ...] = ()
    lines: tuple[Line, ...] = ()
    left_out: int = 0
    axes_left_out: int = field(default=0)


def lowest_is_best(metric: str) -> bool:
    """What one wishes of a metric of that name, unless told otherwise."""
    return any(word in metric.lower() for word in _LOW)


def sorted_rows(rows: Iterable[ShownRow], column: int | None, *, down: bool) -> list[ShownRow]:
    """By a column, numbers before texts; what has no value is last in both directions."""
    found = list(rows)
    if column is None:
        return found[::-1] if down else found
    having = [one for one in found if one.cells[column] is not None]
    without = [one for one in found if one.cells[column] is None]
    having.sort(key=lambda one: _order(one.cells[column]), reverse=down)
    return having + without


def text(value: Value | None) -> str:
    """A value in a table."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else as_written(value)


def plot(columns: Sequence[str], rows: Sequence[ShownRow]) -> Plot:
    """The plot of these rows; empty where there is nothing to compare."""
    shown = [number for number, _ in enumerate(columns) if sum(row.cells[number] is not None for row in rows) > 1]
    more = max(0, len(shown) - MOST_AXES)
    shown = shown[:MOST_AXES]
    whole = [row for row in rows if all(row.cells[number] is not None for number in shown)]
    if len(shown) < 2 or len(whole) < 2:
        return Plot()
    scales = {number: _scale([row.cells[number] for row in whole]) for number in shown}
    step = (WIDTH - 2 * LEFT) / (len(shown) - 1)
    across = {number: LEFT + place * step for place, number in enumerate(shown)}
    axes = tuple(Axis(columns[number], across[number], _ticks(scales[number])) for number in shown)
    whole.sort(key=lambda one: one.best)  # the best one is drawn over the others
    drawn = whole[-MOST_LINES:]
    lines = tuple(
        Line(row.number, " ".join(f"{across[n]:.1f},{_y(scales[n][_key(row.cells[n])]):.1f}" for n in shown),
             row.best, f"row {row.number + 1}: " + ", ".join(f"{columns[n]} {row.texts[n]}" for n in shown))
        for row in drawn
    )  # fmt: skip
    return Plot(axes, lines, len(rows) - len(drawn), more)


def pscan_query(out: str | None, names: Collection[str]) -> str:
    """What the address of PScan asks for, to show the directories of a scan's template; empty where it has none."""
    if not out or "{" not in out:
        return ""
    folders = out.split("/")
    fixed = next(number for number, folder in enumerate(folders) if "{" in folder)
    seen: set[str] = set()

    def axis(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in names or name in seen or not name.isidentifier() or len(name) > LONGEST_AXIS:
            return "*"
        seen.add(name)
        return found.group(0)

    pattern = re.sub(r"\{([^{}]*)\}", axis, "/".join(folders[fixed:]))
    if not seen or len(seen) > MOST_AXES:
        pattern = ""  # PScan proposes one
    last = "*" if "file" in seen else "{file}"
    return urlencode(
        {"root": "/".join(["~", *folders[:fixed]])} | ({"pattern": f"{pattern}/{last}"} if pattern else {})
    )


def _scale(values: Sequence[Any]) -> Mapping[Any, float]:
    """Of each value its height from 0 to 1: numbers by size, over a wide range by their logarithm; texts evenly
    spaced, in order."""
    distinct = sorted({_key(one) for one in values}, key=_order)
    if not all(_is_number(one) for one in distinct):
        return {one: place / max(1, len(distinct) - 1) for place, one in enumerate(distinct)}
    low, high = distinct[0], distinct[-1]
    if low == high:
        return {low: 0.5}
    if low > 0 and high / low >= MANY_TIMES:
        return {one: math.log(one / low) / math.log(high / low) for one in distinct}
    return {one: one / (high - low) - low / (high - low) for one in distinct}


def _ticks(scale: Mapping[Any, float]) -> tuple[tuple[float, str], ...]:
    """At most six, the ends among them; none so near to another that both could not be read."""
    known = list(scale)
    every = max(1, math.ceil(len(known) / 5))
    chosen = known if len(known) <= 6 else [*known[:-1:every], known[-1]]
    if len(known) > 6 and all(_is_number(one) for one in known):
        chosen = [known[0], known[-1]]
    last, shown = chosen[-1], chosen[:1]
    for one in chosen[1:-1]:
        if min(_y(scale[shown[-1]]) - _y(scale[one]), _y(scale[one]) - _y(scale[last])) >= NEAREST:
            shown.append(one)
    return tuple((_y(scale[one]), text(one)[:16]) for one in [*shown, *([last] if len(chosen) > 1 else [])])


def _y(part: float) -> float:
    return TOP + (1 - part) * HEIGHT


def _key(value: Any) -> Any:
    return as_written(value) if isinstance(value, bool) else value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _order(value: Any) -> tuple[bool, Any]:
    return (False, value) if _is_number(value) else (True, as_written(value))
