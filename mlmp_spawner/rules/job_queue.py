"""The queue of jobs: which of those that wait start now, when the others probably will, and why they wait.

Whose turn it is, fair share says (:mod:`mlmp_spawner.rules.fair_share`). Each in its turn starts if all that it needs
is free now. If not, it is given a plan: the earliest place and time at which it fits. What comes later may go before
it wherever it does not touch that plan (conservative backfill), so nobody waits for ever behind small jobs. Only the
first of the queue are planned; those behind them start if they can now.

Nothing that is held by bookings, outages or running jobs is ever given to a job: the boards say what that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mlmp_spawner.rules.fair_share import Shares, Turns
from mlmp_spawner.rules.job_room import Fit, Line, Room, Shape
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.rules.placement import Board
from mlmp_spawner.units import format_duration

DEPTH = 100
"""How many that wait are planned, of each resource."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job in the queue. ``shape``: all that decides where it fits. ``group``: "" for none, which is a group too.

    ``front``: it was sent away and goes before the others of its owner; then ``priority`` decides, then ``queued_at``
    (ms UTC).
    """

    id: str
    owner: str
    shape: Shape
    group: str = ""
    priority: int = 0
    front: bool = False
    queued_at: int = 0

    @classmethod
    def of(cls, job: Job, nodes: Iterable[str]) -> Waiting:
        """The job as the queue sees it. :param nodes: those that its profile fits on; none where it is gone."""
        shape = Shape(job.resource, frozenset(nodes), job.units, job.workers, job.length, job.grace, job.preemptible)
        return cls(job.id, job.owner, shape, job.group, job.priority, job.front, job.queued_at)

    @property
    def order(self) -> tuple[bool, int, int, str]:
        """Sorts the jobs of one owner."""
        return not self.front, -self.priority, self.queued_at, self.id

    @property
    def units(self) -> int:
        """Of all workers together."""
        return self.shape.units * self.shape.workers


@dataclass(frozen=True, slots=True)
class Running:
    """A job under way outside bookings, for its owner's quota and share: all its ``units``, ``until`` its end at the
    latest (ms UTC)."""

    owner: str
    group: str
    units: int
    until: int


@dataclass(frozen=True, slots=True)
class Start:
    """A job that starts now. ``nodes``: of each worker, sorted; the same one several times where workers share it."""

    job: str
    nodes: tuple[str, ...]
    stop_at: int
    kill_at: int


Code = Literal[
    "in_use", "booked", "behind", "quota", "over_quota", "too_large", "gone", "inside", "turn", "refused", "scan"
]


@dataclass(frozen=True, slots=True)
class Why:
    """Why a job waits; :func:`sentence` says it.

    ``in_use``: too few units are free now; ``booked``: enough are, but not for long enough; ``behind``: they are kept
    for jobs that go first, ``others`` of other people and ``own`` of the same owner; ``quota``: its owner's jobs take
    all that they may, ``over_quota``: it alone wants more than ``quota`` units; ``too_large``: no nodes have as many;
    ``gone``: its profile fits on no node any more; ``inside``: for the start of the booking in which it is to run, or
    for room in that; ``turn``: it could start, and a queue that is not ours says when; ``refused``: the place where it
    should run does not take it, and ``said`` why; ``scan``: as many of its scan as may run at once, ``quota``, go
    first.
    """

    code: Code
    others: int = 0
    own: int = 0
    quota: int | None = None
    said: str = ""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to be expected for a job that does not start now. ``start``: its estimated start in ms UTC, if all that
    runs takes its whole time; None where that was not looked at, or where it can't ever start as things are."""

    start: int | None
    why: Why


@dataclass(frozen=True, slots=True)
class Decision:
    """What starts now, in this order, and the outlook of all others by their ids. ``turns``: the ids of all, in the
    order of their turns."""

    starts: tuple[Start, ...]
    outlook: dict[str, Outlook]
    turns: tuple[str, ...] = field(default=(), compare=False)


