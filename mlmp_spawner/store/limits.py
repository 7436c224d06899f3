"""The limits that an admin set while the service runs: one entry for everybody, a group or a person.

What an entry says is kept as a catalog's file would have it (``{"max_duration": "8h"}``), so that people can read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update

from mlmp_spawner.store.tables import limits

Kind = Literal["everybody", "group", "user"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; ``name`` is "" for everybody, ``changed_at`` in ms UTC."""

    kind: Kind
    name: str
    limits: Any
    changed_at: int
    changed_by: str


def entries(connection: Connection) -> list[Entry]:
    """All of them, by kind and name."""
    return [Entry(*row) for row in connection.execute(select(limits).order_by(limits.c.kind, limits.c.name))]


def put(connection: Connection, entry: Entry) -> None:
    """Writes an entry, over one for the same if there is one. Call with :func:`.transaction.lock_owner` held."""
    said = {"limits": entry.limits, "changed_at": entry.changed_at, "changed_by": entry.changed_by}
    same = (limits.c.kind == entry.kind, limits.c.name == entry.name)
    if connection.execute(update(limits).where(*same).values(**said)).rowcount == 0:
        connection.execute(insert(limits).values(kind=entry.kind, name=entry.name, **said))


def remove(connection: Connection, kind: Kind, name: str) -> None:
    """Removes an entry, if there is one."""
    connection.execute(delete(limits).where(limits.c.kind == kind, limits.c.name == name))
