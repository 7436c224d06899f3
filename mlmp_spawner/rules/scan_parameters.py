"""The parameters of a scan: from what a person writes (a grid, a list, a random sample) to rows of values.

A grid has each combination of values; a list is the rows themselves; a random sample draws each row by a seed, so that
the same words give the same rows. Where values come from is a list, or a range::

    {"lr": {"from": 1e-5, "to": 0.1, "steps": 5, "scale": "log"}, "bs": [32, 64]}
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlmp_spawner.errors import Invalid

Value = str | int | float | bool
Row = dict[str, Value]
Kind = Literal["grid", "list", "random"]

MOST_ROWS = 10_000
MOST_PARAMETERS = 20
LONGEST_TEXT = 200
LARGEST_NUMBER = 1e300

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_PLACE = re.compile(r"\{([^{}]*)\}")
_IN_PATH = re.compile(r"[A-Za-z0-9._+=,-]+")
_OF_JOB = ("id", "name")
_RANGE = {"from", "to", "steps", "scale"}


@dataclass(frozen=True, slots=True)
class Range:
    """From ``low`` to ``high``, both included; ``steps`` values of it in a grid."""

    low: float
    high: float
    steps: int | None
    log: bool

    @property
    def whole(self) -> bool:
        """Whether both ends are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def values(self) -> list[Value]:
        """Its steps, evenly spaced, those of a logarithmic one by their logarithm; the ends as they were written.
        Whole numbers where both ends are and all steps come out whole, else none of them is."""
        count = self.steps or 0
        if count == 1:
            return [self.low]
        span, gaps = self.high - self.low, count - 1
        if self.whole and not self.log and span % gaps == 0:
            return [self.low + number * (span // gaps) for number in range(count)]
        exact = [float(self.low), *(self._at(number / gaps) for number in range(1, gaps)), float(self.high)]
        between = [
            _near(exact[at], min(exact[at] - exact[at - 1], exact[at + 1] - exact[at])) for at in range(1, gaps)
        ]
        found = [exact[0], *between, exact[-1]]
        if self.whole and all(one.is_integer() for one in between):
            return [self.low, *(round(one) for one in between), self.high]
        return list(found)

    def draw(self, luck: random.Random) -> Value:
        """A value by chance, evenly spread (by its logarithm in a logarithmic one), whole where both ends are."""
        if self.whole and not self.log:
            return luck.randint(int(self.low), int(self.high))
        found = self._at(luck.random())
        found = round(found) if self.whole else float(f"{found:.6g}")
        return min(max(found, self.low), self.high)

    def _at(self, part: float) -> float:
        if self.log:
            return math.exp(math.log(self.low) + part * (math.log(self.high) - math.log(self.low)))
        return self.low + part * (self.high - self.low)


def rows(
    kind: Kind,
    parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    samples: int | None = None,
    seed: int = 0,
) -> list[Row]:
    """The rows of a scan, each with a value of every parameter.

    :param parameters: of a list the rows; else of each name a list of values, or a range.
    :param samples: how many rows a random sample has.
    :raises Invalid: names, values or numbers that are not possible, or too many rows.
    """
    if kind == "list":
        return _listed(parameters)
    if not isinstance(parameters, Mapping) or not parameters:
        raise Invalid.field("parameters", 'must be names with values, such as {"lr": [0.1, 0.01]}')
    _check_names(parameters)
    sources = {name: _source(name, said, grid=kind == "grid") for name, said in parameters.items()}
    if kind == "random":
        return _drawn(sources, samples, seed)
    if samples is not None:
        raise Invalid.field("samples", "is for a random sample; a grid has each combination")
    _check_count(math.prod((one.steps or 0) if isinstance(one, Range) else len(one) for one in sources.values()))
    lists = {name: _steps(name, one) if isinstance(one, Range) else one for name, one in sources.items()}
    return [dict(zip(lists, one, strict=True)) for one in itertools.product(*lists.values())]


def filled(template: str, row: Mapping[str, Value], *, field: str = "out") -> str:
    """A path with the values of a row at their names: ``runs/lr={lr}``; ``{id}`` and ``{name}`` stay, the job's own.

    :raises Invalid: a name that is no parameter, or a value that can't stand in a path.
    """

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        if name in _OF_JOB and name not in row:
            return found.group(0)
        if name not in row:
            valid = ", ".join([*row, *_OF_JOB])
            raise Invalid.field(field, f"{name[:40]!r} is no parameter; valid is {valid}")
        text = said(row[name])
        if not _IN_PATH.fullmatch(text) or text in (".", ".."):
            raise Invalid.field(field, f"{name}={text[:40]!r} can't stand in a path: letters, digits and ._+=,- can")
        return text

    return _PLACE.sub(value, template)


def outputs(template: str, every: Sequence[Row], *, field: str = "out") -> list[str]:
    """Of each row the path. :param field: what the template is called where it was written.

    :raises Invalid: see :func:`filled`; or two rows have the same, so that one would overwrite the other's.
    """
    seen: dict[str, int] = {}
    found = []
    for number, row in enumerate(every):
        path = filled(template, row, field=field)
        if not _PLACE.search(path) and seen.setdefault(path, number) != number:
            raise Invalid.field(field, f"rows {seen[path] + 1} and {number + 1} would both write to {path[:200]!r}: "
                                "name every parameter in it, or {id}")  # fmt: skip
        found.append(path)
    return found


def said(value: Value) -> str:
    """A value as it stands in arguments and paths."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def options(row: Mapping[str, Value]) -> list[str]:
    """A row as the arguments of a program: ``--lr 0.1``, ``--fast`` for true, nothing for false."""
    found: list[str] = []
    for name, value in row.items():
        if value is True:
            found.append(f"--{name}")
        elif value is not False:
            # A value that begins with a minus would be taken for an option.
            text = said(value)
            found += [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]
    return found


def _listed(parameters: object) -> list[Row]:
    if not isinstance(parameters, Sequence) or isinstance(parameters, str) or not parameters:
        raise Invalid.field("parameters", 'of a list must be its rows, such as [{"lr": 0.1}, {"lr": 0.01}]')
    _check_count(len(parameters))
    names: list[str] | None = None
    found: list[Row] = []
    for number, row in enumerate(parameters, 1):
        if not isinstance(row, Mapping) or not row:
            raise Invalid.field("parameters", f"row {number} must be names with values")
        if names is None:
            _check_names(row)
            names = list(row)
        if set(row) != set(names):
            raise Invalid.field("parameters", f"row {number} must have the same names as row 1: {', '.join(names)}")
        found.append({name: _value(name, row[name]) for name in names})
    return found


def _drawn(sources: Mapping[str, Range | list[Value]], samples: int | None, seed: int) -> list[Row]:
    if samples is None:
        raise Invalid.field("samples", "says how many rows a random sample has; give it")
    _check_count(samples)
    luck = random.Random(seed)  # noqa: S311 - nothing here is secret
    return [
        {name: one.draw(luck) if isinstance(one, Range) else luck.choice(one) for name, one in sources.items()}
        for _ in range(samples)
    ]


def _check_names(names: Mapping[str, Any]) -> None:
    if len(names) > MOST_PARAMETERS:
        raise Invalid.field("parameters", f"{len(names)} are too many; at most {MOST_PARAMETERS}")
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise Invalid.field(
                "parameters", f"{str(name)[:40]!r} is no name: a letter, then letters, digits, _ and -, 64 at most"
            )


def _source(name: str, asked: object, *, grid: bool) -> Range | list[Value]:
    if isinstance(asked, Mapping):
        return _range(name, asked, grid=grid)
    if not isinstance(asked, (list, tuple)) or not asked:
        raise Invalid.field(f"parameters.{name}", "must be a list of values, or a range with from and to")
    _check_count(len(asked))
    found = [_value(name, one) for one in asked]
    if len({said(one) for one in found}) < len(found) or len({(type(one) is bool, one) for one in found}) < len(found):
        raise Invalid.field(f"parameters.{name}", "has a value twice")
    return found


def _steps(name: str, one: Range) -> list[Value]:
    found = one.values()
    if len(set(found)) < len(found):
        raise Invalid.field(
            f"parameters.{name}", f"{one.steps} steps from {one.low} to {one.high} are not all different"
        )
    return found


def _near(value: float, gap: float) -> float:
    """With no more digits than say where it is between its neighbours, which are ``gap`` away: it is to be read in a
    path."""
    return next(
        (near for count in range(6, 17) if abs((near := float(f"{value:.{count}g}")) - value) <= gap / 1000), value
    )


def _range(name: str, asked: Mapping[Any, Any], *, grid: bool) -> Range:
    field = f"parameters.{name}"
    if strange := [str(key)[:40] for key in asked if key not in _RANGE]:
        raise Invalid.field(field, f"{', '.join(strange)[:200]}: a range has from, to, steps and scale")
    low, high = (_number(field, key, asked.get(key)) for key in ("from", "to"))
    scale, steps = asked.get("scale", "lin"), asked.get("steps")
    if scale not in ("lin", "log"):
        raise Invalid.field(field, f"scale {str(scale)[:40]!r} is neither lin nor log")
    if low >= high:
        raise Invalid.field(field, f"from must be less than to; it is from {low} to {high}")
    if scale == "log" and low <= 0:
        raise Invalid.field(field, f"a logarithmic range begins above 0, not at {low}")
    if grid and (type(steps) is not int or not 1 <= steps <= MOST_ROWS):
        raise Invalid.field(field, f"a range in a grid has steps, 1 to {MOST_ROWS:,}")
    return Range(low, high, steps if grid else None, scale == "log")


def _number(field: str, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST_NUMBER:
        raise Invalid.field(field, f"{key} must be a number, not {str(value)[:40]!r}")
    return value


def _value(name: str, value: object) -> Value:
    field = f"parameters.{name}"
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return _number(field, "a value", value)
    if isinstance(value, str) and value and len(value) <= LONGEST_TEXT and value.isprintable():
        return value
    raise Invalid.field(field, f"{str(value)[:40]!r} is no value: a number, true, false, or a text on one line of "
                        f"{LONGEST_TEXT} characters at most")  # fmt: skip


def _check_count(count: int) -> None:
    if not 1 <= count <= MOST_ROWS:
        raise Invalid.field("parameters", f"{count:,} rows are not possible; valid is 1 to {MOST_ROWS:,}")
