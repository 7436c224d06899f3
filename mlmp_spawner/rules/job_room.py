"""Where a job fits: how many units are free over time on each node, and until when a job may have them.

Two levels are kept apart. What is *held* (bookings, outages, running jobs) is there; a preemptible job may start into
the gap before it, and makes way when it comes. What is only *planned* for jobs that go first is kept free for them:
no job is started to be sent away for another job.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from mlmp_spawner.rules.placement import Board
from mlmp_spawner.units import MINUTE

MIN_RUN = 10 * MINUTE
"""A preemptible job starts only where it can run as long as this, or as long as it wants if that is less."""


class Shape(NamedTuple):
    """All that decides where and when a job fits: ``units`` of ``resource`` for each of ``workers`` on ``nodes``.

    ``length``, ``grace`` in ms.
    """

    resource: str
    nodes: frozenset[str]
    units: int
    workers: int
    length: int
    grace: int
    preemptible: bool

    @property
    def whole(self) -> int:
        """How long it holds its units if nothing comes in between."""
        return self.length + self.grace

    @property
    def least(self) -> int:
        """The shortest time for which it may be given its units."""
        return (min(self.length, MIN_RUN) if self.preemptible else self.length) + self.grace


@dataclass(frozen=True, slots=True)
class Fit:
    """A place: of each worker its node, and until when all of them are free (ms UTC)."""

    nodes: tuple[str, ...]
    until: int


class Line:
    """What is free of something from ``now`` on, as steps; the last one lasts for ever.

    ``held``: less what is held; ``free``: less what is planned as well.
    """

    __slots__ = ("at", "free", "held")

    def __init__(self, capacity: int, taken: Iterable[tuple[int, int, int]], now: int) -> None:
        """:param taken: ``(start, end, units)``; what is over before ``now`` does not count."""
        changes: dict[int, int] = {now: 0}
        for start, end, units in taken:
            if end > now:
                start = max(start, now)
                changes[start] = changes.get(start, 0) - units
                changes[end] = changes.get(end, 0) + units
        self.at = sorted(changes)
        self.held: list[int] = []
        level = capacity
        for instant in self.at:
            level += changes[instant]
            self.held.append(level)
        self.free = self.held.copy()

    def take(self, start: int, end: int, units: int, *, planned: bool) -> None:
        """Takes ``units`` over ``[start, end)``; ``start`` is not before the line's begin."""
        first, last = self._cut(start), self._cut(end)
        for n in range(first, last):
            self.free[n] -= units
            if not planned:
                self.held[n] -= units

    def _cut(self, instant: int) -> int:
        """The step that begins at ``instant``, made where there is none."""
        n = bisect_left(self.at, instant)
        if n == len(self.at) or self.at[n] != instant:
            self.at.insert(n, instant)
            self.held.insert(n, self.held[n - 1])
            self.free.insert(n, self.free[n - 1])
        return n

    def rises(self) -> list[int]:
        """The instants at which more becomes free."""
        return [self.at[n] for n in range(1, len(self.at)) if self.free[n] > self.free[n - 1]]

    def free_at(self, instant: int, *, planned: bool = True) -> int:
        """What is free at an instant. :param planned: whether what is planned counts as taken."""
        return (self.free if planned else self.held)[bisect_right(self.at, instant) - 1]

    def lowest(self, start: int, end: int) -> int:
        """The least that is free at any instant of ``[start, end)``, a span that is not empty."""
        return min(self.free[bisect_right(self.at, start) - 1 : bisect_left(self.at, end)])

    def held_until(self, start: int, end: int, units: int) -> int:
        """Till when ``units`` are free of what is held, where they are free at ``start``; till ``end`` at most."""
        for n in range(bisect_right(self.at, start) - 1, bisect_left(self.at, end)):
            if self.held[n] < units:
                return self.at[n]
        return end


