"""Who did what when. The history is also the feed that open pages follow."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, func, insert, or_, select

from mlmp_spawner.errors import Invalid
from mlmp_spawner.operations import notices
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.tables import history
from mlmp_spawner.store.transaction import read


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the history. ``at`` in ms UTC; ``id`` rises with each."""

    id: int
    at: int
    reservation: str | None
    owner: str | None
    actor: str
    action: str
    details: dict[str, Any]


def record(
    connection: Connection,
    action: str,
    *,
    actor: str,
    at: int,
    reservation: Reservation | None = None,
    owner: str | None = None,
    **details: Any,
) -> None:
    """Writes one line, and what its owner is told of it, in the transaction of the change itself.

    :param owner: whom it concerns, where it is about no booking.
    """
    connection.execute(
        insert(history).values(
            at=at,
            actor=actor,
            action=action,
            details=details,
            reservation=reservation.id if reservation else None,
            owner=reservation.owner if reservation else owner,
        )
    )
    if reservation is not None:
        notices.write(connection, action, actor=actor, at=at, reservation=reservation, details=details)


def record_of_jobs(
    connection: Connection, action: str, jobs: Sequence[Job], *, actor: str, at: int, details: Callable[[Job], Any]
) -> None:
    """Writes the same line for each of many jobs. :param details: what it says of a job besides its id."""
    rows = [
        {"at": at, "actor": actor, "action": action, "reservation": None, "owner": one.owner,
         "details": {"job": one.id, **details(one)}}
        for one in jobs
    ]  # fmt: skip
    if rows:
        connection.execute(insert(history), rows)


def of(engine: Engine, reservation_id: str) -> list[Entry]:
    """The history of one booking, oldest first."""
    with read(engine) as connection:
        query = select(history).where(history.c.reservation == reservation_id).order_by(history.c.id)
        return [Entry(**row._mapping) for row in connection.execute(query)]


def latest(engine: Engine) -> int:
    """The id of the newest line; 0 where there is none."""
    with read(engine) as connection:
        return connection.execute(select(func.max(history.c.id))).scalar() or 0


def since(engine: Engine, after: int, *, limit: int = 500) -> list[Entry]:
    """The lines after an id, oldest first, at most ``limit``."""
    with read(engine) as connection:
        query = select(history).where(history.c.id > after).order_by(history.c.id).limit(limit)
        return [Entry(**row._mapping) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines of the audit log are wanted. ``person``: whose booking it was, or who did it; ``start`` and ``end``
    in ms UTC, half-open."""

    person: str | None = None
    actor: str | None = None
    action: str | None = None
    reservation: str | None = None
    start: int | None = None
    end: int | None = None


def audit(
    engine: Engine, wanted: Filter, *, limit: int = 50, cursor: str | None = None
) -> tuple[list[Entry], str | None]:
    """The whole history, newest first, one page of it, and the cursor of the next page, None behind the last.

    :raises Invalid: the cursor is not one that this function gave.
    """
    c = history.c
    conditions: list[ColumnElement[bool]] = []
    for name in ("actor", "action", "reservation"):
        if (value := getattr(wanted, name)) is not None:
            conditions.append(c[name] == value)
    if wanted.start is not None:
        conditions.append(c.at >= wanted.start)
    if wanted.end is not None:
        conditions.append(c.at < wanted.end)
    if cursor is not None:
        at, last = _read_cursor(cursor)
        conditions.append(c.at <= at)
        conditions.append(or_(c.at < at, c.id < last))

    def page(*more: ColumnElement[bool]) -> Select[Any]:
        query = select(history).where(*conditions, *more)
        return query.order_by(c.at.desc(), c.id.desc()).limit(limit + 1)

    # Whose it was or who did it: each by its own index, since one for both is none.
    queries = [page()] if wanted.person is None else [page(c.owner == wanted.person), page(c.actor == wanted.person)]
    with read(engine) as connection:
        found = {row.id: Entry(**row._mapping) for query in queries for row in connection.execute(query)}
    entries = sorted(found.values(), key=lambda entry: (entry.at, entry.id), reverse=True)
    more = len(entries) > limit
    return entries[:limit], f"{entries[limit - 1].at}.{entries[limit - 1].id}" if more else None


def _read_cursor(cursor: str) -> tuple[int, int]:
    if not re.fullmatch(r"[0-9]{1,15}\.[0-9]{1,18}", cursor):
        raise Invalid.field("cursor", "it is not one that this service gave; begin without one")
    at, _, last = cursor.partition(".")
    return int(at), int(last)
