"""From what the program knows of a job to what the API says of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timezone
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from mlmp_spawner.operations.jobs import listing
from mlmp_spawner.operations.planning import nodes_of
from mlmp_spawner.rules import job_queue
from mlmp_spawner.rules.job_manifest import PRIORITIES
from mlmp_spawner.rules.job_queue import Outlook, Waiting
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.units import HOUR, SECOND
from mlmp_spawner.web import job_models as models
from mlmp_spawner.web.times import find_zone, said

if TYPE_CHECKING:
    from mlmp_spawner.operations.site import Site
    from mlmp_spawner.web.auth import Caller
    from mlmp_spawner.web.context import Context

Priority = Literal["low", "normal", "high"]

HIDDEN = "(hidden)"

_PRIORITY: Mapping[int, Priority] = {PRIORITIES[word]: word for word in get_args(Priority)}


def job(found: Job, *, context: Context, caller: Caller, now: int, whole: bool = True) -> models.Job:
    """A job as ``caller`` may see it.

    :param whole: with its manifest, where the caller may see that.
    """
    mine = listing.is_own(found, caller.name)
    seen = mine or caller.is_admin
    state = found.state()
    outlook = context.jobs.outlook(found.id) if context.jobs is not None and state == "queued" else None
    body = models.Job(
        id=found.id,
        name=found.name if seen else None,
        owner=found.owner if seen or context.shows_owners(caller) else None,
        mine=mine,
        group=found.group if seen else None,
        batch=found.batch if seen else None,
        place=found.place if seen else None,
        state=state,
        outcome=found.outcome if seen else None,
        reason=found.reason if seen else None,
        message=found.message if seen else None,
        exit_status=found.exit_status if seen else None,
        profile=found.profile,
        resource=found.resource,
        units=found.units,
        workers=found.workers,
        hours=found.length / HOUR,
        grace=found.grace / SECOND,
        retries=found.retries if seen else None,
        priority=_PRIORITY.get(found.priority, "normal") if seen else None,
        preemptible=found.preemptible,
        inside=found.inside if seen else None,
        code=found.code if seen else None,
        created_at=found.created_at,
        queued_at=found.queued_at,
        started_at=next((one.started_at for one in found.attempts if one.started_at is not None), None),
        ended_at=found.ended_at,
        stops_at=found.live.stop_at if found.live else None,
        cancel_asked_at=found.cancel_asked_at if seen else None,
        attempts=[attempt(one) for one in found.attempts] if seen else [],
        estimated_start=outlook.start if outlook else None,
        why=why(found, outlook, context=context, now=now) if seen else None,
        manifest=manifest(found, mine=mine) if seen and whole else None,
        etag="",
    )
    digest = hashlib.sha256(body.model_dump_json().encode()).hexdigest()[:12]
    body.etag = f'"{found.version}-{digest}"'
    return body


def attempt(found: Attempt) -> models.Attempt:
    """One try of a job."""
    return models.Attempt(
        number=found.number,
        state=found.state(),
        nodes=list(found.nodes),
        starting_at=found.starting_at,
        started_at=found.started_at,
        ended_at=found.ended_at,
        stop_reason=found.stop_reason,
        reason=found.reason,
        exit_status=found.exit_status,
        message=found.message,
        stops_at=found.stop_at,
        ends_at=found.kill_at,
    )


def why(found: Job, outlook: Outlook | None, *, context: Context, now: int) -> str | None:
    """Why a job waits, as a sentence with the site's clock; None where it does not."""
    if found.state() != "queued":
        return None
    if outlook is None:
        return "In a moment it is known when it starts."
    site = context.site
    profile = site.catalog.profiles.get(found.profile)
    zone = find_zone(context.settings.zone) or timezone.utc
    when = partial(said, show="clock", now=now, zone=zone)
    title = profile.title if profile else found.profile
    return job_queue.sentence(outlook, Waiting.of(found, _nodes(site, found)).shape, title, when)


def _nodes(site: Site, found: Job) -> list[str]:
    return nodes_of(site, found.profile) if found.profile in site.catalog.profiles else []


def manifest(found: Job, *, mine: bool) -> dict[str, Any]:
    """Its manifest; of others' jobs the values of their environment are nobody's business."""
    if mine:
        return found.manifest
    return {**found.manifest, "environment": dict.fromkeys(found.manifest.get("environment") or {}, HIDDEN)}
