"""Files by the values of their parameters, and what of them a page shows: rows, columns, and a value for all else."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mlmp_spawner.errors import Invalid
from mlmp_spawner.lab.pscan.axes import Axis, axis, natural
from mlmp_spawner.lab.pscan.kinds import kind_of
from mlmp_spawner.lab.pscan.pattern import Pattern, Values

MOST_CELLS = 5_000
_MOST_SHOWN = 30
"""Values of an axis that the first view puts side by side."""
_ORDER = ("image", "pdf", "curves", "html", "table", "text", "other")


@dataclass(frozen=True)
class Table:
    """``files``: by the values of all axes, the first file by name, and how many more have the same ones."""

    axes: tuple[Axis, ...]
    files: Mapping[Values, tuple[str, int]]
    matched: int
    unmatched: tuple[str, ...]

    @property
    def missing(self) -> int:
        """Combinations of values that there is no file for."""
        return math.prod(len(one.values) for one in self.axes) - len(self.files) if self.files else 0

    @cached_property
    def by_name(self) -> dict[str, Axis]:
        """The axes by their names."""
        return {one.name: one for one in self.axes}


@dataclass(frozen=True)
class Layout:
    """Which axes are rows and which are columns, and the value of each other one."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    at: Mapping[str, str]


@dataclass(frozen=True)
class View:
    """``cells``: for each row and column the file and how many more there are, or None."""

    layout: Layout
    rows: tuple[Values, ...]
    columns: tuple[Values, ...]
    cells: tuple[tuple[tuple[str, int] | None, ...], ...]


def table_of(files: Sequence[str], pattern: Pattern) -> Table:
    """Sorts the files by what the pattern tells from their paths."""
    found: dict[Values, tuple[str, int]] = {}
    unmatched: list[str] = []
    for path in files:
        values = pattern.match(path)
        if values is None:
            unmatched.append(path)
        elif (known := found.get(values)) is not None:
            found[values] = (min(known[0], path, key=natural), known[1] + 1)
        else:
            found[values] = (path, 0)
    columns = zip(*found, strict=True) if found else ((),) * len(pattern.names)
    axes = tuple(axis(name, set(values)) for name, values in zip(pattern.names, columns, strict=True))
    return Table(axes, found, len(files) - len(unmatched), tuple(unmatched))


def view(table: Table, layout: Layout) -> View:
    """What the layout shows of the table.

    :raises Invalid: too much at once.
    """
    rows, columns = _heads(table, layout.rows), _heads(table, layout.columns)
    many = rows[0] * columns[0]
    if many > MOST_CELLS:
        raise Invalid.field(
            "rows", f"with these columns they are {many:,} cells; at most {MOST_CELLS:,}. Put an axis on a slider."
        )
    names = [one.name for one in table.axes]
    cells = []
    for row in rows[1]:
        line = []
        for column in columns[1]:
            chosen = {**layout.at, **dict(zip((*layout.rows, *layout.columns), (*row, *column), strict=True))}
            line.append(table.files.get(tuple(chosen[name] for name in names)))
        cells.append(tuple(line))
    return View(layout, rows[1], columns[1], tuple(cells))


def _heads(table: Table, names: Sequence[str]) -> tuple[int, tuple[Values, ...]]:
    """How many there are, and as many of them as may be shown."""
    values = [table.by_name[name].values for name in names]
    first = itertools.islice(itertools.product(*values), MOST_CELLS + 1)
    return math.prod(map(len, values)), tuple(first)


def layout_of(
    table: Table, rows: Sequence[str] | None, columns: Sequence[str] | None, at: Mapping[str, str]
) -> Layout:
    """What was asked for, as far as there is such a thing: an address may be older than the files.

    Where neither rows nor columns are named, a first layout is chosen. An axis whose value is not told, or is there no
    more, has its first one.
    """
    if rows is None and columns is None:
        rows, columns = _first(table)
    rows = [name for name in dict.fromkeys(rows or ()) if name in table.by_name]
    columns = [name for name in dict.fromkeys(columns or ()) if name in table.by_name and name not in rows]
    values = {}
    for one in table.axes:
        if one.name not in (*rows, *columns):
            wanted = at.get(one.name)
            values[one.name] = wanted if wanted is not None and wanted in one.values else _best(one)
    return Layout(tuple(rows), tuple(columns), values)


def _first(table: Table) -> tuple[list[str], list[str]]:
    """Two axes for a first look: of few values, and not what kind of file it is."""
    several = [one for one in table.axes if 1 < len(one.values) <= _MOST_SHOWN and not _is_file(one)]
    several.sort(key=lambda one: not one.numeric)
    names = [one.name for one in several[:2]]
    return (names[:1], names[1:]) if len(names) == 2 else ([], names)


def _is_file(one: Axis) -> bool:
    return one.name in ("file", "ext") or any(kind_of(value) not in ("text", "other") for value in one.values)


def _best(one: Axis) -> str:
    """Its first value; of files, the first that is best to look at."""
    if not one.values:
        return ""
    if not _is_file(one):
        return one.values[0]
    return min(one.values, key=lambda value: _ORDER.index(kind_of(value if "." in value else f"x.{value}")))
