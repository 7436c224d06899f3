"""One job: its state, its log as it is printed, what it measured and used; and its buttons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import yaml
from tornado.iostream import StreamClosedError

from mlmp_spawner.errors import Invalid, MLMPError, NotFound
from mlmp_spawner.jobs import metrics
from mlmp_spawner.jobs.base import LogPart
from mlmp_spawner.operations.jobs import cancel, listing, submit
from mlmp_spawner.rules import job_manifest
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.units import format_size
from mlmp_spawner.web import job_answers, job_charts, job_views
from mlmp_spawner.web.api.job_logs import numbers, read, whole
from mlmp_spawner.web.api.jobs import jobs_of, tell
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.job_charts import Measured
from mlmp_spawner.web.job_log import SHOWN, readable
from mlmp_spawner.web.pages.jobs import JobPage

DID = {
    "cancelled": "Cancelled.",
    "ending": "It is asked to end, and may still write its checkpoint.",
    "submitted": "Submitted again: the same files, settings and secrets.",
}

MOST_CHARTS = 24
"""Metrics that are plotted on a page."""

PIECE = 1 << 20
"""Bytes of a log that are read at once to be sent as a file."""

_NUMBER = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Log:
    """A part of the log of one attempt, and the ways to the others. ``at``: the byte from which on it is followed."""

    number: int
    key: str
    text: str
    live: bool
    newest: bool
    start: int
    at: int
    part: str
    size: str
    cut: str
    earlier: str | None
    later: str
    end: str
    stream: str
    download: str


class OneJob(JobPage):
    """``?attempt=&from=``: which attempt's log, from which byte on; without, the end of the last one's."""

    @property
    def address(self) -> str:
        """With its id, also before the page knows whether it may be seen."""
        return f"jobs/{self.path_args[0]}"

    async def get(self, wanted: str) -> None:
        """Shows it."""
        await self.show()

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """State and facts first, then the log, then numbers."""
        job = await self.own_job(self.path_args[0])
        one = self.shown_job(job)
        attempt = self._attempt(job) if one.own else None
        log = await self._log_shown(job, attempt) if attempt else None
        charts = job_charts.of_job(await self.measured(job))
        live = await self.live()
        looks = [at for at in (job_views.next_look([one], self.now), live["next"]) if at is not None]
        self.render_page(
            "job.html",
            one=one,
            log=log,
            attempt=attempt,
            log_gone=self._log_gone() if attempt and log is None else "",
            charts=charts[:MOST_CHARTS],
            left_out=len(charts) - MOST_CHARTS if len(charts) > MOST_CHARTS else 0,
            usage=job_charts.of_usage(await self._used(attempt)) if attempt else [],
            measures=bool(job.manifest.get("metrics")),
            paths=job_manifest.for_job(job.manifest, job.id),
            manifest=as_yaml(job_answers.manifest(job, mine=one.own)),
            done=DID.get(self.get_query_argument("did", "").removeprefix("job_"), ""),
            problem=problem.problem() if problem else None,
            **live | {"next": min(looks, default=None)},
        )

    def _log_gone(self) -> str:
        return (
            "Logs are not shown while no jobs run here."
            if self.context.kept_jobs is None
            else "It printed nothing, or its log is not kept any more."
        )

    def _attempt(self, job: Job) -> Attempt | None:
        """The one whose log is shown: as the query says, else the last."""
        said = self.get_query_argument("attempt", "")
        return next(
            (one for one in job.attempts if str(one.number) == said), job.attempts[-1] if job.attempts else None
        )

    async def _used(self, attempt: Attempt) -> Measured:
        """What one attempt used of the machine."""
        jobs = self.context.kept_jobs
        if jobs is None:
            return {}
        return await numbers(self.context, jobs, self.me.name, metrics.used, jobs.files, [attempt.id])

    async def _log_shown(self, job: Job, attempt: Attempt) -> Log | None:
        """None where it printed nothing, or that is not kept any more."""
        said = self.get_query_argument("from", "")
        paged = bool(_NUMBER.fullmatch(said))
        jobs = self.context.kept_jobs
        if jobs is None:
            return None
        # One byte more, by which is seen whether the first line is whole.
        part = await read(jobs, attempt, max(0, int(said) - 1) if paged else -SHOWN, SHOWN + 1)
        if not part.size and attempt.ended_at is not None:
            return None
        return self._part_shown(job, attempt, part, paged=paged)

    def _part_shown(self, job: Job, attempt: Attempt, part: LogPart, *, paged: bool) -> Log:
        newest = part.end >= part.size
        data, start = part.data, part.start
        if start > 0 and (line := data.find(b"\n")) >= 0:
            data, start = data[line + 1 :], start + line + 1
        if not newest:
            data = data[: data.rfind(b"\n") + 1] or data
        elif not part.complete:  # the rest of a character comes with what follows
            data = data[: whole(data)]
        at = start + len(data)
        api = f"{self.context.api_prefix}jobs/{job.id}/logs"
        here = f"{self.context.prefix}jobs/{job.id}"
        own = {"attempt": attempt.number}

        def page(**query: int) -> str:
            return f"{here}?{urlencode(own | query)}"

        return Log(
            number=attempt.number,
            key=f"{attempt.id}-{start if paged else 'end'}",
            text=readable(data),
            live=attempt.ended_at is None,
            newest=newest,
            start=start,
            at=at,
            part=f"Bytes {start:,} to {at:,} of {part.size:,}",
            size=format_size(part.size) if part.size else "",
            cut=f"{format_size(part.cut)} of it were left out: the log was longer than is kept." if part.cut else "",
            earlier=page(**{"from": max(0, start - SHOWN)}) if start > 0 else None,
            later=page(**{"from": at}),
            end=page(),
            stream=f"{api}/stream?{urlencode(own)}",
            download=f"{here}/log?{urlencode(own)}",
        )


class LogFile(OneJob):
    """``?attempt=``: a log as a file, all of it as it was printed."""

    async def get(self, wanted: str) -> None:
        """Sends it piece by piece.

        :raises NotFound: it is somebody else's, or there is none.
        """
        job = await self.own_job(wanted)
        attempt, jobs = self._attempt(job), self.context.kept_jobs
        if jobs is None or attempt is None or not listing.is_own(job, self.me.name):
            raise NotFound("There is no such log.", hint="Only its owner sees the log of a job.")
        name = f"{job.id}-{attempt.number}.log"
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        part = await read(jobs, attempt, 0, PIECE)
        end = part.size
        with suppress(StreamClosedError):
            while part.data:
                self.write(part.data)
                await self.flush()
                part = await read(jobs, attempt, part.end, min(PIECE, end - part.end))


class JobAction(OneJob):
    """A button of a job."""

    right: Right = "book"

    async def get(self, wanted: str, action: str) -> None:  # type: ignore[override]
        """There is nothing to see here: a reload after a refusal leads to the job."""
        self.go(f"jobs/{wanted}")

    async def post(self, wanted: str, action: str) -> None:
        """Does it, and shows the page that the button was on."""
        try:
            await getattr(self, f"_{action}")(wanted)
        except MLMPError as error:
            await self.refuse(error)

    async def _cancel(self, wanted: str) -> None:
        job = await self.context.run(cancel.cancel, self.site, wanted, actor=self.me.actor(), now=self.now)
        tell(self.context)
        if self.field("back") == "jobs":
            self.go("jobs", did="job_cancelled", id=job.id)
        else:
            self.go(f"jobs/{job.id}", did="job_cancelled" if job.state() == "ended" else "job_ending")

    async def _resubmit(self, wanted: str) -> None:
        job = await self.context.run(
            submit.resubmit, self.site, wanted, files=jobs_of(self.context).files, actor=self.me.actor(), now=self.now
        )
        tell(self.context)
        self.go(f"jobs/{job.id}", did="job_submitted")


def as_yaml(manifest: Mapping[str, Any]) -> str:
    """A manifest as one writes it; that of an earlier version, which would be refused today, with all its keys."""
    try:
        return job_manifest.parse(manifest).as_yaml()
    except Invalid:
        return yaml.safe_dump(dict(manifest), sort_keys=False, allow_unicode=True, width=110)
