"""A day of bookings and jobs, replayed through the operations that the service itself calls.

Bookings are those of ``benchmarks.demand`` at 0.7 that touch its third day, each made when it was asked for; who asks
for something at once walks up, most of them up to four minutes before. Jobs of three groups ask for one and a half
times what there is: one group has few large jobs, one many small ones. Everything is as in the service (``booking``,
``admission``, ``submit``, ``Queue.tick`` on SQLite); only the time is told, and the programs run in this process: each
ends when its work is done, or some time within its grace after it was told to, and goes on from there the next time.
So what is told here does not depend on the machine; ties are broken by random ids, which moves it by some hundredths.

The same day three times: bookings alone; jobs in strict order, nobody before somebody whose turn is earlier; and as we
do it. A booking begins late where its server is not admitted since a job is still seen on its units.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlalchemy import insert, select

from benchmarks.common import Report, note, noted
from benchmarks.demand import NODES, Request, at_load, load
from benchmarks.job_queue import in_order
from mlmp_spawner.errors import NoCapacity
from mlmp_spawner.jobs.base import Order
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations import admission, booking, catalog_sync
from mlmp_spawner.operations.admission import StartOptions, WaitingForUnits
from mlmp_spawner.operations.jobs.look import Queue
from mlmp_spawner.operations.jobs.submit import Submission, submit
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules import job_manifest, job_queue
from mlmp_spawner.rules.catalog import Accelerator, Catalog, Node, Profile
from mlmp_spawner.rules.fair_share import Shares
from mlmp_spawner.rules.job_queue import Decision, Running, Waiting
from mlmp_spawner.rules.placement import Board
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.store import tables
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE
from tests.databases import prepare
from tests.invariant import violations
from tests.jobs.remembered import RememberedJobs

GPU = "nvidia.com/gpu"
BEGIN = 1_800_000_000_000
FIRST = 2
"""The day of the demand's week that is replayed."""
LOAD = 0.7
GRACE = 5 * MINUTE
SEED = 20_260_105
GROUPS = {"large": ((4, 8), 8 * HOUR), "middle": ((1, 2, 4), 4 * HOUR), "small": ((1,), HOUR)}
"""Units and longest stated time of each group's jobs."""
MEMBERS = 5
STUBBORN = 0.3
"""The part of all programs that use all of their grace."""


def run(report: Report, *, quick: bool) -> None:
    """All figures. ``quick``: two hours of the day."""
    length = 2 * HOUR if quick else DAY
    with noted("bookings alone"):
        alone = replay(length, jobs=False)
    with noted("with jobs in strict order"), patch.object(job_queue, "decide", strictly):
        strict = replay(length)
    with noted("with backfill"):
        ours = replay(length)
    report.add("a day: used by bookings alone", alone.used(), "of all")
    report.add("a day: used, jobs in strict order", strict.used(), "of all", versus=alone.used())
    report.add("a day: used, jobs with backfill", ours.used(), "of all", versus=alone.used())
    report.add("a day: bookings with a place, beside a day without jobs", len(ours.late), "", versus=len(alone.late))
    _delays(report, ours)
    shares = ours.by_group()
    for group in GROUPS:
        part = shares[group] / (sum(shares.values()) or 1)
        report.add(f"a day: share of the group with {group} jobs", part, "of jobs", versus=1 / 3, goal="ratio ~ 1")


def _delays(report: Report, day: Day) -> None:
    """By how much bookings begin late, by how long before they were made."""
    ahead = [late for notice, late in day.late if notice >= GRACE]
    short = [late for notice, late in day.late if notice < GRACE]
    note(
        f"{day.attempts()} attempts of {len(day.programs.left)} jobs, of which bookings sent {day.sent_away()} away; "
        f"{len(ahead)} bookings were made further ahead than the grace, of the other {len(short)} "
        f"{sum(late > 0 for late in short)} began late"
    )
    report.add("a day: latest begin, booked further ahead than the grace", max(ahead, default=0) / 1000, "s", goal="0")
    grace = f"<= {GRACE // 1000} s, the grace"
    report.add("a day: latest begin, all others", max(short, default=0) / 1000, "s", goal=grace)
    mean = sum(short) / max(1, len(short)) / 1000
    report.add("a day: mean delay of those others", mean, "s")
    over = [late - (GRACE - notice) for notice, late in day.late if notice < GRACE]
    report.add("a day: most by which one waited longer than the grace less the notice", max(0, *over, 0) / 1000, "s",
               goal="0")  # fmt: skip


def strictly(
    waiting: Sequence[Waiting], boards: Mapping[str, Sequence[Board]], shares: Shares, now: int, *,
    running: Sequence[Running] = (), quotas: Mapping[str, int] | None = None,
) -> Decision:  # fmt: skip
    """In place of ``job_queue.decide``: nobody starts before somebody whose turn is earlier."""
    assert not quotas
    return in_order(waiting, boards.get(GPU, ()), shares, now, running)


