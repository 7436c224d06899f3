"""The snapshots of code: sent once, kept while jobs need them, given back to their owner alone."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from tornado.iostream import StreamClosedError
from tornado.web import stream_request_body

from mlmp_spawner.errors import Invalid, MLMPError, NotFound, OverLimit, TooManyRequests, Unavailable
from mlmp_spawner.jobs.files import Upload
from mlmp_spawner.operations.jobs import listing, snapshots
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.units import format_size
from mlmp_spawner.web import job_models as types
from mlmp_spawner.web import models
from mlmp_spawner.web.api.jobs import OFF, check_private, jobs_of, kept_of
from mlmp_spawner.web.base import Handler
from mlmp_spawner.web.context import Jobs
from mlmp_spawner.web.routes import Route

log = logging.getLogger("mlmp.web")

AT_ONCE = 4
"""How many snapshots of one person may come in at once."""

PATIENCE = 1800.0
"""Seconds that one may take to come in."""

READ_ON = 4
"""Up to how many times the limit the body of a refused snapshot is read, so that its sender hears of the refusal."""

PIECE = 1 << 20

_SHA256 = re.compile(types.SHA256)
_ID = re.compile(models.ID)


@contextmanager
def one_of(jobs: Jobs, what: str, most: int) -> Iterator[None]:
    """Counts what one person has open.

    :raises TooManyRequests: as many are open already.
    """
    if jobs.open[what] >= most:
        raise TooManyRequests(f"You have {most} of these open already.", hint="Wait for one to end.", retry_after=10)
    jobs.open[what] += 1
    try:
        yield
    finally:
        jobs.open[what] -= 1
        if not jobs.open[what]:
            del jobs.open[what]


@stream_request_body
class CodeHandler(Handler):
    """``PUT`` and ``HEAD jobs/code/SHA256``: the body is written to a file as it comes."""

    right = "book"
    route_name = "jobs/code/{sha256}"
    _upload: Upload | None = None
    _refusal: MLMPError | None = None

    def initialize(self) -> None:
        """Nothing is open yet."""
        self._open = ExitStack()

    async def prepare(self) -> None:
        """Who it is, and whether so much may come. A refusal is told when the body was read: who is still sending
        would not hear it, and who asks for more at once would find the connection closed."""
        try:
            await super().prepare()
            self._begin()
        except MLMPError as error:
            if self.request.method not in self.methods():
                raise
            self._refusal = error

    def _begin(self) -> None:
        jobs = jobs_of(self.context)
        sha256 = self.path_kwargs["sha256"]
        if not _SHA256.fullmatch(sha256):
            raise Invalid.field("sha256", "64 hexadecimal digits, of the SHA-256 of what is sent")
        if self.request.method != "PUT":
            return
        assert self.request.connection is not None
        self.request.connection.set_max_body_size(READ_ON * jobs.code_limit)  # type: ignore[attr-defined]
        self.request.connection.set_body_timeout(PATIENCE)  # type: ignore[attr-defined]
        length = self.request.headers.get("Content-Length", "")
        if length.isdecimal() and int(length[:20]) > jobs.code_limit:
            raise _too_large(jobs.code_limit, int(length[:20]))
        self._open.enter_context(one_of(jobs, f"code of {self.me.name}", AT_ONCE))
        self._upload = self._open.enter_context(jobs.files.receive_code(sha256, jobs.code_limit))

    def data_received(self, chunk: bytes) -> None:
        """The next piece. What was refused is read on, and dropped."""
        if self._upload is None or self._refusal is not None:
            return
        try:
            self._upload.write(chunk)
        except Invalid as error:
            limit = jobs_of(self.context).code_limit
            self._refusal = _too_large(limit, limit + 1) if "limit" in error.data else error
        except OSError:
            log.exception("a snapshot of %r can't be written", self.me.name)
            self._refusal = Unavailable("There is no room for it just now.", hint="Tell the people who run this.")

    async def put(self, sha256: str) -> None:
        """Keeps what came, if it is what it should be."""
        if self._refusal is not None or self._upload is None:
            raise self._refusal or Invalid("Nothing came.")
        context = self.context
        sent = await context.run(self._upload.finish)
        size = sent.stat().st_size
        await context.run(
            snapshots.keep, self.site, jobs_of(context).files, sha256, sent, owner=self.me.actor(), now=self.now
        )
        self._open.close()
        self._tell(201, types.Code(sha256=sha256, size=size))

    async def head(self, *args: str, **path: str) -> None:
        """Whether it is kept."""
        if self._refusal is not None:
            raise self._refusal
        sha256 = path["sha256"]
        files = jobs_of(self.context).files
        size = await self.context.run(snapshots.kept, self.site, files, self.me.name, sha256)
        if size is None:
            raise NotFound("It is not kept here.", hint="Send it by PUT.")
        self._tell(200, types.Code(sha256=sha256, size=size))

    def methods(self) -> set[str]:
        """There is no GET: a snapshot is given back as that of a job."""
        return {"PUT", "HEAD"}

    def _tell(self, status: int, body: types.Code) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(body.model_dump_json())

    def on_finish(self) -> None:
        """Nothing is left open."""
        self._open.close()
        super().on_finish()

    def on_connection_close(self) -> None:
        """Who sent it went away."""
        self._open.close()
        super().on_connection_close()


def _too_large(limit: int, asked: int) -> OverLimit:
    numbers = {"limit": "job_code", "allowed": limit, "used": 0, "asked": asked, "unit": "bytes"}
    return OverLimit(
        f"The packed code of a job may have {format_size(limit)}.",
        hint="Leave out data and results (.mlmpignore): a job reads them from the home.",
        limits=[numbers],
    )


class CodeOfJob(Handler):
    """``GET jobs/ID/code``: the snapshot that a job runs from, for its owner."""

    right = "access"
    route_name = "jobs/{id}/code"

    async def get(self, id: str) -> None:
        """Sends the file, as fast as it is read."""
        await send_code(self, await self._found(id))

    async def _found(self, id: str) -> Job:
        if not _ID.fullmatch(id):
            raise NotFound("There is no such job.")
        found: Job = await self.context.run(listing.get, self.site, id)
        check_private(found, self.me.name)
        return found


async def send_code(handler: Handler, job: Job) -> None:
    """Answers with the snapshot that a job runs from.

    :raises NotFound: it has none, or it is not kept any more.
    """
    if job.code is None:
        raise NotFound("This job has no code: it runs a command.")
    path = kept_of(handler.context).files.code_path(job.owner, job.code)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFound("The code of this job is not kept any more.") from None
    with file:
        size = os.fstat(file.fileno()).st_size
        handler.set_header("Content-Type", "application/gzip")
        handler.set_header("Content-Length", str(size))
        handler.set_header("Content-Disposition", f'attachment; filename="{job.id}.tar.gz"')
        try:
            for piece in iter(partial(file.read, PIECE), b""):
                handler.write(piece)
                await handler.flush()
        except StreamClosedError:
            return


TABLE: tuple[Route, ...] = (
    Route(
        "PUT", "jobs/code/{sha256}", "sendCode", "keep a snapshot of code, a tar.gz, for jobs to come", "book", None,
        handler=CodeHandler, answer=types.Code, status=201, statuses=OFF,
        description="The body is the file itself. It is kept as long as a job that waits or runs needs it, and some "
        "time more; it counts for the quota of logs.",
    ),
    Route(
        "HEAD", "jobs/code/{sha256}", "hasCode", "whether a snapshot is kept", "book", None, handler=CodeHandler,
        answer=types.Code, statuses=OFF,
    ),
    Route(
        "GET", "jobs/{id}/code", "getJobCode", "the snapshot that a job runs from, for its owner", "access", None,
        handler=CodeOfJob, media_type="application/gzip", statuses=OFF,
    ),
)  # fmt: skip
