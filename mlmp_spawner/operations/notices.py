"""What people are told: written with the change itself, read on pages and by the API, deleted after some weeks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, delete, func, insert, select, update

from mlmp_spawner.errors import Invalid
from mlmp_spawner.operations import people
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.rules.notices import Kind, kind_of
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import courses
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import notice
from mlmp_spawner.store.transaction import read, transaction

FACTS = ("profile", "resource", "units", "node_count", "title", "start", "end", "series")
"""What a notice keeps of the booking as it was, so that it can be read when the booking is long another."""

ONCE_FOR_A_SERIES = frozenset({"booked", "waitlisted", "changed", "cancelled"})
"""What people do to a whole series is told of once, not for each of its bookings."""

AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice. ``at`` and ``read_at`` in ms UTC; ``id`` rises with each. ``details`` has ``action``, ``by`` and
    facts of the booking."""

    id: int
    user_id: int
    kind: Kind
    at: int
    reservation: str | None
    details: Mapping[str, Any]
    read_at: int | None = None

    @property
    def job(self) -> str | None:
        """The job that it is about; its reservation is one that the job held."""
        job = self.details.get("job")
        return job if isinstance(job, str) else None


@dataclass(frozen=True, slots=True)
class Page:
    """Notices, newest first; ``unread`` counts all of them, ``cursor`` leads to older ones."""

    items: list[Notice]
    unread: int
    cursor: str | None


def details_of(action: str, actor: str, reservation: Reservation, details: Mapping[str, Any]) -> dict[str, Any]:
    """What a notice says of an event, beside when it was."""
    facts = {name: getattr(reservation, name) for name in FACTS}
    return {**facts, "nodes": list(reservation.nodes), **details, "action": action, "by": actor}


def write(
    connection: Connection, action: str, *, actor: str, at: int, reservation: Reservation, details: Mapping[str, Any]
) -> None:
    """Notes for the owner what was done to the booking, if they should know; in the transaction of the change."""
    kind = kind_of(action, actor=actor, owner=reservation.owner)
    if kind is None:
        return
    told = {"reservation": reservation.id, "details": details_of(action, actor, reservation, details)}
    once = action in ONCE_FOR_A_SERIES and reservation.series is not None
    for name, user_id in _whom(connection, reservation).items():
        if once and _told(connection, kind, user_id, reservation, at):
            continue
        # Of what one did oneself one knows.
        read_at = at if actor == name else None
        connection.execute(insert(notice).values(user_id=user_id, kind=kind, at=at, read_at=read_at, **told))


def _whom(connection: Connection, reservation: Reservation) -> dict[str, int]:
    """Who is told of a booking, by name: its owner; of a class who teaches it; nobody of a deleted user's."""
    if reservation.kind == "class":
        return courses.teachers(connection, reservation.owner)
    return {} if reservation.owner_id is None else {reservation.owner: reservation.owner_id}


def write_of_job(
    connection: Connection, action: str, job: Job, *, actor: str, at: int, details: Mapping[str, Any]
) -> None:
    """Notes for its owner what became of a job, if they should know."""
    write_of_jobs(connection, action, [job], actor=actor, at=at, details=details)


def write_of_jobs(
    connection: Connection, action: str, jobs: Iterable[Job], *, actor: str, at: int, details: Mapping[str, Any]
) -> None:
    """Notes the same of each of many jobs."""
    rows = []
    for job in jobs:
        told = told_of_job(action, job, actor=actor, details=details)
        if told is not None and job.owner_id is not None:
            kind, facts = told
            rows.append({"user_id": job.owner_id, "kind": kind, "at": at, "details": facts})
    if rows:
        connection.execute(insert(notice), rows)


def told_of_job(
    action: str, job: Job, *, actor: str, details: Mapping[str, Any]
) -> tuple[Kind, dict[str, Any]] | None:
    """What the owner of a job is told of an event; None: nothing, or the owner did it."""
    kind = kind_of(action, actor=actor, owner=job.owner)
    by = job.cancelled_by if details.get("outcome") == "cancelled" and job.cancelled_by is not None else actor
    if kind is None or by == job.owner:
        return None
    facts = {"profile": job.profile, "resource": job.resource, "units": job.units, "title": job.name, "job": job.id}
    if job.batch is not None:
        facts["batch"] = job.batch
    return kind, {**facts, **details, "action": action, "by": by}


