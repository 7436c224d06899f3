"""Rows of a timeline: which of a node's rows each booking is drawn in.

A row is only drawn: which physical unit a booking gets is chosen when its server starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlmp_spawner.rules.reservations import Interval


@dataclass(frozen=True, slots=True)
class Placed:
    """A booking's units on one node. ``key`` names it; ``created_at`` (ms UTC) and ``key`` decide between two that
    begin together."""

    key: str
    units: int
    interval: Interval
    created_at: int = 0


def assign(placed: Iterable[Placed], capacity: int) -> dict[str, tuple[int, ...]]:
    """The rows of each booking, by its key, lowest first.

    By start, each takes the first free rows that lie together, or else the first free ones. What fits into the
    capacity at every instant is drawn in rows ``0 .. capacity - 1``; only where capacity was lost are there rows
    beyond.
    """
    busy_until: list[int] = [0] * capacity
    rows: dict[str, tuple[int, ...]] = {}
    for one in sorted(placed, key=lambda p: (p.interval.start, p.created_at, p.key)):
        free = [row for row, until in enumerate(busy_until) if until <= one.interval.start]
        missing = one.units - len(free)
        if missing > 0:
            free += range(len(busy_until), len(busy_until) + missing)
            busy_until += [0] * missing
        rows[one.key] = _together(free, one.units) or tuple(free[: one.units])
        for row in rows[one.key]:
            busy_until[row] = one.interval.end
    return rows


def _together(free: list[int], units: int) -> tuple[int, ...]:
    """The first ``units`` rows of ``free`` that lie side by side; none, if none do."""
    for at in range(len(free) - units + 1):
        if free[at + units - 1] - free[at] == units - 1:
            return tuple(free[at : at + units])
    return ()
