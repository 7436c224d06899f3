"""The metrics of a job: numbers by name and step, from lines of its own or by patterns from its log.

A line is ``{"at": ms UTC, "step": whole number or null, "values": {name: number}}``. All of it was written by somebody
else: what is no such line is left out, and the work is bounded whatever is in it.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import re2

LONGEST_PATTERN = 1000
MOST_GROUPS = 20
LARGEST_PROGRAM = 1000
"""Instructions of one compiled pattern."""
STEP = "step"
"""The named group that is the step and no metric."""
MOST_POINTS = 1000
"""Of one series, as it is shown."""
MOST_SERIES = 100
"""Of one attempt; those that come first."""
MOST_LINES = 200_000
"""The last lines are read."""
LONGEST_LINE = 4096
"""Bytes; a longer line of a log is left out, since half a number is a wrong one."""
LONGEST_NAME = 200
MOST_WORK = 1 << 30
"""Bytes of a log times instructions of its patterns: some seconds for the worst pattern that there is."""

_PATTERN_MEMORY = 1 << 20
_EXACT = 1 << 53


def compile_pattern(pattern: str) -> Any:
    """The compiled pattern, for single lines of a log as UTF-8 bytes. Each of its named groups is a metric, but
    ``step``.

    :raises ValueError: it is none that RE2 takes, too long or too large, or names no metric.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"the pattern has {len(pattern)} characters; at most {LONGEST_PATTERN}")
    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        said = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        raise ValueError(f"not a pattern of RE2: {said}; it knows no lookaround and no backreferences") from None
    if compiled.groups > MOST_GROUPS:
        raise ValueError(f"the pattern has {compiled.groups} groups; at most {MOST_GROUPS}")
    if compiled.programsize > LARGEST_PROGRAM:
        raise ValueError("the pattern is too large: less is repeated in a smaller one")
    if not set(compiled.groupindex) - {STEP}:
        raise ValueError("the pattern names no metric; a named group does, such as loss=(?P<loss>[0-9.e+-]+)")
    return compiled


@dataclass(frozen=True, slots=True)
class Series:
    """The points of one metric, in the order in which they were measured, :data:`MOST_POINTS` at most.

    ``steps``: None where none was told. ``values``: None where it was no finite number. ``at``: ms UTC, None where it
    is not known. ``counted``: the steps are no more than numbers of lines, since none were told.
    """

    steps: tuple[int | None, ...]
    values: tuple[float | None, ...]
    at: tuple[int | None, ...]
    counted: bool = False


@dataclass(slots=True)
class _Points:
    """A series while it is read; NaN is what is not there."""

    steps: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))
    at: array[float] = field(default_factory=lambda: array("d"))

    def add(self, step: float | None, value: float, at: float | None) -> None:
        self.steps.append(math.nan if step is None else step)
        self.values.append(value)
        self.at.append(math.nan if at is None else at)

    def series(self, *, counted: bool = False) -> Series:
        kept = telling(self.values)
        return Series(
            tuple(_whole(self.steps[n]) for n in kept),
            tuple(self.values[n] if math.isfinite(self.values[n]) else None for n in kept),
            tuple(_whole(self.at[n]) for n in kept),
            counted,
        )


def telling(values: Sequence[float], most: int = MOST_POINTS) -> list[int]:
    """Which of many points are shown, ``most`` at most: the first, the last, and of each of even stretches the least
    and the greatest, so that no peak is lost."""
    count = len(values)
    if count <= most:
        return list(range(count))
    kept = {0, count - 1}
    stretches = (most - 2) // 2
    for number in range(stretches):
        first, end = number * count // stretches, (number + 1) * count // stretches
        finite = [n for n in range(first, end) if math.isfinite(values[n])]
        kept |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)} if finite else {first}
    return sorted(kept)


def from_lines(text: bytes) -> dict[str, Series]:
    """The series in lines of metrics, or of what was used, by name."""
    found: dict[str, _Points] = {}
    for line in _last_lines(text, MOST_LINES):
        if read := _read(line):
            at, step, values = read
            for name, value in values.items():
                if (points := _of(found, name)) is not None:
                    points.add(step, value, at)
    return {name: points.series() for name, points in found.items()}