def replay(length: int, *, jobs: bool = True) -> Day:
    """One day, from its begin."""
    with tempfile.TemporaryDirectory(prefix="mlmp-bench-") as folder, _site(Path(folder)) as site:
        day = Day(site, JobFiles(Path(folder) / "jobs"), Interval(BEGIN, BEGIN + length), jobs)
        asyncio.run(day.replay())
        day.read()
        assert not violations(site.engine)
        return day


@dataclass
class Programs(RememberedJobs):
    """What runs. ``left``: the work of each job (ms); ``save``: how long it takes to save it when it is told to."""

    left: dict[str, int] = field(default_factory=dict)
    save: dict[str, int] = field(default_factory=dict)

    def pass_time(self, now: int) -> None:
        """It is ``now``, and who is through, or has saved its work, has ended."""
        for attempt, order in self.running().items():
            at, done = self._end(attempt, order)
            if at <= now:
                started = self.seen[attempt].started_at or at
                self.left[order.job] -= min(at, self.times[attempt][0]) - started
                self.now = at
                self.end(attempt, *(("succeeded", 0) if done else ("signal", None)))
        self.now = now

    def next_end(self) -> Iterator[int]:
        """When something that runs ends."""
        for attempt, order in self.running().items():
            yield self._end(attempt, order)[0]

    def _end(self, attempt: str, order: Order) -> tuple[int, bool]:
        started = self.seen[attempt].started_at or 0
        stop_at, kill_at = self.times[attempt]
        through = started + self.left[order.job]
        return (through, True) if through <= stop_at else (min(kill_at, stop_at + self.save[order.job]), False)


@dataclass(frozen=True)
class Ask:
    """Somebody asks for a booking at ``at``."""

    at: int
    owner: str
    start: int
    request: Request


@dataclass
class Due:
    """A booking, or somebody who walks up, whose server is to start."""

    ask: Ask
    server: str | None
    options: StartOptions


class Day:
    """The day under way; then what came of it."""

    def __init__(self, site: Site, files: JobFiles, window: Interval, jobs: bool) -> None:
        self.site, self.files, self.window = site, files, window
        self.programs = Programs()
        self.queue = Queue(lambda: site, self.programs, interval=HOUR)
        self.asks = asks(window)
        self.submissions = submissions(window) if jobs else []
        self.due: list[Due] = []
        self.servers: dict[str, int] = {}
        """When each that runs ends."""
        self.late: list[tuple[int, int]] = []
        """Of each that began in time or late: how long before it was made, and how late it began (ms)."""
        self.rows: list[Any] = []
        self.tries: list[Any] = []

    async def replay(self) -> None:
        """From event to event."""
        now = min(self.asks[0].at, self.window.start)
        while now < self.window.end:
            self.programs.pass_time(now)
            for server in [server for server, ends in self.servers.items() if ends <= now]:
                del self.servers[server]
                admission.gone(self.site, server, now=now)
            following = await self._look(now)
            while self.asks and self.asks[0].at <= now:
                self._ask(self.asks.pop(0), now)
            while self.submissions and self.submissions[0][0] <= now:
                self._submit(*self.submissions.pop(0)[1:], now)
            self.due = [one for one in self.due if one.ask.start > now or not self._begin(one, now)]
            following = min(following, await self._look(now))
            now = min([following, *self._next(now)])
        assert self.queue.steps.failures == 0

    async def _look(self, now: int) -> int:
        return await self.queue.tick(now) if now >= self.window.start else self.window.start

    def _next(self, now: int) -> Iterator[int]:
        times = [self.window.end, *self.programs.next_end(), *self.servers.values()]
        times += [one.ask.start for one in self.due]
        times += [one.at for one in self.asks[:1]] + [at for at, *_ in self.submissions[:1]]
        return (max(time, now + 1) for time in times if time > now)

    def _ask(self, ask: Ask, now: int) -> None:
        request = ask.request
        if ask.start <= now:  # they walk up: what is booked is cut to what is free
            options = StartOptions(profile="gpu", units=request.units, node=request.node, duration=_ms(request.length))
            self.due.append(Due(ask, "", options))
            return
        wanted = BookingRequest("gpu", start=ask.start, duration=_ms(request.length), units=request.units,
                                node=request.node)  # fmt: skip
        try:
            booked = booking.book(self.site, wanted, actor=Actor(ask.owner), now=now)
        except NoCapacity:
            return
        self.due.append(Due(ask, booked.server, StartOptions(reservation=booked.id)))

    def _begin(self, one: Due, now: int) -> bool:
        """Starts the server of a booking; False where it has to wait."""
        try:
            admitted = admission.admit(self.site, actor=Actor(one.ask.owner), server=one.server or "",
                                       options=one.options, now=now)  # fmt: skip
        except WaitingForUnits:
            return False
        except NoCapacity:  # of one who walks up
            return True
        self.late.append((one.ask.start - one.ask.at, now - one.ask.start))
        self.servers[admitted.reservation.server_id] = admitted.deadline.stop_at
        return True

    def _submit(self, owner: str, group: str, manifest: dict[str, Any], work: int, save: int, now: int) -> None:
        asked = Submission(job_manifest.parse(manifest))
        job = submit(self.site, asked, files=self.files, actor=Actor(owner, frozenset({group})), now=now)
        self.programs.left[job.id], self.programs.save[job.id] = work, save

    # -- what came of it -----------------------------------------------------------------------------------------

    def read(self) -> None:
        """Takes from the database what was held, and by whom."""
        r, a, j, t = tables.reservation.c, tables.allocation.c, tables.job.c, tables.job_attempt.c
        held = select(r.kind, r.id, a.units, a.start, a.end).join_from(tables.allocation, tables.reservation)
        with read(self.site.engine) as connection:
            self.rows = list(connection.execute(held))
            tries = select(t.reservation, j.group, t.reason).join_from(tables.job_attempt, tables.job)
            self.tries = list(connection.execute(tries))

    def used(self) -> float:
        """The part of the unit-hours that bookings and jobs hold."""
        return sum(self._unit_time(row) for row in self.rows) / (sum(NODES.values()) * self.window.length)

    def by_group(self) -> Counter[str]:
        """Unit-ms of each group's jobs."""
        groups = {row.reservation: row.group for row in self.tries}
        found: Counter[str] = Counter()
        for row in self.rows:
            if row.kind == "job":
                found[groups[row.id]] += self._unit_time(row)
        return found

    def attempts(self) -> int:
        """How many began."""
        return len(self.tries)

    def sent_away(self) -> int:
        """How many ended for a booking."""
        return sum(row.reason == "preempted" for row in self.tries)

    def _unit_time(self, row: Any) -> int:
        return int(row.units) * max(0, min(row.end, self.window.end) - max(row.start, self.window.start))