def _told(connection: Connection, kind: Kind, user_id: int, reservation: Reservation, at: int) -> bool:
    """Whether this very change of the series was told of already."""
    mine = (notice.c.user_id == user_id, notice.c.kind == kind, notice.c.at == at)
    found = connection.execute(select(notice.c.details).where(*mine)).scalars()
    return any(details.get("series") == reservation.series for details in found)


def write_test(engine: Engine, user_id: int, *, now: int) -> int:
    """A notice that only shows whether notices arrive; its id."""
    with transaction(engine) as connection:
        values = {"user_id": user_id, "kind": "test", "at": now, "details": {"action": "test"}}
        made = connection.execute(insert(notice).values(**values))
        return int(made.inserted_primary_key[0])  # type: ignore[index]


def _shown(connection: Connection, user_id: int) -> tuple[ColumnElement[bool], ...]:
    """The notices that a person wants to see in the browser."""
    wanted = people.kinds_on(connection, user_id, "browser")
    return (notice.c.user_id == user_id, notice.c.kind.in_(wanted))


def page(engine: Engine, name: str, *, limit: int = 50, cursor: str | None = None, unread: bool = False) -> Page:
    """A page of the notices of a person.

    :raises Invalid: the cursor is none of ours.
    """
    before = None
    if cursor is not None:
        if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
            raise Invalid.field("cursor", "take it from next_cursor of the page before")
        before = int(cursor)
    with read(engine) as connection:
        user_id = store.user_id(connection, name)
        if user_id is None:
            return Page([], 0, None)
        mine = _shown(connection, user_id)
        query = select(notice).where(*mine).order_by(notice.c.id.desc()).limit(limit + 1)
        if before is not None:
            query = query.where(notice.c.id < before)
        if unread:
            query = query.where(notice.c.read_at.is_(None))
        found = [of_row(row._mapping) for row in connection.execute(query)]
        count = _unread(connection, mine)
    more = found[limit - 1].id if len(found) > limit else None
    return Page(found[:limit], count, None if more is None else str(more))


def unread(engine: Engine, name: str) -> int:
    """How many notices a person has not read."""
    with read(engine) as connection:
        user_id = store.user_id(connection, name)
        return 0 if user_id is None else _unread(connection, _shown(connection, user_id))


def _unread(connection: Connection, mine: Iterable[ColumnElement[bool]]) -> int:
    query = select(func.count()).select_from(notice).where(*mine, notice.c.read_at.is_(None))
    return connection.execute(query).scalar() or 0


def mark_read(engine: Engine, name: str, *, up_to: int, now: int, only: bool = False) -> int:
    """Marks all up to this id as read; how many are left that are not. :param only: this one, and none before it."""
    with transaction(engine) as connection:
        user_id = store.user_id(connection, name)
        if user_id is None:
            return 0
        mine = (notice.c.user_id == user_id, notice.c.read_at.is_(None))
        which = notice.c.id == up_to if only else notice.c.id <= up_to
        connection.execute(update(notice).where(*mine, which).values(read_at=now))
        return _unread(connection, _shown(connection, user_id))


def forget_old(engine: Engine, *, before: int) -> int:
    """Deletes the notices of before then, with their deliveries; how many (at most :data:`AT_ONCE` at a time)."""
    with transaction(engine) as connection:
        old = select(notice.c.id).where(notice.c.at < before).order_by(notice.c.at).limit(AT_ONCE)
        return connection.execute(delete(notice).where(notice.c.id.in_(old.scalar_subquery()))).rowcount


def of_row(row: RowMapping) -> Notice:
    """A row of the table."""
    return Notice(
        id=row["id"], user_id=row["user_id"], kind=cast(Kind, row["kind"]), at=row["at"],
        reservation=row["reservation"], details=row["details"], read_at=row["read_at"],
    )  # fmt: skip
