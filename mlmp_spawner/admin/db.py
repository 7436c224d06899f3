"""``mlmp db``: MLMP's tables in the hub's database, and their version."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import click
from jupyterhub import orm
from sqlalchemy import URL

from mlmp_spawner.client import show
from mlmp_spawner.client.session import Session, command
from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.store import schema
from mlmp_spawner.store.engine import database_url, set_wal
from mlmp_spawner.store.transaction import translated

DATABASE_FILE = "mlmp.sqlite"
"""The database of one machine, in the data directory."""

F = TypeVar("F", bound=Callable[..., Any])


def file_url(data: Path) -> str:
    """The URL of the database in a data directory."""
    return f"sqlite:///{data.resolve() / DATABASE_FILE}"


def prepare(db_url: str | URL, revision: str = "head") -> str | None:
    """Makes a database ready for hub and service: write-ahead mode, the hub's tables, then ours. It may be repeated.

    :returns: the version of our tables.
    :raises ConfigurationError: the database can't be opened, or another JupyterHub made it.
    :raises Unavailable: the database does not answer.
    """
    url = database_url(db_url)
    if url.get_backend_name() == "sqlite":
        assert url.database is not None
        try:
            set_wal(Path(url.database))
        except sqlite3.Error as error:
            raise ConfigurationError([f"db_url: can't use {url.database}: {error}"]) from None
    _make_hub_tables(url)
    return schema.upgrade(url, revision)


def _make_hub_tables(url: URL) -> None:
    try:
        with translated():
            sessions = orm.new_session_factory(url.render_as_string(hide_password=False))
    except orm.DatabaseSchemaMismatch as error:
        raise ConfigurationError([f"db_url: the hub's tables are of another JupyterHub: {error}"]) from None
    sessions.kw["bind"].dispose()


def _place(db_url: str | None, data: Path | None) -> URL:
    if db_url is not None and data is not None:
        raise click.UsageError("give --db-url or --data, not both")
    if db_url is not None:
        return database_url(db_url)
    given = data or (Path(os.environ["MLMP_DATA"]) if os.environ.get("MLMP_DATA") else None)
    if given is None:
        raise ConfigurationError(
            ["which database? Give --data DIR (as for mlmp up) or --db-url URL, or set MLMP_DATA"]
        )
    if not given.is_dir():
        raise ConfigurationError([f"--data: there is no directory {given}"])
    return database_url(file_url(given))


def _existing(url: URL) -> URL:
    """The same URL. :raises ConfigurationError: no SQLite database is there; connecting would make an empty one."""
    if url.get_backend_name() == "sqlite":
        assert url.database is not None
        try:
            with closing(sqlite3.connect(f"{Path(url.database).resolve().as_uri()}?mode=ro", uri=True)) as connection:
                connection.execute("SELECT 1 FROM sqlite_master")
        except sqlite3.Error as error:
            raise ConfigurationError([f"db_url: can't read {url.database}: {error}"]) from None
    return url


def _database(function: F) -> F:
    chosen = click.option("--db-url", help="The database's URL: sqlite:///FILE or postgresql://USER@HOST/NAME.")
    where = click.option("--data", type=click.Path(path_type=Path), help="The data directory of `mlmp up`.")
    return chosen(where(function))


def _answer(session: Session, version: str | None) -> None:
    newest = schema.head()
    if session.json:
        show.print_json({"version": version, "newest": newest, "up_to_date": version == newest})
        return
    session.say(f"version {version or 'none'}" + ("" if version == newest else f", the newest is {newest}"))


@click.group()
def db() -> None:
    """Upgrade or inspect MLMP's tables in the hub's database."""


@command(name="upgrade")
@_database
@click.argument("revision", default="head")
def upgrade(session: Session, db_url: str | None, data: Path | None, revision: str) -> None:
    """Bring the tables up to date, or to REVISION. The hub's own tables are made where they are missing."""
    _answer(session, prepare(_place(db_url, data), revision))


@command(name="current")
@_database
def current(session: Session, db_url: str | None, data: Path | None) -> None:
    """Say which version the tables have."""
    _answer(session, schema.current(_existing(_place(db_url, data))))


@command(name="downgrade")
@_database
@click.argument("revision")
def downgrade(session: Session, db_url: str | None, data: Path | None, revision: str) -> None:
    """Take the tables back to REVISION; `base` removes them, with all bookings."""
    _answer(session, schema.downgrade(_existing(_place(db_url, data)), revision))


for _command in (upgrade, current, downgrade):
    db.add_command(_command)
