"""The invariant, judged by somebody else: pure Python over all rows, nothing shared with triggers or placement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Engine, text


@dataclass(frozen=True)
class Violation:
    """At ``at`` (ms UTC) more is taken than ``allowed``. ``of`` names the root that its children exceed, if any."""

    node: str
    resource: str
    at: int
    taken: int
    allowed: int
    of: str | None = None


def violations(engine: Engine, *, since: int = 0) -> list[Violation]:
    """Every instant from ``since`` on at which roots take more than the capacity, or children more than
    their root has."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT reservation, root, node, resource, units, "
                'CASE WHEN start < :since THEN :since ELSE start END, "end" FROM mlmp_allocation WHERE "end" > :since'
            ),
            {"since": since},
        ).all()
        capacity = {
            (node, resource): units
            for node, resource, units in connection.execute(text("SELECT node, resource, units FROM mlmp_capacity"))
        }
    roots: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    granted: dict[tuple[str, str, str], list[tuple[int, int, int]]] = defaultdict(list)
    drawn: dict[tuple[str, str, str], list[tuple[int, int, int]]] = defaultdict(list)
    for reservation, root, node, resource, units, start, end in rows:
        if root is None:
            roots[node, resource].append((start, end, units))
            granted[reservation, node, resource].append((start, end, units))
        else:
            drawn[root, node, resource].append((start, end, units))
    found = [
        Violation(node, resource, at, taken, capacity.get((node, resource), 0))
        for (node, resource), intervals in roots.items()
        for at, taken in _course(intervals)
        if taken > capacity.get((node, resource), 0)
    ]
    for key, intervals in drawn.items():
        had = granted[key]
        # What the root has falls at its rows' ends too: there the children are looked at as well.
        marks = [(end, end, 0) for _, end, _ in had]
        for at, taken in _course([*intervals, *marks]):
            allowed = sum(units for start, end, units in had if start <= at < end)
            if taken > allowed:
                found.append(Violation(key[1], key[2], at, taken, allowed, of=key[0]))
    return found


def _course(intervals: Iterable[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """``(instant, units taken from then on)`` at each start and end of the half-open intervals."""
    changes: dict[int, int] = defaultdict(int)
    for start, end, units in intervals:
        changes[start] += units
        changes[end] -= units
    course = []
    level = 0
    for at in sorted(changes):
        level += changes[at]
        course.append((at, level))
    return course
