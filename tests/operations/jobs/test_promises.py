"""Who books further ahead than the grace of the jobs in the way begins in time, whatever others do at short notice."""

from __future__ import annotations

import pytest

from mlmp_spawner.errors import NoCapacity
from mlmp_spawner.jobs.base import Seen
from mlmp_spawner.operations.admission import StartOptions, WaitingForUnits, admit
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import cancel, get
from mlmp_spawner.operations.jobs import ending
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.jobs import Attempt
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import DAY, HOUR, MINUTE
from tests.operations.conftest import NOW, ann, ben
from tests.operations.jobs.running import attempt_of, run_job


def ask(**fields: object) -> BookingRequest:
    return BookingRequest(**({"profile": "gpu", "duration": HOUR} | fields))  # type: ignore[arg-type]


def gone(site: Site, job: Attempt, now: int) -> None:
    """It was seen gone."""
    assert ending.ended(site, job, Seen(job.id, "ended", reason="signal"), half_life=DAY, now=now)


def begin(site: Site, actor: Actor, booked: Reservation, now: int) -> tuple[str, ...]:
    options = StartOptions(reservation=booked.id)
    return admit(site, actor=actor, server=booked.server, options=options, now=now).unit_ids


def test_who_comes_at_short_notice_waits_for_a_job_not_who_booked_before(site: Site):
    jobs = [run_job(site, "gpu-a", now=NOW, units=2, grace=5 * MINUTE) for _ in range(2)]
    ahead = book(site, ask(units=2, node="gpu-a", start=NOW + HOUR), actor=ann, now=NOW)
    told, other = sorted(jobs, key=lambda job: attempt_of(site, job).kill_at)
    assert attempt_of(site, told).kill_at == NOW + HOUR < attempt_of(site, other).kill_at
    now = NOW + HOUR - MINUTE
    gone(site, told, now)  # it was quick, so its units are free before the booking that needs them
    walks_up = book(site, ask(units=2, node="gpu-a"), actor=ben, now=now)
    until = attempt_of(site, other).kill_at
    assert until == now + 5 * MINUTE
    for at in (now, NOW + HOUR):
        with pytest.raises(WaitingForUnits) as waiting:
            begin(site, ben, walks_up, at)
        assert waiting.value.until == until
    assert len(begin(site, ann, ahead, NOW + HOUR)) == 2
    gone(site, other, now + 3 * MINUTE)
    assert len(begin(site, ben, walks_up, now + 3 * MINUTE)) == 2


def test_who_walks_up_takes_what_nobody_else_needs_meanwhile(site: Site):
    jobs = [run_job(site, "gpu-a", now=NOW, units=2, grace=5 * MINUTE) for _ in range(2)]
    now = NOW + HOUR
    booked = book(site, ask(units=2, node="gpu-a"), actor=ann, now=now)
    told, other = sorted(jobs, key=lambda job: attempt_of(site, job).kill_at)
    assert attempt_of(site, told).kill_at == now + 5 * MINUTE
    gone(site, other, now)  # while the one that makes way is still there
    assert len(begin(site, ann, booked, now)) == 2


@pytest.mark.parametrize("notice", [9 * MINUTE, 10 * MINUTE])
def test_a_booking_that_begins_soon_is_not_moved_onto_a_job(site: Site, notice: int):
    filler = book(site, ask(units=2, start=NOW + 2 * HOUR), actor=ann, now=NOW)
    movable = book(site, ask(units=2, start=NOW + 2 * HOUR), actor=ben, now=NOW)
    assert (filler.nodes, movable.nodes) == (("gpu-b",), ("gpu-a",))
    cancel(site, filler.id, actor=ann, now=NOW)
    job = run_job(site, "gpu-b", now=NOW, units=2, grace=10 * MINUTE)
    now, wanted = movable.start - notice, ask(units=4, start=movable.start)
    if notice < 10 * MINUTE:
        with pytest.raises(NoCapacity):
            book(site, wanted, actor=ann, now=now)
        assert attempt_of(site, job) == job
    else:
        book(site, wanted, actor=ann, now=now)
        assert get(site, movable.id).nodes == ("gpu-b",)
        assert attempt_of(site, job).kill_at == movable.start
