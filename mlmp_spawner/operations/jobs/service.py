"""The jobs' part of the service: the queue, what looks at what jobs use, what keeps their files within bounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlmp_spawner import units
from mlmp_spawner.errors import MLMPError
from mlmp_spawner.jobs.base import Backend
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.off import Drained, NoJobs, not_in_clusters, switched_off
from mlmp_spawner.operations.jobs import keeping
from mlmp_spawner.operations.jobs.look import Queue
from mlmp_spawner.operations.jobs.sampling import UseSampling
from mlmp_spawner.operations.jobs.starts import Starts
from mlmp_spawner.operations.site import Site
from mlmp_spawner.settings import MLMP
from mlmp_spawner.units import DAY, HOUR

log = logging.getLogger(__name__)

AFTER_FAILURE = 1.0
TIDY_EVERY = HOUR / 1000
TIDY_AFTER, TIDY_SOONEST = 16, 10.0
"""It is tidied up earlier once so many attempts began: each may leave some 100 MiB behind within a second. Not more
often than each so many seconds."""
TICK_PATIENCE = 120.0


class JobService:
    """What the service does for jobs.

    :param site: gives the site as it is now. :param backend: where they run; None where nothing runs any.
    :param starts: how those that wait are started, where that is not all at once.

    Where jobs are off (``off`` says why) none starts, and those that run are brought to their end.
    """

    def __init__(
        self, site: Callable[[], Site], backend: Backend | None, settings: MLMP, starts: Starts | None = None
    ) -> None:
        self.site = site
        self.off = not_in_clusters if backend is None else None if settings.jobs else switched_off
        self.backend: Backend = NoJobs() if backend is None else Drained(backend) if self.off else backend
        self.settings = settings
        self.files = JobFiles(Path(settings.data) / "jobs")
        starts = None if self.off else starts
        self.queue = Queue(site, self.backend, starts, half_life=round(settings.job_half_life * DAY))
        self.sampling = None if settings.backend == "kubernetes" else UseSampling(site, self.files)
        self.last_tick: int | None = None
        self._due = asyncio.Event()

    def wake(self) -> None:
        """Something changed: the queue looks at once."""
        self._due.set()

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """What runs as long as the service does. No failure ends one of them."""
        if isinstance(self.backend, NoJobs):  # and a cluster's service may have no room for files
            return [self._queue_loop()]
        self.files.prepare()
        loops = [self._queue_loop(), self._tidy_loop()]
        if self.sampling is not None:
            every = self.settings.job_sample_every
            loops.append(_again_and_again(self._sample, every, "looking at what jobs use"))
        return loops

    async def _queue_loop(self) -> None:
        """Ticks whenever something is due."""
        problem = ""
        while True:
            self._due.clear()
            wait = AFTER_FAILURE
            try:
                following = await asyncio.wait_for(self.queue.tick(units.now()), TICK_PATIENCE)
                wait, problem = max(0.05, (following - units.now()) / 1000), ""
            except MLMPError as error:
                if error.detail != problem:  # once, not every second
                    log.warning("the queue of jobs could not do all of its work, tried again: %s", error.detail)
                problem = error.detail
            except Exception:
                log.exception("a look at the jobs failed; tried again")
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._due.wait(), wait)

    async def _sample(self) -> None:
        assert self.sampling is not None
        await asyncio.to_thread(self.sampling.look, units.now())

    async def _tidy_loop(self) -> None:
        """Tidies up once an hour, and earlier where much began."""
        while True:
            begun = self.queue.steps.begun
            try:
                await self._tidy()
            except Exception:
                log.exception("tidying up after jobs failed; tried again")
            for _ in range(round(TIDY_EVERY / TIDY_SOONEST)):
                await asyncio.sleep(TIDY_SOONEST)
                if self.queue.steps.begun >= begun + TIDY_AFTER:
                    break

    async def _tidy(self) -> None:
        keep = round(self.settings.job_logs_kept * DAY)
        await asyncio.to_thread(keeping.tidy, self.site(), self.files, keep=keep, now=units.now())


async def _again_and_again(act: Callable[[], Awaitable[None]], every: float, what: str) -> None:
    while True:
        try:
            await act()
        except Exception:
            log.exception("%s failed; tried again", what)
        await asyncio.sleep(every)
