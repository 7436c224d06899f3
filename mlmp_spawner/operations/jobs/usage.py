"""What people's and groups' jobs used, for the fair share.

What has ended is kept as one number each; what runs counts from its start on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from sqlalchemy import Connection, insert, select, update

from mlmp_spawner.rules.fair_share import Shares, consumed, decayed
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.store.tables import job_usage
from mlmp_spawner.store.transaction import lock_owner

Kind = Literal["group", "user"]


def shares(connection: Connection, running: Iterable[tuple[Job, Attempt]], now: int, half_life: int) -> Shares:
    """What counts now for everybody, of what was used until now. :param half_life: ms."""
    found = Shares()
    kept = {"group": found.groups, "user": found.users}
    for row in connection.execute(select(job_usage)):
        kept[row.kind][row.name] = decayed(row.used, row.at, now, half_life)
    for job, attempt in running:
        if job.inside is None:
            used = consumed(job.units * job.workers, attempt.starting_at, now, half_life)
            found.charge(job.group, job.owner, used)
    return found


def charge(connection: Connection, job: Job, attempt: Attempt, ended_at: int, half_life: int) -> None:
    """Writes down what an attempt used that has ended; what ran inside a booking is charged to nobody."""
    if job.inside is not None:
        return
    kinds: tuple[tuple[Kind, str], ...] = (("group", job.group), ("user", job.owner))
    for kind, name in kinds:
        lock_owner(connection, f"usage of jobs: {kind} {name}")
        mine = (job_usage.c.kind == kind, job_usage.c.name == name)
        row = connection.execute(select(job_usage).where(*mine)).first()
        used = consumed(job.units * job.workers, attempt.starting_at, ended_at, half_life)
        if row is None:
            connection.execute(insert(job_usage).values(kind=kind, name=name, used=used, at=ended_at))
            continue
        at = max(row.at, ended_at)
        total = decayed(row.used, row.at, at, half_life) + decayed(used, ended_at, at, half_life)
        connection.execute(update(job_usage).where(*mine).values(used=total, at=at))
