"""What the service does for jobs besides looking at them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

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
