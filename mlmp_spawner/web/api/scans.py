"""The calls that submit, list, look at, retry and cancel scans."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlmp_spawner.errors import Invalid, NotFound
from mlmp_spawner.jobs import metrics
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations.jobs import scans
from mlmp_spawner.operations.jobs import submit as submitting
from mlmp_spawner.operations.jobs.scans import Standing, Wish
from mlmp_spawner.rules import job_manifest, scan_file
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.web import csv_text, models, scan_results
from mlmp_spawner.web import scan_models as types
from mlmp_spawner.web.api.common import idempotency_key
from mlmp_spawner.web.api.job_logs import numbers
from mlmp_spawner.web.api.jobs import LARGEST_BODY, OFF, jobs_of, tell
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.csv_text import MEDIA_TYPE
from mlmp_spawner.web.routes import Answer, Call, Route
from mlmp_spawner.web.scan_results import Values, answer

_ID = re.compile(models.ID)


async def list_scans(call: Call) -> Answer:
    """One's own, without rows."""
    context = call.handler.context
    found = await context.run(scans.mine, context.site, call.handler.me.name)
    return Answer(types.Scans(items=[answer(one) for one in found]))


async def submit_scan(call: Call) -> Answer:
    """Puts a job for every row into the queue, or says what would be."""
    body: types.ScanSubmission = call.body
    context, actor, now = call.handler.context, call.handler.me.actor(), call.handler.now
    jobs = jobs_of(context)
    wish = await context.run(wish_of, body)
    if call.query.dry_run:
        rows, manifests = await context.run(scans.planned, wish)
        asked = submitting.Submission(manifests[0], wish.code, wish.secrets)
        await context.run(submitting.check, context.site, asked, actor=actor, now=now, count=len(rows))
        manifest = job_manifest.parse(wish.manifest).normal()
        asked_with = types.Said(**{name: getattr(wish, name) for name in types.Said.model_fields})
        shown = rows[: types.MOST_OF_ROWS]
        return Answer(types.Planned(size=len(rows), rows=shown, manifest=manifest, scan=asked_with))
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


async def get_results(call: Call) -> Answer:
    """All rows, as JSON or CSV."""
    context, caller = call.handler.context, call.handler.me
    found = await context.run(scans.get, context.site, scan_id(call), actor=caller.actor())
    measured: dict[str, Mapping[str, float]] = {}
    for at in range(0, len(found.last), types.MOST_OF_ROWS):  # others read numbers too, in between
        part = replace(found, last=found.last[at : at + types.MOST_OF_ROWS], start=at)
        measured |= await values_of(context, caller.name, part)
    made = await context.run(scan_results.results, found, measured)
    wanted = call.query.format or csv_text.asked_for(call.handler.request.headers.get("Accept", ""))
    if wanted == "json":
        return Answer(made, headers={"Vary": "Accept"})
    name = {"Content-Disposition": f'attachment; filename="scan-{found.scan.id}.csv"', "Vary": "Accept"}
    text = await context.run(scan_results.table, made)
    return Answer(None, text=text, media_type=f"{MEDIA_TYPE}; charset=utf-8; header=present", headers=name)


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


def wish_of(body: types.ScanSubmission) -> Wish:
    """What is wished, said beside the manifest or in its part ``scan``.

    :raises Invalid: it is said nowhere, or twice; or the part is wrong.
    """
    beside: dict[str, Any] = {name: getattr(body, name) for name in types.Said.model_fields}
    same: dict[str, Any] = {"name": body.name, "code": body.code, "secrets": body.secrets}
    part = scan_file.part_of(body.manifest)
    if part is None:
        if body.parameters is None:
            job_manifest.parse(body.manifest)
            raise Invalid.field("parameters", 'are missing: names with values, such as {"lr": [0.1, 0.01]}')
        return Wish(body.manifest, **beside, **same)
    if twice := sorted(body.model_fields_set & types.Said.model_fields.keys()):
        raise Invalid.field(twice[0], "is for a manifest without a part scan, which says it here")
    manifest = job_manifest.parse(body.manifest, beside=scan_file.KEY).normal()
    return Wish(manifest, **{name: getattr(part, name) for name in types.Said.model_fields}, **same)


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


_ONCE = {"Idempotency-Key": "your own name for this request: repeated within a day, nothing is submitted twice"}
_REFUSED = {409: "its code is not kept, or there are no jobs here"}

TABLE: tuple[Route, ...] = (
    Route("GET", "scans", "listScans", "your scans, the newest first", "access", list_scans, answer=types.Scans),
    Route(
        "POST", "scans", "submitScan", "submit a job for every row of parameters, all or none", "book", submit_scan,
        query=types.ScanSubmitQuery, body=types.ScanSubmission, answer=types.Scan, status=201, headers=_ONCE,
        body_limit=LARGEST_BODY, statuses={200: "with dry_run: it would be taken", **_REFUSED},
        answers={200: types.Planned},
    ),
    Route(
        "GET", "scans/{id}", "getScan", "one scan with its rows and their last metrics", "access", get_scan,
        query=types.RowsQuery, answer=types.Scan,
    ),
    Route(
        "GET", "scans/{id}/results", "getScanResults", "all rows of a scan as one table", "access", get_results,
        query=types.ResultsQuery, answer=types.Results, also=(MEDIA_TYPE,), headers={"Accept": "text/csv for a table"},
    ),
    Route(
        "POST", "scans/{id}/retry", "retryScan", "submit once more each row that failed", "book", retry_scan,
        answer=types.Retried, headers=_ONCE, statuses={409: f"it was cancelled, its code is not kept, or {OFF[409]}"},
    ),
    Route(
        "DELETE", "scans/{id}", "cancelScan", "cancel all of its jobs", "book", cancel_scan, answer=types.Scan,
    ),
)  # fmt: skip