def from_log(text: bytes, patterns: Iterable[str]) -> dict[str, Series]:
    """The series that ``patterns`` find in whole lines of a log, by name: in each line what each finds first.

    A carriage return ends a line too, since progress bars write so. When a line was written is not known.

    :raises ValueError: see :func:`compile_pattern`.
    """
    compiled = [compile_pattern(pattern) for pattern in patterns]
    if not compiled:
        return {}
    most = min(len(text), MOST_WORK // sum(one.programsize for one in compiled))
    text = text[len(text) - most :] if most == len(text) else text[len(text) - most :].partition(b"\n")[2]
    lines = _last_lines(text.replace(b"\r", b"\n"), MOST_LINES // len(compiled))
    lines = (line for line in lines if len(line) <= LONGEST_LINE)
    told: dict[str, _Points] = {}
    counted: dict[str, _Points] = {}
    for line in lines:
        for pattern in compiled:
            match = pattern.search(line)
            groups = match.groupdict() if match else {}
            step = _number(groups.get(STEP))
            found = counted if step is None else told
            for name, value in groups.items():
                number = None if name == STEP else _number(value)
                if number is not None and (points := _of(found, name)) is not None:
                    points.add(len(points.values) if step is None else step, number, None)
    series = {name: points.series(counted=True) for name, points in counted.items()}
    return series | {name: points.series() for name, points in told.items()}


def joined(attempts: Sequence[Mapping[str, Series]]) -> dict[str, Series]:
    """The series of a job from those of its attempts, the first one first.

    What an attempt measured at and after the step with which a later one goes on is left out: that was lost.
    """
    found: dict[str, Series] = {}
    for series in attempts:
        for name, later in series.items():
            found[name] = _followed(found[name], later) if name in found else later
    return {name: _shown(series) for name, series in found.items()}


def _followed(earlier: Series, later: Series) -> Series:
    steps = later.steps
    kept: Sequence[int] = range(len(earlier.steps))
    if later.counted and earlier.counted:
        passed = (earlier.steps[-1] or 0) + 1
        steps = tuple(passed + (step or 0) for step in steps)
    elif (begin := steps[0]) is not None:
        kept = [n for n in kept if (step := earlier.steps[n]) is None or step < begin]
    return Series(
        tuple(earlier.steps[n] for n in kept) + steps,
        tuple(earlier.values[n] for n in kept) + later.values,
        tuple(earlier.at[n] for n in kept) + later.at,
        later.counted and earlier.counted,
    )


def _shown(series: Series) -> Series:
    kept = telling([math.nan if value is None else value for value in series.values])
    if len(kept) == len(series.values):
        return series
    return Series(
        tuple(series.steps[n] for n in kept),
        tuple(series.values[n] for n in kept),
        tuple(series.at[n] for n in kept),
        series.counted,
    )


def _of(found: dict[str, _Points], name: str) -> _Points | None:
    """The series of that name, a new one if there is room for it."""
    known = found.get(name)
    if known is None and len(found) < MOST_SERIES and 0 < len(name) <= LONGEST_NAME and name.isprintable():
        known = found[name] = _Points()
    return known


def _read(line: bytes) -> tuple[float | None, float | None, dict[str, float]] | None:
    """Time, step and values of a line of metrics; None where it is none."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    values = said.get("values") if isinstance(said, dict) else None
    if not isinstance(values, dict):
        return None
    numbers = {name: number for name, value in values.items() if (number := _number(value)) is not None}
    return _position(said.get("at")), _position(said.get("step")), numbers


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, bytes)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _position(value: object) -> float | None:
    """A time or a step, where it is one that can be told exactly."""
    number = _number(value)
    return number if number is not None and abs(number) < _EXACT else None


def _whole(number: float) -> int | None:
    return None if math.isnan(number) else int(number)


def _last_lines(text: bytes, most: int) -> Iterator[bytes]:
    """The last ``most`` lines that are whole: ended by a newline."""
    lines = text.rsplit(b"\n", most + 1)
    whole = lines[1:-1] if len(lines) == most + 2 else lines[:-1]
    return (line for line in whole if line)
