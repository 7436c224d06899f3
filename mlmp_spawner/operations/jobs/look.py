"""The look at jobs: what waits is started where it fits, what runs is compared with what is written.

Each step is one short transaction or one verb of the back-end that may be repeated, in an order that leaves a crash
nothing but work to do again: an attempt is written before it is submitted, and forgotten by the back-end only after
its end was written. Of two looks at once one writes, and the other finds it done.

How what waits is started is :mod:`mlmp_spawner.operations.jobs.starts`' part.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from mlmp_spawner.jobs.base import Backend, Seen
from mlmp_spawner.operations.jobs import ending
from mlmp_spawner.operations.jobs.starts import AtOnce, Starts, give_up
from mlmp_spawner.operations.jobs.steps import Steps, lives
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.job_queue import Outlook
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY, MINUTE, SECOND

log = logging.getLogger(__name__)

RUNS_WITHIN = 30 * MINUTE
"""How long the back-end may take from a start until the program runs: to pull an image, to wait for a job that makes
way, for a file server. Then it is tried again, and may come to another node."""

START_PATIENCE = 3 * MINUTE
"""How long a start is tried that the back-end knows nothing of, until it counts as the platform's failure."""

SOON = SECOND // 2
"""How long (ms) after a start is looked whether it runs."""


