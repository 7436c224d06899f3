"""What the limits allow of jobs: how many of one person may be open, how many units they take at once, how much is
kept of their logs and code.

The limits are those of the catalog or of an admin, by the groups in which the hub has a person just now.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from mlmp_spawner.errors import OverLimit
from mlmp_spawner.operations import limits
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Limits
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store import people
from mlmp_spawner.units import format_size


def check(connection: Connection, site: Site, new: Job, groups: Iterable[str], *, count: int = 1) -> None:
    """Refuses a job that would be one too many, or could never start. Who calls this holds the lock of the owner.

    :param groups: in which its owner is. :param count: how many such are to be submitted.
    :raises OverLimit: with the numbers.
    """
    allowed = limits.rules(connection, site, new.owner).of(new.owner, groups)
    units = new.units * new.workers
    if allowed.job_units is not None and units > allowed.job_units and new.inside is None:
        raise _over(
            "job_units", allowed.job_units, 0, units, "units",
            f"Your jobs may take at most {allowed.job_units} units at once; this one asks for {units}.",
        )  # fmt: skip
    if allowed.open_jobs is None:
        return
    now = store.count_open(connection, new.owner)
    if now + count > allowed.open_jobs:
        asked = "" if count == 1 else f", and this asks for {count} more"
        raise _over(
            "open_jobs", allowed.open_jobs, now, count, "jobs",
            f"At most {allowed.open_jobs} jobs may be open at once: {now} are{asked}.",
        )  # fmt: skip


def too_much_kept(allowed: int, used: int, asked: int) -> OverLimit:
    """The refusal of a snapshot that would be more than may be kept (bytes)."""
    return _over(
        "job_logs", allowed, used, asked, "bytes",
        f"Of your jobs at most {format_size(allowed)} are kept: the code of those that wait or run takes "
        f"{format_size(used)}, this asks for {format_size(asked)}.",
    )  # fmt: skip


def of_owners(connection: Connection, site: Site, jobs: Iterable[Job]) -> dict[str, Limits]:
    """The limits of all who own one of ``jobs``, by name."""
    holding = limits.rules(connection, site)
    owners = {one.owner: one.owner_id for one in jobs}
    return {owner: holding.of(owner, people.groups_of(connection, known)) for owner, known in owners.items()}


def log_limit(connection: Connection, site: Site, job: Job, most: int) -> int:
    """Bytes that the log of one attempt may have: no more than may be kept of all of its owner's."""
    allowed = of_owners(connection, site, [job])[job.owner].job_logs
    return most if allowed is None else min(most, allowed)


def units_allowed(connection: Connection, site: Site, jobs: Iterable[Job]) -> dict[str, int]:
    """The most units that the jobs of each owner of one of ``jobs`` may take at once; without a limit left out."""
    found = of_owners(connection, site, jobs)
    return {owner: allowed.job_units for owner, allowed in found.items() if allowed.job_units is not None}


def units_taken(jobs: Iterable[Job]) -> dict[str, int]:
    """The units that the jobs under way take, by owner; those inside a booking take none but the booking's."""
    taken: dict[str, int] = {}
    for one in jobs:
        if one.live is not None and one.inside is None:
            taken[one.owner] = taken.get(one.owner, 0) + one.units * one.workers
    return taken


def _over(limit: str, allowed: int, used: int, asked: int, unit: str, sentence: str) -> OverLimit:
    numbers = {"limit": limit, "allowed": allowed, "used": used, "asked": asked, "unit": unit}
    return OverLimit(sentence, hint="Ask for less, wait, or ask an admin for higher limits.", limits=[numbers])
