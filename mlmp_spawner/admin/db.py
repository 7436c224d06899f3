"""``mlmp db``: MLMP's tables in the hub's database, their version, and copies of it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click
from jupyterhub import orm
from rich.progress import Progress
from sqlalchemy import URL

from mlmp_spawner.admin import backup as copies
from mlmp_spawner.client import show
from mlmp_spawner.client.session import Session, command
from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.spawners.hub import database_file
from mlmp_spawner.store import schema
from mlmp_spawner.store.engine import database_url, set_wal
from mlmp_spawner.store.transaction import translated

F = TypeVar("F", bound=Callable[..., Any])


def file_url(data: Path) -> str:
    """The URL of the database in a data directory."""
    return f"sqlite:///{database_file(data.resolve())}"


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
    with schema.alone(url):
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
    """Upgrade, inspect, back up or restore the hub's database with MLMP's tables."""


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


@command(name="backup")
@_database
@click.argument("file", type=click.Path(path_type=Path))
def backup(session: Session, db_url: str | None, data: Path | None, file: Path) -> None:
    """Copy the SQLite database to FILE while everything runs: one instant of it, checked, mode 0600."""
    source = _sqlite(_place(db_url, data), "pg_dump --format=custom --file=FILE NAME")
    with _progress(session, "copying") as progress:
        found = copies.backup(source, file, progress)
    _tell(session, found, file=str(file))


@command(name="restore")
@_database
@click.argument("file", type=click.Path(path_type=Path))
def restore(session: Session, db_url: str | None, data: Path | None, file: Path) -> None:
    """Make FILE, which `mlmp db backup` wrote, the database; the one before is kept beside it.

    Refused while MLMP runs. Bookings that were made after the backup are gone.
    """
    target = _sqlite(_place(db_url, data), "pg_restore --clean --if-exists --dbname=NAME FILE")
    # Under pam the database has a folder of its own in the data directory.
    directory = target.parent.parent if target.parent.name == "db" else target.parent
    with _up_lock(directory), _progress(session, "restoring") as progress:
        found, kept = copies.restore(file, target, progress)
    _tell(session, found, file=str(target), kept=str(kept) if kept else None)


def _sqlite(url: URL, instead: str) -> Path:
    """The file of a SQLite database. :raises ConfigurationError: it is PostgreSQL, which has tools of its own."""
    if url.get_backend_name() != "sqlite":
        raise ConfigurationError([f"db_url: this is for SQLite; PostgreSQL has its own way: {instead}"])
    assert url.database is not None
    return Path(url.database)


@contextmanager
def _up_lock(directory: Path) -> Iterator[None]:
    """Keeps `mlmp up` from starting. :raises ConfigurationError: it runs, or the directory is not there."""
    try:
        handle = os.open(directory / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError([f"can't write in {directory}: {error}"]) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigurationError([f"`mlmp up` runs with {directory}; end it first, then restore again"]) from None
    finally:
        os.close(handle)


@contextmanager
def _progress(session: Session, what: str) -> Iterator[copies.Progress]:
    """A bar on stderr, where that is a terminal."""
    with Progress(console=session.err, transient=True, disable=session.json or not session.err.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tell(session: Session, found: copies.Contents, **files: str | None) -> None:
    if session.json:
        show.print_json({**files, **asdict(found)})
        return
    session.say(f"{files['file']}: {found.bookings} bookings, version {found.version}, {found.size / 2**20:.1f} MiB")
    if kept := files.get("kept"):
        session.say(f"The database before is kept as {kept}.")


for _command in (upgrade, current, downgrade, backup, restore):
    db.add_command(_command)
