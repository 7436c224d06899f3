"""Server-sent events: what changes, as it changes, so that an open page is always right.

One task follows the history table, where every change of every process leaves a line, and wakes all open streams.
Each stream shows its caller no more than the API would.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tornado.iostream import StreamClosedError

from mlmp_spawner.errors import TooManyRequests
from mlmp_spawner.operations import history, listing
from mlmp_spawner.operations.history import Entry
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.web import answers
from mlmp_spawner.web.base import Handler

log = logging.getLogger("mlmp.stream")

QUEUE = 1000
"""How many changes may wait for a slow reader; beyond it the stream ends and the browser opens it anew."""

SETTLED = 10.0
"""Lines of the history become visible when their transaction ends, not in the order of their ids; after this many
seconds no earlier id is waited for any more."""

AT_ONCE = 5000
SLOW_READER = 30.0
QUIET = {"warned", "starting", "started", "stopping", "stopped", "continued"}
"""Actions that change nothing of what is free."""


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
            self._end(queue)

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
                    self._end(queue)

    def _read(self, floor: int) -> list[Change]:
        site, now = self._site(), time.monotonic()
        entries = history.since(site.engine, floor, limit=AT_ONCE)
        new = [entry for entry in entries if entry.id not in self._seen]
        self._seen.update((entry.id, now) for entry in new)
        self._floor = max((i for i, at in self._seen.items() if now - at > SETTLED), default=floor)
        self._seen = {i: at for i, at in self._seen.items() if i > (self._floor or 0)}
        found = listing.by_ids(site, {entry.reservation for entry in new if entry.reservation})
        return [Change(entry, found.get(entry.reservation or "")) for entry in new]

    def _end(self, queue: Queue) -> None:
        self._listeners.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)


class StreamHandler(Handler):
    """``GET stream``: events ``reservation`` (as the API shows it, with ``action``) and ``availability`` (the nodes to
    look at again). It ends after a while, so that rights are checked anew; browsers open it again by themselves."""

    right = "access"
    route_name = "stream"
    _queue: Queue | None = None

    async def get(self) -> None:
        """Follows until the client goes away."""
        settings, feed = self.context.settings, self.context.feed
        queue = await feed.open(self.me.name, settings.streams_per_user)
        self.context.metrics.streams.inc()
        try:
            self._queue = queue
            self.set_header("Content-Type", "text/event-stream; charset=utf-8")
            self.set_header("X-Accel-Buffering", "no")
            until = time.monotonic() + settings.stream_age
            await self._send("retry: 2000\nevent: hello\ndata: {}\n\n")
            while (left := until - time.monotonic()) > 0:
                try:
                    change = await asyncio.wait_for(queue.get(), min(left, settings.heartbeat))
                except asyncio.TimeoutError:
                    await self._send(": still here\n\n")
                    continue
                if change is None or not await self._tell(queue, change):
                    break
        except (StreamClosedError, asyncio.TimeoutError):
            if not self._finished and self.request.connection is not None:
                self.request.connection.finish()
        finally:
            feed.close(self.me.name, queue)
            self.context.metrics.streams.dec()

    def on_connection_close(self) -> None:
        """The client went away: wake up and clean up."""
        super().on_connection_close()
        if self._queue is not None:
            self.context.feed._end(self._queue)

    async def _tell(self, queue: Queue, change: Change | None) -> bool:
        """Tells this change and those that wait behind it; False: that was the last."""
        nodes: set[str] = set()
        look_again = False
        text: list[str] = []
        while change is not None:
            if change.entry.action not in QUIET:
                look_again = True
                nodes |= _nodes(change)
            if change.reservation is not None:
                text.append(self._event(change.entry, change.reservation))
            if queue.empty():
                break
            change = queue.get_nowait()
        if look_again:
            text.append(f"event: availability\ndata: {json.dumps({'nodes': sorted(nodes)})}\n\n")
        if text:
            await self._send("".join(text))
        return change is not None

    def _event(self, entry: Entry, found: Reservation) -> str:
        body = answers.reservation(found, context=self.context, caller=self.me, now=self.context.now())
        data: dict[str, Any] = {"action": entry.action, **body.model_dump(mode="json")}
        return f"id: {entry.id}\nevent: reservation\ndata: {json.dumps(data)}\n\n"

    async def _send(self, text: str) -> None:
        self.write(text)
        await asyncio.wait_for(self.flush(), SLOW_READER)


def _nodes(change: Change) -> set[str]:
    nodes = {row.node for row in change.reservation.allocations} if change.reservation else set()
    named = change.entry.details.get("nodes")
    return nodes | ({str(node) for node in named} if isinstance(named, list) else set())
