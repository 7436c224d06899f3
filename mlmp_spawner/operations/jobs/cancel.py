"""Cancel a job: what waits is over at once, what runs gets its grace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from mlmp_spawner.errors import Changed, TooLate, Unavailable
from mlmp_spawner.operations import history, notices
from mlmp_spawner.operations.jobs import listing
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import Busy, transaction

ATTEMPTS = 8
"""How often a write is tried that another one was in the way of."""


def cancel(site: Site, job_id: str, *, actor: Actor, now: int, if_match: int | None = None, message: str = "") -> Job:
    """Ends a job that waits; asks one that runs to end, which it has done by its grace from now. Again on the same
    job changes nothing.

    :param if_match: the version that the caller saw. :param message: why, for its owner.
    :raises TooLate: it has ended by itself. :raises Changed: it has another version by now.
    :raises NotFound, NotAllowed: there is none, or it is somebody else's.
    """
    for _ in range(ATTEMPTS):
        try:
            with transaction(site.engine) as connection:
                old = listing.read_own(connection, job_id, actor)
                return (
                    old if old.cancel_asked_at is not None else _cancel(connection, old, actor, now, if_match, message)
                )
        except Busy:
            continue
    raise Unavailable("The database is too busy just now.", hint="Nothing was changed; try again in a moment.")


def cancel_all(connection: Connection, locked: Sequence[Job], *, actor: Actor, now: int, message: str) -> None:
    """The same for many at once, whose rows are locked and that are not over.

    :param message: why, for their owner.
    """
    asked = [one for one in locked if one.cancel_asked_at is None]
    waiting = [one for one in asked if one.live is None]
    facts: dict[str, Any] = {"outcome": "cancelled", "reason": "cancelled", "message": message}
    store.end_waiting(connection, waiting, cancel_asked_at=now, cancelled_by=actor.name, ended_at=now, **facts)
    history.record_of_jobs(connection, "job_ended", waiting, actor=actor.name, at=now, details=lambda one: facts)
    notices.write_of_jobs(connection, "job_ended", waiting, actor=actor.name, at=now, details=facts)
    for one in asked:
        if one.live is not None:
            _cancel(connection, one, actor, now, None, message)


def _cancel(connection: Connection, old: Job, actor: Actor, now: int, if_match: int | None, message: str) -> Job:
    if old.ended_at is not None:
        raise TooLate("The job has ended already.")
    if if_match is not None and if_match != old.version:
        raise Changed("The job was changed meanwhile.", hint="Look at it as it is now and try again.")
    asked = {"cancel_asked_at": now, "cancelled_by": actor.name}
    attempt = old.live
    if attempt is not None:
        store.update_job(connection, old, **asked)
        _stop(connection, attempt, old.grace, now)
        _record(connection, "job_cancelled", old, actor, now, message)
    else:
        over = {"ended_at": now, "outcome": "cancelled", "reason": "cancelled", "message": message}
        store.update_job(connection, old, **asked, **over)
        _record(connection, "job_ended", old, actor, now, message)
    return listing.known(store.find(connection, old.id), old.id)


def _stop(connection: Connection, attempt: Attempt, grace: int, now: int) -> None:
    """Its times only ever move forward; who looks after it tells the back-end."""
    times = {"stop_at": min(attempt.stop_at, now), "kill_at": min(attempt.kill_at, now + grace)}
    store.update_attempt(connection, attempt, **times, stop_reason="cancelled")


def _record(connection: Connection, action: str, job: Job, actor: Actor, now: int, message: str) -> None:
    told: dict[str, Any] = {"job": job.id, "outcome": "cancelled", "reason": "cancelled", "message": message}
    history.record(connection, action, actor=actor.name, at=now, owner=job.owner, **told)
    notices.write_of_job(connection, action, job, actor=actor.name, at=now, details=told)
