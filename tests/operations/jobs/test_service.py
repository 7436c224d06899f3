"""What the service does for jobs besides looking at them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from mlmp_spawner.hub import HubClient
from mlmp_spawner.operations.cluster import Cluster
from mlmp_spawner.operations.jobs import service
from mlmp_spawner.operations.jobs.service import JobService
from mlmp_spawner.operations.site import Site
from mlmp_spawner.settings import MLMP
from tests.jobs.remembered import RememberedJobs


class Tidied(JobService):
    """One that counts how often it tidied up."""

    times = 0

    async def _tidy(self) -> None:
        await super()._tidy()
        self.times += 1


async def test_where_much_begins_it_is_tidied_up_long_before_the_hour(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "TIDY_SOONEST", 0.01)
    jobs = Tidied(lambda: site, RememberedJobs(), MLMP(data=str(tmp_path)))
    jobs.files.prepare()
    loop = asyncio.create_task(jobs._tidy_loop())
    try:
        for times in (1, 2, 3):
            while jobs.times < times:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert jobs.times == times, "nothing began since"
            jobs.queue.steps.begun += service.TIDY_AFTER
    finally:
        loop.cancel()
        with suppress(asyncio.CancelledError):
            await loop


async def test_in_a_cluster_jobs_run_where_the_chart_has_switched_them_on(site: Site, tmp_path: Path):
    settings = MLMP(data=str(tmp_path), backend="kubernetes", job_api_url="http://service/api/v1/")
    hub = HubClient("http://hub/", "token")
    cluster = Cluster(lambda: site, settings, hub, secret=b"secret")
    jobs = JobService(lambda: site, cluster.jobs, settings, cluster.job_starts)
    assert jobs.off is None and jobs.queue.starts is cluster.job_starts and jobs.sampling is None
    settings.jobs = False
    drained = JobService(lambda: site, cluster.jobs, settings, cluster.job_starts)
    assert drained.off is not None and drained.queue.starts is None, "what runs comes to its end, and nothing begins"
    settings.job_api_url = ""
    without = Cluster(lambda: site, settings, hub, secret=b"secret")
    assert without.jobs is None and without.job_starts is None
    off = JobService(lambda: site, without.jobs, settings, without.job_starts).off
    assert off is not None and "jobs.enabled" in str(off().hint)
    for one in (cluster, without):
        await one.close()
    await hub.close()
