"""Series: the rule that several bookings come from, and the bookings of one."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import reservations
from mlmp_spawner.store.tables import reservation, series


@dataclass(frozen=True, slots=True)
class Series:
    """A rule (RFC 5545) in a zone (IANA), counted from ``start`` (ms UTC), each ``duration`` ms long.

    ``without``: days of the zone (``2026-12-25``) that are left out. ``replaces``: the series that it carries on.
    """

    id: str
    owner: str
    rrule: str
    zone: str
    start: int
    duration: int
    without: tuple[str, ...]
    created_at: int
    replaces: str | None = None
    version: int = 1


def add(connection: Connection, new: Series) -> None:
    """Writes a series."""
    connection.execute(insert(series).values(_values(new)))


def find(connection: Connection, series_id: str, *, lock: bool = False) -> Series | None:
    """One series, or None. ``lock``: nobody else changes it until the end of the transaction."""
    query = select(series).where(series.c.id == series_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        return None
    return Series(**{name: value for name, value in row.items() if name != "except"}, without=tuple(row["except"]))


def change(connection: Connection, new: Series) -> None:
    """Writes a series that was found with ``lock``, with the next version."""
    connection.execute(update(series).where(series.c.id == new.id).values(_values(new) | {"version": new.version + 1}))


def bookings(connection: Connection, series_id: str) -> list[Reservation]:
    """The bookings of a series, in the order of its rule; cancelled ones too."""
    order = (reservation.c.occurrence, reservation.c.id)
    return reservations.select_where(connection, reservation.c.series == series_id, order=order)


def _values(row: Series) -> dict[str, object]:
    return {
        "id": row.id, "owner": row.owner, "rrule": row.rrule, "zone": row.zone, "start": row.start,
        "duration": row.duration, "except": list(row.without), "created_at": row.created_at,
        "replaces": row.replaces, "version": row.version,
    }  # fmt: skip
