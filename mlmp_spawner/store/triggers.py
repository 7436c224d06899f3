"""The triggers that keep the invariant, whoever writes: *no write ever raises the units taken, on any node, for any
resource, at any instant, above the capacity then, or into an outage.*

Each write to an allocation first raises the version of its capacity row. On PostgreSQL that row is the lock: a second
writer waits for the first one and then sees what it wrote, or, at REPEATABLE READ and above, is refused by PostgreSQL
itself. (Counting under an advisory lock double-books at REPEATABLE READ: the snapshot is older than the lock.)

Then only the *increase* is checked. What is taken is a step function of time, and its steps upwards are where
allocations start: a running sum over the starts and ends that lie within the new row is its whole course there. Rows
are found by the range index, from ``start > t - LONGEST`` on, since no row is longer than that.

Refusals begin with ``mlmp:`` and the reason: ``capacity``, ``outage``, ``root`` (a child beyond its root),
``immutable`` (a column that never changes), ``type`` (SQLite only: not a whole number). They are violations of
integrity to either driver. Only SQL that is built into the databases is used, since any connection may fire them.
"""

from __future__ import annotations

from sqlalchemy import Connection

from mlmp_spawner.store import triggers_postgresql, triggers_sqlite

_OF = {"sqlite": triggers_sqlite, "postgresql": triggers_postgresql}


def create(connection: Connection) -> None:
    """Creates all triggers; those of the same name are replaced."""
    drop(connection)
    for statement in _OF[connection.dialect.name].CREATE:
        connection.exec_driver_sql(statement)


def drop(connection: Connection) -> None:
    """Drops all triggers (for migrations, and for tests that show what would happen without)."""
    for statement in _OF[connection.dialect.name].DROP:
        connection.exec_driver_sql(statement)
