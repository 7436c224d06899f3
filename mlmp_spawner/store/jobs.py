"""Queries on jobs and their attempts: rows in, :class:`Job` out.

Every function takes an open connection; who calls it decides on the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Text, cast, delete, func, insert, select, update

from mlmp_spawner.errors import Changed
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.store.tables import job, job_attempt

_COLUMNS = [column.name for column in job.columns if column.name != "secrets"]
_ATTEMPT = [column.name for column in job_attempt.columns if column.name != "places"]
_CHUNK = 500


def select_where(
    connection: Connection, *conditions: ColumnElement[bool], order: Any = None, limit: int | None = None
) -> list[Job]:
    """The jobs that meet all conditions, with their attempts, oldest first unless told otherwise."""
    query = select(*(job.c[name] for name in _COLUMNS)).where(*conditions)
    query = query.order_by(*(order or (job.c.created_at, job.c.id)))
    rows = connection.execute(query if limit is None else query.limit(limit)).all()
    tried: dict[str, list[Attempt]] = {row.id: [] for row in rows}
    ids = list(tried)
    for at in range(0, len(ids), _CHUNK):
        chunk = select(job_attempt).where(job_attempt.c.job.in_(ids[at : at + _CHUNK]))
        for row in connection.execute(chunk.order_by(job_attempt.c.job, job_attempt.c.number)):
            tried[row.job].append(_attempt(row))
    return [_job(row, tried[row.id]) for row in rows]


def _job(row: Row[Any], attempts: Sequence[Attempt]) -> Job:
    return Job(**{name: row._mapping[name] for name in _COLUMNS}, attempts=tuple(attempts))


def _attempt(row: Row[Any]) -> Attempt:
    values = {name: getattr(row, name) for name in _ATTEMPT}
    return Attempt(**values | {"nodes": tuple(row.nodes)})


def find(connection: Connection, job_id: str) -> Job | None:
    """One job, or None."""
    found = select_where(connection, job.c.id == job_id)
    return found[0] if found else None


def lock(connection: Connection, job_id: str) -> Job | None:
    """One job, with its row locked until the end of the transaction, so that its attempts stay as they are read."""
    connection.execute(select(job.c.id).where(job.c.id == job_id).with_for_update())
    return find(connection, job_id)


def open_jobs(connection: Connection) -> list[Job]:
    """Those that have not ended, by the partial index."""
    return select_where(connection, job.c.ended_at.is_(None))


def count_open(connection: Connection, owner: str) -> int:
    """How many jobs of one owner have not ended."""
    query = select(func.count()).select_from(job).where(job.c.owner == owner, job.c.ended_at.is_(None))
    return connection.execute(query).scalar() or 0


def secrets_of(connection: Connection, job_id: str) -> dict[str, str]:
    """The environment of a job that is never shown."""
    found = connection.execute(select(job.c.secrets).where(job.c.id == job_id)).scalar()
    return dict(found or {})


def places_of(connection: Connection, attempt: Attempt) -> list[dict[str, Any]]:
    """Of each worker of an attempt ``{"node": name, "units": [ids]}``."""
    mine = (job_attempt.c.job == attempt.job, job_attempt.c.number == attempt.number)
    return list(connection.execute(select(job_attempt.c.places).where(*mine)).scalar() or ())


def insert_job(connection: Connection, new: Job, secrets: dict[str, str]) -> None:
    """Writes a job without attempts."""
    connection.execute(insert(job), {name: getattr(new, name) for name in _COLUMNS} | {"secrets": secrets})


def insert_jobs(connection: Connection, new: Iterable[Job], secrets: dict[str, str]) -> None:
    """Writes many that share their secrets."""
    rows = [{name: getattr(one, name) for name in _COLUMNS} | {"secrets": secrets} for one in new]
    if rows:
        connection.execute(insert(job), rows)


def update_job(connection: Connection, old: Job, **changes: Any) -> None:
    """Changes a job that is still as it was read.

    :raises Changed: somebody else changed it meanwhile.
    """
    mine = (job.c.id == old.id, job.c.version == old.version)
    changed = connection.execute(update(job).where(*mine).values(**changes, version=old.version + 1))
    if changed.rowcount != 1:
        raise Changed("The job was changed meanwhile.", hint="Look at it as it is now and try again.")


def end_waiting(connection: Connection, waiting: Sequence[Job], **facts: Any) -> None:
    """Changes many jobs that wait in the same way; who calls this has their rows locked."""
    ids = [one.id for one in waiting]
    for at in range(0, len(ids), _CHUNK):
        mine = job.c.id.in_(ids[at : at + _CHUNK])
        connection.execute(update(job).where(mine).values(**facts, version=job.c.version + 1))


def insert_attempt(connection: Connection, new: Attempt, places: Sequence[dict[str, Any]]) -> None:
    """Writes an attempt; the database refuses a second one while another lives."""
    values = {name: getattr(new, name) for name in _ATTEMPT}
    connection.execute(insert(job_attempt), values | {"nodes": list(new.nodes), "places": list(places)})


def update_attempt(connection: Connection, old: Attempt, *where: ColumnElement[bool], **changes: Any) -> bool:
    """Changes an attempt that has not ended, where all of ``where`` hold as well; whether it did."""
    mine = (job_attempt.c.job == old.job, job_attempt.c.number == old.number, job_attempt.c.ended_at.is_(None))
    return connection.execute(update(job_attempt).where(*mine, *where).values(**changes)).rowcount == 1


def live_attempts(connection: Connection) -> list[Attempt]:
    """The attempts under way, by the partial index."""
    query = select(job_attempt).where(job_attempt.c.ended_at.is_(None)).order_by(job_attempt.c.job)
    return [_attempt(row) for row in connection.execute(query)]


def units_inside(connection: Connection, booking: str, node: str) -> set[str]:
    """The physical units on a node that attempts under way inside a booking use."""
    query = select(job_attempt.c.places).join(job, job.c.id == job_attempt.c.job)
    query = query.where(job.c.inside == booking, job_attempt.c.ended_at.is_(None))
    return {
        unit
        for places in connection.execute(query).scalars()
        for place in places
        if place["node"] == node
        for unit in place["units"]
    }


def live_jobs(connection: Connection) -> list[Job]:
    """The jobs with an attempt under way."""
    live = select(job_attempt.c.job).where(job_attempt.c.ended_at.is_(None))
    return select_where(connection, job.c.id.in_(live))


def queued_briefly(connection: Connection) -> list[Job]:
    """Those that wait, without manifests and former attempts: there may be many thousands."""
    names = [name for name in _COLUMNS if name != "manifest"]
    live = select(job_attempt.c.job).where(job_attempt.c.ended_at.is_(None))
    query = select(*(job.c[name] for name in names)).where(job.c.ended_at.is_(None), job.c.id.not_in(live))
    rows = connection.execute(query.order_by(job.c.queued_at))
    return [Job(**dict(zip(names, row, strict=True)), manifest={}) for row in rows]


def servers_of_open(connection: Connection) -> dict[str, str]:
    """Of the jobs that are not over and talk with a server the booking of that, by their ids."""
    booking = job.c.manifest["server"].as_string()
    query = select(job.c.id, booking).where(job.c.ended_at.is_(None), booking.is_not(None))
    return {row[0]: row[1] for row in connection.execute(query)}


def versions_of_open(connection: Connection) -> tuple[int, ...]:
    """Numbers that differ once a job came, ended or was changed."""
    c = job.c
    query = select(func.count(), func.sum(c.version), func.sum(c.created_at)).where(c.ended_at.is_(None))
    return tuple(int(number or 0) for number in connection.execute(query).one())


def next_numbers(connection: Connection, job_ids: Sequence[str]) -> dict[str, int]:
    """Which attempt of each of these jobs is the next."""
    numbers = dict.fromkeys(job_ids, 1)
    for at in range(0, len(job_ids), _CHUNK):
        mine = job_attempt.c.job.in_(job_ids[at : at + _CHUNK])
        query = select(job_attempt.c.job, func.max(job_attempt.c.number)).where(mine).group_by(job_attempt.c.job)
        numbers |= {name: last + 1 for name, last in connection.execute(query).all()}
    return numbers


def forget_secrets(connection: Connection, *, before: int) -> int:
    """Drops the values of secrets of jobs that ended before then (ms UTC); of how many."""
    had = cast(job.c.secrets, Text) != "{}"
    return connection.execute(update(job).where(job.c.ended_at < before, had).values(secrets={})).rowcount


def over_by_owner(connection: Connection, most: int) -> list[str]:
    """The owners of more than ``most`` jobs that have ended."""
    query = select(job.c.owner).where(job.c.ended_at.is_not(None)).group_by(job.c.owner)
    return list(connection.execute(query.having(func.count() > most)).scalars())


def oldest_over(connection: Connection, owner: str, *, behind: int, limit: int) -> list[Job]:
    """Jobs of an owner that have ended, all older than the last ``behind`` of these."""
    ended = (job.c.owner == owner, job.c.ended_at.is_not(None))
    ids = select(job.c.id).where(*ended).order_by(job.c.created_at.desc(), job.c.id.desc()).offset(behind).limit(limit)
    return select_where(connection, job.c.id.in_(list(connection.execute(ids).scalars())))


def drop_ended(connection: Connection, job_ids: Iterable[str]) -> None:
    """Drops jobs that have ended, with their attempts."""
    connection.execute(delete(job).where(job.c.id.in_(list(job_ids)), job.c.ended_at.is_not(None)))
