"""Forgets who sat in classes that are long over: what is reckoned from them is the course's, and needs no names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy import Connection, Engine, select, update

from mlmp_spawner import units
from mlmp_spawner.operations.site import Site
from mlmp_spawner.store.classes import is_seat
from mlmp_spawner.store.tables import history, reservation
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR

log = logging.getLogger("mlmp.classes")

EVERY = HOUR
"""How often (ms) it is looked."""
AT_ONCE = 500
"""Seats in one transaction."""


class ClassForgetting:
    """The loop. :param keep: for how long (ms) after a class it is known who had its seats."""

    def __init__(self, site: Callable[[], Site], keep: int) -> None:
        self._site, self._keep = site, keep

    async def run(self) -> None:
        """Looks again and again. No failure ends it."""
        while True:
            try:
                await asyncio.to_thread(forget, self._site().engine, before=units.now() - self._keep)
            except Exception:
                log.exception("forgetting who sat in former classes failed; tried again")
            await asyncio.sleep(EVERY / 1000)


def forget(engine: Engine, *, before: int) -> int:
    """Gives the seats of classes that were over ``before`` (ms UTC), and their lines in the history, to the course;
    how many that were. Seats, times and what they took stay, for the course's report and usage."""
    total = 0
    while True:
        with transaction(engine) as connection:
            found = _some(connection, before)
            for seat, person, course in found:
                _give(connection, seat, person, course)
        total += len(found)
        if len(found) < AT_ONCE:
            return total


def _some(connection: Connection, before: int) -> list[tuple[str, str, str]]:
    """Seats that still have a name: id, who had it, and the owner of the class."""
    root = reservation.alias()
    c = reservation.c
    query = select(c.id, c.owner, root.c.owner).join(root, root.c.id == c.parent)
    query = query.where(is_seat(), root.c.kind == "class", root.c.end < before, c.owner != root.c.owner)
    return [tuple(row) for row in connection.execute(query.limit(AT_ONCE))]


def _give(connection: Connection, seat: str, person: str, course: str) -> None:
    mine = reservation.c.id == seat
    connection.execute(update(reservation).where(mine).values(owner=course, owner_id=None, title=""))
    lines = history.c.reservation == seat
    connection.execute(update(history).where(lines, history.c.actor == person).values(actor=course))
    connection.execute(update(history).where(lines).values(owner=course))
