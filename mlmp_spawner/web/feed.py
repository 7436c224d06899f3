"""Follows the history table, where every change of every process leaves a line, and hands it to open streams.

What happens by the time alone leaves no line: bookings and outages that begin or end. It is told like a change.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mlmp_spawner import units
from mlmp_spawner.errors import TooManyRequests
from mlmp_spawner.operations import history, listing, waitlist
from mlmp_spawner.operations.history import Entry
from mlmp_spawner.operations.jobs import listing as job_listing
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import Job
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
    """A line of the history, with the booking as it is now and, while it waits, its place in the waitlist.

    ``job``: the job that the line is about, as it is now. The line has the id 0 where the time alone changed
    something: ``begun`` or ``over``.
    """

    entry: Entry
    reservation: Reservation | None
    place: int | None = None
    job: Job | None = None


Queue = asyncio.Queue["Change | None"]


class Feed:
    """Follows the history and hands its lines to whoever listens.

    :param poll: seconds between two looks; a change made by this process is seen at once (:meth:`wake`).
    :param now: gives the time in ms UTC.
    """

    def __init__(self, site: Callable[[], Site], *, poll: float = 0.5, now: Callable[[], int] = units.now) -> None:
        self._site = site
        self._poll = poll
        self._now = now
        self._told_until = 0
        self._listeners: set[Queue] = set()
        self._by_user: Counter[str] = Counter()
        self._woken = asyncio.Event()
        self.over = False
        """Whether the service stops, so that streams end."""
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
                self._floor, self._told_until = latest, self._now()
        return queue

    def close(self, user: str, queue: Queue) -> None:
        """The listener is gone."""
        self._listeners.discard(queue)
        self._by_user[user] -= 1
        if self._by_user[user] <= 0:
            del self._by_user[user]

    def end(self) -> None:
        """Ends all streams: the service stops."""
        self.over = True
        for queue in list(self._listeners):
            self.end_one(queue)

    async def run(self) -> None:
        """Follows the history until cancelled; a database that fails is asked again."""
        while True:
            await self._rest()
            self._woken.clear()
            try:
                await self._look()
            except Exception:
                log.warning("the history can't be read just now", exc_info=True)
                await asyncio.sleep(self._poll)

    async def _rest(self) -> None:
        """Until something was changed here, or for ``poll`` seconds. Not by wait_for, which before Python 3.12 forgets
        that it was cancelled where that and the change come together: then nothing would end the feed."""
        changed = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait({changed}, timeout=self._poll)
        finally:
            changed.cancel()

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
        turned = self._turned(site)
        entries = history.since(site.engine, floor, limit=AT_ONCE)
        new = [entry for entry in entries if entry.id not in self._seen]
        self._seen.update((entry.id, now) for entry in new)
        self._floor = max((i for i, at in self._seen.items() if now - at > SETTLED), default=floor)
        self._seen = {i: at for i, at in self._seen.items() if i > (self._floor or 0)}
        found = listing.by_ids(site, {entry.reservation for entry in new if entry.reservation})
        waits = any(row.waiting_reason is not None for row in found.values())
        places = waitlist.places(site, now=self._now()) if waits else {}
        jobs = job_listing.by_ids(site, {job for entry in new if (job := _job_of(entry))})
        return turned + [
            Change(
                entry,
                found.get(entry.reservation or ""),
                places.get(entry.reservation or ""),
                jobs.get(_job_of(entry) or ""),
            )
            for entry in new
        ]

    def _turned(self, site: Site) -> list[Change]:
        """What began or ended by the time alone since the last look."""
        after, until = self._told_until, self._now()
        if until <= after:
            return []
        bookings, outages = listing.turned(site, after, until)
        self._told_until = until

        def entry(start: int, nodes: Iterable[str], row: Reservation | None = None) -> Entry:
            action = "begun" if after < start <= until else "over"
            return Entry(0, until, row.id if row else None, None, "time", action, {"nodes": list(nodes)})

        told = [Change(entry(row.start, row.nodes, row), row) for row in bookings]
        return told + [Change(entry(outage.start, [outage.node]), None) for outage in outages]

    def end_one(self, queue: Queue) -> None:
        """Ends one stream."""
        self._listeners.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)


def _job_of(entry: Entry) -> str | None:
    """The id of the job that a line is about."""
    job = entry.details.get("job")
    return job if isinstance(job, str) else None
