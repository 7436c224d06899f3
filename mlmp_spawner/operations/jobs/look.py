"""The look at jobs: what waits is started where it fits, what runs is compared with what is written.

Each step is one short transaction or one verb of the back-end that may be repeated, in an order that leaves a crash
nothing but work to do again: an attempt is written before it is submitted, and forgotten by the back-end only after
its end was written. Of two looks at once one writes, and the other finds it done.

A back-end with a queue of its own starts its jobs itself; here that part is left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from mlmp_spawner.errors import Changed, Conflict, MLMPError, NotFound, TooLate, Unavailable
from mlmp_spawner.jobs.base import Backend, Order, Seen
from mlmp_spawner.operations.jobs import deciding, ending, orders, quotas, starting
from mlmp_spawner.operations.jobs.cancel import cancel
from mlmp_spawner.operations.site import CLOCK, Site
from mlmp_spawner.rules.job_queue import Outlook, Why
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import Busy, Refused, read
from mlmp_spawner.units import DAY, MINUTE, SECOND

log = logging.getLogger(__name__)

START_PATIENCE = 3 * MINUTE
"""How long a start is tried that the back-end knows nothing of, until it counts as the platform's failure."""

VERB_PATIENCE = 20.0
"""Seconds that one verb of a back-end may take."""

SOON = SECOND // 2
"""How long (ms) after a start is looked whether it runs."""

AT_ONCE = 16
"""Verbs under way at the same time."""

T = TypeVar("T")