def decide(
    waiting: Iterable[Waiting],
    boards: Mapping[str, Sequence[Board]],
    shares: Shares,
    now: int,
    *,
    running: Iterable[Running] = (),
    quotas: Mapping[str, int] | None = None,
    depth: int = DEPTH,
) -> Decision:
    """Decides what starts at ``now`` (ms UTC).

    :param boards: of each resource the nodes, with all that is held from ``now`` on, running jobs included; they reach
        at least as far ahead as the longest job's time and grace. What lies beyond is taken for free.
    :param shares: what everybody used until ``now``; it is not changed.
    :param running: jobs under way, none of those that run inside a booking.
    :param quotas: the most units that an owner's jobs may take at once; without a limit for who is not in it.
    :param depth: how many of each resource are planned that can't start now.
    """
    return _Look(boards, shares, now, list(running), quotas or {}, depth).decide(waiting)


@dataclass(slots=True)
class _Ahead:
    """Who was passed over so far, of one resource."""

    all: int = 0
    of_owner: dict[str, int] = field(default_factory=dict)

    def why(self, owner: str) -> Why:
        own = self.of_owner.get(owner, 0)
        return Why("behind", others=self.all - own, own=own)

    def add(self, owner: str) -> None:
        self.all += 1
        self.of_owner[owner] = self.of_owner.get(owner, 0) + 1


class _Look:
    """One decision under way."""

    def __init__(
        self,
        boards: Mapping[str, Sequence[Board]],
        shares: Shares,
        now: int,
        running: list[Running],
        quotas: Mapping[str, int],
        depth: int,
    ) -> None:
        self.now, self.depth, self.quotas = now, depth, quotas
        self.rooms = {resource: Room(nodes, now) for resource, nodes in boards.items()}
        self.ahead = {resource: _Ahead() for resource in boards}
        self.shares = shares.copy()
        taken: dict[str, list[tuple[int, int, int]]] = {owner: [] for owner in quotas}
        for one in running:
            self.shares.charge(one.group, one.owner, one.units * max(0, one.until - now))
            if one.owner in taken:
                taken[one.owner].append((now, one.until, one.units))
        self.lines = {owner: Line(quotas[owner], rows, now) for owner, rows in taken.items()}
        # Room only ever gets less within a decision, so what failed once need not be tried again.
        self.not_before: dict[Shape, int] = {}
        self.not_now: dict[Shape, int] = {}
        self.nowhere: dict[tuple[str, frozenset[str], int, int], Why | None] = {}
        self.starts: list[Start] = []
        self.outlook: dict[str, Outlook] = {}

    def decide(self, waiting: Iterable[Waiting]) -> Decision:
        turns = Turns(waiting, self.shares)
        order: list[str] = []
        while (one := turns.next()) is not None:
            order.append(one.id)
            never = self._never(one)
            if never is not None:
                self.outlook[one.id] = Outlook(None, never)
            elif (fit := self._fit_now(one)) is not None:
                self._take(one, fit, self.now)
                self.starts.append(Start(one.id, fit.nodes, fit.until - one.shape.grace, fit.until))
            else:
                self._wait(one)
        return Decision(tuple(self.starts), self.outlook, tuple(order))

    def _never(self, one: Waiting) -> Why | None:
        """Why it can't start, however long it waits."""
        size = one.shape.resource, one.shape.nodes, one.shape.units, one.shape.workers
        if size not in self.nowhere:
            self.nowhere[size] = self._nowhere(one.shape)
        quota = self.quotas.get(one.owner)
        if quota is not None and quota < one.units:
            return self.nowhere[size] or Why("over_quota", quota=quota)
        return self.nowhere[size]

    def _nowhere(self, shape: Shape) -> Why | None:
        room = self.rooms.get(shape.resource)
        if room is None or not shape.nodes & room.capacity.keys():
            return Why("gone")
        return None if room.ever(shape) else Why("too_large")

    def _fit_now(self, one: Waiting) -> Fit | None:
        shape = one.shape
        if self.not_before.get(shape, self.now) > self.now or not self._allowed(one, self.now, self.now + shape.least):
            return None
        alike = shape._replace(length=0)
        if shape.length >= self.not_now.get(alike, shape.length + 1):
            return None
        fit = self.rooms[shape.resource].fit(shape, self.now)
        if fit is None:
            self.not_now[alike] = shape.length
        return fit if fit is not None and self._allowed(one, self.now, fit.until) else None

    def _allowed(self, one: Waiting, start: int, end: int) -> bool:
        """Whether its owner's quota has room for it."""
        line = self.lines.get(one.owner)
        return line is None or line.lowest(start, end) >= one.units

    def _take(self, one: Waiting, fit: Fit, start: int, *, planned: bool = False) -> None:
        self.rooms[one.shape.resource].take(fit, start, one.shape.units, planned=planned)
        self.shares.charge(one.group, one.owner, one.units * (fit.until - start))
        line = self.lines.get(one.owner)
        if line is not None:
            line.take(start, fit.until, one.units, planned=planned)

    def _wait(self, one: Waiting) -> None:
        ahead = self.ahead[one.shape.resource]
        why, start = self._why(one, ahead), None
        if ahead.all < self.depth:
            start, fit = self._plan(one)
            self._take(one, fit, start, planned=True)
        ahead.add(one.owner)
        self.outlook[one.id] = Outlook(start, why)

    def _plan(self, one: Waiting) -> tuple[int, Fit]:
        """The earliest start and place for it; there is one, since in the end all is free."""
        room, line = self.rooms[one.shape.resource], self.lines.get(one.owner)
        since = self.not_before.get(one.shape, self.now)
        others = [] if line is None else [instant for instant in line.rises() if instant > since]
        first = True
        for start, fit in room.fits(one.shape, since, others):
            if first:
                self.not_before[one.shape], first = start, False
            if self._allowed(one, start, fit.until):
                return start, fit
        raise AssertionError(f"job {one.id} fits nowhere, though its nodes are free in the end")

    def _why(self, one: Waiting, ahead: _Ahead) -> Why:
        quota = Why("quota", quota=self.quotas.get(one.owner))
        if not self._allowed(one, self.now, self.now + one.shape.least):
            return quota
        if ahead.all >= self.depth:
            return ahead.why(one.owner)
        room = self.rooms[one.shape.resource]
        if not room.enough(one.shape, self.now):
            return Why("in_use")
        if room.fit(one.shape, self.now, planned=False) is None:
            return Why("booked")
        return ahead.why(one.owner) if room.fit(one.shape, self.now) is None else quota


