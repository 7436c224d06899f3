"""Where jobs are off: nothing starts, what is under way comes to its end, and everybody is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from mlmp_spawner.errors import JobsOff
from mlmp_spawner.jobs.off import Drained, NoJobs
from mlmp_spawner.operations.jobs.cancel import cancel
from mlmp_spawner.operations.jobs.look import START_PATIENCE
from mlmp_spawner.operations.jobs.service import JobService
from mlmp_spawner.operations.site import Site
from mlmp_spawner.settings import MLMP
from mlmp_spawner.store.tables import unit_in_use
from mlmp_spawner.units import HOUR, MINUTE
from tests.jobs.remembered import RememberedJobs
from tests.operations.conftest import NOW, eve
from tests.operations.jobs.queueing import Shop, submitted


def in_use(site: Site) -> int:
    with site.engine.connect() as connection:
        return len(connection.execute(select(unit_in_use)).all())


def switch_off(shop: Shop, *, anything: bool = True) -> None:
    """The service was restarted with jobs off; without ``anything``, with no back-end at all."""
    shop.queue.steps.backend = Drained(shop.backend) if anything else NoJobs()


async def test_nothing_starts_and_what_runs_goes_on_to_its_end(site: Site):
    shop = Shop(site)
    running = await shop.run(units=2)
    switch_off(shop)
    waiting = submitted(site, now=shop.now)
    await shop.tick(NOW + MINUTE)
    assert shop.job(running).state() == "running" and shop.job(waiting).state() == "queued"
    shop.backend.end(shop.attempt(running).id)
    await shop.tick(NOW + 2 * MINUTE)
    assert shop.job(running).outcome == "succeeded" and in_use(site) == 0
    assert shop.job(waiting).state() == "queued"
    assert cancel(site, waiting.id, actor=eve, now=shop.now).outcome == "cancelled"


async def test_what_runs_still_ends_at_its_time(site: Site):
    shop = Shop(site)
    job = await shop.run(length=HOUR)
    switch_off(shop)
    for now in (NOW + HOUR, shop.attempt(job).kill_at):
        await shop.tick(now)
    assert (shop.job(job).state(), shop.job(job).reason, in_use(site)) == ("ended", "time_limit", 0)


async def test_what_was_about_to_start_waits_again(site: Site):
    shop = Shop(site)
    shop.backend.deaf = True
    job = submitted(site)
    await shop.tick()
    assert shop.job(job).state() == "starting"
    switch_off(shop)
    for now in (NOW + MINUTE, NOW + START_PATIENCE, NOW + START_PATIENCE + MINUTE):
        await shop.tick(now)
    assert shop.job(job).state() == "queued" and in_use(site) == 0 and not shop.backend.orders


async def test_after_a_move_to_where_nothing_runs_no_attempt_stays_under_way(site: Site):
    shop = Shop(site)
    job = await shop.run()
    switch_off(shop, anything=False)
    await shop.tick(NOW + MINUTE)
    assert shop.job(job).state() == "queued" and shop.attempt(job).reason == "vanished" and in_use(site) == 0


async def test_a_drained_back_end_takes_nothing_but_what_it_has(site: Site):
    shop = Shop(site)
    job = await shop.run()
    drained = Drained(shop.backend)
    order = shop.order(job)
    await drained.submit(order)
    shop.backend.seen.clear()
    with pytest.raises(JobsOff, match="switched them off"):
        await drained.submit(order)


def test_the_service_says_why_jobs_are_off(site: Site, tmp_path: Path):
    settings = MLMP(data=str(tmp_path / "there is no such folder"))
    service = JobService(lambda: site, None, settings)
    assert service.off is not None and "Kubernetes" in service.off().detail
    loops = service.loops()
    assert len(loops) == 1 and not Path(settings.data).exists(), "without jobs it needs no room for files"
    for loop in loops:
        loop.close()
    settings.jobs = False
    off = JobService(lambda: site, RememberedJobs(), settings).off
    assert off is not None and "c.MLMP.jobs = True" in str(off().hint)
    settings.jobs = True
    assert JobService(lambda: site, RememberedJobs(), settings).off is None
