"""Which snapshots of code are kept, of whom, and how large. The files themselves are the service's.

Every function takes an open connection; who calls it decides on the transaction.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from mlmp_spawner.store.tables import job, job_code


def size(connection: Connection, owner: str, sha256: str) -> int | None:
    """Bytes of a snapshot; None where it is not kept."""
    return connection.execute(select(job_code.c.size).where(*_one(owner, sha256))).scalar()


def use(connection: Connection, owner: str, sha256: str, *, now: int) -> bool:
    """Notes that a job was submitted with it, so that it stays; whether it is kept at all."""
    return connection.execute(update(job_code).where(*_one(owner, sha256)).values(at=now)).rowcount == 1


def keep(connection: Connection, owner: str, sha256: str, size: int, *, now: int) -> None:
    """Notes that it is kept. Who calls this holds the lock of the owner."""
    if not use(connection, owner, sha256, now=now):
        connection.execute(insert(job_code).values(owner=owner, sha256=sha256, size=size, at=now))


def drop(connection: Connection, owner: str, sha256: str) -> None:
    """It is kept no longer."""
    connection.execute(delete(job_code).where(*_one(owner, sha256)))


def all_kept(connection: Connection) -> list[tuple[str, str]]:
    """Owner and SHA-256 of each."""
    return [(row.owner, row.sha256) for row in connection.execute(select(job_code.c.owner, job_code.c.sha256))]


def of_owner(connection: Connection, owner: str) -> list[str]:
    """The SHA-256 of each of one owner."""
    return list(connection.execute(select(job_code.c.sha256).where(job_code.c.owner == owner)).scalars())


def total(connection: Connection, owner: str) -> int:
    """Bytes of all snapshots of one owner."""
    found = connection.execute(select(func.sum(job_code.c.size)).where(job_code.c.owner == owner)).scalar()
    return int(found or 0)


def unused(
    connection: Connection, *, owner: str | None = None, before: int | None = None
) -> list[tuple[str, str, int]]:
    """``(owner, sha256, bytes)`` of the snapshots that no open job runs from, those that were submitted longest ago
    first.

    :param before: only those last submitted before then (ms UTC).
    """
    c = job_code.c
    query = select(c.owner, c.sha256, c.size).order_by(c.at, c.sha256)
    if owner is not None:
        query = query.where(c.owner == owner)
    if before is not None:
        query = query.where(c.at < before)
    found = [(row.owner, row.sha256, row.size) for row in connection.execute(query)]
    # Asked for one by one, a database may look through all jobs that have ended for each of them.
    wanted = select(job.c.owner, job.c.code).where(job.c.ended_at.is_(None), job.c.code.is_not(None)).distinct()
    needed = {(row.owner, row.code) for row in connection.execute(wanted)} if found else set()
    return [one for one in found if one[:2] not in needed]


def _one(owner: str, sha256: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return job_code.c.owner == owner, job_code.c.sha256 == sha256
