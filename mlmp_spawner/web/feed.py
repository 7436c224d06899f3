"""Follows the history table, where every change of every process leaves a line, and hands it to open streams."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from mlmp_spawner.errors import TooManyRequests
from mlmp_spawner.operations import history, listing
from mlmp_spawner.operations.history import Entry
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.reservations import Reservation

log = logging.getLogger("mlmp.stream")

QUEUE = 1000
"""How many changes may wait for a slow reader; beyond it the stream ends and the browser opens it anew."""

SETTLED = 10.0
"""Lines of the history become visible when their transaction ends, not in the order of their ids; after this many
seconds no earlier id is waited for any more."""

AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Change:
    """A line of the history, with the booking as it is now."""

    entry: Entry
    reservation: Reservation | None


Queue = asyncio.Queue["Change | None"]


class Feed:
    """Follows the history and hands its lines to whoever listens.

    :param poll: seconds between two looks; a change made by this process is seen at once (:meth:`wake`).
    """

    def __init__(self, site: Callable[[], Site], *, poll: float = 0.5) -> None:
        self._site = site
        self._poll = poll
        self._listeners: set[Queue] = set()
        self._by_user: Counter[str] = Counter()
        self._woken = asyncio.Event()
        self._floor: int | None = None
        self._seen: dict[int, float] = {}

    def wake(self) -> None:
        """Something was changed just now."""
        self._woken.set()

    async def open(self, user: str, limit: int) -> Queue:
        """A queue of all that changes from now on; ``None`` ends it.

        :raises TooManyRequests: the user has ``limit`` streams open.
        """
        if self._by_user[user] >= limit:
            raise TooManyRequests(f"You have {limit} streams open already.", hint="Close one.", retry_after=10)
        queue: Queue = asyncio.Queue(QUEUE)
        self._by_user[user] += 1
        self._listeners.add(queue)
        if self._floor is None:
            latest = await asyncio.to_thread(history.latest, self._site().engine)
            if self._floor is None:
                self._floor = latest
        return queue

    def close(self, user: str, queue: Queue) -> None:
        """The listener is gone."""
        self._listeners.discard(queue)
        self._by_user[user] -= 1
        if self._by_user[user] <= 0:
            del self._by_user[user]

    def end(self) -> None:
        """Ends all streams: the service stops."""
        for queue in list(self._listeners):
            self.end_one(queue)

    async def run(self) -> None:
        """Follows the history until cancelled; a database that fails is asked again."""
        while True:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._poll)
            self._woken.clear()
            try:
                await self._look()
            except Exception:
                log.warning("the history can't be read just now", exc_info=True)
                await asyncio.sleep(self._poll)

    async def _look(self) -> None:
        if not self._listeners:
            self._floor, self._seen = None, {}
            return
        if self._floor is None:
            return
        for change in await asyncio.to_thread(self._read, self._floor):
            for queue in list(self._listeners):
                try:
                    queue.put_nowait(change)
                except asyncio.QueueFull:
                    self.end_one(queue)

    def _read(self, floor: int) -> list[Change]:
        site, now = self._site(), time.monotonic()
        entries = history.since(site.engine, floor, limit=AT_ONCE)
        new = [entry for entry in entries if entry.id not in self._seen]
        self._seen.update((entry.id, now) for entry in new)
        self._floor = max((i for i, at in self._seen.items() if now - at > SETTLED), default=floor)
        self._seen = {i: at for i, at in self._seen.items() if i > (self._floor or 0)}
        found = listing.by_ids(site, {entry.reservation for entry in new if entry.reservation})
        return [Change(entry, found.get(entry.reservation or "")) for entry in new]

    def end_one(self, queue: Queue) -> None:
        """Ends one stream."""
        self._listeners.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)
