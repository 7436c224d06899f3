"""Write down what became of an attempt, and of its job: all in one transaction, and once.

An attempt's units are free from here on, so nothing of it may run any more.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, delete, func, select

from mlmp_spawner.errors import Changed
from mlmp_spawner.jobs.base import Seen
from mlmp_spawner.operations import node_outages
from mlmp_spawner.operations.jobs import telling, usage
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.due import is_live
from mlmp_spawner.rules.jobs import Again, Attempt, Ended, Job, Reason, after, why_ended, why_stopped
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store import reservations
from mlmp_spawner.store.tables import job as job_table
from mlmp_spawner.store.tables import job_attempt, unit_in_use
from mlmp_spawner.store.transaction import Busy, read, transaction

ATTEMPTS = 8
"""How often a write is tried that another one was in the way of."""

MESSAGE = 2000
"""Characters of a back-end's message that are kept."""

BOOKING_OVER = "The booking in which it was to run is over."
SERVER_OVER = "The booking with whose server it was to talk is over."


def started(site: Site, attempt: Attempt, at: int) -> None:
    """Its program runs since ``at``."""
    with transaction(site.engine) as connection:
        new = store.update_attempt(connection, attempt, job_attempt.c.started_at.is_(None), started_at=at)
        if new and (job := store.find(connection, attempt.job)) is not None:
            telling.record(connection, "job_running", job, at=at, attempt=attempt.number, nodes=list(attempt.nodes))


def stopping(site: Site, job: Job, attempt: Attempt, *, now: int) -> None:
    """Its time is over: it was told to end."""
    still = (job_attempt.c.stopping_at.is_(None), job_attempt.c.stop_at <= now)
    reason = why_stopped(job, attempt)
    with transaction(site.engine) as connection:
        if store.update_attempt(connection, attempt, *still, stopping_at=now, stop_reason=reason):
            telling.record(connection, "job_stopping", job, at=now, attempt=attempt.number, reason=reason)


def sent_away(site: Site, job: Job, attempt: Attempt, reason: Reason, *, at: int, now: int) -> None:
    """Somebody else ended it at ``at`` (ms UTC): what it holds is free once it had its grace, and why is written."""
    kill_at = min(attempt.kill_at, now + job.grace)
    stop_at = min(attempt.stop_at, max(attempt.starting_at, at))
    with transaction(site.engine, lock=_held(site, attempt)) as connection:
        holding = reservations.find(connection, attempt.reservation)
        still = (job_attempt.c.stop_at > stop_at, job_attempt.c.stop_reason.is_(None))
        changes = {"stop_at": stop_at, "kill_at": kill_at, "stop_reason": reason}
        if store.update_attempt(connection, attempt, *still, **changes) and holding is not None:
            reservations.cut_allocations(connection, holding.id, kill_at)
            reservations.update_reservation(connection, holding, end=min(holding.end, kill_at))


def ended(site: Site, attempt: Attempt, seen: Seen, *, half_life: int, now: int) -> bool:
    """Ends an attempt as its back-end saw it end; False where that was written down before.

    :param half_life: of what is charged for the fair share, in ms.
    :raises Busy, Changed: another transaction was in the way too often.
    """
    locks = _held(site, attempt)
    for tries in range(1, ATTEMPTS + 1):
        try:
            with transaction(site.engine, lock=locks) as connection:
                return _ended(connection, attempt, seen, half_life, now)
        except (Busy, Changed):
            if tries == ATTEMPTS:
                raise
    return False


def _held(site: Site, attempt: Attempt) -> set[tuple[str, str]]:
    with read(site.engine) as connection:
        holding = reservations.find(connection, attempt.reservation)
        return {(row.node, row.resource) for row in holding.allocations} if holding else set()


