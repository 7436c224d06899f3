"""Lists of jobs, page by page; who may see what of one."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from typing import Literal

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select

from mlmp_spawner.errors import Invalid, NotAllowed, NotFound
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.tables import job as table
from mlmp_spawner.store.tables import job_attempt as attempt
from mlmp_spawner.store.transaction import read

Wanted = Literal["queued", "starting", "running", "stopping", "ended", "open"]
"""A state, or ``open``: all that have not ended."""

LONGEST_PAGE = 200
MANY = 500


def page(
    site: Site,
    *,
    owner: str | None = None,
    state: Wanted | None = None,
    batch: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[Job], str | None]:
    """One page of jobs, the newest first, and the cursor of the next page, None behind the last.

    :param owner: only those of the living user of that name.
    :raises Invalid: the cursor is not one that this function gave.
    """
    conditions: list[ColumnElement[bool]] = [] if state is None else [in_state(state)]
    if owner is not None:
        conditions += [table.c.owner == owner, table.c.owner_id.is_not(None)]
    if batch is not None:
        conditions.append(table.c.batch == batch)
    if cursor is not None:
        at, last = _read_cursor(cursor)
        conditions += [table.c.created_at <= at]
        conditions += [or_(table.c.created_at < at, table.c.id < last)]
    limit = max(1, min(limit, LONGEST_PAGE))
    order = (table.c.created_at.desc(), table.c.id.desc())
    with read(site.engine) as connection:
        found = store.select_where(connection, *conditions, order=order, limit=limit + 1)
    return found[:limit], _cursor(found[limit - 1]) if len(found) > limit else None


def get(site: Site, job_id: str) -> Job:
    """One job.

    :raises NotFound: there is none with that id.
    """
    with read(site.engine) as connection:
        return known(store.find(connection, job_id), job_id)


def get_own(site: Site, job_id: str, actor: Actor) -> Job:
    """One job of the actor's; an admin's are all.

    :raises NotFound, NotAllowed: see :func:`check_own`.
    """
    found = get(site, job_id)
    check_own(found, actor)
    return found


def by_ids(site: Site, ids: Collection[str]) -> dict[str, Job]:
    """The jobs with these ids; those that are gone are left out."""
    wanted = sorted(ids)
    found: list[Job] = []
    if wanted:
        with read(site.engine) as connection:
            for at in range(0, len(wanted), MANY):
                found += store.select_where(connection, table.c.id.in_(wanted[at : at + MANY]))
    return {row.id: row for row in found}


def counts(site: Site, owner: str | None = None) -> dict[Wanted, int]:
    """How many jobs are in each state but ``ended``; ``open`` is their sum."""
    mine = (table.c.ended_at.is_(None), *(() if owner is None else (table.c.owner == owner,)))
    live = table.outerjoin(attempt, and_(attempt.c.job == table.c.id, attempt.c.ended_at.is_(None)))
    has = attempt.c.job.is_not(None)
    stops, runs = attempt.c.stopping_at.is_not(None), attempt.c.started_at.is_not(None)
    query = select(has, stops, runs, func.count()).select_from(live).where(*mine).group_by(has, stops, runs)
    found: dict[Wanted, int] = dict.fromkeys(("queued", "starting", "running", "stopping", "open"), 0)
    with read(site.engine) as connection:
        for is_live, is_stopping, is_running, count in connection.execute(query):
            state: Wanted = "stopping" if is_stopping else "running" if is_running else "starting"
            found[state if is_live else "queued"] += count
            found["open"] += count
    return found


def is_own(job: Job, name: str) -> bool:
    """Whether it is a job of the living user of that name; a namesake of a deleted one gets nothing of his."""
    return job.owner == name and job.owner_id is not None


def check_own(job: Job, actor: Actor) -> None:
    """:raises NotAllowed: it is somebody else's, and the actor no admin."""
    if not is_own(job, actor.name) and not actor.admin:
        raise NotAllowed("This job is somebody else's.", hint="Ask an admin where something is wrong with it.")


def known(found: Job | None, job_id: str) -> Job:
    """:raises NotFound: it is None."""
    if found is None:
        raise NotFound(f"There is no job {job_id[:40]!r}.")
    return found


def read_own(connection: Connection, job_id: str, actor: Actor) -> Job:
    """One job of the actor's, its row locked; an admin's are all.

    :raises NotFound, NotAllowed: see :func:`check_own`.
    """
    found = known(store.lock(connection, job_id), job_id)
    check_own(found, actor)
    return found


def in_state(state: Wanted) -> ColumnElement[bool]:
    """The same as :meth:`Job.state`, for the database."""
    if state == "ended":
        return table.c.ended_at.is_not(None)
    opened = table.c.ended_at.is_(None)
    if state == "open":
        return opened
    live = and_(attempt.c.job == table.c.id, attempt.c.ended_at.is_(None))
    if state == "queued":
        return and_(opened, ~exists().where(live))
    stopping, started = attempt.c.stopping_at, attempt.c.started_at
    if state == "stopping":
        return and_(opened, exists().where(live, stopping.is_not(None)))
    begun = started.is_(None) if state == "starting" else started.is_not(None)
    return and_(opened, exists().where(live, stopping.is_(None), begun))


def _cursor(last: Job) -> str:
    return base64.urlsafe_b64encode(f"{last.created_at}.{last.id}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[int, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        at, _, last = text.partition(".")
        if at.isdecimal() and len(at) <= 15 and last.isalnum() and len(last) <= 30:
            return int(at), last
    except (binascii.Error, UnicodeError, ValueError):
        pass
    raise Invalid.field("cursor", "it is not one that this service gave; begin without one")
