"""Server-sent events: what changes, as it changes, so that an open page is always right.

Each stream shows its caller no more than the API would.
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timezone
from functools import partial
from typing import Any

from tornado.iostream import StreamClosedError

from mlmp_spawner.operations import history, notices, people
from mlmp_spawner.operations.history import Entry
from mlmp_spawner.operations.jobs import listing as job_listing
from mlmp_spawner.operations.notices import Notice
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.rules.notices import Kind, kind_of
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.web import answers, job_answers
from mlmp_spawner.web.api.notices import shown
from mlmp_spawner.web.base import Handler
from mlmp_spawner.web.feed import Change, Queue
from mlmp_spawner.web.routes import Route
from mlmp_spawner.web.times import ZONE_COOKIE, find_zone, said

SLOW_READER = 30.0
QUIET = {
    "announced", "warned", "offered", "idle_warned", "maintenance", "starting", "started", "stopping", "stopped",
    "continued", "limits", "intruder", "intruder_stopped", "ssh_key_added", "ssh_key_removed", "job_submitted",
    "job_cancelled", "job_running", "job_stopping", "course_made", "course_changed", "course_removed", "roster",
    "class_servers", "class_message", "guest_codes", "guest_invited", "guest_ended", "guest_left", "guest_erased",
}  # fmt: skip
"""Actions that change nothing of what is free."""


class StreamHandler(Handler):
    """``GET stream``: events ``reservation`` and ``job`` (as the API shows them, with ``action``) and ``availability``
    (the nodes to look at again). It ends after a while, so that rights are checked anew; browsers open it again by
    themselves."""

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
            latest = await self.context.run(history.latest, self.site.engine)
            await self._send(f"retry: 2000\nevent: hello\ndata: {json.dumps({'latest': latest})}\n\n")
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
            self.context.feed.end_one(self._queue)

    async def _tell(self, queue: Queue, change: Change | None) -> bool:
        """Tells this change and those that wait behind it; False: that was the last."""
        nodes: set[str] = set()
        look_again = False
        text: list[str] = []
        while change is not None:
            if change.entry.action not in QUIET:
                look_again = True
                nodes |= _nodes(change)
            if change.job is not None:
                text.append(self._job(change.entry, change.job))
                text.append(await self._notice_of_job(change.entry, change.job))
            if change.reservation is not None:
                text.append(self._event(change.entry, change.reservation, change.place))
                text.append(await self._notice(change.entry, change.reservation))
            if queue.empty():
                break
            change = queue.get_nowait()
        if look_again:
            text.append(f"event: availability\ndata: {json.dumps({'nodes': sorted(nodes)})}\n\n")
        if text:
            await self._send("".join(text))
        return change is not None

    def _event(self, entry: Entry, found: Reservation, place: int | None) -> str:
        body = answers.reservation(found, context=self.context, caller=self.me, now=self.context.now(), place=place)
        data: dict[str, Any] = {"action": entry.action, **body.model_dump(mode="json")}
        number = f"id: {entry.id}\n" if entry.id else ""
        return f"{number}event: reservation\ndata: {json.dumps(data)}\n\n"

    def _job(self, entry: Entry, found: Job) -> str:
        body = job_answers.job(found, context=self.context, caller=self.me, now=self.context.now(), whole=False)
        data: dict[str, Any] = {"action": entry.action, **body.model_dump(mode="json")}
        return f"event: job\ndata: {json.dumps(data)}\n\n"

    async def _notice(self, entry: Entry, found: Reservation) -> str:
        """What the owner is told of it on the page; "" where that is nothing. Of what one did oneself one knows."""
        mine = found.owner == self.me.name and found.owner_id is not None and self.me.kind == "user"
        kind = kind_of(entry.action, actor=entry.actor, owner=found.owner) if mine else None
        if kind is None or entry.actor == self.me.name:
            return ""
        details = notices.details_of(entry.action, entry.actor, found, entry.details)
        return await self._toast(entry, kind, found.id, details)

    async def _notice_of_job(self, entry: Entry, found: Job) -> str:
        """The same of a job."""
        mine = job_listing.is_own(found, self.me.name) and self.me.kind == "user"
        told = notices.told_of_job(entry.action, found, actor=entry.actor, details=entry.details) if mine else None
        return "" if told is None else await self._toast(entry, told[0], None, told[1])

    async def _toast(self, entry: Entry, kind: Kind, reservation: str | None, details: dict[str, Any]) -> str:
        context = self.context
        person = await context.run(people.find, context.site.engine, self.me.name)
        if "browser" not in person.channels(kind):
            return ""
        zone = find_zone(self.get_cookie(ZONE_COOKIE)) or find_zone(context.settings.zone) or timezone.utc
        told = Notice(entry.id, person.user_id, kind, entry.at, reservation, details)
        when = partial(said, show="clock", now=context.now(), zone=zone)
        data = shown(told, context, self.me, when).model_dump(mode="json")
        return f"event: notice\ndata: {json.dumps(data)}\n\n"

    async def _send(self, text: str) -> None:
        self.write(text)
        await asyncio.wait_for(self.flush(), SLOW_READER)


def _nodes(change: Change) -> set[str]:
    nodes = {row.node for row in change.reservation.allocations} if change.reservation else set()
    if change.job is not None and change.job.attempts:
        nodes |= set(change.job.attempts[-1].nodes)
    named = change.entry.details.get("nodes")
    return nodes | ({str(node) for node in named} if isinstance(named, list) else set())


TABLE: tuple[Route, ...] = (
    Route(
        "GET", "stream", "stream", "what changes, as it changes (server-sent events)", "access", None,
        handler=StreamHandler, media_type="text/event-stream",
        description="Events `reservation` and `job` (as the API shows them, with `action`), `availability` (`nodes` "
        "to look at again) and `notice` (what the caller is told). With a cookie, send the XSRF token as the argument "
        "`_xsrf`.",
    ),
)  # fmt: skip
