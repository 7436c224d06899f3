"""Lines of what jobs measured, as numbers that a template draws: no library. ``static/job_plot.js`` only reads them.

A chart is drawn in a box of :data:`WIDTH` by :data:`HEIGHT` that the page stretches to its own width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from mlmp_spawner.units import HOUR, MINUTE

WIDTH = 1000
HEIGHT = 150

DRAWN = 400
"""Points of one line at most: no screen shows more."""

_HUGE = 1e300  # beyond it the arithmetic of a plot overflows
_TINY = 1e-300

LOOKS = 8
DASHES = 3
"""Colours and dashes there are. Together they tell 24 lines apart."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line to draw. ``at``: steps, or ms since the start of its job; ``values`` may be NaN or infinite, which
    leaves a gap. ``number``: which of the compared jobs it is of, from 0."""

    label: str
    at: Sequence[float]
    values: Sequence[float]
    number: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A drawn line. ``end``: where it ends, in per cent from the left and pixels from the top."""

    label: str
    number: int
    path: str
    end: tuple[float, float]
    first: float
    last: float
    last_at: float
    least: float
    most: float

    @property
    def look(self) -> int:
        """Its colour, from 0."""
        return self.number % LOOKS

    @property
    def dash(self) -> int:
        """Its dash, from 0 (none): neighbours differ by it too."""
        return self.number % DASHES


@dataclass(frozen=True, slots=True)
class Chart:
    """One metric: its lines, the marks of both axes as (per cent or pixels, text), and what the edges stand for."""

    name: str
    kind: str
    timed: bool
    lines: list[Line]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    left: float
    right: float
    low: float
    high: float

    def said(self, value: float) -> str:
        """A value of it in words."""
        return SAID[self.kind](value)

    def where(self, at: float) -> str:
        """A place on its lower axis in words."""
        return seconds(at) if self.timed else f"step {number(at)}"

    @property
    def summary(self) -> str:
        """The chart in a sentence, for who does not see it."""
        parts = [
            f"{line.label + ': ' if len(self.lines) > 1 else ''}{self.said(line.last)} at {self.where(line.last_at)}, "
            f"between {self.said(line.least)} and {self.said(line.most)}"
            for line in self.lines
        ]
        return f"{self.name}. {'; '.join(parts)}"


def chart(name: str, series: Sequence[Series], *, timed: bool = False, kind: str = "number") -> Chart | None:
    """A metric with a line for each of ``series``; None where there is nothing to draw.

    :param timed: ``at`` is ms, not steps.
    :param kind: how values are said: ``number``, ``amount``, ``bytes``, ``percent``; all but the first are drawn from
        zero on.
    """
    finite = [(one, _finite(one)) for one in series]
    points = [point for _, found in finite for point in found]
    if not points:
        return None
    left, right = min(at for at, _ in points), max(at for at, _ in points)
    right = max(right, left + max(1000.0 if timed else 1.0, abs(left) * 1e-9))
    low, high = _room(min(value for _, value in points), max(value for _, value in points), kind)

    def place(at: float, value: float) -> tuple[float, float]:
        x, y = (at - left) / (right - left), (value - low) / (high - low)
        return min(max(x, 0.0), 1.0) * WIDTH, (1 - min(max(y, 0.0), 1.0)) * HEIGHT

    lines = [_line(one, found, place) for one, found in finite if found]
    marks = [(100 * (at - left) / (right - left), at) for at in _marks(left, right, timed=timed)]
    up = [(round(place(left, value)[1], 2), SAID[kind](value)) for value in _marks(low, high, base=_BASE[kind])]
    across = [(round(at, 2), seconds(value) if timed else number(value)) for at, value in marks]
    return Chart(name, kind, timed, lines, across, up, left, right, low, high)


def _finite(one: Series) -> list[tuple[float, float]]:
    return [pair for pair in zip(one.at, one.values, strict=False) if all(map(_drawable, pair))]


def _drawable(value: float) -> bool:
    return math.isfinite(value) and abs(value) < _HUGE


