"""The calls that submit, list, look at, retry and cancel scans."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mlmp_spawner.errors import NotFound
from mlmp_spawner.jobs import metrics
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations.jobs import scans
from mlmp_spawner.operations.jobs import submit as submitting
from mlmp_spawner.operations.jobs.scans import Standing, Wish
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.web import models
from mlmp_spawner.web import scan_models as types
from mlmp_spawner.web.api.common import idempotency_key
from mlmp_spawner.web.api.job_logs import numbers
from mlmp_spawner.web.api.jobs import LARGEST_BODY, OFF, jobs_of, tell
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.routes import Answer, Call, Route

_ID = re.compile(models.ID)

Values = Mapping[str, Mapping[str, float]]
"""Of each job, by its id, the last value of each metric."""


async def list_scans(call: Call) -> Answer:
    """One's own, without rows."""
    context = call.handler.context
    found = await context.run(scans.mine, context.site, call.handler.me.name)
    return Answer(types.Scans(items=[answer(one) for one in found]))


async def submit_scan(call: Call) -> Answer:
    """Puts a job for every row into the queue, or says what would be."""
    body: types.Submission = call.body
    context, actor, now = call.handler.context, call.handler.me.actor(), call.handler.now
    jobs = jobs_of(context)
    wish = Wish(**{name: getattr(body, name) for name in types.Submission.model_fields})
    if call.query.dry_run:
        rows, manifests = await context.run(scans.planned, wish)
        asked = submitting.Submission(manifests[0], wish.code, wish.secrets)
        await context.run(submitting.check, context.site, asked, actor=actor, now=now)
        return Answer(types.Planned(size=len(rows), rows=rows[: types.MOST_OF_ROWS]))
    made = await context.run(
        scans.submit, context.site, wish, files=jobs.files, actor=actor, now=now, idempotency_key=idempotency_key(call)
    )
    tell(context)
    where = {"Location": f"{context.api_prefix}scans/{made.scan.id}"}
    return Answer(answer(made, rows=types.MOST_OF_ROWS), status=201, headers=where)


async def get_scan(call: Call) -> Answer:
    """One scan with its rows, and what these measured last."""
    context, caller = call.handler.context, call.handler.me
    part = {"start": call.query.start, "limit": call.query.limit}
    found = await context.run(scans.get, context.site, scan_id(call), actor=caller.actor(), **part)
    measured = await values_of(context, caller.name, found)
    return Answer(answer(found, measured, rows=call.query.limit))


async def retry_scan(call: Call) -> Answer:
    """Puts each row whose last job failed into the queue once more."""
    context = call.handler.context
    found, count = await context.run(
        scans.retry, context.site, scan_id(call), files=jobs_of(context).files, actor=call.handler.me.actor(),
        now=call.handler.now, idempotency_key=idempotency_key(call),
    )  # fmt: skip
    tell(context)
    return Answer(types.Retried(retried=count, scan=answer(found)))


async def cancel_scan(call: Call) -> Answer:
    """Ends all of its jobs."""
    context = call.handler.context
    found = await context.run(
        scans.cancel, context.site, scan_id(call), actor=call.handler.me.actor(), now=call.handler.now
    )
    tell(context)
    return Answer(answer(found))


def scan_id(call: Call) -> str:
    """The id in the address. :raises NotFound: it can't be one."""
    if not _ID.fullmatch(call.path["id"]):
        raise NotFound("There is no such scan.")
    return call.path["id"]


async def values_of(context: Context, name: str, of: Standing) -> Values:
    """What its rows measured last: nothing where the scan is somebody else's, also for an admin.

    :raises TooManyRequests: so much is read for the same person already.
    """
    if context.kept_jobs is None or of.scan.owner != name or of.scan.owner_id is None:
        return {}
    tried = [job for job in of.last if job is not None and job.attempts]
    return await numbers(context, context.kept_jobs, name, _values, context.kept_jobs.files, tried)


def _values(files: JobFiles, jobs: Sequence[Job]) -> Values:
    return {job.id: metrics.last_values(files, job.attempts[-1].id, job.manifest) for job in jobs}


def answer(of: Standing, measured: Values | None = None, *, rows: int = 0) -> types.Scan:
    """A scan as the API tells it. :param rows: how many of those that were read it has."""
    scan = of.scan
    stop = min(of.start + rows, of.start + len(of.last))
    return types.Scan(
        id=scan.id, name=scan.name, owner=scan.owner, parameters=list(scan.names), size=scan.size, out=scan.out,
        at_once=scan.at_once, created_at=scan.created_at, cancelled_at=scan.cancelled_at, counts=dict(of.counts),
        rows=[row(of, number, measured or {}) for number in range(of.start, stop)],
        next_start=stop if rows and stop < scan.size else None,
    )  # fmt: skip


def row(of: Standing, number: int, measured: Values) -> types.Row:
    """A row as the API tells it."""
    job = of.last[number - of.start]
    return types.Row(
        row=number,
        parameters=of.scan.rows[number],
        job=job.id if job else None,
        state=job.state() if job else None,
        outcome=job.outcome if job else None,
        reason=job.reason if job else None,
        message=job.message if job else "",
        metrics=dict(measured.get(job.id, {})) if job else {},
    )


_ONCE = {"Idempotency-Key": "your own name for this request: repeated within a day, nothing is submitted twice"}
_REFUSED = {409: "its code is not kept, or there are no jobs here"}

TABLE: tuple[Route, ...] = (
    Route("GET", "scans", "listScans", "your scans, the newest first", "access", list_scans, answer=types.Scans),
    Route(
        "POST", "scans", "submitScan", "submit a job for every row of parameters, all or none", "book", submit_scan,
        query=types.SubmitQuery, body=types.Submission, answer=types.Scan, status=201, headers=_ONCE,
        body_limit=LARGEST_BODY, statuses={200: "with dry_run: it would be taken", **_REFUSED},
        answers={200: types.Planned},
    ),
    Route(
        "GET", "scans/{id}", "getScan", "one scan with its rows and their last metrics", "access", get_scan,
        query=types.RowsQuery, answer=types.Scan,
    ),
    Route(
        "POST", "scans/{id}/retry", "retryScan", "submit once more each row that failed", "book", retry_scan,
        answer=types.Retried, headers=_ONCE, statuses={409: f"it was cancelled, its code is not kept, or {OFF[409]}"},
    ),
    Route(
        "DELETE", "scans/{id}", "cancelScan", "cancel all of its jobs", "book", cancel_scan, answer=types.Scan,
    ),
)  # fmt: skip
