"""Jobs of guests: bounded by what their course says, ended with their time, and erased with all else of them."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select, update

from mlmp_spawner.errors import NotAllowed, OverLimit
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations.jobs import snapshots
from mlmp_spawner.operations.jobs.cancel import cancel_all
from mlmp_spawner.operations.site import CLOCK
from mlmp_spawner.rules.guests import is_guest
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.store import courses, guests, job_code, jobs
from mlmp_spawner.store.tables import history, job, job_attempt, job_usage, scan
from mlmp_spawner.store.transaction import lock_owner
from mlmp_spawner.units import HOUR

MOST = 1000
"""Jobs that a guest may submit in all: what they used is reckoned from these, so that all of them are kept."""
OVER = "The time of the guest is over."


def check(connection: Connection, new: Job, *, count: int, now: int) -> None:
    """Refuses a job that a guest may not run; others' are left alone. Who calls this holds the lock of the owner.

    :param count: how many such are to be submitted.
    :raises NotAllowed: the course allows none, or not such, or the guest's time is over.
    :raises OverLimit: the guest's unit-hours do not reach for it; with the numbers.
    """
    if not is_guest(new.owner):
        return
    guest, allowed = guests.find(connection, new.owner), courses.guest_jobs(connection, new.owner)
    if guest is None or not guest.is_let_in(now):
        raise NotAllowed("Your time as a guest is over.")
    if allowed is None:
        raise none_allowed()
    if not new.preemptible:
        raise NotAllowed("Jobs of guests make way for bookings.", hint="Leave `preemptible: false` out.")
    if new.priority > 0:
        raise NotAllowed("Jobs of guests have no priority above normal.", hint="Leave `priority: high` out.")
    _check_hours(connection, new, allowed, count, now)
    known = connection.execute(select(job.c.id).where(job.c.owner == new.owner).limit(MOST)).all()
    if len(known) + count > MOST:
        told = f"A guest may submit {MOST} jobs in all: {len(known)} were, and this asks for {count}."
        raise _over("guest_job_count", MOST, len(known), count, "jobs", told)


def none_allowed() -> NotAllowed:
    """The refusal where the course says nothing of jobs."""
    return NotAllowed(
        "Guests of this course run no jobs.", hint="Those who run the course can allow it: `guest_jobs`."
    )


def _check_hours(connection: Connection, new: Job, allowed: float, count: int, now: int) -> None:
    if new.inside is not None:  # it takes units of a booking, which is bounded by itself
        return
    used, asked = reckoned(connection, new.owner, now) / HOUR, count * _ahead(new) / HOUR
    if used + asked > allowed + 1e-9:
        raise _over(
            "guest_jobs", allowed, round(used, 2), round(asked, 2), "unit-hours",
            f"Your jobs may use {allowed:g} unit-hours in all: {used:.2f} are used or spoken for, and this asks for "
            f"{asked:.2f} at most.",
        )  # fmt: skip


def reckoned(connection: Connection, owner: str, now: int) -> int:
    """Unit-ms that somebody's jobs used, and that those which wait or run can still use."""
    mine = jobs.select_where(connection, job.c.owner == owner, job.c.inside.is_(None))
    return sum(_used(one, now) + _ahead(one) for one in mine)


def _used(one: Job, now: int) -> int:
    """By all attempts; one under way counts until the end that it may have, as part of what is ahead."""
    ended = [attempt for attempt in one.attempts if attempt.ended_at is not None]
    return one.units * one.workers * sum((attempt.ended_at or now) - attempt.starting_at for attempt in ended)


def _ahead(one: Job) -> int:
    """What it can use from its next start, or that of the attempt under way, on: also what it is tried again."""
    if one.ended_at is not None:
        return 0
    size = one.units * one.workers
    if one.cancel_asked_at is not None:
        return size * (one.live.kill_at - one.live.starting_at) if one.live else 0
    tries = 1 + max(0, one.retries - one.failures)
    return size * tries * (one.length + one.grace)


def _over(limit: str, allowed: float, used: float, asked: float, unit: str, sentence: str) -> OverLimit:
    numbers = {"limit": limit, "allowed": allowed, "used": used, "asked": asked, "unit": unit}
    return OverLimit(sentence, hint="Ask for less, or those who run the course for more.", limits=[numbers])


def end(connection: Connection, owner: str, now: int) -> None:
    """Cancels all that is open. None follows: see :func:`check`, under the same lock."""
    lock_owner(connection, owner)
    mine = (job.c.owner == owner, job.c.ended_at.is_(None))
    connection.execute(
        update(scan).where(scan.c.owner == owner, scan.c.cancelled_at.is_(None)).values(cancelled_at=now)
    )
    connection.execute(select(job.c.id).where(*mine).order_by(job.c.id).with_for_update()).all()
    cancel_all(connection, jobs.select_where(connection, *mine), actor=CLOCK, now=now, message=OVER)


def erase(connection: Connection, files: JobFiles, owner: str) -> bool:
    """Drops what there is of their jobs: logs, numbers, code, then the rows, and in the history what they were called.
    The bookings by which they held units stay. Killed anywhere in it, the next one does the rest.

    :return: False: one still ends; nothing was done.
    """
    lock_owner(connection, owner)
    if jobs.count_open(connection, owner):
        return False
    attempts = select(job_attempt.c.job, job_attempt.c.number).join(job, job.c.id == job_attempt.c.job)
    for row in connection.execute(attempts.where(job.c.owner == owner)).all():
        files.remove_logs(f"{row.job}-{row.number}")
    for sha256 in job_code.of_owner(connection, owner):
        snapshots.drop(connection, files, owner, sha256)
    connection.execute(delete(job).where(job.c.owner == owner))
    connection.execute(delete(scan).where(scan.c.owner == owner))
    connection.execute(delete(job_usage).where(job_usage.c.kind == "user", job_usage.c.name == owner))
    _forget_titles(connection, owner)
    return True


def _forget_titles(connection: Connection, owner: str) -> None:
    """What they called their jobs may say who they were."""
    query = select(history.c.id, history.c.details).where(history.c.owner == owner)
    for row in connection.execute(query).all():
        if row.details.get("title"):
            changed = {**row.details, "title": ""}
            connection.execute(update(history).where(history.c.id == row.id).values(details=changed))
