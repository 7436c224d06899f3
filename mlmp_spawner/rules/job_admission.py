"""What MLMP answers to a queue that is not its own: which of its jobs may start now, and how much it may give away.

The other queue (Kueue, on Kubernetes) decides whose turn it is; the calendar decides what there is to give. Two levers
keep them together. The *quota* of a node is what nobody holds there, for as long as each of those that may ask would
need it: so whatever the other queue gives away can start. A job that can't start now is *held*: kept from asking at
all, since one that asks and is not let in would keep what it asked for from all others. One that asks nevertheless is
let in or held at once, never left without an answer.

A job is let in where its whole allocation is free, by the same rules as in the queue of one machine
(:mod:`mlmp_spawner.rules.job_room`): no booking is in its way, at most one follows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlmp_spawner.rules.job_queue import Start
from mlmp_spawner.rules.job_room import Fit, Room, Shape
from mlmp_spawner.rules.placement import Board

DEPTH = 20
"""For how many that can't start now units are kept free at the time at which they can."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A job in the other queue.

    ``nodes``: of each worker the one that the queue has given it, whose quota it takes already; None while it waits.
    ``held``: whether it is kept from asking. ``order``: sorts by who has waited longest.
    """

    id: str
    shape: Shape
    nodes: tuple[str, ...] | None = None
    held: bool = False
    order: tuple[int, str] = (0, "")


@dataclass(frozen=True, slots=True)
class Going:
    """A job under way; the boards have what it takes, until its end.

    ``nodes``: of each worker; ``units``: of one. ``stop_at``: ms UTC. ``counted``: whether the other queue still
    counts it; once called back it does not, though the job may still be writing a checkpoint.
    """

    id: str
    nodes: tuple[str, ...]
    units: int
    stop_at: int
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Admission:
    """What to do, in this order: set the quotas, call back, hold, let in, wake.

    ``quotas``: units that the other queue may give away on each node, with those that it has given away;
    ``recall``: jobs whose time is over. ``hold``, ``wake``: those to be kept from asking, or no longer.
    """

    quotas: Mapping[str, int]
    recall: tuple[str, ...] = ()
    hold: tuple[str, ...] = ()
    start: tuple[Start, ...] = ()
    wake: tuple[str, ...] = ()


def decide(
    asking: Iterable[Asking], going: Iterable[Going], boards: Sequence[Board], now: int, *, depth: int = DEPTH
) -> Admission:
    """Decides about the jobs for one resource at ``now`` (ms UTC).

    :param boards: the nodes that have it, with all that is held from ``now`` on, jobs under way included; they reach
        as far ahead as the longest job's time and grace.
    :param depth: how many that can't start now are planned ahead.
    """
    room = Room(boards, now)
    asking = sorted(asking, key=lambda one: one.order)
    going = list(going)
    recalled = {one.id for one in going if one.counted and one.stop_at <= now}
    starts, late = _let_in([one for one in asking if one.nodes is not None], room, now)
    counted = Counter[str]()
    for one in going:
        if one.counted and one.id not in recalled:
            _count(counted, one.nodes, one.units)
    shapes = {one.id: one.shape for one in asking}
    for start in starts:
        _count(counted, start.nodes, shapes[start.job].units)
    begun = {start.job for start in starts}
    rest = [one for one in asking if one.id not in begun]
    able = _able(rest, room, now, depth)
    return Admission(
        _quotas(room, counted, [one.shape for one in rest if one.id in able], now),
        recall=tuple(sorted(recalled)),
        hold=tuple(one.id for one in rest if not one.held and (one.id in late or one.id not in able)),
        start=tuple(starts),
        wake=tuple(one.id for one in rest if one.held and one.id in able),
    )


def _let_in(reserved: Sequence[Asking], room: Room, now: int) -> tuple[list[Start], set[str]]:
    """Which of those that the other queue has given nodes start there, and which can't."""
    starts: list[Start] = []
    late: set[str] = set()
    for one in reserved:
        assert one.nodes is not None
        until = _until(one.shape, one.nodes, room, now)
        if until is None:
            late.add(one.id)
            continue
        room.take(Fit(one.nodes, until), now, one.shape.units, planned=False)
        starts.append(Start(one.id, one.nodes, until - one.shape.grace, until))
    return starts, late


def _until(shape: Shape, nodes: Sequence[str], room: Room, now: int) -> int | None:
    """Till when its workers may have their units on just these nodes; None where that is too short."""
    if len(nodes) != shape.workers or any(node not in room.lines or node not in shape.nodes for node in nodes):
        return None
    workers = Counter(nodes)
    ends = []
    for node, count in workers.items():
        line, units = room.lines[node], shape.units * count
        if line.free_at(now, planned=False) < units:
            return None
        ends.append(line.held_until(now, now + shape.whole, units))
    return min(ends) if min(ends) >= now + shape.least else None


def _quotas(room: Room, counted: Mapping[str, int], able: Sequence[Shape], now: int) -> dict[str, int]:
    """What nobody holds for as long as any of those that may ask needs it, with what is counted already.

    Less for the shorter of them, for a moment: once the longest has its place the next decision gives more.
    """
    ahead = max((shape.least for shape in able), default=0)
    quotas = {}
    for node, line in room.lines.items():
        free = min((level for at, level in zip(line.at, line.held, strict=True) if at < now + ahead), default=0)
        quotas[node] = max(0, free) + counted.get(node, 0)
    return quotas


def _able(waiting: Iterable[Asking], room: Room, now: int, depth: int) -> set[str]:
    """Who could start now, without touching what is kept for those that have waited longer."""
    able: set[str] = set()
    planned = 0
    for one in waiting:
        if room.fit(one.shape, now) is not None:
            able.add(one.id)
        elif planned < depth and room.ever(one.shape):
            found = next(room.fits(one.shape, now), None)
            if found is not None:
                start, fit = found
                room.take(fit, start, one.shape.units, planned=True)
            planned += 1
    return able


def _count(counted: Counter[str], nodes: Iterable[str], units: int) -> None:
    for node in nodes:
        counted[node] += units
