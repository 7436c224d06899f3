"""A site with a queue of jobs and a remembered back-end, so that a test reads as a story."""

from __future__ import annotations

from mlmp_spawner.jobs.base import Order
from mlmp_spawner.operations.jobs.look import Queue
from mlmp_spawner.operations.site import Site, new_id
from mlmp_spawner.rules.jobs import GRACE, Attempt, Job
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store import reservations
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import HOUR
from tests.jobs.remembered import RememberedJobs
from tests.operations.conftest import GPU, NOW


def submitted(site: Site, owner: str = "eve", *, now: int = NOW, **fields: object) -> Job:
    """A job in the queue."""
    known: dict[str, object] = {
        "id": new_id(), "owner": owner, "name": "train", "profile": "gpu", "resource": GPU, "units": 1, "workers": 1,
        "length": 4 * HOUR, "manifest": {"name": "train", "command": ["true"]}, "grace": GRACE,
        "created_at": now, "queued_at": now,
    }  # fmt: skip
    with transaction(site.engine) as connection:
        known["owner_id"] = reservations.user_id(connection, owner)
        job = Job(**known | fields)  # type: ignore[arg-type]
        store.insert_job(connection, job, {"TOKEN": "secret"})
    return job


class Written:
    """What is written of jobs."""

    site: Site

    def job(self, job: Job) -> Job:
        """The job as it is now."""
        with read(self.site.engine) as connection:
            found = store.find(connection, job.id)
        assert found is not None
        return found

    def attempt(self, job: Job) -> Attempt:
        """Its last attempt."""
        return self.job(job).attempts[-1]

    def holding(self, job: Job) -> Reservation:
        """The reservation of its last attempt."""
        with read(self.site.engine) as connection:
            found = reservations.find(connection, self.attempt(job).reservation)
        assert found is not None
        return found


class Shop(Written):
    """The queue, and what runs."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.backend = RememberedJobs(now=NOW)
        self.queue = Queue(lambda: self.site, self.backend)
        self.now = NOW

    async def tick(self, now: int | None = None) -> int:
        """A look at ``now``, or at the time of the last one."""
        self.now = self.now if now is None else now
        self.backend.pass_time(self.now)
        following = await self.queue.tick(self.now)
        assert self.queue.steps.failures == 0
        return following

    async def run(self, owner: str = "eve", **fields: object) -> Job:
        """A job that runs, as two looks see it."""
        job = submitted(self.site, owner, now=self.now, **fields)
        await self.tick()
        await self.tick()
        assert self.job(job).state() == "running", self.job(job)
        return job

    def order(self, job: Job) -> Order:
        """What the back-end was told of its last attempt."""
        return self.backend.orders[self.attempt(job).id]
