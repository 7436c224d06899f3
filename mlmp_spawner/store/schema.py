"""The schema of MLMP in the hub's database: its version, and how it gets to another one.

Alembic does the work, with a version table of our own: the hub keeps its own beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, inspect, text

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.store.engine import BEGIN, make_engine
from mlmp_spawner.store.transaction import translated

VERSION_TABLE = "mlmp_alembic_version"

_ADVISORY_LOCK = 0x6D6C6D70_6462  # one process at a time changes the schema
_PREPARING = _ADVISORY_LOCK + 1  # … and one makes the hub's tables and ours


def upgrade(db_url: str | URL, revision: str = "head") -> str | None:
    """Brings the schema up to ``revision``; the new version.

    :raises ConfigurationError: the revision is unknown, or the hub's tables are missing.
    :raises Busy, Unavailable: the database is in use, or does not answer.
    """
    return _migrate(db_url, revision, command.upgrade)


def downgrade(db_url: str | URL, revision: str) -> str | None:
    """Takes the schema back to ``revision`` (``base``: nothing of ours is left); the new version.

    :raises ConfigurationError: see :func:`upgrade`.
    """
    return _migrate(db_url, revision, command.downgrade)


def current(db_url: str | URL) -> str | None:
    """The version that the database has; None before the first upgrade."""
    with _connection(db_url) as connection:
        return _version(connection)


def head() -> str:
    """The version that this release works with."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    assert found is not None
    return found


def revisions() -> list[str]:
    """The versions that this release knows, the oldest first."""
    return [found.revision for found in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


@contextmanager
def alone(db_url: str | URL) -> Iterator[None]:
    """Others that prepare the database wait meanwhile: on PostgreSQL; on SQLite one writer waits for another anyway.

    :raises Busy, Unavailable: the others take minutes, or the database does not answer.
    """
    with _connection(db_url) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET lock_timeout = '180s'"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _PREPARING})
        yield


def _migrate(db_url: str | URL, revision: str, step: Callable[[Config, str], None]) -> str | None:
    with _connection(db_url) as connection:
        connection.execution_options(**{BEGIN: "BEGIN IMMEDIATE"})
        try:
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
                if not inspect(connection).has_table("users"):
                    raise ConfigurationError(["the database has no table users: the hub's own tables come first"])
                config = _config()
                config.attributes["connection"] = connection
                step(config, revision)
                return _version(connection)
        except CommandError as error:
            raise ConfigurationError([f"migration to {revision!r}: {error}"]) from error


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    return config


@contextmanager
def _connection(db_url: str | URL) -> Iterator[Connection]:
    engine = make_engine(db_url, pool_size=1)
    try:
        with translated(), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
