"""What the pods of a job ask for and send: their code, and numbers. By the token of the attempt, without any login.

A job's program runs beside what calls here, as the same user, so the token may be known to it. It gives what the
program has anyway: its own code to read, and numbers of its own to write.
"""

from __future__ import annotations

import re

from mlmp_spawner.errors import Invalid, NotFound
from mlmp_spawner.operations.jobs import listing
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.units import MINUTE
from mlmp_spawner.web.api.job_code import one_of, send_code
from mlmp_spawner.web.api.jobs import OFF, kept_of
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.base import Handler
from mlmp_spawner.web.problems import Unauthenticated
from mlmp_spawner.web.routes import Route, query_of

AT_ONCE = 8
"""How many of the pods of one attempt may fetch its code at once; the others ask again."""
LAST_NUMBERS = 10 * MINUTE
"""For how long after the end of an attempt its last numbers may come."""
LARGEST_NUMBERS = 256 << 10
"""Bytes of numbers in one request."""

_ATTEMPT = re.compile(r"([a-z0-9]{1,30})-([1-9][0-9]{0,8})")
_WORKER = re.compile(r"[0-9]{1,5}")


class PodHandler(Handler):
    """Base of the calls of pods."""

    right: Right = "none"

    async def prepare(self) -> None:
        """Whose pod it is, before anything else is read or asked."""
        await super().prepare()
        jobs, attempt = kept_of(self.context), self.path_kwargs["attempt"]
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        known = scheme.lower() in ("token", "bearer") and jobs.tokens.good(attempt, token.strip())
        if not known or not _ATTEMPT.fullmatch(attempt):
            raise Unauthenticated("This is for the pods of that job alone.")
        jobs.pods.take(attempt)

    async def found(self, attempt: str) -> tuple[Job, Attempt]:
        """The attempt, with its job.

        :raises NotFound: there is no such attempt.
        """
        job = await self.context.run(listing.get, self.site, attempt.rpartition("-")[0])
        for one in job.attempts:
            if one.id == attempt:
                return job, one
        raise NotFound("There is no such attempt.")


class CodeOfAttempt(PodHandler):
    """``GET pods/jobs/ATTEMPT/code``: the snapshot, for as long as the attempt is under way."""

    route_name = "pods/jobs/{attempt}/code"

    async def get(self, attempt: str) -> None:
        """Sends the file."""
        job, one = await self.found(attempt)
        if one.ended_at is not None:
            raise NotFound("This attempt has ended.")
        with one_of(kept_of(self.context), f"code of {attempt}", AT_ONCE):
            await send_code(self, job)


class NumbersOfAttempt(PodHandler):
    """``POST pods/jobs/ATTEMPT/metrics``: what it measured and used."""

    route_name = "pods/jobs/{attempt}/metrics"
    body_limit = LARGEST_NUMBERS
    often = True

    async def post(self, attempt: str) -> None:
        """Keeps it."""
        lines = kept_of(self.context).lines
        lines.take(attempt, min(lines.burst, self.request.body.count(b"\n") + 1))
        job, one = await self.found(attempt)
        worker = self._worker(job)
        if one.ended_at is not None and self.now >= one.ended_at + LAST_NUMBERS:
            raise NotFound("This attempt has ended.")
        numbers = kept_of(self.context).numbers
        await self.context.run(numbers.take, attempt, worker, self.request.body, now=self.now)
        self.set_status(204)

    def _worker(self, job: Job) -> int:
        arguments = query_of(self.request)
        worker = arguments.pop("worker", "0")
        if arguments:
            raise Invalid.field(ascii(min(arguments))[:60], "this call takes no such argument")
        if not _WORKER.fullmatch(worker) or int(worker) >= job.workers:
            raise Invalid.field("worker", f"the number of the worker, from 0 on; the job has {job.workers}")
        return int(worker)


_STATUSES = OFF | {401: "no token of this attempt's pods", 429: "too fast; `Retry-After` says when to go on"}

TABLE: tuple[Route, ...] = (
    Route(
        "GET", "pods/jobs/{attempt}/code", "getCodeOfAttempt", "the snapshot that an attempt runs from, for its pods",
        "none", None, handler=CodeOfAttempt, media_type="application/gzip", statuses=_STATUSES,
        description="By the token that the pods of the attempt have, as long as it is under way.",
    ),
    Route(
        "POST", "pods/jobs/{attempt}/metrics", "sendNumbersOfAttempt", "what the pods of an attempt measured and used",
        "none", None, handler=NumbersOfAttempt, status=204, query=None, statuses=_STATUSES,
        description="By the token that the pods of the attempt have. The body is lines of JSON: "
        '`{"at": ms UTC, "step": 7, "values": {"loss": 0.3}}` of metrics, '
        '`{"at": ms UTC, "used": {"cpu": 1.5, "memory": 4096}}` of what the worker used whose number is the argument '
        "`worker` (0 without it). What is no such line is left out; the same once more changes nothing.",
    ),
)  # fmt: skip
