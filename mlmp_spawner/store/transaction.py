"""Transactions: one writer's whole change, or nothing of it; and what the database answers when it can't be.

A write transaction takes its locks first: on SQLite the one that there is, on PostgreSQL the capacity rows that the
caller names, in sorted order, so that two of them never wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, cast
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, func, select, tuple_
from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError, TimeoutError

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.store.engine import BEGIN, BUSY_TIMEOUT
from mlmp_spawner.store.tables import capacity

Reason = Literal["capacity", "outage", "root", "immutable", "type"]

_OVERTAKEN = {"40001", "40P01", "55P03"}  # serialisation failure, deadlock, lock timeout
_GONE = {None, "57P01", "57P02", "57P03", "57P05", "53300"}  # no connection, shutdowns, too many clients
_OWNERS = 0x6D6C6D70  # our own part of the space of advisory locks


class Refused(Exception):
    """A trigger of the database refused the write. ``node`` and ``resource`` where the database says which."""

    def __init__(self, reason: Reason, node: str | None = None, resource: str | None = None) -> None:
        where = f" ({node}, {resource})" if node else ""
        super().__init__(f"the database refused the write: {reason}{where}")
        self.reason = reason
        self.node = node
        self.resource = resource


class Busy(Exception):
    """The database gave up on the transaction because of another one. Nothing was written; try again."""


@contextmanager
def transaction(engine: Engine, *, lock: Iterable[tuple[str, str]] = ()) -> Iterator[Connection]:
    """A write transaction, committed at the end, rolled back on any error.

    :param lock: ``(node, resource)`` of all capacity rows that it may touch.
    :raises Refused: a trigger refused a write.
    :raises Busy: another transaction was in the way for too long, or made this one obsolete.
    :raises Unavailable: the database does not answer.
    """
    with translated(), _turn(engine), engine.connect() as connection:
        connection.execution_options(**{BEGIN: "BEGIN IMMEDIATE"})
        with connection.begin():
            rows = sorted(set(lock))
            if rows and engine.dialect.name == "postgresql":
                key = tuple_(capacity.c.node, capacity.c.resource)
                ordered = (
                    select(capacity.c.version).where(key.in_(rows)).order_by(capacity.c.node, capacity.c.resource)
                )
                connection.execute(ordered.with_for_update())
            yield connection


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """A connection for reading: all its queries see the same state of the database.

    :raises Busy, Unavailable: see :func:`transaction`.
    """
    with translated(), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield connection


def lock_owner(connection: Connection, owner: str) -> None:
    """Makes other write transactions for the same owner wait, so that limits are counted one booking at a time."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(owner, _OWNERS))))


_turns: WeakKeyDictionary[Engine, threading.Lock] = WeakKeyDictionary()
_turns_lock = threading.Lock()


@contextmanager
def _turn(engine: Engine) -> Iterator[None]:
    """Lets the threads of this process take turns on SQLite: its own waiting is a sleep that may miss every turn."""
    if engine.dialect.name != "sqlite":
        yield
        return
    with _turns_lock:
        turn = _turns.setdefault(engine, threading.Lock())
    if not turn.acquire(timeout=BUSY_TIMEOUT / 1000):
        raise Busy("another transaction of this process took too long")
    try:
        yield
    finally:
        turn.release()


@contextmanager
def translated() -> Iterator[None]:
    """Turns errors of the driver into :class:`Refused`, :class:`Busy` and ``Unavailable`` where they are that."""
    try:
        yield
    except DBAPIError as error:
        translated = translate(error)
        if translated is None:
            raise
        raise translated from error
    except PendingRollbackError as error:  # the connection was lost in a statement whose failure was passed over
        raise _no_answer() from error
    except TimeoutError as error:
        raise Busy("all connections are in use") from error


def translate(error: DBAPIError) -> Refused | Busy | Unavailable | None:
    """What an error of the driver means; None where it is a mistake of ours."""
    code: str | None = getattr(error.orig, "sqlstate", None)
    text = str(error.orig)
    if text.startswith("mlmp:"):
        _, reason, *where = text.splitlines()[0].split(":", 3)
        node, resource = where if len(where) == 2 else (None, None)
        return Refused(cast(Reason, reason), node, resource)
    if code in _OVERTAKEN or (isinstance(error, OperationalError) and "locked" in text):
        return Busy(text)
    if not type(error.orig).__module__.startswith("psycopg"):
        return None
    lost = error.connection_invalidated or (code or "").startswith("08")
    if lost or (isinstance(error, OperationalError) and code in _GONE):
        return _no_answer()
    return None


def _no_answer() -> Unavailable:
    return Unavailable("The database does not answer.", hint="Try again in a moment.")
