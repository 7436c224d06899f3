"""Bookings and jobs together: a preemptible job never stands in the way, one that is not never makes way."""

from __future__ import annotations

import pytest

from mlmp_spawner.errors import NoCapacity
from mlmp_spawner.jobs.base import Seen
from mlmp_spawner.operations.admission import StartOptions, job_in_the_way, walk_up
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import Changes, cancel, change, extend, get
from mlmp_spawner.operations.jobs.ending import ended
from mlmp_spawner.operations.requests import BookingRequest, Recurrence
from mlmp_spawner.operations.series import book_series
from mlmp_spawner.operations.series_changes import change as change_series
from mlmp_spawner.operations.site import Site
from mlmp_spawner.operations.waitlist import promote
from mlmp_spawner.units import DAY, HOUR, MINUTE
from tests.invariant import violations
from tests.operations.conftest import NOW, ann, ben
from tests.operations.jobs.running import attempt_of, run_job


def ask(**fields: object) -> BookingRequest:
    return BookingRequest(**({"profile": "gpu", "duration": HOUR} | fields))  # type: ignore[arg-type]


def test_a_job_ends_where_a_later_booking_begins(site: Site):
    job = run_job(site, "gpu-b", now=NOW, units=2)
    booked = book(site, ask(units=2, node="gpu-b", start=NOW + 2 * HOUR), actor=ann, now=NOW)
    assert booked.nodes == ("gpu-b",)
    now = attempt_of(site, job)
    assert (now.stop_at, now.kill_at) == (NOW + 2 * HOUR - MINUTE, NOW + 2 * HOUR)
    assert now.stop_reason == "preempted" and now.ended_at is None
    holding = get(site, job.reservation)
    assert holding.end == NOW + 2 * HOUR == holding.allocations[0].end
    assert violations(site.engine) == []


def test_a_booking_that_begins_now_takes_the_units_and_leaves_the_job_its_grace(site: Site):
    job = run_job(site, "gpu-a", now=NOW, units=4, grace=5 * MINUTE)
    run_job(site, "gpu-b", now=NOW, units=2, preemptible=False)
    booked = book(site, ask(units=4), actor=ann, now=NOW + HOUR)
    assert booked.nodes == ("gpu-a",)
    now = attempt_of(site, job)
    assert (now.stop_at, now.kill_at) == (NOW + HOUR, NOW + HOUR + 5 * MINUTE)
    assert get(site, job.reservation).allocations[0].end == NOW + HOUR
    assert violations(site.engine) == []


def test_a_booking_in_less_than_the_grace_stops_the_job_at_once(site: Site):
    job = run_job(site, "gpu-b", now=NOW, units=2, grace=5 * MINUTE)
    now = NOW + HOUR
    book(site, ask(units=2, node="gpu-b", start=now + 2 * MINUTE), actor=ann, now=now)
    told = attempt_of(site, job)
    assert (told.stop_at, told.kill_at) == (now, now + 5 * MINUTE)
    assert get(site, job.reservation).end == now + 2 * MINUTE


def test_a_job_that_began_this_very_moment_yields_too(site: Site):
    job = run_job(site, "gpu-b", now=NOW, units=2)
    run_job(site, "gpu-a", now=NOW, units=4, preemptible=False)
    booked = book(site, ask(units=2), actor=ann, now=NOW)
    assert booked.nodes == ("gpu-b",)
    assert get(site, job.reservation).allocations == ()
    assert attempt_of(site, job).kill_at == NOW + MINUTE


def test_what_is_free_anyway_is_taken_first(site: Site):
    job = run_job(site, "gpu-b", now=NOW, units=1)
    assert book(site, ask(units=2), actor=ann, now=NOW + HOUR).nodes == ("gpu-a",)
    assert attempt_of(site, job) == job


def test_the_job_that_began_last_yields_first_and_no_more_than_need_be(site: Site):
    first = run_job(site, "gpu-a", now=NOW, units=1)
    second = run_job(site, "gpu-a", now=NOW + MINUTE, units=1)
    third = run_job(site, "gpu-a", now=NOW + 2 * MINUTE, units=1)
    book(site, ask(units=2, node="gpu-a"), actor=ann, now=NOW + HOUR)
    assert attempt_of(site, first) == first and attempt_of(site, second) == second
    assert attempt_of(site, third).stop_reason == "preempted"


def test_the_workers_of_a_job_end_together(site: Site):
    job = run_job(site, "gpu-a", "gpu-b", now=NOW, units=2)
    book(site, ask(units=2, node="gpu-b", start=NOW + HOUR), actor=ann, now=NOW)
    holding = get(site, job.reservation)
    assert {(row.node, row.end) for row in holding.allocations} == {("gpu-a", NOW + HOUR), ("gpu-b", NOW + HOUR)}


def test_a_job_that_is_not_preemptible_is_never_cut(site: Site):
    jobs = [run_job(site, "gpu-a", now=NOW, units=4, preemptible=False),
            run_job(site, "gpu-b", now=NOW, units=2, preemptible=False)]  # fmt: skip
    with pytest.raises(NoCapacity) as refusal:
        book(site, ask(units=1), actor=ann, now=NOW)
    later = next(a["request"] for a in refusal.value.data["alternatives"] if a["kind"] == "later")
    assert later["start"] > "2027"
    assert [attempt_of(site, job) for job in jobs] == jobs


