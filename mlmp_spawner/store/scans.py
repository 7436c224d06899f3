"""Queries on scans: rows in, :class:`Scan` out. Every function takes an open connection."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, insert, select, update

from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.rules.scans import Scan, Throttle
from mlmp_spawner.store import jobs
from mlmp_spawner.store.tables import job, scan


def insert_scan(connection: Connection, new: Scan) -> None:
    """Writes one. Values are kept beside the names, which are the same in all rows and in order."""
    kept = {"names": list(new.names), "values": [list(row.values()) for row in new.rows]}
    plain = ("id", "owner", "owner_id", "name", "at_once", "created_at", "cancelled_at")
    connection.execute(insert(scan).values({name: getattr(new, name) for name in plain} | {"rows": kept}))


def select_where(connection: Connection, *conditions: ColumnElement[bool], limit: int | None = None) -> list[Scan]:
    """The scans that meet all conditions, the newest first."""
    query = select(scan).where(*conditions).order_by(scan.c.created_at.desc(), scan.c.id.desc())
    found = []
    for row in connection.execute(query if limit is None else query.limit(limit)):
        kept = row._mapping["rows"]
        rows = tuple(dict(zip(kept["names"], values, strict=True)) for values in kept["values"])
        found.append(Scan(**{**row._mapping, "rows": rows}))
    return found


def find(connection: Connection, scan_id: str, *, lock: bool = False) -> Scan | None:
    """One scan, or None. :param lock: until the end of the transaction."""
    if lock:
        connection.execute(select(scan.c.id).where(scan.c.id == scan_id).with_for_update())
    found = select_where(connection, scan.c.id == scan_id)
    return found[0] if found else None


def jobs_of(connection: Connection, one: Scan, *conditions: ColumnElement[bool]) -> list[Job]:
    """Its jobs, the oldest first; those of others that name the same batch are none of it."""
    mine = job.c.owner_id.is_(None) if one.owner_id is None else job.c.owner_id == one.owner_id
    return jobs.select_where(connection, job.c.batch == one.id, job.c.owner == one.owner, mine, *conditions)


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
