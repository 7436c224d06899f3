"""Copies of a SQLite database: taken while everything runs, checked, and put back.

A copy is one instant of the database, whatever is written meanwhile: a reader's snapshot is held while the pages are
copied, which makes nobody wait in write-ahead mode. (Without it SQLite begins a copy anew whenever somebody writes,
and under load would never come to an end.)
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.store import schema
from mlmp_spawner.store.engine import BUSY_TIMEOUT, set_wal

PAGES = 1024
"""How many pages are copied between two words on how far it is."""

_BESIDE = ("-wal", "-shm", "-journal")

Progress = Callable[[int, int], None]
"""Called with how many pages are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a copy. ``history``: the id of its last line; all that was answered before it is in there."""

    size: int
    version: str | None
    bookings: int
    history: int


def backup(source: Path, target: Path, progress: Progress = lambda done, of: None) -> Contents:
    """Copies the database ``source`` to the file ``target`` (mode 0600), which appears when it is whole and checked.

    A file of that name is replaced.

    :raises ConfigurationError: one of them can't be read or written, they are the same, or the copy has faults.
    """
    if target.exists() and (not target.is_file() or target.samefile(source)):
        raise ConfigurationError([f"{target} is {'the database itself' if target.is_file() else 'not a file'}"])
    with _new_file(target) as part:
        _copy(source, part, progress)
        found = contents(part)
        os.replace(part, target)
        _sync(target.parent)
    return found


def restore(source: Path, target: Path, progress: Progress = lambda done, of: None) -> tuple[Contents, Path | None]:
    """Makes the copy ``source`` the database ``target``; what is in it, and where the one before is kept, if any.

    Whoever is killed on the way, there is a whole database at ``target``: the one before or the new one.

    :raises ConfigurationError: the copy has faults, is of a newer release or of something else; somebody uses
        ``target``; a file can't be read or written.
    """
    found = contents(source)
    with _explained(f"can't write {target}"), _new_file(target) as part:
        _copy(source, part, progress)
        set_wal(part)
        _like(part, target if target.exists() else target.parent)
        kept = _keep(target) if target.exists() else None
        for ending in _BESIDE:  # of the database before: beside the new one they would destroy it
            with suppress(FileNotFoundError):
                Path(f"{target}{ending}").unlink()
        os.replace(part, target)
        _sync(target.parent)
    return found, kept


def contents(path: Path) -> Contents:
    """What is in a copy, after a check of the whole file.

    :raises ConfigurationError: it has faults, or it is no database of this release or one before.
    """
    with _opened(path) as connection, _explained(f"can't read {path}"):
        faults = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
        if faults != ["ok"]:
            raise ConfigurationError([f"{path} is damaged: {fault}" for fault in faults])
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"users", schema.VERSION_TABLE} <= tables:
            raise ConfigurationError([f"{path} is a SQLite database, but not one of MLMP"])
        (version,) = connection.execute("SELECT max(version_num) FROM mlmp_alembic_version").fetchone()
        if version is None:
            raise ConfigurationError([f"{path} has no bookings: MLMP's tables were taken out of it"])
        if version not in schema.revisions():
            raise ConfigurationError([f"{path} is of a newer MLMP (version {version}); this one knows "
                                      f"{', '.join(schema.revisions())}. Install the newer one first."])  # fmt: skip
        (bookings,) = connection.execute("SELECT count(*) FROM mlmp_reservation").fetchone()
        (history,) = connection.execute("SELECT coalesce(max(id), 0) FROM mlmp_history").fetchone()
    return Contents(path.stat().st_size, version, bookings, history)


def _copy(source: Path, target: Path, progress: Progress) -> None:
    with _opened(source) as reader, _explained(f"can't copy {source} to {target}"):
        reader.execute("BEGIN")
        reader.execute("SELECT 1 FROM sqlite_master").fetchone()  # the snapshot is taken here
        with closing(sqlite3.connect(target, isolation_level=None)) as writer:
            reader.backup(writer, pages=PAGES, progress=lambda _, remaining, total: progress(total - remaining, total))
            writer.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it
    with target.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that writes nothing and makes no file. :raises ConfigurationError: there is no such database."""
    with _explained(f"can't read {path}"):
        if not path.is_file():
            raise ConfigurationError([f"there is no file {path}"])
        address = f"{path.resolve().as_uri()}?mode=ro"
        connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT / 1000)
    with closing(connection):
        yield connection


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """A new empty file beside ``target``, 0600, that is gone afterwards unless it was renamed."""
    with _explained(f"can't write {target}"):
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        os.close(handle)
        try:
            yield Path(name)
        finally:
            for ending in ("", *_BESIDE):
                with suppress(FileNotFoundError):
                    os.unlink(name + ending)


def _like(path: Path, model: Path) -> None:
    """Gives a file to the owner of another: root restores what the service's own account uses."""
    if os.geteuid() == 0:
        found = model.stat()
        os.chown(path, found.st_uid, found.st_gid, follow_symlinks=False)


def _keep(target: Path) -> Path:
    """Gives the database a second name, under which it stays. :raises ConfigurationError: somebody uses it."""
    kept = target.with_name(f"{target.name}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    while kept.exists():
        kept = kept.with_name(f"{kept.name}-again")
    damaged = _close(target)
    os.link(target, kept)
    for ending in _BESIDE if damaged else ():
        with suppress(FileNotFoundError):
            os.replace(f"{target}{ending}", f"{kept}{ending}")
    return kept


def _close(target: Path) -> bool:
    """Leaves write-ahead mode, so that all of a database is in its one file: possible only when nobody else has it
    open. True: it is too damaged for that."""
    try:
        with closing(sqlite3.connect(target, isolation_level=None, timeout=0.5)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise ConfigurationError(
                [f"{target} is in use; end `mlmp up` (or hub and service), then restore again"]
            ) from None
        return True
    except sqlite3.DatabaseError:
        return True
    return False


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise ConfigurationError([f"{what}: {error}"]) from None


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
