"""What is kept of jobs that are over, and for how long: their logs and numbers, and the code they ran from."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select

from mlmp_spawner.jobs.files import JobFiles, Kept
from mlmp_spawner.operations import limits
from mlmp_spawner.operations.jobs import snapshots
from mlmp_spawner.operations.site import Site
from mlmp_spawner.store import people
from mlmp_spawner.store.tables import job, job_attempt
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY

UPLOADS = DAY
"""For how long (ms) what came in half stays."""
_CHUNK = 500


def tidy(site: Site, files: JobFiles, *, keep: int, now: int) -> int:
    """Drops what is too old, or too much of its owner; of how many attempts the logs were dropped.

    :param keep: for how long logs, numbers and code stay after their job's end, in ms.
    """
    with read(site.engine) as connection:
        found, people_by_name = _ended(connection, files.with_logs())
        rules = limits.rules(connection, site)
        room = {name: rules.of(name, people.groups_of(connection, known)).job_logs
                for name, known in people_by_name.items()}  # fmt: skip
    dropped = files.remove_old(found, before=now - keep, room=room)
    snapshots.drop_old(site, files, before=now - keep)
    files.remove_uploads(before=now - UPLOADS)
    return len(dropped)


def _ended(connection: Connection, attempts: Iterable[str]) -> tuple[list[Kept], dict[str, int | None]]:
    """Those of ``attempts`` that have ended, and their owners with the hub's id of each."""
    ids = sorted({attempt.rpartition("-")[0] for attempt in attempts})
    columns = (job.c.id, job_attempt.c.number, job.c.owner, job.c.owner_id, job_attempt.c.ended_at)
    ended = select(*columns).join(job, job.c.id == job_attempt.c.job).where(job_attempt.c.ended_at.is_not(None))
    found: list[Kept] = []
    owners: dict[str, int | None] = {}
    for at in range(0, len(ids), _CHUNK):
        for row in connection.execute(ended.where(job.c.id.in_(ids[at : at + _CHUNK]))):
            found.append(Kept(f"{row.id}-{row.number}", row.owner, row.ended_at))
            owners[row.owner] = row.owner_id
    return found, owners
