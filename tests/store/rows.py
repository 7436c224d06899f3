"""Plain SQL for the tests of the store: rows as somebody would write them who knows nothing of MLMP."""

from __future__ import annotations

import itertools
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from mlmp_spawner.store.transaction import Refused, transaction, translate

GPU = "nvidia.com/gpu"
_numbers = itertools.count(1)


def run(connection: Connection, sql: str, **values: Any) -> Any:
    """One statement."""
    return connection.execute(text(sql), values)


def write(engine: Engine, sql: str, **values: Any) -> int:
    """One statement in a transaction of its own; how many rows it changed."""
    with transaction(engine) as connection:
        return run(connection, sql, **values).rowcount


def refusal(engine: Engine, sql: str, **values: Any) -> str | None:
    """Why the database refuses a statement; None where it does not, and then it is done."""
    try:
        with engine.begin() as connection:
            run(connection, sql, **values)
    except DBAPIError as error:
        refused = translate(error)
        if not isinstance(refused, Refused):
            raise
        return refused.reason
    return None


def node(engine: Engine, name: str = "n1", units: int = 4, resource: str = GPU) -> None:
    """A node with so many units."""
    sql = "INSERT INTO mlmp_capacity (node, resource, units) VALUES (:node, :resource, :units)"
    write(engine, sql, node=name, resource=resource, units=units)


def reservation(connection: Connection, name: str | None = None) -> str:
    """A reservation without allocations; its id."""
    name = name or f"reservation{next(_numbers)}"
    run(
        connection,
        'INSERT INTO mlmp_reservation (id, owner, profile, resource, units, start, "end", pinned, preemptible, '
        "created_at) VALUES (:id, 'ada', 'gpu', :resource, 1, 0, 1, false, false, 0)",
        id=name,
        resource=GPU,
    )
    return name


INSERT = """INSERT INTO mlmp_allocation (reservation, root, node, resource, units, start, "end")
VALUES (:reservation, :root, :node, :resource, :units, :start, :end)"""


def allocate(
    connection: Connection,
    start: int,
    end: int,
    units: int = 1,
    *,
    node: str = "n1",
    resource: str = GPU,
    root: str | None = None,
    of: str | None = None,
) -> str:
    """An allocation, of a new reservation unless ``of`` names one; the reservation's id."""
    of = of or reservation(connection)
    run(connection, INSERT, reservation=of, root=root, node=node, resource=resource, units=units, start=start, end=end)
    return of


def book(engine: Engine, start: int, end: int, units: int = 1, **more: Any) -> str:
    """:func:`allocate` in a transaction of its own.

    :raises Refused: the database refuses it.
    """
    with transaction(engine) as connection:
        return allocate(connection, start, end, units, **more)


def change(engine: Engine, reservation_id: str, **columns: Any) -> str | None:
    """Changes all allocations of a reservation; why the database refuses it, or None."""
    assignments = ", ".join(f'"{column}" = :{column}' for column in columns)
    sql = f"UPDATE mlmp_allocation SET {assignments} WHERE reservation = :_of"
    return refusal(engine, sql, _of=reservation_id, **columns)


def outage(engine: Engine, start: int, end: int, node: str = "n1", name: str = "o1") -> None:
    """An outage of a node."""
    sql = 'INSERT INTO mlmp_outage (id, node, start, "end") VALUES (:id, :node, :start, :end)'
    write(engine, sql, id=name, node=node, start=start, end=end)


def rows(engine: Engine) -> list[tuple[Any, ...]]:
    """All allocations: ``(reservation, node, units, start, end)``."""
    with engine.connect() as connection:
        found = run(connection, 'SELECT reservation, node, units, start, "end" FROM mlmp_allocation ORDER BY id')
        return [tuple(row) for row in found]
