"""The calls that submit, list, look at and cancel jobs."""

from __future__ import annotations

import re

from mlmp_spawner.errors import NotAllowed, NotFound
from mlmp_spawner.operations.jobs import cancel, listing, submit
from mlmp_spawner.rules import job_manifest
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.web import answers, job_answers, models
from mlmp_spawner.web import job_models as types
from mlmp_spawner.web.api.common import groups_of_owner, idempotency_key
from mlmp_spawner.web.context import Context, Jobs
from mlmp_spawner.web.routes import Answer, Call, Route

_ID = re.compile(models.ID)

LARGEST_BODY = 256 << 10
"""Bytes of a manifest with the values of its secrets, as JSON may have to write them."""


async def list_jobs(call: Call) -> Answer:
    """One page of jobs."""
    query: types.JobsQuery = call.query
    context, caller, now = call.handler.context, call.handler.me, call.handler.now
    if query.owner not in (None, caller.name) and not (caller.is_admin or context.shows_owners(caller)):
        raise NotAllowed("Whose job is whose is not shown here.", hint="Leave the owner out.")
    owner = caller.name if caller.is_guest else query.owner
    found, cursor = await context.run(
        listing.page, context.site, owner=owner, state=query.state, batch=query.batch, limit=query.limit,
        cursor=query.cursor,
    )  # fmt: skip
    items = [job_answers.job(one, context=context, caller=caller, now=now, whole=False) for one in found]
    return Answer(types.Jobs(items=items, next_cursor=cursor))


async def submit_job(call: Call) -> Answer:
    """Puts a job into the queue, or says what would be."""
    body: types.Submission = call.body
    context, actor, now = call.handler.context, call.handler.me.actor(), call.handler.now
    jobs = jobs_of(context)
    asked = submit.Submission(
        manifest=await context.run(job_manifest.parse, body.manifest),
        code=body.code,
        secrets=body.secrets,
        owner=body.owner,
        owner_groups=await groups_of_owner(call, body.owner, "submits"),
        batch=body.batch,
        place=body.place,
    )
    if call.query.dry_run:
        new = await context.run(submit.check, context.site, asked, actor=actor, now=now)
        return Answer(types.Checked(manifest=new.manifest))
    new = await context.run(
        submit.submit,
        context.site,
        asked,
        files=jobs.files,
        actor=actor,
        now=now,
        idempotency_key=idempotency_key(call),
    )
    return _submitted(call, new)


async def resubmit_job(call: Call) -> Answer:
    """Puts the same into the queue once more, as a new job."""
    context = call.handler.context
    new = await context.run(
        submit.resubmit, context.site, job_id(call), files=jobs_of(context).files, actor=call.handler.me.actor(),
        now=call.handler.now, idempotency_key=idempotency_key(call),
    )  # fmt: skip
    return _submitted(call, new)


async def get_job(call: Call) -> Answer:
    """One job."""
    return _answer(call, await find(call))


async def cancel_job(call: Call) -> Answer:
    """Ends it: at once where it waits, by its grace where it runs."""
    context = call.handler.context
    done = await context.run(
        cancel.cancel, context.site, job_id(call), actor=call.handler.me.actor(), now=call.handler.now,
        if_match=answers.version_of(call.handler.request.headers.get("If-Match")),
    )  # fmt: skip
    tell(context)
    return _answer(call, done)


async def get_manifest(call: Call) -> Answer:
    """Its manifest as YAML, without what it leaves out."""
    found = await own(call)
    manifest = job_answers.manifest(found, mine=listing.is_own(found, call.handler.me.name))
    text = job_manifest.parse(manifest).as_yaml()
    return Answer(None, text=text.encode(), media_type="application/yaml; charset=utf-8")


def jobs_of(context: Context) -> Jobs:
    """What runs jobs.

    :raises JobsOff: there is nothing that does.
    """
    if context.jobs is None:
        raise context.jobs_off()
    return context.jobs