def _ended(connection: Connection, told: Attempt, seen: Seen, half_life: int, now: int) -> bool:
    job = store.lock(connection, told.job)
    attempt = job.live if job is not None else None
    if job is None or attempt is None or attempt.number != told.number:
        return False
    attempt = replace(attempt, started_at=seen.started_at if attempt.started_at is None else attempt.started_at)
    at = min(now, max(attempt.starting_at, now if seen.ended_at is None else seen.ended_at))
    if seen.reason == "vanished" and (away := node_outages.lost(connection, attempt.nodes, now)):
        seen = replace(seen, reason="node_lost", message=away)
    reason, message = why_ended(job, attempt, seen.reason, at), _writable(seen.message)
    store.update_attempt(
        connection, attempt, ended_at=at, reason=reason, exit_status=seen.exit_status, message=message,
        started_at=attempt.started_at,
    )  # fmt: skip
    usage.charge(connection, job, attempt, at, half_life)
    _give_back(connection, job, attempt, reason, now)
    becomes = after(job, reason)
    if isinstance(becomes, Ended):
        _end(connection, job, becomes, now, seen.exit_status, message)
    elif why := _too_late(connection, job, now):
        _end(connection, job, Ended("failed", "time_limit"), now, seen.exit_status, message or why)
    else:
        _queue_again(connection, job, becomes, reason, now)
    return True


def _writable(message: str) -> str:
    """A message that every database takes: what it can't write would keep the attempt from ever ending."""
    return message[:MESSAGE].replace("\0", "").encode("utf-8", "replace").decode()


def _give_back(connection: Connection, job: Job, attempt: Attempt, reason: Reason, now: int) -> None:
    """Frees the physical units, and what the reservation would still have had."""
    holding = reservations.find(connection, attempt.reservation)
    if holding is not None and holding.state(now) != "ended":
        if now > holding.start:
            reservations.cut_allocations(connection, holding.id, now)
            reservations.update_reservation(connection, holding, end=now, end_reason=reason)
        else:
            reservations.delete_allocations(connection, holding.id)
            reservations.update_reservation(connection, holding, cancelled_at=now, end_reason=reason)
    elif holding is not None and holding.end_reason is None:
        reservations.update_reservation(connection, holding, end_reason=reason)
    holders = [attempt.reservation]
    if job.inside is not None and not _in_use(connection, job.inside):
        holders.append(job.inside)
    connection.execute(delete(unit_in_use).where(unit_in_use.c.holder.in_(holders)))


def _in_use(connection: Connection, booking_id: str) -> bool:
    """Whether a server, or another job, still runs on the units of a booking."""
    booking = reservations.find(connection, booking_id)
    if booking is not None and is_live(booking):
        return True
    others = select(func.count()).select_from(job_attempt).join(job_table, job_table.c.id == job_attempt.c.job)
    others = others.where(job_table.c.inside == booking_id, job_attempt.c.ended_at.is_(None))
    return bool(connection.execute(others).scalar())


def too_late(site: Site, seen: Job, *, now: int) -> None:
    """Ends a job that waits to run inside a booking that is over, or to talk with its server."""
    with transaction(site.engine) as connection:
        job = store.lock(connection, seen.id)
        if job is not None and job.state() == "queued" and (why := _too_late(connection, job, now)):
            _end(connection, job, Ended("failed", "time_limit"), now, None, why)


def _too_late(connection: Connection, job: Job, now: int) -> str:
    """Why it can't run any more, "" where it can."""
    wanted = job.inside or job.manifest.get("server")
    booking = reservations.find(connection, wanted) if wanted is not None else None
    if wanted is None or (booking is not None and booking.state(now) != "ended"):
        return ""
    return BOOKING_OVER if job.inside is not None else SERVER_OVER


def _end(connection: Connection, job: Job, becomes: Ended, now: int, exit_status: int | None, message: str) -> None:
    facts = {"outcome": becomes.outcome, "reason": becomes.reason, "exit_status": exit_status, "message": message}
    store.update_job(connection, job, ended_at=now, **facts)
    telling.record(connection, "job_failed" if becomes.outcome == "failed" else "job_ended", job, at=now, **facts)


def _queue_again(connection: Connection, job: Job, becomes: Again, reason: Reason, now: int) -> None:
    store.update_job(
        connection, job, front=becomes.front, queued_at=job.queued_at if becomes.front else now,
        failures=job.failures + becomes.failure, faults=job.faults + becomes.fault,
    )  # fmt: skip
    telling.record(connection, "job_requeued", job, at=now, reason=reason)
