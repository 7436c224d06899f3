"""What is kept of jobs that are over, and for how long: their rows, logs and numbers, the code they ran from, and the
values of their secrets."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select

from mlmp_spawner.jobs.files import JobFiles, Kept
from mlmp_spawner.operations import limits
from mlmp_spawner.operations.jobs import snapshots
from mlmp_spawner.operations.site import Site
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store import people, scans
from mlmp_spawner.store.tables import job, job_attempt
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import DAY

UPLOADS = DAY
"""For how long (ms) what came in half stays."""
MOST_OVER = 10_000
"""Of one person's jobs that are over the last so many stay in the lists."""
_CHUNK = 500


def tidy(site: Site, files: JobFiles, *, keep: int, now: int) -> int:
    """Drops what is too old, or too much of its owner; of how many attempts the logs were dropped.

    Of what is too much code goes first that no open job needs, since it can be sent again.

    :param keep: for how long logs, numbers, code and secrets stay after their job's end, in ms.
    """
    before = now - keep
    with transaction(site.engine) as connection:
        store.forget_secrets(connection, before=before)
    _drop_jobs(site, files)
    with transaction(site.engine) as connection:
        scans.drop_empty(connection)
    with read(site.engine) as connection:
        attempts = files.with_logs()
        found, known, owners = _ended(connection, attempts)
        rules = limits.rules(connection, site)
        allowed = {name: rules.of(name, people.groups_of(connection, user)).job_logs for name, user in owners.items()}
    room = {name: None if most is None else _room(site, files, name, most, found, before)
            for name, most in allowed.items()}  # fmt: skip
    dropped = files.remove_old(found, before=before, room=room)
    files.remove_strays(known, before=before)
    snapshots.drop_old(site, files, before=before)
    snapshots.drop_strays(site, files, before=now - UPLOADS)
    files.remove_uploads(before=now - UPLOADS)
    return len(dropped)


def _room(site: Site, files: JobFiles, owner: str, most: int, ended: Iterable[Kept], before: int) -> int:
    """What the code of an owner leaves for logs, once it has left what it can."""
    logs = files.size_of(one.attempt for one in ended if one.owner == owner and one.ended_at >= before)
    return max(0, most - snapshots.shrink(site, files, owner, max(0, most - logs)))


def _drop_jobs(site: Site, files: JobFiles) -> None:
    """Drops the oldest of too many jobs of one person, their logs first: without its row nothing leads to a log."""
    with read(site.engine) as connection:
        owners = store.over_by_owner(connection, MOST_OVER)
    for owner in owners:
        while True:
            with read(site.engine) as connection:
                old = store.oldest_over(connection, owner, behind=MOST_OVER, limit=_CHUNK)
            if not old:
                break
            for attempt in (attempt for one in old for attempt in one.attempts):
                files.remove_logs(attempt.id)
            with transaction(site.engine) as connection:
                store.drop_ended(connection, [one.id for one in old])


def _ended(connection: Connection, attempts: Iterable[str]) -> tuple[list[Kept], set[str], dict[str, int | None]]:
    """Those of ``attempts`` that have ended, all that are known, and the owners with the hub's id of each."""
    ids = sorted({attempt.rpartition("-")[0] for attempt in attempts})
    columns = (job.c.id, job_attempt.c.number, job.c.owner, job.c.owner_id, job_attempt.c.ended_at)
    query = select(*columns).join(job, job.c.id == job_attempt.c.job)
    found: list[Kept] = []
    known: set[str] = set()
    owners: dict[str, int | None] = {}
    for at in range(0, len(ids), _CHUNK):
        for row in connection.execute(query.where(job.c.id.in_(ids[at : at + _CHUNK]))):
            known.add(f"{row.id}-{row.number}")
            if row.ended_at is not None:
                found.append(Kept(f"{row.id}-{row.number}", row.owner, row.ended_at))
                owners[row.owner] = row.owner_id
    return found, known, owners