def kept_of(context: Context) -> Jobs:
    """What is kept of jobs, also where none run any more.

    :raises JobsOff: nothing is, since there is nothing that runs any.
    """
    if context.kept_jobs is None:
        raise context.jobs_off()
    return context.kept_jobs


def job_id(call: Call) -> str:
    """The id in the address.

    :raises NotFound: it can't be one.
    """
    wanted = call.path["id"]
    if not _ID.fullmatch(wanted):
        raise NotFound("There is no such job.")
    return wanted


async def find(call: Call) -> Job:
    """The job of the address. :raises NotFound: there is none. :raises NotAllowed: a guest sees only their own."""
    context = call.handler.context
    found: Job = await context.run(listing.get, context.site, job_id(call))
    if call.handler.me.is_guest:
        listing.check_own(found, call.handler.me.actor())
    return found


async def own(call: Call) -> Job:
    """The job of the address, if it is the caller's, or the caller an admin.

    :raises NotFound, NotAllowed:
    """
    found = await find(call)
    listing.check_own(found, call.handler.me.actor())
    return found


def check_private(found: Job, name: str) -> None:
    """What a job printed, measured and runs from is its owner's alone.

    :raises NotAllowed: it is somebody else's, also for an admin.
    """
    if not listing.is_own(found, name):
        raise NotAllowed("This job is somebody else's: only its owner sees its log, its numbers and its code.")


def tell(context: Context) -> None:
    """A change is told to open pages and the queue at once."""
    context.feed.wake()
    context.changed()
    if context.jobs is not None:
        context.jobs.wake()


def _submitted(call: Call, new: Job) -> Answer:
    tell(call.handler.context)
    return _answer(call, new, status=201, headers={"Location": f"{call.handler.context.api_prefix}jobs/{new.id}"})


def _answer(call: Call, found: Job, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    handler = call.handler
    body = job_answers.job(found, context=handler.context, caller=handler.me, now=handler.now)
    return Answer(body, status=status, headers=headers or {}, etag=body.etag)


_IF_NONE = {"If-None-Match": "the etag that you have; 304 if it is still that"}
_IF_MATCH = {"If-Match": "the etag of the job as you saw it; 412 if it changed meanwhile"}
_ONCE = {"Idempotency-Key": "your own name for this request: repeated within a day, nothing is submitted twice"}
_NOT_MODIFIED = {304: "not modified"}
OFF = {409: "there are no jobs here"}
"""What a route says that asks for jobs."""
_REFUSED = {409: "its code is not kept, its booking is over, or there are no jobs here"}

TABLE: tuple[Route, ...] = (
    Route(
        "GET", "jobs", "listJobs", "jobs, the newest first", "access", list_jobs, query=types.JobsQuery,
        answer=types.Jobs, headers=_IF_NONE, statuses=_NOT_MODIFIED,
    ),
    Route(
        "POST", "jobs", "submitJob", "submit a job", "book", submit_job, query=types.SubmitQuery,
        body=types.Submission, answer=types.Job, status=201, headers=_ONCE, body_limit=LARGEST_BODY,
        statuses={200: "with dry_run: it would be taken", **_REFUSED}, answers={200: types.Checked},
    ),
    Route(
        "GET", "jobs/{id}", "getJob", "one job", "access", get_job, answer=types.Job, headers=_IF_NONE,
        statuses=_NOT_MODIFIED,
    ),
    Route(
        "DELETE", "jobs/{id}", "cancelJob", "cancel a job: at once, or by its grace once it runs", "book", cancel_job,
        answer=types.Job, headers=_IF_MATCH, statuses={409: "it has ended already", 412: "it was changed meanwhile"},
    ),
    Route(
        "POST", "jobs/{id}/resubmit", "resubmitJob", "submit the same once more", "book", resubmit_job,
        answer=types.Job, status=201, headers=_ONCE, statuses=_REFUSED,
    ),
    Route(
        "GET", "jobs/{id}/manifest", "getJobManifest", "its manifest, as YAML", "access", get_manifest,
        media_type="application/yaml",
    ),
)  # fmt: skip