class Queue:
    """Runs :meth:`tick` whenever something may have changed.

    :param site: gives the site as it is now, since the catalog may change.
    :param starts: how what waits is started, where that is not all at once; None with a back-end that has a queue of
        its own: nothing is. :param half_life: in ms, after which what was used counts half.
    :param interval: the longest wait between two ticks, in ms.
    """

    def __init__(
        self,
        site: Callable[[], Site],
        backend: Backend,
        starts: Starts | None = None,
        *,
        half_life: int = 7 * DAY,
        interval: int = 2 * SECOND,
    ) -> None:
        self.site = site
        self.steps = Steps(backend)
        self.half_life = half_life
        self.interval = interval
        self.last_tick: int | None = None
        self._starts = starts
        self._at_once = AtOnce(half_life)

    @property
    def backend(self) -> Backend:
        """Where jobs run."""
        return self.steps.backend

    @property
    def starts(self) -> Starts | None:
        """How what waits is started; None: it is not."""
        return self._starts or (None if self.backend.queues else self._at_once)

    def outlook(self, job_id: str) -> Outlook | None:
        """What is to be expected for a job that waits; None where the last look knew nothing of it."""
        return None if self.starts is None else self.starts.outlook.get(job_id)

    async def tick(self, now: int) -> int:
        """Does all that is to be done at ``now``; returns when to come again, in ms UTC.

        :raises MLMPError: the back-end, or the database, can't be asked just now; nothing is concluded from that.
        """
        site, starts = self.site(), self.starts
        # Seen first: whatever is seen was written before, and what is written later is looked at the next time.
        seen = await self.steps.asked(self.backend.list())
        if starts is not None:
            await starts.notice(self.steps, site, now)
        live = await asyncio.to_thread(_live, site)
        await self.steps.each(live, lambda one: self._compare(site, *one, seen.get(one[1].id), now))
        await self._clear(site, {attempt.id for _, attempt in live}, seen, now)
        begun = await starts.look(self.steps, site, seen, now) if starts is not None else 0
        self.last_tick = now
        return now + SOON if begun else self._next(now, [attempt for _, attempt in live])

    def _next(self, now: int, live: Iterable[Attempt]) -> int:
        times = [time for attempt in live for time in (attempt.stop_at, attempt.kill_at) if time > now]
        outlook = self.starts.outlook.values() if self.starts is not None else ()
        times += [one.start for one in outlook if one.start is not None and one.start > now]
        return min([now + self.interval, *times])

    # -- what is under way -------------------------------------------------------------------------------------

    async def _compare(self, site: Site, job: Job, attempt: Attempt, seen: Seen | None, now: int) -> None:
        """Makes what is written of an attempt agree with what is seen of it, and tells the back-end its times."""
        if seen is None:
            seen = await self.steps.asked(self.backend.state(attempt.id))
        if seen is None:
            await self._unseen(site, attempt, now)
            return
        if seen.phase == "ended":
            await self._ended(site, attempt, seen, now)
            return
        if seen.phase == "running" and attempt.started_at is None:
            at = min(now, max(attempt.starting_at, seen.started_at or now))
            await asyncio.to_thread(ending.started, site, attempt, at)
            attempt = replace(attempt, started_at=at)
        elif attempt.started_at is None and now >= attempt.starting_at + RUNS_WITHIN and attempt.stop_reason is None:
            # Its units, or its owner's files, may be where it never gets them.
            await asyncio.to_thread(ending.sent_away, site, job, attempt, "platform", at=now, now=now)
        if job.owner_id is None and job.cancel_asked_at is None:
            await asyncio.to_thread(give_up, site, job, now)
        await self._tell(site, job, attempt, now)

    async def _unseen(self, site: Site, attempt: Attempt, now: int) -> None:
        """Nothing of it runs: it was never submitted, or is gone without a trace."""
        if attempt.started_at is not None:
            await self._ended(site, attempt, Seen(attempt.id, "ended", reason="vanished"), now)
        elif now >= attempt.stop_at:
            await self._given_up(site, attempt, "", now)
        elif now >= attempt.starting_at + START_PATIENCE:
            await self._given_up(site, attempt, "It could not be started.", now)
        else:
            await self.steps.submit(site, attempt)

    async def _given_up(self, site: Site, attempt: Attempt, message: str, now: int) -> None:
        """Its units go to others, so nobody who was asked before may start it any more, however late."""
        await self.steps.asked(self.backend.cancel(attempt.id, stop_at=now, kill_at=now))
        if await self.steps.asked(self.backend.state(attempt.id)) is None:
            await self._ended(site, attempt, Seen(attempt.id, "ended", reason="platform", message=message), now)

    async def _ended(self, site: Site, attempt: Attempt, seen: Seen, now: int) -> None:
        await asyncio.to_thread(ending.ended, site, attempt, seen, half_life=self.half_life, now=now)
        await self.steps.forget(attempt.id)

    async def _tell(self, site: Site, job: Job, attempt: Attempt, now: int) -> None:
        """Tells the back-end when the attempt ends, where that is news, and once it is time; again and again
        once it should be gone."""
        told = (attempt.stop_at, attempt.kill_at, now >= attempt.stop_at)
        if self.steps.told.get(attempt.id) != told or now >= attempt.kill_at:
            await self.steps.asked(self.backend.cancel(attempt.id, stop_at=attempt.stop_at, kill_at=attempt.kill_at))
            self.steps.told[attempt.id] = told
        if now >= attempt.stop_at and attempt.stopping_at is None:
            await asyncio.to_thread(ending.stopping, site, job, attempt, now=now)

    async def _clear(self, site: Site, live: set[str], seen: Mapping[str, Seen], now: int) -> None:
        """What the back-end has and nobody asked for any more: an end that was written down, or a stray attempt."""
        keeps = self.starts is not None and self.starts.keeps
        strays = [
            one for one in seen.values() if one.id not in live and not (keeps and one.phase in ("queued", "starting"))
        ]
        await self.steps.each(strays, lambda one: self._clear_away(site, one, now))

    async def _clear_away(self, site: Site, seen: Seen, now: int) -> None:
        if await asyncio.to_thread(lives, site, seen.id):
            return
        if seen.phase == "ended":
            await self.steps.forget(seen.id)
        else:
            log.warning("the attempt %s runs, and nothing allows it to: it is ended", seen.id)
            await self.steps.asked(self.backend.cancel(seen.id, stop_at=now, kill_at=now))


def _live(site: Site) -> list[tuple[Job, Attempt]]:
    with read(site.engine) as connection:
        return [(job, job.live) for job in store.live_jobs(connection) if job.live is not None]
