"""Where a booking goes: best fit, bounded repacking of what has not begun, and what could be had instead.

A :class:`Board` is one node with what is taken on it. :func:`place` looks for the nodes that leave least unused; when
nothing fits, preemptible jobs make way, and then it moves bookings that have not begun and were not pinned, at most
:data:`DEPTH` of them, before it gives up. :func:`alternatives` says what would fit instead: later, on another node,
shorter, smaller.

All of this is for bookings: units that yield are free to them. What a job may have is the matter of
:mod:`mlmp_spawner.rules.job_queue`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mlmp_spawner.rules.reservations import Interval, Step, first_free, free_steps, peak_use

DEPTH = 3
"""The most bookings that are moved for one."""

TRIES = 300
"""The most placements that are tried in one search, so that a refusal never takes long."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Units that a reservation takes on one node. ``may_use`` lists where it could be moved to; empty: it stays.
    ``yields``: a preemptible job, which ends where a booking begins."""

    reservation: str
    units: int
    interval: Interval
    may_use: frozenset[str] = frozenset()
    yields: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """One node: its capacity of the resource in question, what is taken on it and when it is away."""

    node: str
    capacity: int
    taken: tuple[Taken, ...] = ()
    outages: tuple[Interval, ...] = ()

    def room(self, window: Interval) -> int:
        """The fewest units free at any instant of ``window``; negative where it is overfull."""
        if any(outage.overlaps(window) for outage in self.outages):
            return -self.capacity - 1
        return self.capacity - peak_use(((t.interval.start, t.interval.end, t.units) for t in self.taken), window)

    def steps(self, window: Interval) -> tuple[Step, ...]:
        """What is free over ``window``, step by step."""
        rows = ((t.interval.start, t.interval.end, t.units) for t in self.taken)
        return free_steps(self.capacity, rows, self.outages, window)

    def without(self, reservation: str) -> Board:
        """The board less what a reservation takes on it."""
        return replace(self, taken=tuple(t for t in self.taken if t.reservation != reservation))

    def adding(self, taken: Taken) -> Board:
        """The board with one more on it, whether it fits or not."""
        return replace(self, taken=(*self.taken, taken))

    def for_bookings(self) -> Board:
        """The board as a booking finds it: without what makes way."""
        if not any(t.yields for t in self.taken):
            return self
        return replace(self, taken=tuple(t for t in self.taken if not t.yields))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: ``units`` on each of ``node_count`` nodes over ``interval``; ``nodes`` restricts where."""

    units: int
    interval: Interval
    node_count: int = 1
    nodes: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A booking that is moved to make room."""

    reservation: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Yield:
    """A preemptible job that gives up its units at ``at`` (ms UTC) to make room."""

    reservation: str
    at: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a booking goes, which jobs yield to it, and what has to move for it, in this order."""

    nodes: tuple[str, ...]
    moves: tuple[Move, ...] = ()
    yields: tuple[Yield, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether it leaves everything else as it is."""
        return not self.moves and not self.yields


def place(boards: Sequence[Board], wanted: Wanted, *, repack: bool = True) -> Plan | None:
    """The best fit for ``wanted``, or None. Where nothing fits as it is, preemptible jobs yield, as little as can be.

    :param repack: whether bookings that may be moved are moved when nothing fits without that.
    """
    allowed = [b for b in boards if wanted.nodes is None or b.node in wanted.nodes]
    rooms = {b.node: b.room(wanted.interval) for b in allowed}
    fitting = sorted((n for n, room in rooms.items() if room >= wanted.units), key=lambda n: (rooms[n], n))
    if len(fitting) >= wanted.node_count:
        return Plan(tuple(sorted(fitting[: wanted.node_count])))
    cleared = [b.for_bookings() for b in allowed]
    if any(t.yields for b in allowed for t in b.taken):
        rooms = {b.node: b.room(wanted.interval) for b in cleared}
        found = _yielding(allowed, wanted, rooms)
        if found is not None:
            return found
        fitting = sorted(n for n, room in rooms.items() if room >= wanted.units)
    if not repack:
        return None
    plan = _repacked([b.for_bookings() for b in boards], cleared, wanted, fitting, rooms)
    return None if plan is None else replace(plan, yields=_yields_to(boards, plan, wanted))


def _yielding(allowed: Sequence[Board], wanted: Wanted, rooms: Mapping[str, int]) -> Plan | None:
    """Where jobs that yield lose least of their time. :param rooms: of each node without them."""
    mine = Taken("", wanted.units, wanted.interval)
    ways = []
    for board in allowed:
        if rooms[board.node] >= wanted.units:
            cut = _cut(board, (mine,))
            ways.append((sum(t.units * (t.interval.end - at) for t, at in cut), rooms[board.node], board.node, cut))
    if len(ways) < wanted.node_count:
        return None
    chosen = sorted(ways, key=lambda way: way[:3])[: wanted.node_count]
    return Plan(tuple(sorted(way[2] for way in chosen)), yields=_earliest(cut for *_, cut in chosen))


def _cut(board: Board, added: Iterable[Taken]) -> list[tuple[Taken, int]]:
    """Which jobs yield to what is ``added``, and when each ends then: who began last, and has least to lose, first."""
    full = replace(board.for_bookings(), taken=(*board.for_bookings().taken, *added))
    cut = []
    for taken in sorted((t for t in board.taken if t.yields), key=lambda t: (t.interval.start, t.reservation)):
        short = next((step.start for step in full.steps(taken.interval) if step.free < taken.units), None)
        if short is None:
            full = full.adding(taken)
            continue
        cut.append((taken, short))
        if short > taken.interval.start:
            full = full.adding(replace(taken, interval=Interval(taken.interval.start, short)))
    return cut


def _earliest(cuts: Iterable[list[tuple[Taken, int]]]) -> tuple[Yield, ...]:
    """Of a job that yields on several nodes the first time."""
    times: dict[str, int] = {}
    for cut in cuts:
        for taken, at in cut:
            times[taken.reservation] = min(at, times.get(taken.reservation, at))
    return tuple(Yield(reservation, at) for reservation, at in sorted(times.items()))


def yields_to(boards: Iterable[Board], added: Mapping[str, Taken]) -> tuple[Yield, ...]:
    """The jobs that yield to what is ``added`` on some of the nodes, each as late as can be."""
    return _earliest(_cut(board, (added[board.node],)) for board in boards if board.node in added)


def _yields_to(boards: Sequence[Board], plan: Plan, wanted: Wanted) -> tuple[Yield, ...]:
    """The jobs that yield to a booking and to those that are moved for it."""
    state = {b.node: b for b in boards}
    added: dict[str, list[Taken]] = {node: [Taken("", wanted.units, wanted.interval)] for node in plan.nodes}
    for move in plan.moves:
        taken = next(t for t in state[move.source].taken if t.reservation == move.reservation)
        state[move.source] = state[move.source].without(move.reservation)
        added.setdefault(move.target, []).append(taken)
    return _earliest(_cut(state[node], its) for node, its in sorted(added.items()))


def _repacked(
    boards: Sequence[Board], allowed: Sequence[Board], wanted: Wanted, fitting: list[str], rooms: Mapping[str, int]
) -> Plan | None:
    state = {b.node: b for b in boards}
    mine = Taken("", wanted.units, wanted.interval)
    for node in fitting:
        state[node] = state[node].adding(mine)
    chosen: list[str] = list(fitting)
    moves: list[Move] = []
    # The node that lacks least is the likeliest to be relieved with one move.
    rest = sorted((b for b in allowed if b.node not in fitting), key=lambda b: (-rooms[b.node], b.node))
    budget = _Budget(TRIES)
    for board in rest:
        if board.capacity < wanted.units or any(o.overlaps(wanted.interval) for o in board.outages):
            continue
        relieved = _relieve(
            state | {board.node: state[board.node].adding(mine)},
            board.node,
            wanted.interval,
            DEPTH - len(moves),
            budget,
        )
        if relieved is None:
            continue
        state, done = relieved
        moves += done
        chosen.append(board.node)
        if len(chosen) == wanted.node_count:
            return Plan(tuple(sorted(chosen)), tuple(moves))
    return None


class _Budget:
    def __init__(self, tries: int) -> None:
        self.tries = tries

    def spend(self) -> bool:
        self.tries -= 1
        return self.tries >= 0


def _relieve(
    state: dict[str, Board], node: str, window: Interval, depth: int, budget: _Budget
) -> tuple[dict[str, Board], list[Move]] | None:
    """Moves bookings away from an overfull node until nothing in ``window`` is above its capacity."""
    if state[node].room(window) >= 0:
        return state, []
    if depth <= 0:
        return None
    movable = [t for t in state[node].taken if t.may_use and t.interval.overlaps(window)]
    for taken in sorted(movable, key=lambda t: (-t.units, t.interval.length, t.reservation)):
        targets = [state[n] for n in taken.may_use if n != node and n in state and state[n].capacity >= taken.units]
        for target in sorted(targets, key=lambda b: (-b.room(taken.interval), b.node)):
            if not budget.spend():
                return None
            if any(o.overlaps(taken.interval) for o in target.outages):
                continue
            # A booking is moved once at most: it stays where this search puts it.
            moved = state | {
                node: state[node].without(taken.reservation),
                target.node: target.adding(replace(taken, may_use=frozenset())),
            }
            further = _relieve(moved, target.node, taken.interval, depth - 1, budget)
            if further is None:
                continue
            rest = _relieve(further[0], node, window, depth - 1 - len(further[1]), budget)
            if rest is not None:
                return rest[0], [*further[1], Move(taken.reservation, node, target.node), *rest[1]]
    return None


@dataclass(frozen=True, slots=True)
class Alternative:
    """Something else that would fit. ``node`` is None for any node."""

    kind: Literal["later", "node", "shorter", "smaller"]
    interval: Interval
    units: int
    node: str | None


def alternatives(
    boards: Sequence[Board], wanted: Wanted, *, horizon: int, shortest: int, node: str | None = None
) -> list[Alternative]:
    """What would fit instead of ``wanted``, at most one of each kind.

    :param horizon: the latest start that is looked at, in ms UTC.
    :param shortest: the shortest booking allowed, in ms.
    :param node: the node that was asked for, if one was; ``later`` stays on it and ``node`` leaves it.
    """
    boards = [b.for_bookings() for b in boards]
    here = [b for b in boards if node is None or b.node == node]
    found: list[Alternative] = []
    later = earliest(here, wanted, horizon=horizon)
    if later is not None:
        found.append(Alternative("later", wanted.interval.at(later), wanted.units, node))
    if node is not None:
        plan = place([b for b in boards if b.node != node], replace(wanted, nodes=None), repack=False)
        if plan is not None and wanted.node_count == 1:
            found.append(Alternative("node", wanted.interval, wanted.units, plan.nodes[0]))
    length = longest_from(here, wanted)
    if shortest <= length < wanted.interval.length:
        start = wanted.interval.start
        found.append(Alternative("shorter", Interval(start, start + length), wanted.units, node))
    rooms = sorted((b.room(wanted.interval) for b in here), reverse=True)
    units = rooms[wanted.node_count - 1] if len(rooms) >= wanted.node_count else 0
    if 0 < units < wanted.units:
        found.append(Alternative("smaller", wanted.interval, units, node))
    return found


def earliest(boards: Sequence[Board], wanted: Wanted, *, horizon: int) -> int | None:
    """The first start from ``wanted``'s on, up to ``horizon``, at which it fits as it is; None if there is none."""
    length = wanted.interval.length
    if horizon < wanted.interval.start:
        return None
    window = Interval(wanted.interval.start, horizon + length)
    boards = [b.for_bookings() for b in boards]
    free = [b.steps(window) for b in boards]
    starts = sorted({step.start for steps in free for step in steps})
    if wanted.node_count == 1:
        found = [first_free(steps, wanted.units, length) for steps in free]
        return min((f for f in found if f is not None and f <= horizon), default=None)
    for start in starts:
        span = Interval(start, start + length)
        if start <= horizon and sum(b.room(span) >= wanted.units for b in boards) >= wanted.node_count:
            return start
    return None


def longest_from(boards: Iterable[Board], wanted: Wanted) -> int:
    """How long ``wanted`` could last from its start, to the moment that somebody else has it; at most as asked."""
    lengths = []
    for board in boards:
        end = wanted.interval.start
        for step in board.for_bookings().steps(wanted.interval):
            if step.free < wanted.units:
                break
            end = step.end
        lengths.append(end - wanted.interval.start)
    lengths.sort(reverse=True)
    if len(lengths) < wanted.node_count:
        return 0
    return lengths[wanted.node_count - 1]
