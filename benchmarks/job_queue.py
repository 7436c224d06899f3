"""The queue of jobs: how long a decision takes with 10,000 that wait, and what a week of it is worth.

*Decisions* are those of ``rules.job_queue`` on 64 nodes of 8 units with 2,000 bookings, with nothing free just now
(the usual case) and with half of it free (after an outage): CPU time, so that it means the same on a busy machine.

The *week* is the one of ``benchmarks.demand`` at 0.7 of what there is, as bookings, with more jobs of three groups
than fit beside them: one group has few large jobs, one many small ones. How much of the machines is used by bookings
alone, with jobs in strict order (nobody starts before somebody whose turn is earlier), and as we do it; what each
group gets; how late bookings begin because of a job that has to go. No database takes part: the bookings go to the
best fit, and what is told is what the rules alone are worth.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.common import Report, median, note
from benchmarks.demand import DAYS, NODES, Request, at_load, load
from mlmp_spawner.rules.fair_share import Shares, Turns, consumed, decayed
from mlmp_spawner.rules.job_queue import Decision, Running, Start, Waiting, decide
from mlmp_spawner.rules.job_room import Room, Shape
from mlmp_spawner.rules.placement import Board, Taken, Wanted, place
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.units import DAY, HOUR, MINUTE

GPU = "nvidia.com/gpu"
NOW = 1_800_000_000_000
GRACE = MINUTE
HALF_LIFE = 7 * DAY
LOAD = 0.7
SEED = 20_260_105
WAITING, MACHINES, BOOKINGS = 10_000, 64, 2_000

Decide = Callable[[Sequence[Waiting], Sequence[Board], Shares, int, Sequence[Running]], Decision]


def run(report: Report, *, quick: bool) -> None:
    """Decisions, then the week. ``quick``: fewer that wait, and a day."""
    count = 500 if quick else WAITING
    for name, free in (("nothing", 0.0), ("half", 0.5)):
        for kind, alike in (("alike", True), ("each different", False)):
            taken = decisions(count, free, alike=alike, rounds=1 if quick else 7)
            what = f"{count} jobs wait, {kind}, {name} is free: to decide"
            report.add(what, median(taken), "ms", goal="< 1000 ms")
    days = 1 if quick else DAYS
    alone = Week(days).utilisation()
    ways: dict[str, Decide] = {"in strict order": in_order, "with backfill": backfilled}
    for name, way in ways.items():
        week = Week(days)
        week.run(way)
        report.add(f"used by bookings and jobs {name}", week.utilisation(), "of all", versus=alone)
        if name == "with backfill":
            tell(report, week)


def tell(report: Report, week: Week) -> None:
    """What groups got, and what it cost the bookings."""
    total = sum(week.by_group.values())
    for group, used in sorted(week.by_group.items()):
        report.add(f"share of the group with {group} jobs", used / total, "of jobs", versus=1 / 3, goal="ratio ~ 1")
    note(f"{week.sent_away} times a job was sent away, {week.finished} jobs ended")
    report.add("bookings that begin late because of a job", sum(late > 0 for late in week.late), "of them",
               versus=len(week.late))  # fmt: skip
    ahead = [late for late, lead in zip(week.late, week.leads, strict=True) if lead >= GRACE]
    report.add("latest begin, booked further ahead than the grace", max(ahead) / 1000, "s", goal="0")
    report.add("latest begin of all", max(week.late) / 1000, "s", goal="<= 60 s, the grace")


def decisions(count: int, free: float, *, alike: bool, rounds: int) -> list[float]:
    """CPU-ms of each decision with so many that wait."""
    chance = random.Random(SEED)
    nodes = frozenset(f"node{n:02}" for n in range(MACHINES))
    boards = [_busy(node, chance, free) for node in sorted(nodes)]
    waiting = [
        Waiting(f"job{n}", f"user{n % 200}", _shape(chance, nodes, alike), f"group{n % 20}", queued_at=n)
        for n in range(count)
    ]
    quotas = {f"user{n}": 8 for n in range(200)}
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        decide(waiting, {GPU: boards}, Shares(), NOW, quotas=quotas)
        taken.append((time.process_time() - began) * 1000)
    return taken


def _busy(node: str, chance: random.Random, free: float) -> Board:
    board = Board(node, 8)
    if chance.random() >= free:
        board = board.adding(Taken("running", 8, Interval(NOW, NOW + chance.randint(1, 300) * MINUTE)))
    for n in range(BOOKINGS // MACHINES):
        start = NOW + chance.randrange(14 * 24 * 4) * 15 * MINUTE
        taken = Taken(f"{node}-{n}", chance.choice((1, 2, 4)), Interval(start, start + chance.randint(1, 12) * HOUR))
        board = board.adding(taken) if board.room(taken.interval) >= taken.units else board
    return board


def _shape(chance: random.Random, nodes: frozenset[str], alike: bool) -> Shape:
    if alike:
        return Shape(GPU, nodes, 1, 1, 4 * HOUR, GRACE, preemptible=True)
    units, workers = chance.choice((1, 2, 4, 8)), chance.choice((1, 1, 1, 2, 4))
    return Shape(GPU, nodes, units, workers, chance.randint(1, 2880) * MINUTE, GRACE, chance.random() < 0.7)


def backfilled(
    waiting: Sequence[Waiting], boards: Sequence[Board], shares: Shares, now: int, running: Sequence[Running]
) -> Decision:
    """As we do it."""
    return decide(waiting, {GPU: boards}, shares, now, running=running)


def in_order(
    waiting: Sequence[Waiting], boards: Sequence[Board], shares: Shares, now: int, running: Sequence[Running]
) -> Decision:
    """The same turns, but nobody starts before somebody whose turn is earlier."""
    shares, room = shares.copy(), Room(boards, now)
    for row in running:
        shares.charge(row.group, row.owner, row.units * (row.until - now))
    turns, starts = Turns(waiting, shares), []
    while (one := turns.next()) is not None and (fit := room.fit(one.shape, now)) is not None:
        room.take(fit, now, one.shape.units, planned=False)
        shares.charge(one.group, one.owner, one.units * (fit.until - now))
        starts.append(Start(one.id, fit.nodes, fit.until - GRACE, fit.until))
    return Decision(tuple(starts), {})


@dataclass
class Live:
    """A job under way. ``ends``: when its work is done or it is gone; ``until``: till when it has its units."""

    job: Waiting
    nodes: tuple[str, ...]
    since: int
    until: int
    ends: int


@dataclass
class Week:
    """A replay. ``work``: what each job still has to do, in ms; nothing of it is lost when it is sent away."""

    days: int
    held: dict[str, Board] = field(default_factory=lambda: {node: Board(node, count) for node, count in NODES.items()})
    live: dict[str, Live] = field(default_factory=dict)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    work: dict[str, int] = field(default_factory=dict)
    used: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    by_group: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    late: list[int] = field(default_factory=list)
    leads: list[int] = field(default_factory=list)
    sent_away: int = 0
    finished: int = 0

    def __post_init__(self) -> None:
        begun = [request for request in at_load(load(), LOAD) if request.start < self.days * 24 * 60]
        self.asked = [(max(NOW, NOW + request.asked * MINUTE), request) for request in begun]
        self.asked.sort(key=lambda one: one[0])
        self.end = NOW + self.days * DAY
        chance = random.Random(SEED)
        kinds = {"large": ((4, 8), 8 * HOUR), "middle": ((1, 2, 4), 4 * HOUR), "small": ((1,), HOUR)}
        for group, (units, longest) in kinds.items():
            self._queue(chance, group, units, longest)

    def _queue(self, chance: random.Random, group: str, units: tuple[int, ...], longest: int) -> None:
        """Jobs of a group, half of what there is: all of them wait from the begin. Their stated time is generous."""
        total, number = 0.0, 0
        while total < 0.5 * sum(NODES.values()) * self.days * DAY:
            length = chance.randint(2, 6) * longest // 6
            shape = Shape(GPU, frozenset(NODES), chance.choice(units), 1, length, GRACE, chance.random() < 0.9)
            name = f"{group}{number}"
            self.waiting[name] = Waiting(name, f"{group}-{number % 5}", shape, group, queued_at=number)
            self.work[name] = int(length * chance.uniform(0.3, 1.0))
            total += shape.units * self.work[name]
            number += 1

    def utilisation(self) -> float:
        """The part of the unit-hours that bookings and jobs take; before :meth:`run` what bookings alone would."""
        if self.asked:
            for now, request in self.asked:
                self._book(request, now)
            self.asked = []
        window = Interval(NOW, self.end)
        booked = sum(
            t.units * (min(t.interval.end, window.end) - max(t.interval.start, window.start))
            for board in self.held.values()
            for t in board.taken
            if t.interval.overlaps(window)
        )
        return (booked + sum(self.by_group.values())) / (sum(NODES.values()) * window.length)

    def run(self, way: Decide) -> None:
        """From event to event: somebody books, a booking or a job ends."""
        now = NOW
        while now < self.end:
            while self.asked and self.asked[0][0] <= now:
                self._book(self.asked.pop(0)[1], now)
            for live in [one for one in self.live.values() if one.ends <= now]:
                self._end(live)
            self._start(way, now)
            ends = [t.interval.end for board in self.held.values() for t in board.taken if t.interval.end > now]
            ends += [one.ends for one in self.live.values()] + [at for at, _ in self.asked[:1]]
            now = min(ends, default=self.end)
        for live in list(self.live.values()):
            live.ends = min(live.ends, self.end)
            self._end(live)

    def _book(self, request: Request, now: int) -> None:
        """Gives a booking the place that it would have without the jobs that make way."""
        start = max(now, NOW + request.start * MINUTE)
        window = Interval(start, NOW + request.end * MINUTE) if NOW + request.end * MINUTE > start else None
        if window is None:
            return
        only = None if request.node is None else frozenset({request.node})
        firm = [one for one in self.live.values() if not one.job.shape.preemptible]
        boards = [self._board(node, firm) for node in self.held]
        plan = place(boards, Wanted(request.units, window, nodes=only), repack=False)
        if plan is None:
            return
        node = plan.nodes[0]
        self.held[node] = self.held[node].adding(Taken("booking", request.units, window))
        self.leads.append(start - now)
        self.late.append(self._yield(node, window, now))

    def _yield(self, node: str, window: Interval, now: int) -> int:
        """Sends jobs away until the booking has room, the last to start first; ms by which it begins late."""
        late = 0
        while self._board(node, self.live.values()).room(window) < 0:
            there = [one for one in self.live.values() if node in one.nodes and one.until > window.start]
            last = max((one for one in there if one.job.shape.preemptible), key=lambda one: one.since)
            last.until = window.start
            gone = max(window.start, now + GRACE)
            if last.ends > gone:
                last.ends = gone
            late = max(late, last.ends - window.start)
        return late

    def _board(self, node: str, live: Iterable[Live]) -> Board:
        jobs = [one for one in live if node in one.nodes and one.until > one.since]
        rows = tuple(Taken(one.job.id, one.job.units, Interval(one.since, one.until)) for one in jobs)
        return replace(self.held[node], taken=(*self.held[node].taken, *rows))

    def _start(self, way: Decide, now: int) -> None:
        shares = Shares()
        for (group, user), (used, at) in self.used.items():
            shares.charge(group, user, decayed(used, at, now, HALF_LIFE))
        running = []
        for live in self.live.values():
            running.append(Running(live.job.owner, live.job.group, live.job.units, max(now, live.until)))
            shares.charge(live.job.group, live.job.owner, consumed(live.job.units, live.since, now, HALF_LIFE))
        boards = [self._board(node, self.live.values()) for node in self.held]
        for start in way(list(self.waiting.values()), boards, shares, now, running).starts:
            job = self.waiting.pop(start.job)
            ends = min(start.kill_at, now + self.work[job.id])
            self.live[job.id] = Live(job, start.nodes, now, start.kill_at, ends)

    def _end(self, live: Live) -> None:
        job, took = live.job, live.ends - live.since
        del self.live[job.id]
        self.by_group[job.group] += job.units * took
        used, at = self.used.get((job.group, job.owner), (0.0, NOW))
        more = consumed(job.units, live.since, live.ends, HALF_LIFE)
        self.used[job.group, job.owner] = (decayed(used, at, live.ends, HALF_LIFE) + more, live.ends)
        self.work[job.id] -= took
        if self.work[job.id] > 0:
            self.waiting[job.id] = replace(job, front=True)
            self.sent_away += 1
        else:
            self.finished += 1