def _line(one: Series, found: list[tuple[float, float]], place: Callable[[float, float], tuple[float, float]]) -> Line:
    pairs = list(zip(one.at, one.values, strict=False))
    runs = [list(group) for known, group in groupby(pairs, key=lambda pair: all(map(_drawable, pair))) if known]
    share = max(2, DRAWN // len(runs))
    path = "".join(_run([place(*point) for point in thin(run, share)]) for run in runs[:DRAWN])
    values = [value for _, value in found]
    x, y = place(*found[-1])
    end = round(x / WIDTH * 100, 2), round(y, 2)
    return Line(
        one.label, one.number, path, end, values[0], values[-1], found[-1][0], min(values), max(values)
    )  # fmt: skip


def _run(points: list[tuple[float, float]]) -> str:
    """A stretch without gaps; a point alone is drawn as a dot."""
    text = "L".join(f"{_short(x, 4)},{_short(y, 3)}" for x, y in points)
    return f"M{text}" + ("h0" if len(points) == 1 else "")


def _short(value: float, digits: int) -> str:
    """As exact as the script needs that reads values from it."""
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


def thin(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most ``most`` of the points, with the lowest and the highest of each stretch, so that no peak is lost."""
    if len(points) <= most:
        return list(points)
    stretches = max(1, most // 2)
    kept: set[int] = set()
    for n in range(stretches):
        stretch = range(n * len(points) // stretches, (n + 1) * len(points) // stretches)
        kept |= {min(stretch, key=lambda i: points[i][1]), max(stretch, key=lambda i: points[i][1])}
    return [points[i] for i in sorted(kept)]


def _room(low: float, high: float, kind: str) -> tuple[float, float]:
    """The range of the upright axis, with a little air."""
    if kind != "number":
        return 0.0, max(high * 1.05, 100.0 if kind == "percent" else 1.0)
    if high - low <= max(abs(high), abs(low)) * 1e-9:
        air = abs(high) * 0.05 if abs(high) > _TINY else 0.5
    else:
        air = (high - low) * 0.05
    return low - air, high + air


_BASE = {"number": 10, "amount": 10, "percent": 10, "bytes": 2}
_TIMES = [1000 * n for n in (1, 2, 5, 10, 20, 30)] + [MINUTE * n for n in (1, 2, 5, 10, 20, 30)]
_TIMES += [HOUR * n for n in (1, 2, 4, 6, 12, 24, 48, 96, 240, 480)]


def _marks(low: float, high: float, *, timed: bool = False, base: int = 10) -> list[float]:
    """About four round values between two."""
    wide = high - low
    if timed:
        step: float = next((one for one in _TIMES if one * 5 >= wide), 960 * HOUR)
    elif base == 2:
        step = 2.0 ** math.ceil(math.log2(wide / 4))
    else:
        power = 10.0 ** math.floor(math.log10(wide / 4))
        step = next(power * n for n in (1, 2, 5, 10, 20) if power * n * 4.5 >= wide)
    first = math.ceil(low / step - 1e-9)
    found = [(first + n) * step for n in range(7)]
    return [value for value in found if value <= high + step * 1e-9] or [low]


def number(value: float) -> str:
    """A measured value: four digits that matter, no more."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def size(value: float) -> str:
    """Bytes: "512 MiB", "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.3g} {unit}" if abs(value) < 1000 else f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:,.3g} TiB"


def percent(value: float) -> str:
    """A share of hundred."""
    return f"{value:.0f} %"


def seconds(ms: float) -> str:
    """How long after the start: "30 s", "5 min", "1 h 30 min"."""
    whole = round(ms / 1000)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else ""]
    if not hours and (rest or not minutes):
        parts.append(f"{rest} s")
    return " ".join(part for part in parts if part)


SAID: dict[str, Callable[[float], str]] = {
    "number": number,
    "amount": number,
    "bytes": size,
    "percent": percent,
}
"""How values of each kind are said."""
