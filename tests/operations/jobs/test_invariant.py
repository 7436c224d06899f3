"""Jobs and bookings at once, and the look at jobs killed between any two of its steps.

To what the state machine of bookings does (``tests/operations/test_invariant.py``) come jobs that are submitted,
cancelled, end, vanish, and a back-end that falls silent or loses what it was told. Whatever happens: nothing runs
twice at the same time, no unit that something runs on is free, and in the end every job has ended, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select

from mlmp_spawner.errors import MLMPError, TooLate
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import get
from mlmp_spawner.operations.jobs.cancel import cancel
from mlmp_spawner.operations.jobs.look import Queue
from mlmp_spawner.operations.jobs.orders import find
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import CLOCK, Actor
from mlmp_spawner.rules.due import is_live
from mlmp_spawner.rules.jobs import Attempt, Job, Reason
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store import reservations
from mlmp_spawner.store.tables import job, reservation, unit_in_use
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import HOUR, MINUTE
from tests.jobs.remembered import Killed, MortalJobs
from tests.operations.jobs.queueing import submitted
from tests.operations.test_invariant import PEOPLE, PHASES, ROUNDS, Sharing, machine_on

WAYS: tuple[tuple[Reason, int | None], ...] = (
    ("succeeded", 0), ("exit_status", 1), ("signal", None), ("out_of_memory", None), ("start", None),
)  # fmt: skip
Action = tuple[str, dict[str, Any]]
NUMBER = st.integers(0, 9)


def _action(name: str, **how: st.SearchStrategy[Any]) -> st.SearchStrategy[Action]:
    return st.tuples(st.just(name), st.fixed_dictionaries(how))


SUBMITS = _action(
    "submits", who=st.sampled_from(PEOPLE), length=st.integers(1, 6), grace=st.integers(1, 20),
    units=st.integers(1, 3), workers=st.sampled_from([1, 1, 2]), preemptible=st.booleans(),
    retries=st.integers(0, 2), priority=st.integers(-1, 1),
)  # fmt: skip
BOOKS = _action("books", who=st.sampled_from(PEOPLE), start=st.sampled_from([0, 0, 1, 2, 4]), length=st.integers(1, 4),
                units=st.integers(1, 4))  # fmt: skip
INSIDE = _action("submits_inside", number=NUMBER, units=st.integers(1, 2), length=st.integers(1, 6))
ENDS = _action("ends", number=NUMBER, way=st.sampled_from(WAYS))
ACTIONS = st.one_of(
    SUBMITS,
    SUBMITS,
    BOOKS,
    BOOKS,
    INSIDE,
    INSIDE,
    _action("uses", number=NUMBER),
    _action("gives_back", number=NUMBER),
    _action("cancels", number=NUMBER),
    ENDS,
    ENDS,
    _action("vanishes", number=NUMBER),
    _action("changes", silent=st.booleans(), deaf=st.booleans(), polite=st.booleans()),
    _action("change_capacity", a=st.integers(1, 4), b=st.integers(0, 2)),
)
STEPS = st.tuples(ACTIONS, st.sampled_from([0, 0, 1, 10, 30, 90]), st.none() | st.integers(1, 8))
"""What somebody does or what happens, the minutes until the next look, and after how many steps that is killed."""


def pick(among: Sequence[str], number: int) -> str:
    return among[number % len(among)]


class SharingWithJobs(Sharing):
    """Three people book, and run jobs in the time that is left. It is told a story, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.backend = MortalJobs(now=self.now)
        self.queue = Queue(lambda: self.site, self.backend)
        self.bookings: list[str] = []
        self.jobs: list[str] = []
        self.ended: dict[str, Job] = {}
        event.listen(self.engine, "commit", self.backend.step)

    def live(self, steps: Sequence[tuple[Action, int, int | None]]) -> None:
        """Does each step, lets so many minutes pass, and looks; the look is killed where the step says so."""
        for (name, how), minutes, dies_after in steps:
            getattr(self, name)(**how)
            self.now += minutes * MINUTE
            self.pass_time()
            self.look(dies_after)
            self.check()
        self.all_end_in_the_end()

    def pass_time(self) -> None:
        self.backend.pass_time(self.now)
        self.servers.stopped.clear()
        self.tick()
        for server_id in self.servers.stopped:
            self.servers.alive.pop(server_id, None)
        self.tick()

    def look(self, dies_after: int | None = None) -> None:
        self.backend.left = dies_after
        try:
            asyncio.run(self.queue.tick(self.now))
            self.all_are_told_when_they_end()
        except Killed:
            self.queue = Queue(lambda: self.site, self.backend)
        except MLMPError:
            assert self.backend.silent
        finally:
            self.backend.left = None
        assert self.queue.steps.failures == 0

    # -- what people do ------------------------------------------------------------------------------------------

    def books(self, who: str, start: int, length: int, units: int) -> None:
        wanted = BookingRequest("gpu", start=self.now + start * HOUR, duration=length * HOUR, units=units)
        with suppress(MLMPError):
            self.bookings.append(book(self.site, wanted, actor=Actor(who), now=self.now).id)

    def uses(self, number: int) -> None:
        if self.bookings:
            self.start(pick(self.bookings, number))

    def gives_back(self, number: int) -> None:
        if self.bookings:
            self.give_back(pick(self.bookings, number))

    def submits(self, who: str, **fields: int) -> None:
        units = {name: fields.pop(name) * unit for name, unit in (("length", HOUR), ("grace", MINUTE))}
        self.jobs.append(submitted(self.site, who, now=self.now, **fields, **units).id)

    def submits_inside(self, number: int, units: int, length: int) -> None:
        if self.bookings:
            row = get(self.site, pick(self.bookings, number))
            new = submitted(
                self.site, row.owner, now=self.now, inside=row.id, units=units, length=length * HOUR, grace=MINUTE
            )
            self.jobs.append(new.id)

    def cancels(self, number: int) -> None:
        if self.jobs:
            which = pick(self.jobs, number)
            try:
                cancel(self.site, which, actor=CLOCK, now=self.now)
            except TooLate:
                assert which in self.ended

    # -- what happens to them ------------------------------------------------------------------------------------

    def ends(self, number: int, way: tuple[Reason, int | None]) -> None:
        if running := sorted(self.backend.running()):
            attempt = self.attempt(pick(running, number))
            self.backend.end(attempt.id, *way)
            if way[0] == "succeeded" and attempt.ended_at is None and self.now < attempt.stop_at:
                self.backend.done.add(attempt.job)

    def vanishes(self, number: int) -> None:
        if running := sorted(self.backend.running()):
            attempt = self.attempt(pick(running, number))
            self.backend.vanish(attempt.id)
            if attempt.started_at is not None:
                self.backend.forgotten.append(attempt.id)

    def attempt(self, attempt_id: str) -> Attempt:
        with read(self.engine) as connection:
            return find(connection, attempt_id)[1]

    def changes(self, silent: bool, deaf: bool, polite: bool) -> None:
        self.backend.silent, self.backend.deaf, self.backend.polite = silent, deaf, polite

    # -- what holds ----------------------------------------------------------------------------------------------

    def known(self) -> list[str]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(reservation.c.id).where(reservation.c.kind != "job")).scalars())

    def all_jobs(self) -> list[Job]:
        with read(self.engine) as connection:
            return store.select_where(connection, job.c.created_at >= 0)

    def check(self) -> None:
        self.nothing_is_booked_twice()
        self.nothing_runs_twice_at_a_time()
        self.no_unit_that_a_job_runs_on_is_free()
        self.a_job_ends_once()
        self.units_in_use_belong_to_what_may_run()

    def nothing_runs_twice_at_a_time(self) -> None:
        running = self.backend.running().values()
        assert len({order.job for order in running}) == len(running)
        for one, other in combinations(running, 2):
            mine = {(place.node, unit) for place in one.places for unit in place.units}
            assert mine.isdisjoint((place.node, unit) for place in other.places for unit in place.units)

    def no_unit_that_a_job_runs_on_is_free(self) -> None:
        with self.engine.connect() as connection:
            holders = {(row.node, row.unit): row.holder for row in connection.execute(select(unit_in_use))}
        jobs = {one.id: one for one in self.all_jobs()}
        for order in self.backend.running().values():
            of = jobs[order.job]
            assert of.live is not None and of.live.id == order.id, "its end is written only when it has ended"
            holder = of.inside or of.live.reservation
            assert all(holders.get((place.node, unit)) == holder for place in order.places for unit in place.units)

    def all_are_told_when_they_end(self) -> None:
        live = {attempt.id: attempt for one in self.all_jobs() if (attempt := one.live) is not None}
        for order in self.backend.running().values():
            assert self.backend.times[order.id] == (live[order.id].stop_at, live[order.id].kill_at)

    def a_job_ends_once(self) -> None:
        for one in self.all_jobs():
            assert [attempt.number for attempt in one.attempts] == list(range(1, len(one.attempts) + 1))
            assert all(attempt.reason is not None for attempt in one.attempts[:-1])
            if one.ended_at is not None:
                assert one.outcome and one.reason and one.live is None
                assert self.ended.setdefault(one.id, one) == one

    def units_in_use_belong_to_what_may_run(self) -> None:
        live = [(one, one.live) for one in self.all_jobs() if one.live is not None]
        of_jobs = {one.inside or attempt.reservation for one, attempt in live}
        with read(self.engine) as connection:
            holders = {row.holder for row in connection.execute(select(unit_in_use))} - of_jobs
            found = [reservations.find(connection, holder) for holder in holders]
        assert all(row is not None and is_live(row) for row in found)

    def all_end_in_the_end(self) -> None:
        """Once everything answers again, every job ends by itself, but those that can't ever start."""
        self.backend.silent = self.backend.deaf = False
        for _ in range(30):
            self.now += HOUR
            self.servers.alive.clear()
            self.pass_time()
            self.look()
        for one in self.all_jobs():
            if one.ended_at is None:
                cancel(self.site, one.id, actor=CLOCK, now=self.now)
        for _ in range(3):
            self.now += HOUR
            self.pass_time()
            self.look()
        self.a_job_ends_once()
        assert {one.id for one in self.all_jobs()} == set(self.ended)
        assert self.backend.seen == {}
        with self.engine.connect() as connection:
            assert connection.execute(select(unit_in_use)).all() == []


@pytest.fixture(params=["sqlite", "postgresql"])
def machine(request: pytest.FixtureRequest) -> Iterator[type[SharingWithJobs]]:
    with machine_on(request.param, request, SharingWithJobs) as made:
        yield made  # type: ignore[misc]


def run_stories(machine: type[SharingWithJobs], rounds: int) -> None:
    @settings(max_examples=rounds, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
    @given(st.lists(STEPS, min_size=8, max_size=30))
    def story(steps: list[tuple[Action, int, int | None]]) -> None:
        house = machine()
        try:
            house.live(steps)
        finally:
            house.teardown()

    story()


def test_every_job_ends_once_and_nothing_runs_twice_whenever_the_look_is_killed(machine: type[SharingWithJobs]):
    run_stories(machine, max(1, ROUNDS // 3))


@pytest.mark.faults
def test_every_job_ends_once_and_nothing_runs_twice_for_long(machine: type[SharingWithJobs]):
    run_stories(machine, 2 * ROUNDS)