class Queue:
    """Runs :meth:`tick` whenever something may have changed.

    :param site: gives the site as it is now, since the catalog may change.
    :param half_life: in ms, after which what was used counts half.
    :param interval: the longest wait between two ticks, in ms.
    """

    def __init__(
        self,
        site: Callable[[], Site],
        backend: Backend,
        *,
        half_life: int = 7 * DAY,
        interval: int = 2 * SECOND,
    ) -> None:
        self.site = site
        self.backend = backend
        self.half_life = half_life
        self.interval = interval
        self.failures = 0
        self.begun = 0
        """How many attempts were submitted so far."""
        self.last_tick: int | None = None
        self._outlook: Mapping[str, Outlook] = {}
        self._done: deciding.Decided | None = None
        self._told: dict[str, tuple[int, int]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def outlook(self, job_id: str) -> Outlook | None:
        """What is to be expected for a job that waits; None where the last look knew nothing of it."""
        return self._outlook.get(job_id)

    async def tick(self, now: int) -> int:
        """Does all that is to be done at ``now``; returns when to come again, in ms UTC.

        :raises MLMPError: the back-end, or the database, can't be asked just now; nothing is concluded from that.
        """
        site = self.site()
        # Seen first: whatever is seen was written before, and what is written later is looked at the next time.
        seen = await self._asked(self.backend.list())
        live = await asyncio.to_thread(_live, site)
        await self._each(live, lambda one: self._compare(site, *one, seen.get(one[1].id), now))
        await self._clear(site, {attempt.id for _, attempt in live}, seen, now)
        begun = 0 if self.backend.queues else await self._start(site, now)
        self.last_tick = now
        return now + SOON if begun else self._next(now, [attempt for _, attempt in live])

    def _next(self, now: int, live: Iterable[Attempt]) -> int:
        times = [time for attempt in live for time in (attempt.stop_at, attempt.kill_at) if time > now]
        times += [one.start for one in self._outlook.values() if one.start is not None and one.start > now]
        return min([now + self.interval, *times])

    # -- what is under way -------------------------------------------------------------------------------------

    async def _compare(self, site: Site, job: Job, attempt: Attempt, seen: Seen | None, now: int) -> None:
        """Makes what is written of an attempt agree with what is seen of it, and tells the back-end its times."""
        if seen is None:
            seen = await self._asked(self.backend.state(attempt.id))
        if seen is None:
            await self._unseen(site, attempt, now)
            return
        if seen.phase == "ended":
            await self._ended(site, attempt, seen, now)
            return
        if seen.phase == "running" and attempt.started_at is None:
            at = min(now, max(attempt.starting_at, seen.started_at or now))
            await asyncio.to_thread(ending.started, site, attempt, at)
        if job.owner_id is None and job.cancel_asked_at is None:
            await asyncio.to_thread(_give_up, site, job, now)
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
            await self._submit(site, attempt)

    async def _given_up(self, site: Site, attempt: Attempt, message: str, now: int) -> None:
        """Its units go to others, so nobody who was asked before may start it any more, however late."""
        await self._asked(self.backend.cancel(attempt.id, stop_at=now, kill_at=now))
        if await self._asked(self.backend.state(attempt.id)) is None:
            await self._ended(site, attempt, Seen(attempt.id, "ended", reason="platform", message=message), now)

    async def _ended(self, site: Site, attempt: Attempt, seen: Seen, now: int) -> None:
        await asyncio.to_thread(ending.ended, site, attempt, seen, half_life=self.half_life, now=now)
        await self._forget(attempt.id)

    async def _forget(self, attempt_id: str) -> None:
        self._told.pop(attempt_id, None)
        await self._asked(self.backend.forget(attempt_id))

    async def _tell(self, site: Site, job: Job, attempt: Attempt, now: int) -> None:
        """Tells the back-end when the attempt ends, where that is news; again and again once it should be gone."""
        times = (attempt.stop_at, attempt.kill_at)
        if self._told.get(attempt.id) != times or now >= attempt.kill_at:
            await self._asked(self.backend.cancel(attempt.id, stop_at=attempt.stop_at, kill_at=attempt.kill_at))
            self._told[attempt.id] = times
        if now >= attempt.stop_at and attempt.stopping_at is None:
            await asyncio.to_thread(ending.stopping, site, job, attempt, now=now)

    async def _submit(self, site: Site, attempt: Attempt) -> None:
        try:
            order = await asyncio.to_thread(_order, site, attempt.id)
        except (NotFound, TooLate):  # it ended meanwhile
            return
        self.begun += 1
        await self._asked(self.backend.submit(order))
        self._told[attempt.id] = (order.stop_at, order.kill_at)

    async def _clear(self, site: Site, live: set[str], seen: Mapping[str, Seen], now: int) -> None:
        """What the back-end has and nobody asked for any more: an end that was written down, or a stray attempt."""
        strays = [one for one in seen.values() if one.id not in live]
        await self._each(strays, lambda one: self._clear_away(site, one, now))

    async def _clear_away(self, site: Site, seen: Seen, now: int) -> None:
        if await asyncio.to_thread(_lives, site, seen.id):
            return
        if seen.phase == "ended":
            await self._forget(seen.id)
        else:
            log.warning("the attempt %s runs, and nothing allows it to: it is ended", seen.id)
            await self._asked(self.backend.cancel(seen.id, stop_at=now, kill_at=now))

    # -- what waits --------------------------------------------------------------------------------------------

    async def _start(self, site: Site, now: int) -> int:
        """Decides who starts, and starts them one after the other, in that order; how many."""
        decided = await asyncio.to_thread(deciding.decide, site, self.half_life, now, last=self._done)
        if decided is None:
            return 0
        self._done = None
        await self._each(decided.nobodys, lambda job: asyncio.to_thread(_give_up, site, job, now))
        await self._each(decided.too_late, lambda job: asyncio.to_thread(ending.too_late, site, job, now=now))
        begun: list[Attempt] = []
        refused: dict[str, Outlook] = {}
        for job, where in decided.starts:
            try:
                begun.append(await asyncio.to_thread(starting.start, site, job, where, now=now))
            except (Refused, Busy, Changed, Conflict) as error:
                log.debug("%s does not start now: %s", job.id, error)
                refused[job.id] = Outlook(None, Why("in_use"))
        self._outlook = {**decided.outlook, **refused}
        self._done = None if refused else decided
        await self._each(begun, lambda one: self._submit(site, one))
        return len(begun)

    # -- helpers -----------------------------------------------------------------------------------------------

    async def _each(self, items: Iterable[T], act: Callable[[T], Awaitable[None]]) -> None:
        """Does it for each, some at once; a failure is logged and keeps no other from being done."""

        async def one(item: T) -> None:
            async with self._slots:
                try:
                    await act(item)
                except (MLMPError, Busy, Refused) as error:
                    log.warning("jobs: %s", error)
                except Exception:
                    self.failures += 1
                    log.exception("a step of the look at jobs failed; it is tried again")

        await asyncio.gather(*(one(item) for item in items))

    async def _asked(self, verb: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(verb, VERB_PATIENCE)
        except asyncio.TimeoutError as error:
            raise Unavailable("The place where jobs run does not answer.") from error


def _live(site: Site) -> list[tuple[Job, Attempt]]:
    with read(site.engine) as connection:
        return [(job, job.live) for job in store.live_jobs(connection) if job.live is not None]


def _give_up(site: Site, job: Job, now: int) -> None:
    """Ends a job whose owner the hub has deleted: a namesake must not run it."""
    cancel(site, job.id, actor=CLOCK, now=now, message="The account of its owner is gone.")


def _order(site: Site, attempt_id: str) -> Order:
    with read(site.engine) as connection:
        job, _ = orders.find(connection, attempt_id)
        limit = quotas.log_limit(connection, site, job, orders.LOG_LIMIT)
        return orders.order_of(connection, site, attempt_id, log_limit=limit)


def _lives(site: Site, attempt_id: str) -> bool:
    """Whether an attempt that is seen is one that has not ended."""
    with read(site.engine) as connection:
        try:
            return orders.find(connection, attempt_id)[1].ended_at is None
        except NotFound:
            return False