class Room:
    """The nodes that have one resource."""

    def __init__(self, boards: Iterable[Board], now: int) -> None:
        boards = list(boards)
        self.capacity = {board.node: board.capacity for board in boards}
        self.lines = {board.node: _line(board, now) for board in boards}
        # When more becomes free, and where: nothing can fit on a node later that did not before, but after these.
        self._rises = sorted((instant, node) for node, line in self.lines.items() for instant in line.rises())
        self._known: dict[frozenset[str], list[str]] = {}

    def ever(self, shape: Shape) -> bool:
        """Whether its nodes, with nothing else on them, could take it."""
        counts = (self.capacity[node] // shape.units for node in self._nodes(shape))
        return sum(counts) >= shape.workers

    def take(self, fit: Fit, start: int, units: int, *, planned: bool) -> None:
        """Gives every worker of a fit its ``units`` from ``start`` on."""
        for node in set(fit.nodes):
            self.lines[node].take(start, fit.until, units * fit.nodes.count(node), planned=planned)
            insort(self._rises, (fit.until, node))

    def enough(self, shape: Shape, instant: int) -> bool:
        """Whether as many units are free at an instant as it wants, however long; what is planned does not count."""
        levels = (self.lines[node].free_at(instant, planned=False) for node in self._nodes(shape))
        return sum(max(0, level) // shape.units for level in levels) >= shape.workers

    def fits(self, shape: Shape, since: int, others: Iterable[int] = ()) -> Iterator[tuple[int, Fit]]:
        """Each start from ``since`` on at which it may begin to fit, the earliest first, and the place.

        :param others: instants, sorted and after ``since``, that are looked at as well.
        """
        nodes = self._nodes(shape)
        most = {node: self._most(shape, node, since) for node in nodes}
        if sum(most.values()) >= shape.workers and (fit := self.fit(shape, since)) is not None:
            yield since, fit
        rises = self._rises[bisect_left(self._rises, (since + 1, "")) :]
        for instant, group in groupby(heapq.merge(rises, ((one, "") for one in others)), key=itemgetter(0)):
            for _, node in group:
                if node in most:
                    most[node] = self._most(shape, node, instant)
            if sum(most.values()) < shape.workers:
                continue
            if (fit := self.fit(shape, instant)) is not None:
                yield instant, fit
            else:
                most = {node: self._most(shape, node, instant) for node in nodes}

    def _most(self, shape: Shape, node: str, start: int) -> int:
        """How many of its workers fit on a node; later there are no more, until the node's next rise."""
        return max((workers for _, workers, _ in self._offers(shape, node, start)), default=0)

    def fit(self, shape: Shape, start: int, *, planned: bool = True) -> Fit | None:
        """The best place for a job that starts at ``start``: where it can run longest, at most its whole time; of
        those the one with least left over, on as few nodes as can be.

        :param planned: whether what is planned is in its way.
        """
        offers = [one for node in self._nodes(shape) for one in self._offers(shape, node, start, planned)]
        most: dict[str, int] = {}
        for until, group in groupby(sorted(offers, reverse=True), key=itemgetter(0)):
            for _, workers, node in group:
                most[node] = max(workers, most.get(node, 0))
            if sum(most.values()) >= shape.workers:
                rooms = {node: self.lines[node].lowest(start, until) for node in most}
                return Fit(_packed(most, rooms, shape.workers), until)
        return None

    def _offers(self, shape: Shape, node: str, start: int, planned: bool = True) -> list[tuple[int, int, str]]:
        """Till when how many of its workers may have their units on a node."""
        line, offers = self.lines[node], []
        for workers in range(1, min(shape.workers, line.free_at(start, planned=planned) // shape.units) + 1):
            units = workers * shape.units
            until = line.held_until(start, start + shape.whole, units)
            if until < start + shape.least:
                break
            if not planned or line.lowest(start, until) >= units:
                offers.append((until, workers, node))
        return offers

    def _nodes(self, shape: Shape) -> list[str]:
        if shape.nodes not in self._known:
            self._known[shape.nodes] = [node for node in sorted(self.lines) if node in shape.nodes]
        return self._known[shape.nodes]


def _line(board: Board, now: int) -> Line:
    taken = [(t.interval.start, t.interval.end, t.units) for t in board.taken]
    # Whatever else is on the node meanwhile, nothing is free while it is away.
    return Line(board.capacity, [*taken, *((o.start, o.end, board.capacity) for o in board.outages)], now)


def _packed(most: Mapping[str, int], rooms: Mapping[str, int], workers: int) -> tuple[str, ...]:
    """Which node each worker gets, of those that take up to ``most`` each."""
    left = dict(most)
    chosen: list[str] = []
    while (rest := workers - len(chosen)) > 0:
        whole = [node for node in left if left[node] >= rest]
        node = min(whole or left, key=lambda node: (0 if whole else -left[node], rooms[node], node))
        chosen += [node] * min(rest, left.pop(node))
    return tuple(sorted(chosen))
