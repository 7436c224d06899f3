"""Queries on who agreed to be looked into, and who looks in. Every function takes an open connection."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Select, delete, insert, select

from mlmp_spawner.store.course_tables import look_in_agreement, looking_in
from mlmp_spawner.store.tables import reservation


@dataclass(frozen=True, slots=True)
class Agreement:
    """That who teaches may look into the server of a seat, as long as that lasts. ``owner_id``: who agreed, as the
    hub numbers them; ``agreed_at`` in ms UTC."""

    seat: str
    owner_id: int
    agreed_at: int


@dataclass(frozen=True, slots=True)
class Looking:
    """Somebody who is let into the server of a seat, since then (ms UTC)."""

    seat: str
    viewer: str
    owner: str
    server: str
    since: int


def agreement(connection: Connection, seat: str) -> Agreement | None:
    """That of a seat."""
    row = connection.execute(select(look_in_agreement).where(look_in_agreement.c.seat == seat)).one_or_none()
    return Agreement(**row._mapping) if row else None


def agreements(connection: Connection) -> dict[str, Agreement]:
    """All of them, by seat."""
    return {row.seat: Agreement(**row._mapping) for row in connection.execute(select(look_in_agreement))}


def agree(connection: Connection, new: Agreement) -> None:
    """Writes one."""
    connection.execute(insert(look_in_agreement).values(asdict(new)))


def withdraw(connection: Connection, seat: str) -> bool:
    """Removes that of a seat; whether there was one."""
    return connection.execute(delete(look_in_agreement).where(look_in_agreement.c.seat == seat)).rowcount > 0


def is_over(connection: Connection, now: int) -> bool:
    """Whether there are agreements for seats that are over."""
    return connection.execute(_over(now).limit(1)).first() is not None


def drop_over(connection: Connection, now: int) -> None:
    """Removes those for seats that are over."""
    seats = list(connection.execute(_over(now)).scalars())
    connection.execute(delete(look_in_agreement).where(look_in_agreement.c.seat.in_(seats)))


def _over(now: int) -> Select[tuple[str]]:
    joined = look_in_agreement.join(reservation, reservation.c.id == look_in_agreement.c.seat)
    return select(look_in_agreement.c.seat).select_from(joined).where(reservation.c.end <= now)


def looking(connection: Connection, seat: str | None = None) -> list[Looking]:
    """Who is let into the server of a seat, None: of any."""
    query = select(looking_in).order_by(looking_in.c.since, looking_in.c.viewer)
    rows = connection.execute(query if seat is None else query.where(looking_in.c.seat == seat))
    return [Looking(**row._mapping) for row in rows]


def let_in(connection: Connection, new: Looking) -> None:
    """Writes one."""
    connection.execute(insert(looking_in).values(asdict(new)))


def drop(connection: Connection, old: Looking) -> None:
    """Removes one."""
    same = (looking_in.c.seat == old.seat, looking_in.c.viewer == old.viewer)
    connection.execute(delete(looking_in).where(*same))
