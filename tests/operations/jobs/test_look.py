"""The look at jobs: what fits is started, what runs is compared with what is written, and each job ends once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.jobs.base import Seen
from mlmp_spawner.operations import history
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.jobs.cancel import cancel
from mlmp_spawner.operations.jobs.look import RUNS_WITHIN, START_PATIENCE
from mlmp_spawner.operations.jobs.orders import LOG_LIMIT
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import LimitRules, Limits
from mlmp_spawner.rules.job_queue import Outlook, Why
from mlmp_spawner.rules.jobs import FREE_TRIES, GRACE
from mlmp_spawner.store.tables import outage, unit_in_use, users
from mlmp_spawner.units import DAY, HOUR, MINUTE, SECOND
from tests.invariant import violations
from tests.operations.conftest import GPU, NOW, ann, eve
from tests.operations.jobs.queueing import Shop, submitted


def units_held(site: Site) -> dict[str, str]:
    with site.engine.connect() as connection:
        return {row.unit: row.holder for row in connection.execute(select(unit_in_use))}


def actions_on(site: Site, job: str) -> list[str]:
    """What the history tells of a job."""
    return [entry.action for entry in history.since(site.engine, 0) if entry.details.get("job") == job]


async def test_a_job_gets_units_of_its_own_runs_and_ends_once(site: Site):
    shop = Shop(site)
    job = await shop.run(units=2)
    attempt, order = shop.attempt(job), shop.order(job)
    assert (attempt.number, attempt.starting_at, attempt.stop_at) == (1, NOW, NOW + 4 * HOUR)
    assert attempt.kill_at == attempt.stop_at + GRACE == shop.holding(job).end
    assert shop.holding(job).kind == "job" and shop.holding(job).owner == "eve"
    assert order.secrets == {"TOKEN": "secret"} and order.manifest["command"] == ["true"]
    assert set(units_held(site)) == set(order.places[0].units) and len(order.places[0].units) == 2
    shop.now += HOUR
    shop.backend.now = shop.now
    shop.backend.end(attempt.id)
    await shop.tick()
    ended = shop.job(job)
    assert (ended.state(), ended.outcome, ended.reason, ended.exit_status) == ("ended", "succeeded", "succeeded", 0)
    assert shop.holding(job).end == shop.now and units_held(site) == {}
    assert shop.backend.forgotten == [attempt.id]
    await shop.tick()
    assert shop.job(job) == ended
    assert actions_on(site, job.id) == ["job_started", "job_running", "job_ended"]


async def test_that_it_runs_and_is_to_end_is_in_the_history_once(site: Site):
    shop = Shop(site)
    shop.backend.polite = False
    job = await shop.run(length=HOUR)
    await shop.tick()
    for later in (0, SECOND):
        await shop.tick(NOW + HOUR + later)
    assert actions_on(site, job.id) == ["job_started", "job_running", "job_stopping"]


async def test_a_booking_is_never_in_the_way_of_what_it_leaves_free(site: Site):
    shop = Shop(site)
    for node, count in (("gpu-a", 4), ("gpu-b", 2)):
        book(site, BookingRequest("gpu", start=NOW + HOUR, duration=HOUR, units=count, node=node), actor=ann, now=NOW)
    job = await shop.run(length=4 * HOUR)
    assert shop.attempt(job).kill_at == NOW + HOUR
    assert shop.attempt(job).stop_at == NOW + HOUR - GRACE
    await shop.tick(NOW + HOUR - GRACE)
    await shop.tick(NOW + HOUR - GRACE)
    again = shop.job(job)
    assert (again.state(), again.front) == ("queued", True)
    assert again.attempts[0].reason == "preempted" and again.attempts[0].ended_at == NOW + HOUR - GRACE
    outlook = shop.queue.outlook(job.id)
    assert outlook is not None and outlook.start == NOW + 2 * HOUR
    await shop.tick(NOW + 2 * HOUR)
    assert shop.job(job).state() == "starting" and len(shop.job(job).attempts) == 2
    assert violations(site.engine) == []


async def test_what_is_not_preemptible_waits_for_its_whole_time(site: Site):
    shop = Shop(site)
    for node, count in (("gpu-a", 4), ("gpu-b", 2)):
        book(site, BookingRequest("gpu", start=NOW + HOUR, duration=HOUR, units=count, node=node), actor=ann, now=NOW)
    job = submitted(site, preemptible=False)
    await shop.tick()
    assert shop.job(job).state() == "queued"


async def test_whose_hours_are_over_is_told_to_end_and_has_failed(site: Site):
    shop = Shop(site)
    shop.backend.polite = False
    job = await shop.run(length=HOUR)
    await shop.tick(NOW + HOUR)
    assert shop.job(job).state() == "stopping" and shop.attempt(job).stop_reason == "time_limit"
    await shop.tick(NOW + HOUR + GRACE)
    ended = shop.job(job)
    assert (ended.outcome, ended.reason) == ("failed", "time_limit")


async def test_a_failure_of_its_own_is_tried_again_as_often_as_was_asked(site: Site):
    shop = Shop(site)
    job = await shop.run(retries=1)
    shop.backend.end(shop.attempt(job).id, "exit_status", 3, "boom")
    await shop.tick()
    again = shop.job(job)
    assert (again.failures, again.front, len(again.attempts)) == (1, False, 2) and again.state() == "starting"
    await shop.tick()
    shop.backend.end(shop.attempt(job).id, "out_of_memory", None)
    await shop.tick()
    ended = shop.job(job)
    assert (ended.outcome, ended.reason, len(ended.attempts)) == ("failed", "out_of_memory", 2)


async def test_what_vanished_is_the_platforms_failure_and_tried_again_for_free(site: Site):
    shop = Shop(site)
    job = await shop.run()
    first = shop.attempt(job)
    shop.backend.vanish(first.id)
    await shop.tick()
    again = shop.job(job)
    assert again.attempts[0].reason == "vanished" and (again.faults, again.failures) == (1, 0)
    assert shop.attempt(job).number == 2 and shop.attempt(job).id in shop.backend.running()


async def test_no_job_runs_in_circles_for_ever(site: Site):
    shop = Shop(site)
    job = await shop.run()
    for _ in range(FREE_TRIES + 1):
        await shop.tick()
        shop.backend.vanish(shop.attempt(job).id)
        await shop.tick()
    assert (shop.job(job).outcome, shop.job(job).reason) == ("failed", "vanished")


async def test_an_attempt_that_was_written_and_never_submitted_is_submitted(site: Site):
    shop = Shop(site)
    shop.backend.deaf = True
    job = submitted(site)
    await shop.tick()
    assert shop.job(job).state() == "starting" and not shop.backend.running()
    shop.backend.deaf = False
    await shop.tick(NOW + SECOND)
    await shop.tick(NOW + SECOND)
    assert shop.job(job).state() == "running" and len(shop.job(job).attempts) == 1


async def test_a_start_that_comes_to_nothing_is_given_up(site: Site):
    shop = Shop(site)
    shop.backend.deaf = True
    job = submitted(site)
    await shop.tick()
    await shop.tick(NOW + START_PATIENCE)
    assert shop.job(job).attempts[0].reason == "platform" and shop.job(job).faults == 1


async def test_what_began_and_does_not_get_to_run_is_sent_away_and_tried_again(site: Site):
    shop = Shop(site)
    job = submitted(site)
    await shop.tick()
    attempt = shop.attempt(job)
    shop.backend.seen[attempt.id] = Seen(attempt.id, "starting")
    await shop.tick(NOW + RUNS_WITHIN - 1)
    assert shop.attempt(job).stop_reason is None
    await shop.tick(NOW + RUNS_WITHIN)
    told = shop.attempt(job)
    assert (told.stop_reason, told.kill_at) == ("platform", NOW + RUNS_WITHIN + GRACE)
    shop.backend.seen[attempt.id] = Seen(attempt.id, "ended", ended_at=told.kill_at, reason="vanished")
    await shop.tick(told.kill_at)
    again = shop.job(job)
    assert (again.attempts[0].reason, again.faults, again.ended_at) == ("platform", 1, None)


async def test_who_never_ran_in_all_its_hours_has_not_failed(site: Site):
    shop = Shop(site)
    job = submitted(site, length=10 * MINUTE)
    await shop.tick()
    attempt = shop.attempt(job)
    shop.backend.seen[attempt.id] = Seen(attempt.id, "starting")
    await shop.tick(NOW + 10 * MINUTE)
    assert shop.attempt(job).stop_reason == "platform"


async def test_who_is_first_seen_to_run_when_its_hours_are_over_had_them(site: Site):
    shop = Shop(site)
    shop.backend.polite = False
    job = submitted(site, length=10 * MINUTE)
    await shop.tick()
    await shop.tick(NOW + 10 * MINUTE)
    assert shop.attempt(job).stop_reason == "time_limit"


async def test_nothing_is_concluded_from_a_back_end_that_does_not_answer(site: Site):
    shop = Shop(site)
    job = await shop.run()
    waits = submitted(site)
    before = shop.job(job)
    shop.backend.silent = True
    with pytest.raises(Unavailable):
        await shop.tick(NOW + HOUR)
    assert shop.job(job) == before and shop.job(waits).attempts == ()
    shop.backend.silent = False
    await shop.tick(NOW + HOUR)
    assert shop.job(job).state() == "running" and shop.job(waits).state() == "starting"


async def test_what_runs_and_was_never_asked_for_is_ended(site: Site):
    shop = Shop(site)
    job = await shop.run()
    attempt = shop.attempt(job)
    order = shop.order(job)
    shop.backend.end(attempt.id)
    await shop.tick()
    await shop.backend.submit(replace(order, id="nobodys-1"))
    await shop.tick()
    assert shop.backend.times["nobodys-1"] == (NOW, NOW)
    await shop.tick()
    await shop.tick()
    assert shop.backend.seen == {} and "nobodys-1" in shop.backend.forgotten


async def test_a_restarted_look_goes_on_with_what_runs(site: Site):
    shop = Shop(site)
    job = await shop.run()
    other = Shop(site)
    other.backend, other.queue.steps.backend = shop.backend, shop.backend
    await other.tick(NOW + MINUTE)
    assert other.job(job).state() == "running" and len(other.job(job).attempts) == 1


async def test_workers_start_all_or_none_and_each_has_units_of_its_own(site: Site):
    shop = Shop(site)
    job = await shop.run(units=2, workers=3)
    places = shop.order(job).places
    assert sorted(place.node for place in places) == ["gpu-a", "gpu-a", "gpu-b"]
    units = [unit for place in places for unit in place.units]
    assert len(units) == len(set(units)) == 6
    other = submitted(site, units=1, workers=2)
    await shop.tick()
    assert shop.job(other).state() == "queued"
    assert violations(site.engine) == []


async def test_what_was_used_counts_for_the_turns_of_the_next(site: Site):
    shop = Shop(site)
    first = await shop.run("ann", units=4, length=2 * HOUR)
    second = await shop.run("ann", units=2, length=2 * HOUR)
    ann_again, ben_now = submitted(site, "ann", units=4), submitted(site, "ben", units=4, now=NOW + 1)
    shop.now += HOUR
    for job in (first, second):
        shop.backend.now = shop.now
        shop.backend.end(shop.attempt(job).id)
    await shop.tick()
    assert shop.job(ben_now).state() == "starting" and shop.job(ann_again).state() == "queued"


async def test_a_job_waits_for_units_on_which_a_former_server_is_still_seen(site: Site):
    shop = Shop(site)
    with site.engine.begin() as connection:
        connection.execute(
            unit_in_use.insert(),
            [
                {"node": node, "resource": GPU, "unit": unit, "holder": "former", "since": NOW}
                for node in ("gpu-a", "gpu-b")
                for unit in site.catalog.unit_ids(node, GPU)
            ],
        )
    job = submitted(site)
    await shop.tick()
    assert shop.job(job).state() == "queued" and violations(site.engine) == []
    assert shop.queue.outlook(job.id) == Outlook(None, Why("in_use"))
    with site.engine.begin() as connection:
        connection.execute(unit_in_use.delete())
    await shop.tick()
    assert shop.job(job).state() == "starting"


async def test_an_outage_that_is_called_off_lets_jobs_start_at_the_next_look(site: Site):
    shop = Shop(site)
    with site.engine.begin() as connection:
        rows = [
            {"id": node, "node": node, "start": NOW, "end": NOW + DAY, "reason": ""} for node in ("gpu-a", "gpu-b")
        ]
        connection.execute(outage.insert(), rows)
    job = submitted(site)
    await shop.tick()
    await shop.tick()
    assert shop.job(job).state() == "queued"
    with site.engine.begin() as connection:
        connection.execute(outage.delete())
    await shop.tick()
    assert shop.job(job).state() == "starting"


async def test_a_job_of_a_deleted_user_never_runs_as_a_namesake(site: Site):
    shop = Shop(site)
    runs = await shop.run("ann")
    waits = submitted(site, "ann", units=4, workers=2)
    with site.engine.begin() as connection:
        connection.execute(users.delete().where(users.c.name == "ann"))
        connection.execute(users.insert().values(id=99, name="ann"))
    await shop.tick()
    assert (shop.job(waits).outcome, shop.job(waits).attempts) == ("cancelled", ())
    assert shop.job(runs).cancel_asked_at == NOW
    await shop.tick()
    await shop.tick()
    assert shop.job(runs).outcome == "cancelled" and shop.backend.running() == {}


async def test_exit_status_0_after_sigterm_is_no_success(site: Site):
    shop = Shop(site)
    shop.backend.polite = False
    job = await shop.run(length=HOUR, retries=3)
    shop.backend.now = NOW + HOUR
    shop.backend.end(shop.attempt(job).id, "succeeded", 0)
    await shop.tick(NOW + HOUR)
    assert (shop.job(job).outcome, shop.job(job).reason) == ("failed", "time_limit")


async def test_a_cancelled_job_gets_its_grace_and_ends_cancelled(site: Site):
    shop = Shop(site)
    shop.backend.polite = False
    job = await shop.run()
    cancel(site, job.id, actor=eve, now=NOW + MINUTE)
    await shop.tick(NOW + MINUTE)
    assert shop.job(job).state() == "stopping"
    assert shop.backend.times[shop.attempt(job).id] == (NOW + MINUTE, NOW + MINUTE + GRACE)
    await shop.tick(NOW + MINUTE + GRACE)
    assert (shop.job(job).outcome, shop.job(job).reason) == ("cancelled", "cancelled")


async def test_a_booking_takes_the_units_of_a_job_which_goes_on_afterwards(site: Site):
    shop = Shop(site)
    job = await shop.run(units=2, workers=3, length=8 * HOUR)
    taken = book(site, BookingRequest("gpu", start=NOW + HOUR, duration=HOUR, units=4), actor=ann, now=NOW + MINUTE)
    attempt = shop.attempt(job)
    assert (attempt.kill_at, attempt.stop_reason) == (taken.start, "preempted")
    await shop.tick(NOW + MINUTE)
    assert shop.backend.times[attempt.id] == (taken.start - GRACE, taken.start)
    await shop.tick(taken.start)
    again = shop.job(job)
    assert (again.state(), again.front, again.faults, again.failures) == ("queued", True, 0, 0)
    assert units_held(site) == {} and violations(site.engine) == []
    await shop.tick(taken.end)
    assert shop.job(job).state() == "starting"


@pytest.mark.parametrize("message", ["half a character \ud800", "a zero \0 byte"])
async def test_whatever_a_back_end_says_of_an_end_it_can_be_written_down(site: Site, message: str):
    shop = Shop(site)
    job = await shop.run()
    attempt = shop.attempt(job)
    shop.backend.seen[attempt.id] = Seen(attempt.id, "ended", NOW, NOW, "exit_status", 1, message)
    await shop.tick()
    assert shop.job(job).state() == "ended" and units_held(site) == {}
    assert shop.job(job).message.startswith(("half a character", "a zero"))


async def test_an_attempt_that_is_given_up_is_not_started_by_who_comes_late(site: Site):
    shop = Shop(site)
    shop.backend.deaf = True
    job = submitted(site)
    await shop.tick()
    attempt = shop.attempt(job)
    shop.backend.times[attempt.id] = (attempt.stop_at, attempt.kill_at)  # it was prepared, and began nothing yet
    await shop.tick(NOW + START_PATIENCE)
    assert shop.job(job).attempts[0].reason == "platform"
    assert shop.backend.times[attempt.id] == (NOW + START_PATIENCE, NOW + START_PATIENCE)


@pytest.mark.parametrize(("allowed", "limit"), [(1000, 1000), (1 << 40, LOG_LIMIT), (None, LOG_LIMIT)])
async def test_a_log_has_no_more_than_may_be_kept_of_its_owners(site: Site, allowed: int | None, limit: int):
    rules = LimitRules(everybody=Limits(job_logs=allowed))
    shop = Shop(replace(site, catalog=site.catalog.model_copy(update={"limits": rules})))
    assert shop.order(await shop.run()).log_limit == limit