def sentence(outlook: Outlook, shape: Shape, title: str, when: Callable[[int], str]) -> str:
    """Why a job waits, for people: "Waits for 2 × A100: in use or booked until 14:00."

    :param title: of what it wants units of. :param when: says an instant as its reader wants it.
    """
    why, what = outlook.why, _what(shape, title)
    until = "" if outlook.start is None else f" until {when(outlook.start)}"
    if why.code == "in_use":
        return f"Waits for {what}: in use or booked{until}."
    if why.code == "booked":
        then = "" if outlook.start is None else f"; it fits from {when(outlook.start)}"
        return f"Waits for {what} for {format_duration(shape.length)}: free now, but booked too soon{then}."
    if why.code == "behind":
        return _behind(why)
    if why.code == "quota":
        return f"The jobs of one person may take {why.quota} units at once: it waits for others of the same owner."
    if why.code == "over_quota":
        return f"It wants {shape.units * shape.workers} units; the jobs of one person may take {why.quota} at once."
    if why.code == "too_large":
        return f"It wants {what}: no machines here have as many."
    if why.code == "turn":
        return "It could start now: the queue of the cluster decides whose turn it is."
    if why.code == "refused":
        return f"It can't start as it is, and is tried again: {why.said}"
    if why.code == "scan":
        return f"Its scan runs {why.quota} at once: it waits until one of these is over."
    if why.code == "inside" and outlook.start is not None:
        return f"Waits for its booking, which begins {when(outlook.start)}."
    if why.code == "inside":
        return f"Waits for {what} of its booking: in use, or its time there is too short by now."
    return "No machine here fits its profile any more: cancel it, and submit it with another profile."


def _what(shape: Shape, title: str) -> str:
    each = f"{shape.units} × {title}" if shape.units > 1 else title
    return f"{each} for each of {shape.workers} workers" if shape.workers > 1 else each


def _behind(why: Why) -> str:
    own = f"{why.own} of the same owner" if why.own else ""
    if not why.others:
        return f"{_jobs(why.own)} of the same owner {'goes' if why.own == 1 else 'go'} first."
    go = "goes" if why.others + why.own == 1 else "go"
    return f"{_jobs(why.others)} of others{own and ' and '}{own} {go} first: who used less lately has the next turn."


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