def asks(window: Interval) -> list[Ask]:
    """The bookings that touch the day, in the order in which they are asked for."""
    chance = random.Random(SEED)
    zero = BEGIN - FIRST * DAY
    made = []
    for number, request in enumerate(at_load(load(), LOAD)):
        start, end = zero + _ms(request.start), zero + _ms(request.end)
        notice = _ms(request.start - request.asked) or chance.randrange(5) * MINUTE
        if start < window.end and end > window.start:
            made.append(Ask(start - notice, f"user{number}", start, request))
    return sorted(made, key=lambda ask: ask.at)


def submissions(window: Interval) -> list[tuple[int, str, str, dict[str, Any], int, int]]:
    """``(at, owner, group, manifest, work, save)``: half of them wait when the day begins."""
    chance = random.Random(SEED)
    made = []
    for group, (units, longest) in GROUPS.items():
        total, number = 0.0, 0
        while total < 0.5 * sum(NODES.values()) * window.length:
            length, wants = chance.randint(2, 6) * longest // 6, chance.choice(units)
            manifest = {"profile": "gpu", "command": ["train"], "name": f"{group}-{number}", "units": wants,
                        "hours": length / HOUR, "grace": f"{GRACE // MINUTE}m",
                        "preemptible": chance.random() < 0.9}  # fmt: skip
            work = int(length * chance.uniform(0.3, 1.0))
            save = GRACE if chance.random() < STUBBORN else chance.randrange(GRACE)
            at = window.start + max(0, chance.randrange(-window.length, window.length))
            made.append((at, f"{group}{number % MEMBERS}", group, manifest, work, save))
            total += wants * work
            number += 1
    return sorted(made, key=lambda one: one[0])


def _ms(minutes: int) -> int:
    return minutes * MINUTE


@contextmanager
def _site(folder: Path) -> Iterator[Site]:
    """The nodes of the demand, whose units are told apart, without limits."""
    url = f"sqlite:///{folder / 'day.sqlite'}"
    prepare(url)
    nodes = {}
    for name, count in NODES.items():
        units = tuple(f"GPU-{name}-{number}" for number in range(count))
        nodes[name] = Node(name=name, accelerators=(Accelerator(resource=GPU, count=count, unit_ids=units),))
    gpu = Profile(name="gpu", title="A100", resource=GPU, units=1, max_units=max(NODES.values()),
                  min_duration=MINUTE, max_duration=30 * DAY)  # fmt: skip
    site = Site(make_engine(url), Catalog(nodes=nodes, profiles={"gpu": gpu}))
    people = [f"user{n}" for n in range(len(load()))] + [f"{group}{n}" for group in GROUPS for n in range(MEMBERS)]
    with transaction(site.engine) as connection:
        connection.execute(insert(tables.users), [{"id": n, "name": name} for n, name in enumerate(people)])
    catalog_sync.sync(site, now=BEGIN - 365 * DAY)
    try:
        yield site
    finally:
        site.engine.dispose()