def test_an_earlier_booking_brings_the_end_forward_again_and_a_later_one_changes_nothing(site: Site):
    job = run_job(site, "gpu-b", now=NOW, units=2)
    book(site, ask(units=2, node="gpu-b", start=NOW + 2 * HOUR), actor=ann, now=NOW)
    book(site, ask(units=2, node="gpu-b", start=NOW + 3 * HOUR), actor=ben, now=NOW)
    assert attempt_of(site, job).kill_at == NOW + 2 * HOUR
    book(site, ask(units=2, node="gpu-b", start=NOW + HOUR), actor=ben, now=NOW)
    assert attempt_of(site, job).kill_at == NOW + HOUR


def test_one_who_just_comes_gets_the_units_of_jobs(site: Site):
    job = run_job(site, "gpu-a", now=NOW, units=4)
    run_job(site, "gpu-b", now=NOW, units=2, preemptible=False)
    options = StartOptions(profile="gpu", units=4, duration=HOUR)
    booked = walk_up(site, actor=ann, server="", options=options, now=NOW + HOUR)
    assert booked.interval.length == HOUR and booked.nodes == ("gpu-a",)
    assert attempt_of(site, job).stop_reason == "preempted"


def test_an_extension_takes_them_too(site: Site):
    booked = book(site, ask(units=1, node="gpu-b"), actor=ann, now=NOW)
    job = run_job(site, "gpu-b", now=NOW, units=1)
    book(site, ask(units=1, node="gpu-b", start=NOW + HOUR), actor=ben, now=NOW)
    assert attempt_of(site, job) == job
    assert extend(site, booked.id, duration=HOUR, actor=ann, now=NOW + MINUTE).end == NOW + 2 * HOUR
    assert attempt_of(site, job).kill_at == NOW + HOUR
    assert violations(site.engine) == []


def test_a_booking_that_is_moved_takes_them_where_it_comes_to_lie(site: Site):
    booked = book(site, ask(units=2, node="gpu-b", start=NOW + 8 * HOUR), actor=ann, now=NOW)
    job = run_job(site, "gpu-b", now=NOW, units=2)
    change(site, booked.id, Changes(start=NOW + 2 * HOUR), actor=ann, now=NOW)
    assert attempt_of(site, job).kill_at == NOW + 2 * HOUR


def test_what_must_move_for_a_booking_takes_them_at_its_new_place(site: Site):
    moves = book(site, ask(units=2, start=NOW + 2 * HOUR, node="gpu-a"), actor=ann, now=NOW)
    change(site, moves.id, Changes(node=""), actor=ann, now=NOW)
    assert get(site, moves.id).nodes == ("gpu-a",)
    job = run_job(site, "gpu-b", now=NOW, units=2)
    whole = book(site, ask(units=4, start=NOW + HOUR, duration=4 * HOUR), actor=ben, now=NOW)
    assert whole.nodes == ("gpu-a",) and get(site, moves.id).nodes == ("gpu-b",)
    assert attempt_of(site, job).kill_at == NOW + 2 * HOUR
    assert violations(site.engine) == []


def test_who_waits_is_given_the_units_of_jobs(site: Site):
    keeps = run_job(site, "gpu-a", now=NOW, units=4, preemptible=False)
    blocks = book(site, ask(units=2, node="gpu-b", duration=8 * HOUR), actor=ann, now=NOW)
    waits = book(site, ask(units=2, duration=8 * HOUR, waitlist=True), actor=ben, now=NOW)
    assert waits.state(NOW) == "waiting"
    cancel(site, blocks.id, actor=ann, now=NOW + MINUTE)
    job = run_job(site, "gpu-b", now=NOW + MINUTE, units=2)
    assert promote(site, now=NOW + 2 * MINUTE) == [waits.id]
    assert attempt_of(site, job).stop_reason == "preempted" and attempt_of(site, keeps) == keeps


def test_every_date_of_a_series_takes_them(site: Site):
    jobs = [run_job(site, "gpu-a", now=NOW, units=4, length=30 * HOUR),
            run_job(site, "gpu-b", now=NOW, units=2, length=30 * HOUR)]  # fmt: skip
    weekly = Recurrence("FREQ=DAILY;COUNT=2", "UTC")
    first = book_series(site, ask(units=4, start=NOW + 2 * HOUR, recurrence=weekly), actor=ann, now=NOW)
    assert attempt_of(site, jobs[0]).kill_at == NOW + 2 * HOUR and attempt_of(site, jobs[1]) == jobs[1]
    change_series(site, first.id, Changes(start=NOW + HOUR), which="all", actor=ann, now=NOW)
    assert attempt_of(site, jobs[0]).kill_at == NOW + HOUR
    assert violations(site.engine) == []


def test_who_starts_on_a_node_learns_of_the_last_job_that_makes_way_there_until_it_is_gone(site: Site):
    job = run_job(site, "gpu-a", now=NOW, units=4, grace=5 * MINUTE)
    other = run_job(site, "gpu-b", now=NOW, units=1)
    assert job_in_the_way(site, "gpu-a", now=NOW + MINUTE) is None, "it runs on, beside whoever starts"
    book(site, ask(units=4), actor=ann, now=NOW + HOUR)
    found = job_in_the_way(site, "gpu-a", now=NOW + HOUR)
    assert found is not None and (found.owner, found.until) == ("eve", NOW + HOUR + 5 * MINUTE)
    assert job_in_the_way(site, "gpu-b", now=NOW + HOUR) is None
    assert attempt_of(site, other) == other
    ended(site, attempt_of(site, job), Seen(job.id, "ended", reason="signal"), half_life=DAY, now=NOW + HOUR + MINUTE)
    assert job_in_the_way(site, "gpu-a", now=NOW + HOUR + MINUTE) is None
