"""Bookings and jobs share two nodes: what is taken never passes what there is, no booking is refused for a preemptible
job, and no other job is ever cut for one.

The machine of the bookings' own invariant, with jobs that begin wherever there is room just now.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from mlmp_spawner.errors import MLMPError, NoCapacity
from mlmp_spawner.operations import planning
from mlmp_spawner.operations.admission import WaitingForUnits
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import get
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor
from mlmp_spawner.rules.jobs import Attempt
from mlmp_spawner.rules.placement import Wanted, place
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.store.tables import job_attempt, unit_in_use
from mlmp_spawner.store.transaction import Refused, read, transaction
from mlmp_spawner.units import HOUR, MINUTE
from tests.operations.conftest import GPU
from tests.operations.jobs.running import attempt_of, run_job
from tests.operations.test_invariant import PEOPLE, ROUNDS, Sharing, machine_on, run

NODES = ("gpu-a", "gpu-b")


class SharingWithJobs(Sharing):
    """Whoever shares them has jobs as well."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, tuple[Attempt, bool, int]] = {}
        """Those under way, by reservation, whether they are preemptible, and their grace (ms)."""

    def known(self) -> list[str]:
        return [row_id for row_id in super().known() if get(self.site, row_id).kind != "job"]

    @rule(
        who=st.sampled_from(PEOPLE),
        nodes=st.sampled_from([("gpu-a",), ("gpu-b",), NODES]),
        units=st.integers(1, 4),
        length=st.integers(1, 12),
        grace=st.sampled_from([MINUTE, 10 * MINUTE]),
        preemptible=st.sampled_from([True, True, False]),
    )
    def a_job_begins(
        self, who: str, nodes: tuple[str, ...], units: int, length: int, grace: int, preemptible: bool
    ) -> None:
        try:
            made = run_job(self.site, *nodes, now=self.now, owner=who, units=units, length=length * HOUR, grace=grace,
                           preemptible=preemptible)  # fmt: skip
        except (Refused, WaitingForUnits):
            return
        self.jobs[made.reservation] = (made, preemptible, grace)

    @rule(minutes=st.integers(1, 240))
    def time_passes(self, minutes: int) -> None:
        super().time_passes(minutes)
        for reservation_id, (seen, _, _) in list(self.jobs.items()):
            if attempt_of(self.site, seen).kill_at <= self.now:
                self.ends(seen)
                del self.jobs[reservation_id]

    def ends(self, seen: Attempt) -> None:
        with transaction(self.engine) as connection:
            mine = (job_attempt.c.job == seen.job, job_attempt.c.number == seen.number)
            connection.execute(job_attempt.update().where(*mine).values(ended_at=self.now))
            connection.execute(unit_in_use.delete().where(unit_in_use.c.holder == seen.reservation))

    @rule(
        who=st.sampled_from(PEOPLE), start=st.integers(0, 12), length=st.integers(1, 8), units=st.integers(1, 4),
        count=st.sampled_from([1, 2]),
    )  # fmt: skip
    def is_refused_only_where_it_would_be_without_preemptible_jobs(
        self, who: str, start: int, length: int, units: int, count: int
    ) -> None:
        begin = self.now + start * HOUR
        interval = Interval(begin, begin + length * HOUR)
        with read(self.engine) as connection:
            boards = planning.view(connection, GPU, NODES, interval).boards
        fits = place([board.for_bookings() for board in boards], Wanted(units, interval, count), repack=False)
        request = BookingRequest("gpu", start=begin, duration=interval.length, units=units, node_count=count)
        try:
            book(self.site, request, actor=Actor(who), now=self.now)
        except NoCapacity:
            assert fits is None
        except MLMPError:
            pass

    def change_capacity(self, a: int, b: int) -> None:
        super().change_capacity(a, b)
        # Whose units are gone ends, whatever it is.
        self.jobs = {
            key: (seen if preemptible else attempt_of(self.site, seen), preemptible, grace)
            for key, (seen, preemptible, grace) in self.jobs.items()
        }

    @invariant()
    def no_other_job_is_ever_cut(self) -> None:
        for seen, preemptible, _ in self.jobs.values():
            assert preemptible or attempt_of(self.site, seen) == seen

    @invariant()
    def a_job_has_its_grace_and_ends_with_its_units_or_that_much_later(self) -> None:
        for seen, _, grace in self.jobs.values():
            now, holding = attempt_of(self.site, seen), get(self.site, seen.reservation)
            assert now.stop_at <= now.kill_at <= seen.kill_at
            assert now.kill_at - now.stop_at == grace
            end = max((row.end for row in holding.allocations), default=holding.start)
            assert end <= now.kill_at <= max(end, self.now + grace)

    @invariant()
    def units_in_use_belong_to_what_may_run(self) -> None:
        with self.engine.connect() as connection:
            holders = {row.holder for row in connection.execute(unit_in_use.select())}
        servers = {row_id for row_id in super().known() if get(self.site, row_id).server_state() != "none"}
        assert holders <= servers | self.jobs.keys()


@pytest.fixture(params=["sqlite", "postgresql"])
def machine(request: pytest.FixtureRequest) -> Iterator[type[Sharing]]:
    with machine_on(request.param, request, SharingWithJobs) as made:
        yield made


def test_bookings_and_jobs_share_what_there_is(machine: type[Sharing]):
    run(machine, rounds=max(1, ROUNDS // 3))


@pytest.mark.faults
def test_bookings_and_jobs_share_what_there_is_for_long(machine: type[Sharing]):
    run(machine, rounds=2 * ROUNDS)
