"""Who did what when. The history is also the feed that open pages follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select

from mlmp_spawner.operations import notices
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.tables import history


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
    connection: Connection, action: str, *, actor: str, at: int, reservation: Reservation | None = None, **details: Any
) -> None:
    """Writes one line, and what its owner is told of it, in the transaction of the change itself."""
    connection.execute(
        insert(history).values(
            at=at,
            actor=actor,
            action=action,
            details=details,
            reservation=reservation.id if reservation else None,
            owner=reservation.owner if reservation else None,
        )
    )
    if reservation is not None:
        notices.write(connection, action, actor=actor, at=at, reservation=reservation, details=details)


def of(engine: Engine, reservation_id: str) -> list[Entry]:
    """The history of one booking, oldest first."""
    with engine.connect() as connection:
        query = select(history).where(history.c.reservation == reservation_id).order_by(history.c.id)
        return [Entry(**row._mapping) for row in connection.execute(query)]


def latest(engine: Engine) -> int:
    """The id of the newest line; 0 where there is none."""
    with engine.connect() as connection:
        return connection.execute(select(func.max(history.c.id))).scalar() or 0


def since(engine: Engine, after: int, *, limit: int = 500) -> list[Entry]:
    """The lines after an id, oldest first, at most ``limit``."""
    with engine.connect() as connection:
        query = select(history).where(history.c.id > after).order_by(history.c.id).limit(limit)
        return [Entry(**row._mapping) for row in connection.execute(query)]
