"""The look at jobs killed at each single step of what it does: the next one does the rest, and nothing twice."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from mlmp_spawner.operations.jobs.cancel import cancel
from mlmp_spawner.operations.jobs.look import Queue
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.units import MINUTE, SECOND
from tests.jobs.remembered import Killed, MortalJobs
from tests.operations.conftest import NOW, eve
from tests.operations.jobs.queueing import Shop, submitted
from tests.operations.jobs.test_look import units_held

MANY = 100


class DyingShop(Shop):
    """Its queue is killed after some steps and begun anew, until it gets through."""

    def __init__(self, site: Site, step: int) -> None:
        super().__init__(site)
        self.now = NOW + step * MINUTE
        self.mortal = MortalJobs(now=self.now, polite=False)
        self.backend = self.queue.steps.backend = self.mortal
        self.step = step
        self.killed = False
        event.listen(site.engine, "commit", self.mortal.step)

    async def look_killed(self) -> None:
        """A look that is killed at its step, and then two that are not."""
        self.mortal.left = self.step
        try:
            await self.queue.tick(self.now)
        except Killed:
            self.killed = True
        self.mortal.left = None
        self.queue = Queue(lambda: self.site, self.mortal)
        await self.tick()
        await self.tick()

    def close(self) -> None:
        event.remove(self.site.engine, "commit", self.mortal.step)


async def life(shop: DyingShop, dies_at: str) -> Job:
    """A job's life, with the look killed in one part of it."""
    job = submitted(shop.site, now=shop.now)
    await (shop.look_killed() if dies_at == "start" else shop.tick())
    await shop.tick()
    if dies_at == "vanish":
        shop.backend.vanish(shop.attempt(job).id)
        await shop.look_killed()
        assert [attempt.reason for attempt in shop.job(job).attempts] == ["vanished", None]
    if dies_at == "cancel":
        cancel(shop.site, job.id, actor=eve, now=shop.now)
        await shop.look_killed()
        assert shop.backend.times[shop.attempt(job).id][0] == shop.now and shop.job(job).state() == "stopping"
    shop.now += SECOND
    shop.backend.now = shop.now
    shop.backend.end(shop.attempt(job).id)
    await (shop.look_killed() if dies_at == "end" else shop.tick())
    return shop.job(job)


@pytest.mark.parametrize("dies_at", ["start", "vanish", "cancel", "end"])
async def test_killed_at_any_step_the_next_look_does_the_rest(site: Site, dies_at: str):
    for step in range(1, MANY):
        shop = DyingShop(site, step)
        ended = await life(shop, dies_at)
        shop.close()
        assert ended.outcome == ("cancelled" if dies_at == "cancel" else "succeeded")
        assert len(ended.attempts) == (2 if dies_at == "vanish" else 1)
        assert units_held(site) == {} and shop.backend.seen == {}
        if not shop.killed:
            break
    assert 1 < step < MANY - 1, "there were steps to be killed at, and an end to them"
