"""What jobs printed and measured: in parts, as it comes, and as points to plot. For their owners alone."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tornado.iostream import StreamClosedError

from mlmp_spawner.errors import Invalid, MLMPError, NotFound
from mlmp_spawner.jobs import metrics
from mlmp_spawner.jobs.base import LogPart
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations.jobs import listing
from mlmp_spawner.rules.job_metrics import Series
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.web import job_models as types
from mlmp_spawner.web import models
from mlmp_spawner.web.api.job_code import one_of
from mlmp_spawner.web.api.jobs import OFF, check_private, find, kept_of
from mlmp_spawner.web.base import Handler
from mlmp_spawner.web.context import Context, Jobs
from mlmp_spawner.web.routes import Answer, Call, Route, query_of

LOOK = 0.3
"""Seconds between two looks at a log that is followed."""

LOOKS = 4
"""After how many of them without anything new it is seen whether the attempt has ended."""

NUMBERS = 8
"""For how many requests of one person numbers are read, or wait to be."""

PIECE = 128 << 10
SLOW_READER = 30.0

T = TypeVar("T")

_ID = re.compile(models.ID)
_LAST = re.compile(r"([0-9]{1,6})\.([0-9]{1,15})")


async def get_log(call: Call) -> Answer:
    """A part of a log, as JSON or as it is."""
    query: types.LogQuery = call.query
    found = await find(call)
    check_private(found, call.handler.me.name)
    attempt = attempt_of(found, query.attempt)
    part = await read(kept_of(call.handler.context), attempt, query.start, query.limit)
    if "text/plain" in call.handler.request.headers.get("Accept", ""):
        return Answer(None, text=part.data, media_type="text/plain; charset=utf-8", headers=_as_headers(part))
    return Answer(shown(part, attempt))


async def get_metrics(call: Call) -> Answer:
    """What a job measured and used, as points."""
    query: types.MetricsQuery = call.query
    found = await find(call)
    check_private(found, call.handler.me.name)
    jobs = kept_of(call.handler.context)
    wanted = found.attempts if query.attempt == "all" else [one for one in [attempt_of(found, query.attempt)] if one]
    ids = [one.id for one in wanted]
    name = call.handler.me.name
    return Answer(await numbers(call.handler.context, jobs, name, _metrics, jobs.files, ids, found.manifest))


async def numbers(context: Context, jobs: Jobs, name: str, read_them: Callable[..., T], *args: Any) -> T:
    """Reads numbers of a job for somebody, when it is their turn.

    :raises TooManyRequests: so much is read for the same person already.
    """
    with one_of(jobs, f"numbers of {name}", NUMBERS):
        async with jobs.reading:
            return await context.run(read_them, *args)


def _metrics(files: JobFiles, attempts: list[str], manifest: dict[str, Any]) -> types.Metrics:
    return types.Metrics(
        series={name: _points(one) for name, one in metrics.measured(files, attempts, manifest).items()},
        usage={name: _points(one) for name, one in metrics.used(files, attempts).items()},
    )


def _points(found: Series) -> types.MetricSeries:
    """As the API gives them; a job may write times that no calendar has."""
    at = [time if time is not None and models.EARLIEST <= time <= models.LATEST else None for time in found.at]
    return types.MetricSeries(steps=list(found.steps), values=list(found.values), at=at)


def attempt_of(found: Job, number: int | None) -> Attempt | None:
    """The attempt with this number; without one the last, None where none has begun yet.

    :raises NotFound: there is none with that number.
    """
    if number is None:
        return found.attempts[-1] if found.attempts else None
    chosen = next((one for one in found.attempts if one.number == number), None)
    if chosen is None:
        raise NotFound(f"The job has had {len(found.attempts)} attempts, and none with the number {number}.")
    return chosen


async def read(jobs: Jobs, attempt: Attempt | None, start: int, limit: int) -> LogPart:
    """A part of an attempt's log: from where it runs, or from what is kept of it."""
    if attempt is None:
        return LogPart(b"", 0, 0, 0, False)
    if attempt.ended_at is None:
        return await jobs.backend.logs(attempt.id, start, limit)
    return await asyncio.to_thread(jobs.files.read_log, attempt.id, start, limit, complete=True)


def shown(part: LogPart, attempt: Attempt | None) -> types.LogPart:
    """A part as text; an incomplete character at its end is left for the next one."""
    data = part.data
    if not (part.complete and part.end >= part.size):
        data = data[: whole(data)]
    return types.LogPart(
        attempt=attempt.number if attempt else None, start=part.start, end=part.start + len(data), size=part.size,
        complete=part.complete, cut=part.cut, text=data.decode("utf-8", "replace"),
    )  # fmt: skip


