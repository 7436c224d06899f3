"""What lists and counts bookings leaves jobs out, or says that they are jobs; what takes nodes away ends them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timezone
from pathlib import Path

import pytest
from sqlalchemy import select, update

from mlmp_spawner import processes
from mlmp_spawner.activity import UnitUse
from mlmp_spawner.errors import Conflict, NotFound
from mlmp_spawner.operations import calendar, catalog_sync, history, people, yielding
from mlmp_spawner.operations.admission import StartOptions, WaitingForUnits, admit, gone
from mlmp_spawner.operations.availability import availability, longest_end, offer
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import Changes, cancel, change, extend, get
from mlmp_spawner.operations.clock import START_GRACE
from mlmp_spawner.operations.listing import job_behind, listing, stops, used, used_by_all
from mlmp_spawner.operations.outages import Wanted, set_outages
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Site
from mlmp_spawner.operations.timeline import timeline
from mlmp_spawner.operations.usage import Spent, usage
from mlmp_spawner.processes import Record
from mlmp_spawner.rules.jobs import Attempt
from mlmp_spawner.rules.reservations import Interval, Step, continues
from mlmp_spawner.store.tables import job_attempt, unit_in_use
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE, to_iso
from tests.invariant import violations
from tests.operations.conftest import NOW, admin, ann, ben, catalog, eve
from tests.operations.jobs.running import attempt_of, run_job
from tests.operations.test_clock import House
from tests.operations.test_watch import EVERY, Gpus, watch

WINDOW = Interval(NOW, NOW + 8 * HOUR)


def ask(**fields: object) -> BookingRequest:
    return BookingRequest(**({"profile": "gpu", "duration": HOUR} | fields))  # type: ignore[arg-type]


def ended(site: Site, attempt: Attempt, now: int) -> None:
    """As the look at jobs does when it sees it gone."""
    with transaction(site.engine) as connection:
        mine = (job_attempt.c.job == attempt.job, job_attempt.c.number == attempt.number)
        connection.execute(update(job_attempt).where(*mine).values(ended_at=now))
        connection.execute(unit_in_use.delete().where(unit_in_use.c.holder == attempt.reservation))


def held(site: Site) -> set[str]:
    with site.engine.connect() as connection:
        return set(connection.execute(select(unit_in_use.c.holder)).scalars())


async def test_the_clock_leaves_jobs_and_their_units_alone(site: Site):
    house = House(site)
    job = run_job(site, "gpu-b", now=NOW, owner="ann", units=2)
    before = get(site, job.reservation)
    for at in (NOW + 1, NOW + START_GRACE + MINUTE, NOW + 2 * HOUR, job.kill_at - MINUTE, job.kill_at + HOUR):
        await house.clock.tick(at)
    assert get(site, job.reservation) == before
    assert held(site) == {job.reservation} and history.of(site.engine, job.reservation) == []


def test_jobs_use_up_nothing_of_what_their_owner_may_book(site: Site):
    run_job(site, "gpu-a", now=NOW, owner="ann", units=4)
    assert used(site, "ann", now=NOW + 1).open_bookings == 0
    assert used_by_all(site, now=NOW + 1) == {}
    assert book(site, ask(), actor=ann, now=NOW + MINUTE).server == "", "nor the default server"


def test_jobs_are_listed_only_where_they_are_asked_for(site: Site):
    job = run_job(site, "gpu-b", now=NOW, owner="ann")
    mine = book(site, ask(), actor=ann, now=NOW)
    assert [row.id for row in listing(site, now=NOW)[0]] == [mine.id]
    found, _ = listing(site, now=NOW, kind="job")
    assert [row.id for row in found] == [job.reservation]
    assert stops(site, [*found, mine], now=NOW).keys() == {mine.id}
    assert job_behind(site, job.reservation) == job.job and job_behind(site, mine.id) is None
    assert [row.id for row in offer(site, actor=ann, now=NOW).bookings] == [mine.id]


def test_what_a_job_holds_is_neither_changed_nor_given_back_nor_started_as_a_booking(site: Site):
    job = run_job(site, "gpu-b", now=NOW, owner="ann")
    for refused in (
        lambda: cancel(site, job.reservation, actor=ann, now=NOW),
        lambda: change(site, job.reservation, Changes(title="x"), actor=ann, now=NOW),
        lambda: extend(site, job.reservation, duration=HOUR, actor=admin, now=NOW),
    ):
        with pytest.raises(Conflict, match="no booking"):
            refused()
    with pytest.raises(NotFound):
        admit(site, actor=ann, server="", options=StartOptions(reservation=job.reservation), now=NOW)


def test_no_server_carries_on_from_a_job(site: Site):
    job = get(site, run_job(site, "gpu-b", now=NOW, owner="ann").reservation)
    assert not continues(job, replace(job, id="next", kind="session", start=job.end, end=job.end + HOUR))
    assert not continues(replace(job, kind="session"), replace(job, start=job.end, end=job.end + HOUR))


def test_units_of_preemptible_jobs_are_free_to_whoever_books(site: Site):
    run_job(site, "gpu-a", now=NOW, units=4)
    run_job(site, "gpu-b", now=NOW, units=1, preemptible=False)
    found = availability(site, profile="gpu", window=WINDOW, groups=frozenset(), now=NOW, units=4, duration=HOUR)
    keeps = NOW + 4 * HOUR + MINUTE
    assert [(one.node, one.steps[0].free, one.first_free) for one in found] == [("gpu-a", 4, NOW), ("gpu-b", 1, None)]
    assert found[1].steps == (Step(NOW, keeps, 1), Step(keeps, WINDOW.end, 2))
    gpu = offer(site, actor=ann, now=NOW).profiles[0]
    assert (gpu.free_now, gpu.largest) == (5, 4)


def test_a_booking_can_be_extended_over_the_units_of_jobs(site: Site):
    mine = book(site, ask(node="gpu-b"), actor=ann, now=NOW)
    run_job(site, "gpu-b", now=NOW)
    book(site, ask(node="gpu-b", start=NOW + HOUR), actor=ben, now=NOW)
    assert longest_end(site, mine, groups=frozenset(), now=NOW) > NOW + 8 * HOUR


def test_the_timeline_shows_jobs_as_such_and_what_they_yield_as_free(site: Site):
    job = run_job(site, "gpu-a", now=NOW, units=3)
    keeps = run_job(site, "gpu-b", now=NOW, preemptible=False)
    found = timeline(site, WINDOW, viewer="ann", profiles=list(site.catalog.profiles.values()))
    bars = {bar.booking.id: (bar.booking.kind, bar.booking.preemptible, bar.rows) for bar in found.bars}
    assert bars == {job.reservation: ("job", True, (0, 1, 2)), keeps.reservation: ("job", False, (0,))}
    assert {group.node: group.steps[0].free for group in found.groups} == {"gpu-a": 4, "gpu-b": 1}


@pytest.mark.parametrize("by", ["user", "node", "profile", "group"])
def test_what_jobs_had_is_counted_apart(site: Site, by: str):
    run_job(site, "gpu-b", now=NOW, owner="eve", units=2)
    book(site, ask(duration=3 * HOUR), actor=eve, now=NOW)
    now = NOW + 2 * HOUR
    for owner in (None, "eve"):
        found = usage(site, Interval(NOW, now), by=by, zone=timezone.utc, now=now, owner=owner)  # type: ignore[arg-type]
        assert found.total == found.house == Spent(booked=2 * HOUR, jobs=4 * HOUR)
        assert sum((day.spent for day in found.days), Spent()) == found.total
        assert found.total.not_started == 2 * HOUR and found.total.taken == 6 * HOUR
        assert sum((spent for _, spent in found.rows), Spent()) == found.total


def test_a_booking_waits_for_a_job_that_makes_way_and_is_told_how_long_at_most(site: Site):
    job = run_job(site, "gpu-b", now=NOW, units=2, grace=5 * MINUTE)
    now = NOW + HOUR
    mine = book(site, ask(units=2, node="gpu-b"), actor=ann, now=now)
    with pytest.raises(WaitingForUnits) as waiting:
        admit(site, actor=ann, server="", options=StartOptions(), now=now + MINUTE)
    assert waiting.value.detail == "Waiting for eve's job to make way: it saves its work, for 4 min at most."
    assert (waiting.value.until, waiting.value.data["until"]) == (now + 5 * MINUTE, to_iso(now + 5 * MINUTE))
    assert waiting.value.anonymous == "Waiting for a job to make way."
    ended(site, job, now + 2 * MINUTE)
    admitted = admit(site, actor=ann, server="", options=StartOptions(), now=now + 2 * MINUTE)
    assert admitted.reservation.id == mine.id and len(admitted.unit_ids) == 2


def test_an_outage_ends_preemptible_jobs_in_time_and_leaves_others(site: Site):
    job, keeps = run_job(site, "gpu-a", now=NOW), run_job(site, "gpu-a", now=NOW, preemptible=False)
    wanted = [Wanted(NOW + HOUR, NOW + 2 * HOUR, "new fans")]
    dry = set_outages(site, "gpu-a", wanted, actor=admin, now=NOW, dry_run=True)
    assert attempt_of(site, job) == job
    report = set_outages(site, "gpu-a", wanted, actor=admin, now=NOW, bookings="keep")
    for one in (dry, report):
        outcomes = {hit.reservation.id: hit.outcome for hit in one.hits}
        assert outcomes == {job.reservation: "yielded", keeps.reservation: "kept"}
    assert attempt_of(site, job).kill_at == NOW + HOUR and attempt_of(site, keeps) == keeps


def test_lost_capacity_ends_jobs_before_any_booking_loses_its_place(site: Site):
    booked = book(site, ask(units=2, node="gpu-a", start=NOW + HOUR), actor=ann, now=NOW)
    young = run_job(site, "gpu-a", now=NOW)
    keeps = run_job(site, "gpu-a", now=NOW, preemptible=False)
    smaller = replace(site, catalog=catalog(gpu_a=3, gpu_b=2))
    lost = {one.reservation: one.outcome for one in catalog_sync.sync(smaller, now=NOW + MINUTE)}
    assert get(site, booked.id).nodes == ("gpu-a",) and lost == {young.reservation: "yielded"}
    assert attempt_of(site, keeps) == keeps and attempt_of(site, young).stop_reason == "preempted"
    none = replace(site, catalog=catalog(gpu_b=2))
    lost = {one.reservation: one.outcome for one in catalog_sync.sync(none, now=NOW + 2 * MINUTE)}
    assert lost == {keeps.reservation: "yielded", booked.id: "moved"}
    assert attempt_of(site, keeps).stop_reason == "node_lost"
    assert violations(site.engine, since=NOW + 2 * MINUTE) == []


@pytest.mark.parametrize("how", ["released", "shortened"])
def test_a_booking_that_ends_earlier_ends_the_jobs_inside_it(site: Site, how: str):
    booked = book(site, ask(units=2, duration=6 * HOUR), actor=ann, now=NOW)
    inside = run_job(site, *booked.nodes, now=NOW, owner="ann", units=2, inside=booked.id)
    at = NOW + HOUR
    if how == "released":
        cancel(site, booked.id, actor=ann, now=at)
    else:
        change(site, booked.id, Changes(end=at), actor=ann, now=NOW + MINUTE)
    told = attempt_of(site, inside)
    assert (told.kill_at, told.stop_reason) == (at + MINUTE if how == "released" else at, "time_limit")
    assert get(site, inside.reservation).end == at
    assert violations(site.engine) == []


def test_a_booking_whose_place_is_gone_takes_no_job_along(site: Site):
    booked = book(site, ask(units=2, duration=6 * HOUR), actor=ann, now=NOW)
    inside = run_job(site, "gpu-b", now=NOW, owner="ann", units=1, inside=booked.id)
    lost = catalog_sync.sync(replace(site, catalog=catalog(gpu_a=4)), now=NOW + MINUTE)
    assert {one.reservation: one.outcome for one in lost} == {booked.id: "moved"}
    assert get(site, inside.reservation).allocations == () and attempt_of(site, inside).kill_at == NOW + 2 * MINUTE


def test_units_stay_taken_while_a_job_inside_runs_on_though_the_server_is_gone(site: Site):
    booked = book(site, ask(units=2, duration=6 * HOUR), actor=ann, now=NOW)
    admit(site, actor=ann, server="", options=StartOptions(), now=NOW)
    inside = run_job(site, *booked.nodes, now=NOW, owner="ann", units=1, inside=booked.id)
    gone(site, booked.id, now=NOW + MINUTE)
    assert held(site) == {booked.id}
    ended(site, inside, NOW + 2 * MINUTE)
    gone(site, booked.id, now=NOW + 3 * MINUTE)
    with transaction(site.engine) as connection:
        assert yielding.held_by_jobs(connection, held(site)) == set()


async def test_who_came_with_a_job_instead_of_a_server_came(site: Site):
    house = House(site)
    booked = house.book(duration=6 * HOUR)
    with transaction(site.engine) as connection:
        connection.exec_driver_sql(f"UPDATE mlmp_reservation SET no_show_grace = {10 * MINUTE}")
    run_job(site, *booked.nodes, now=NOW, owner="ann", inside=booked.id)
    await house.clock.tick(NOW + 20 * MINUTE)
    assert get(site, booked.id).state(NOW + 20 * MINUTE) == "active"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield running
    running.kill()
    running.wait()


@pytest.mark.parametrize("within", [False, True])
def test_a_job_on_its_own_units_is_no_intruder(
    site: Site, tmp_path: Path, process: subprocess.Popen[bytes], within: bool
):
    booked = book(site, ask(node="gpu-b", duration=6 * HOUR), actor=ann, now=NOW).id if within else None
    job = run_job(site, "gpu-b", now=NOW, owner="ann", inside=booked)
    with site.engine.connect() as connection:
        unit = connection.execute(select(unit_in_use.c.unit)).scalar_one()
    records = tmp_path / "jobs" / "running"
    records.mkdir(parents=True)
    record = Record(job.id, "ann", "", process.pid, processes.identity(process.pid) or "")
    processes.write_record(records / f"{job.id}.json", record)
    looking = watch(site, tmp_path, Gpus({unit: UnitUse(80, 5, frozenset({process.pid}))}), intruders="stop")
    for at in (NOW, NOW + EVERY, NOW + 2 * EVERY):
        seen = looking.look(at)
    assert seen.intruders == () and seen.bookings == () and process.poll() is None


def test_a_calendar_has_bookings_alone(site: Site):
    token = people.make_calendar_token(site.engine, "ann", now=NOW)
    run_job(site, "gpu-b", now=NOW, owner="ann")
    mine = book(site, ask(), actor=ann, now=NOW)
    feed = calendar.feed(site, token, now=NOW + MINUTE)
    assert feed is not None and [row.id for row in feed.bookings] == [mine.id]


def test_who_books_is_not_told_of_a_job_that_is_not_in_the_way(site: Site):
    job = run_job(site, "gpu-b", now=NOW, units=2)
    assert book(site, ask(units=2), actor=ben, now=NOW).nodes == ("gpu-a",)
    assert attempt_of(site, job) == job
