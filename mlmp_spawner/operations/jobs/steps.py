"""How the look at jobs does things: some at once, none for ever, and no failure keeps another from being done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from mlmp_spawner.errors import MLMPError, NotFound, TooLate, Unavailable
from mlmp_spawner.jobs.base import Backend, Order
from mlmp_spawner.operations.jobs import orders, quotas
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import Attempt
from mlmp_spawner.store.transaction import Busy, Refused, read

log = logging.getLogger(__name__)

VERB_PATIENCE = 20.0
"""Seconds that one verb of a back-end may take."""

AT_ONCE = 16
"""Verbs under way at the same time."""

T = TypeVar("T")


class Steps:
    """What the parts of a look have in common."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.failures = 0
        self.begun = 0
        """How many attempts were submitted so far."""
        self.told: dict[str, tuple[int, int, bool]] = {}
        """Of each attempt the times that the back-end was told, and whether it was since the first of them."""
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def each(self, items: Iterable[T], act: Callable[[T], Awaitable[None]]) -> None:
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

    async def asked(self, verb: Awaitable[T]) -> T:
        """What a verb answers.

        :raises Unavailable: it does not in time.
        """
        try:
            return await asyncio.wait_for(verb, VERB_PATIENCE)
        except asyncio.TimeoutError as error:
            raise Unavailable("The place where jobs run does not answer.") from error

    async def submit(self, site: Site, attempt: Attempt) -> None:
        """Submits an attempt that was written, where it has not ended meanwhile."""
        try:
            order = await asyncio.to_thread(_order, site, attempt.id)
        except (NotFound, TooLate):
            return
        self.begun += 1
        await self.asked(self.backend.submit(order))
        self.told[attempt.id] = (order.stop_at, order.kill_at, False)

    async def forget(self, attempt_id: str) -> None:
        """Its end was written down."""
        self.told.pop(attempt_id, None)
        await self.asked(self.backend.forget(attempt_id))


def lives(site: Site, attempt_id: str) -> bool:
    """Whether an attempt that is seen is one that has not ended."""
    with read(site.engine) as connection:
        try:
            return orders.find(connection, attempt_id)[1].ended_at is None
        except NotFound:
            return False


def _order(site: Site, attempt_id: str) -> Order:
    with read(site.engine) as connection:
        job, _ = orders.find(connection, attempt_id)
        limit = quotas.log_limit(connection, site, job, orders.LOG_LIMIT)
        return orders.order_of(connection, site, attempt_id, log_limit=limit)