def whole(data: bytes) -> int:
    """How many bytes of ``data`` come before a last UTF-8 character that is not all there."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            needs = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if back < needs else len(data)
        if byte < 0x80:
            break
    return len(data)


def _as_headers(part: LogPart) -> dict[str, str]:
    return {
        "X-MLMP-Log-Start": str(part.start),
        "X-MLMP-Log-End": str(part.end),
        "X-MLMP-Log-Size": str(part.size),
        "X-MLMP-Log-Complete": "true" if part.complete else "false",
        "X-MLMP-Log-Cut": str(part.cut),
    }


class LogStream(Handler):
    """``GET jobs/ID/logs/stream``: the log of an attempt as it comes, until the attempt has ended.

    It ends after a while too, so that rights are checked anew; browsers open it again by themselves, where it was.
    """

    right = "access"
    route_name = "jobs/{id}/logs/stream"

    async def get(self, id: str) -> None:
        """Follows until the end, or until the client goes away."""
        if not _ID.fullmatch(id):
            raise NotFound("There is no such job.")
        jobs = kept_of(self.context)
        self._id = id
        found = await self._job()
        number, start = self._from()
        attempt_of(found, number)
        with one_of(jobs, f"logs of {self.me.name}", self.context.settings.streams_per_user):
            self.set_header("Content-Type", "text/event-stream; charset=utf-8")
            self.set_header("X-Accel-Buffering", "no")
            self.context.metrics.streams.inc()
            try:
                await self._send("retry: 2000\n\n")
                await self._follow(jobs, found, number, start)
            except (StreamClosedError, asyncio.TimeoutError):
                if not self._finished and self.request.connection is not None:
                    self.request.connection.finish()
            finally:
                self.context.metrics.streams.dec()

    def on_connection_close(self) -> None:
        """The client went away."""
        super().on_connection_close()
        self._gone = True

    def initialize(self) -> None:
        """The client is there."""
        self._gone = False

    def _from(self) -> tuple[int | None, int]:
        """Which attempt, and from which byte on: where a browser that comes again was, else as asked."""
        query = types.FollowQuery.model_validate(query_of(self.request))
        last = _LAST.fullmatch(self.request.headers.get("Last-Event-ID", ""))
        if last and query.attempt in (None, int(last[1])):
            return int(last[1]), int(last[2])
        return query.attempt, query.start

    async def _job(self) -> Job:
        found: Job = await self.context.run(listing.get, self.site, self._id)
        check_private(found, self.me.name)
        return found

    async def _follow(self, jobs: Jobs, found: Job, number: int | None, start: int) -> None:
        settings = self.context.settings
        until, heard, idle = time.monotonic() + settings.stream_age, time.monotonic(), 0
        while not self._gone and not self.context.feed.over and time.monotonic() < until:
            attempt = attempt_of(found, number)
            if attempt is not None:
                number = attempt.number
            part = await self._part(jobs, attempt, start)
            if part is not None and part.text:
                start, idle, heard = part.end, 0, time.monotonic()
                await self._send(f"id: {number}.{start}\nevent: log\ndata: {part.model_dump_json()}\n\n")
                continue
            over = found.ended_at is not None if attempt is None else attempt.ended_at is not None
            if over and part is not None:
                await self._end(found, attempt)
                return
            if time.monotonic() - heard > settings.heartbeat:
                heard = time.monotonic()
                await self._send(": still here\n\n")
            await asyncio.sleep(LOOK)
            idle += 1
            if idle % LOOKS == 0:
                found = await self._job()

    async def _part(self, jobs: Jobs, attempt: Attempt | None, start: int) -> types.LogPart | None:
        """What there is more; None where that can't be told just now."""
        try:
            return shown(await read(jobs, attempt, start, PIECE), attempt)
        except Invalid:
            raise
        except MLMPError:
            return None

    async def _end(self, found: Job, attempt: Attempt | None) -> None:
        last = attempt or found
        end = {"attempt": attempt.number if attempt else None, "reason": last.reason, "exit_status": last.exit_status,
               "state": found.state(), "outcome": found.outcome}  # fmt: skip
        await self._send(f"event: end\ndata: {json.dumps(end)}\n\n")

    async def _send(self, text: str) -> None:
        self.write(text)
        await asyncio.wait_for(self.flush(), SLOW_READER)


TABLE: tuple[Route, ...] = (
    Route(
        "GET", "jobs/{id}/logs", "getJobLog", "a part of what a job printed, for its owner", "access", get_log,
        query=types.LogQuery, answer=types.LogPart, also=("text/plain",), statuses=OFF,
        headers={"Accept": "text/plain for the bytes as they are; where they lie is in the headers X-MLMP-Log-*"},
    ),
    Route(
        "GET", "jobs/{id}/logs/stream", "followJobLog", "what a job prints, as it comes (server-sent events)",
        "access", None, query=types.FollowQuery, handler=LogStream, media_type="text/event-stream", statuses=OFF,
        description="Events `log` (as from `logs`) and, when the attempt has ended, `end`.",
    ),
    Route(
        "GET", "jobs/{id}/metrics", "getJobMetrics", "what a job measured and used, for its owner", "access",
        get_metrics, query=types.MetricsQuery, answer=types.Metrics, headers={"If-None-Match": "the etag that you "
        "have; 304 if it is still that"}, statuses={304: "not modified"} | OFF,
    ),
)  # fmt: skip
