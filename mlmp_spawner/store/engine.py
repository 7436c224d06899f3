"""Engines: how MLMP connects to SQLite and PostgreSQL, so that both behave alike.

On SQLite every connection enforces foreign keys, waits for other writers and begins its transactions explicitly (the
driver's own way begins them late, so that a read before a write could be overtaken). On PostgreSQL locks are waited
for as long, and transactions are READ COMMITTED whatever the server's default is: after waiting for a lock the next
statement sees what the other one wrote.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from mlmp_spawner.errors import ConfigurationError

BUSY_TIMEOUT = 5_000
"""How long a connection waits for a lock before it gives up, ms."""

SILENCE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 20_000}
"""When PostgreSQL counts as gone though nobody says so, such as when its node lost power: in s, the last in ms."""

BEGIN = "mlmp_begin"
"""Execution option of a connection: the statement that begins a transaction on SQLite."""


def database_url(db_url: str | URL) -> URL:
    """The URL with the driver that MLMP uses.

    :raises ConfigurationError: it is no URL, or of a database that MLMP does not know.
    """
    try:
        url = make_url(db_url)
    except ArgumentError:
        raise ConfigurationError(
            ["db_url: not a database URL; valid: sqlite:///FILE, postgresql://HOST/NAME"]
        ) from None
    backend = url.get_backend_name()
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ConfigurationError([f"db_url: {backend} is not supported; valid: sqlite, postgresql"])
    if not url.database or url.database == ":memory:":
        raise ConfigurationError(["db_url: SQLite in memory can't be shared by hub and service; name a file"])
    return url


def make_engine(db_url: str | URL, *, pool_size: int = 5) -> Engine:
    """An engine for the database of the hub.

    :param pool_size: how many connections are kept open; as many again are opened when these are in use.
    :raises ConfigurationError: see :func:`database_url`.
    """
    url = database_url(db_url)
    if url.get_backend_name() == "postgresql":
        return create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",
            connect_args={"options": _options(url), "connect_timeout": 5, **SILENCE},
        )
    engine = create_engine(
        url, pool_size=pool_size, max_overflow=pool_size, connect_args={"timeout": BUSY_TIMEOUT / 1000}
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def set_wal(path: Path) -> None:
    """Puts a SQLite file into write-ahead mode, in which readers and the writer do not wait for each other."""
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT / 1000)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _options(url: URL) -> str:
    given = url.query.get("options", "")
    given = " ".join(given) if isinstance(given, tuple) else given
    return f"{given} -c lock_timeout={BUSY_TIMEOUT}".strip()


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA journal_mode")
    if cursor.fetchone() != ("wal",):
        # While others use the file it can't be switched; the next connection tries again.
        with suppress(sqlite3.OperationalError):
            cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(BEGIN, "BEGIN"))
