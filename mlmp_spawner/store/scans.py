"""Queries on scans: rows in, :class:`Scan` out. Every function takes an open connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Subquery,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.rules.scans import Scan, Throttle, last_of_rows
from mlmp_spawner.store import jobs
from mlmp_spawner.store.tables import job, job_attempt, scan

_PLAIN = ("id", "owner", "owner_id", "name", "size", "out", "at_once", "created_at", "cancelled_at")


def insert_scan(connection: Connection, new: Scan) -> None:
    """Writes one. Values are kept beside the names, which are the same in all rows and in order."""
    kept = {"names": list(new.names), "values": [list(row.values()) for row in new.rows]}
    connection.execute(insert(scan).values({name: getattr(new, name) for name in _PLAIN} | {"rows": kept}))


def brief(connection: Connection, *conditions: ColumnElement[bool], limit: int) -> list[Scan]:
    """The scans that meet all conditions, the newest first, without their rows."""
    query = select(*(scan.c[name] for name in _PLAIN), scan.c.rows["names"].label("names")).where(*conditions)
    found = connection.execute(query.order_by(scan.c.created_at.desc(), scan.c.id.desc()).limit(limit))
    return [Scan(**{**row._mapping, "names": tuple(row.names)}) for row in found]


def find(connection: Connection, scan_id: str, *, lock: bool = False) -> Scan | None:
    """One scan, or None. :param lock: until the end of the transaction."""
    query = select(scan).where(scan.c.id == scan_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        return None
    names, values = row.rows["names"], row.rows["values"]
    rows = tuple(dict(zip(names, one, strict=True)) for one in values)
    return Scan(**{name: row._mapping[name] for name in _PLAIN}, names=tuple(names), rows=rows)


def counts(connection: Connection, found: Sequence[Scan]) -> dict[str, dict[str, int]]:
    """Of each scan how many rows are in each state; those that are over by their outcome, ``gone`` those that are not
    kept any more."""
    last = _last(scan.c.id.in_([one.id for one in found]))
    live = last.outerjoin(job_attempt, and_(job_attempt.c.job == last.c.id, job_attempt.c.ended_at.is_(None)))
    state = case(
        (last.c.outcome.is_not(None), last.c.outcome),
        (job_attempt.c.job.is_(None), "queued"),
        (job_attempt.c.stopping_at.is_not(None), "stopping"),
        (job_attempt.c.started_at.is_not(None), "running"),
        else_="starting",
    ).label("state")
    query = select(last.c.scan, state, func.count()).select_from(live).where(last.c.rank == 1)
    known: dict[str, dict[str, int]] = {one.id: {} for one in found}
    for scan_id, name, count in connection.execute(query.group_by(last.c.scan, state)):
        known[scan_id][name] = count
    for one in found:
        if gone := one.size - sum(known[one.id].values()):
            known[one.id]["gone"] = gone
    return known


def failed(connection: Connection, one: Scan) -> list[Job]:
    """Of each row whose last job failed this job."""
    last = _last(scan.c.id == one.id)
    ids = select(last.c.id).where(last.c.rank == 1, last.c.outcome == "failed")
    return jobs.select_where(connection, job.c.id.in_(ids), order=(job.c.place,))


def known(connection: Connection, scan_id: str) -> bool:
    """Whether there is such a scan."""
    return connection.execute(select(scan.c.id).where(scan.c.id == scan_id)).first() is not None


def can_follow(connection: Connection, old: Job) -> bool:
    """Whether a new job can take the place of this one in its scan: it is over, the last of its row, and the scan was
    not cancelled."""
    found = find(connection, old.batch) if old.batch is not None and old.ended_at is not None else None
    if found is None or found.cancelled_at is not None:
        return False
    last = jobs_of(connection, found, job.c.place == old.place)
    return [one.id for one in last_of_rows(last, old.place, old.place + 1) if one] == [old.id]


def jobs_of(connection: Connection, one: Scan, *conditions: ColumnElement[bool]) -> list[Job]:
    """Its jobs, the oldest first; those of others that name the same batch are none of it."""
    mine = job.c.owner_id.is_(None) if one.owner_id is None else job.c.owner_id == one.owner_id
    return jobs.select_where(connection, job.c.batch == one.id, job.c.owner == one.owner, mine, *conditions)


def lock_open(connection: Connection, one: Scan) -> list[Job]:
    """Its jobs that are not over, locked until the end of the transaction: none of them starts or ends meanwhile."""
    is_open = and_(job.c.batch == one.id, job.c.ended_at.is_(None))
    connection.execute(select(job.c.id).where(is_open).order_by(job.c.id).with_for_update()).all()
    return jobs_of(connection, one, job.c.ended_at.is_(None))


def cancel(connection: Connection, scan_id: str, now: int) -> None:
    """It was cancelled; the first time counts."""
    mine = (scan.c.id == scan_id, scan.c.cancelled_at.is_(None))
    connection.execute(update(scan).where(*mine).values(cancelled_at=now))


def of_open(connection: Connection) -> tuple[Throttle, ...]:
    """Of all scans with jobs that are not over, what holds these back."""
    c = scan.c
    has_open = exists().where(and_(job.c.batch == c.id, job.c.ended_at.is_(None)))
    query = select(c.id, c.owner_id, c.at_once, c.cancelled_at).where(
        (c.at_once.is_not(None)) | (c.cancelled_at.is_not(None)), has_open
    )
    rows = connection.execute(query.order_by(c.id)).all()
    return tuple(Throttle(row.id, row.owner_id, row.at_once, row.cancelled_at is not None) for row in rows)


def drop_empty(connection: Connection) -> None:
    """Drops the scans of whose jobs none is kept."""
    connection.execute(delete(scan).where(~exists().where(job.c.batch == scan.c.id)))


def _last(*conditions: ColumnElement[bool]) -> Subquery:
    """The jobs of the rows of scans, of each row the one that was submitted last with the rank 1."""
    newest = (job.c.created_at.desc(), job.c.ended_at.is_(None).desc(), job.c.id.desc())
    rank = func.row_number().over(partition_by=(scan.c.id, job.c.place), order_by=newest).label("rank")
    inside = and_(job.c.place >= 0, job.c.place < scan.c.size)
    query = select(scan.c.id.label("scan"), job.c.id, job.c.outcome, rank).join(job, and_(_ITS_JOB, inside))
    return query.where(*conditions).subquery()


_SAME_PERSON: Any = or_(job.c.owner_id == scan.c.owner_id, and_(job.c.owner_id.is_(None), scan.c.owner_id.is_(None)))
_ITS_JOB: Any = and_(job.c.batch == scan.c.id, job.c.owner == scan.c.owner, _SAME_PERSON)
