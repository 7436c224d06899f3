"""What MLMP answers to a queue that is not its own: which of its jobs may start now, and how much it may give away.

The other queue (Kueue, on Kubernetes) decides whose turn it is; the calendar decides what there is to give. Two levers
keep them together. The *quota* of a node is what nobody holds there, for as long as each of those that may ask would
need it: so whatever the other queue gives away can start. A job that can't start now is *held*: kept from asking at
all, since one that asks and is not let in would keep what it asked for from all others. One that asks nevertheless is
let in or held at once. Only who has a right to its units (:mod:`mlmp_spawner.rules.job_guarantees`), and was given
those of a job that was sent away for it, waits for that one's end without an answer: it keeps just what it will have.

A job is let in where its whole allocation is free, by the same rules as in the queue of one machine
(:mod:`mlmp_spawner.rules.job_room`): no booking is in its way, at most one follows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mlmp_spawner.rules.job_queue import Start
from mlmp_spawner.rules.job_room import Fit, Room, Shape
from mlmp_spawner.rules.placement import Board

DEPTH = 20
"""For how many that can't start now units are kept free at the time at which they can."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A job in the other queue.

    ``nodes``: of each worker the one that the queue has given it, whose quota it takes already; None while it waits.
    ``held``: whether it is kept from asking. ``order``: sorts by whose turn it is. ``owner``: whose limit it counts
    against. ``first``: it has a right to its units, so that others that yield may be sent away for it; such jobs go
    before all others in the order.
    """

    id: str
    shape: Shape
    nodes: tuple[str, ...] | None = None
    held: bool = False
    order: tuple[int, str] = (0, "")
    owner: str = ""
    first: bool = False

    @property
    def units(self) -> int:
        """Of all workers together."""
        return self.shape.units * self.shape.workers


@dataclass(frozen=True, slots=True)
class Going:
    """A job under way; the boards have what it takes, until its end.

    ``nodes``: of each worker; ``units``: of one. ``stop_at``: ms UTC. ``counted``: whether the other queue still
    counts it; once called back it does not, though the job may still be writing a checkpoint. ``reservation``: what it
    is called on the boards, if not by its id. ``yields``: whether the other queue may send it away for one that has a
    right to its units; ``ceded``: it has, and has these on ``nodes`` to give away again before they are free.
    """

    id: str
    nodes: tuple[str, ...]
    units: int
    stop_at: int
    counted: bool = True
    reservation: str = ""
    yields: bool = False
    ceded: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """What to do, in this order: set the quotas, call back, hold, let in, wake.

    ``quotas``: units that the other queue may give away on each node, with those that it has given away;
    ``recall``: jobs whose time is over. ``hold``, ``wake``: those to be kept from asking, or no longer. ``wait``:
    those that keep what they were given until who was sent away for them has ended. ``fixed``: units of each node that
    jobs which are not preemptible need to start now.
    """

    quotas: Mapping[str, int]
    recall: tuple[str, ...] = ()
    hold: tuple[str, ...] = ()
    start: tuple[Start, ...] = ()
    wake: tuple[str, ...] = ()
    wait: tuple[str, ...] = ()
    fixed: Mapping[str, int] = field(default_factory=dict)


def decide(
    asking: Iterable[Asking],
    going: Iterable[Going],
    boards: Sequence[Board],
    now: int,
    *,
    left: Mapping[str, int] | None = None,
    depth: int = DEPTH,
) -> Admission:
    """Decides about the jobs for one resource at ``now`` (ms UTC).

    :param boards: the nodes that have it, with all that is held from ``now`` on, jobs under way included; they reach
        as far ahead as the longest job's time and grace.
    :param left: how many units more the jobs of an owner may take; without a limit for who is not in it.
    :param depth: how many that can't start now are planned ahead.
    """
    return _Look(sorted(asking, key=lambda one: one.order), list(going), boards, now, dict(left or {}), depth).decide()


class _Look:
    """One decision under way."""

    def __init__(
        self,
        asking: list[Asking],
        going: list[Going],
        boards: Sequence[Board],
        now: int,
        left: dict[str, int],
        depth: int,
    ) -> None:
        self.asking, self.going, self.now, self.left, self.depth = asking, going, now, left, depth
        self.room = Room(boards, now)
        # As it will be once those are gone that were sent away; and as it could be, if all went that yield.
        self.soon = Room(_without(boards, [one for one in going if not one.counted]), now)
        self.most = Room(_without(boards, [one for one in going if one.yields or not one.counted]), now)
        self.starts: list[Start] = []
        self.late: set[str] = set()
        self.wait: list[str] = []
        self.able: set[str] = set()
        self.counted = Counter[str]()
        self.ceded = Counter[str]()
        self.fixed = Counter[str]()

    def decide(self) -> Admission:
        recalled = {one.id for one in self.going if one.counted and one.stop_at <= self.now}
        for one in self.going:
            if one.counted and one.id not in recalled:
                _count(self.counted, one.nodes, one.units)
            elif one.ceded:
                _count(self.ceded, one.nodes, one.units)
        for asks in self.asking:
            if asks.nodes is not None:
                self._answer(asks, asks.nodes)
        settled = {start.job for start in self.starts} | set(self.wait)
        rest = [one for one in self.asking if one.id not in settled]
        planned = 0
        for one_more in rest:
            planned += self._plan(one_more, planned < self.depth)
        return Admission(
            self._quotas([one.shape for one in rest if one.id in self.able]),
            recall=tuple(sorted(recalled)),
            hold=tuple(one.id for one in rest if not one.held and (one.id in self.late or one.id not in self.able)),
            start=tuple(self.starts),
            wake=tuple(one.id for one in rest if one.held and one.id in self.able),
            wait=tuple(self.wait),
            fixed=self.fixed,
        )

    def _answer(self, one: Asking, nodes: tuple[str, ...]) -> None:
        """Lets in what the other queue has given nodes, if it can start there."""
        until = _until(one.shape, nodes, self.room, self.now) if self._allowed(one) else None
        soon = _until(one.shape, nodes, self.soon, self.now) if until is None and one.first else None
        if until is None and (soon is None or not self._allowed(one)):
            self.late.add(one.id)
            return
        _count(self.counted, nodes, one.shape.units)
        self._charge(one)
        fit = Fit(nodes, until or soon or 0)
        for room in (self.room, self.soon, self.most) if until is not None else (self.soon, self.most):
            room.take(fit, self.now, one.shape.units, planned=False)
        if until is None:
            self.wait.append(one.id)
            for node in nodes:
                self.ceded[node] -= one.shape.units
        else:
            self.starts.append(Start(one.id, nodes, until - one.shape.grace, until))

    def _plan(self, one: Asking, ahead: bool) -> int:
        """Sees whether it could start now, without touching what is kept for those that go before it; 1 where it
        can't, and is planned.

        :param ahead: whether units may be kept free for it.
        """
        if not self._allowed(one):
            return 0
        fit = self.room.fit(one.shape, self.now)
        if fit is not None:
            self.able.add(one.id)
            if one.first or not one.shape.preemptible:
                self.room.take(fit, self.now, one.shape.units, planned=True)
            if not one.shape.preemptible:
                _count(self.fixed, fit.nodes, one.shape.units)
            return 0
        if one.first and (fit := self.most.fit(one.shape, self.now)) is not None:
            self.able.add(one.id)
            self.most.take(fit, self.now, one.shape.units, planned=True)
        if not ahead or not self.room.ever(one.shape):
            return 1
        found = next(self.room.fits(one.shape, self.now), None)
        if found is not None:
            self.room.take(found[1], found[0], one.shape.units, planned=True)
        return 1

    def _allowed(self, one: Asking) -> bool:
        return one.owner not in self.left or self.left[one.owner] >= one.units

    def _charge(self, one: Asking) -> None:
        if one.owner in self.left:
            self.left[one.owner] -= one.units

    def _quotas(self, able: Sequence[Shape]) -> dict[str, int]:
        """What nobody holds for as long as any of those that may ask needs it, with what is counted already.

        Less for the shorter of them, for a moment: once the longest has its place the next decision gives more.
        """
        ahead = max((shape.least for shape in able), default=0)
        quotas = {}
        for node, line in self.room.lines.items():
            until = self.now + ahead
            free = min((level for at, level in zip(line.at, line.held, strict=True) if at < until), default=0)
            quotas[node] = max(0, free) + self.counted.get(node, 0) + max(0, self.ceded.get(node, 0))
        return quotas


def _without(boards: Sequence[Board], going: Iterable[Going]) -> list[Board]:
    """The boards without what these hold."""
    gone = {one.reservation or one.id for one in going}
    if not gone:
        return list(boards)
    return [replace(board, taken=tuple(t for t in board.taken if t.reservation not in gone)) for board in boards]


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


def _count(counted: Counter[str], nodes: Iterable[str], units: int) -> None:
    for node in nodes:
        counted[node] += units
