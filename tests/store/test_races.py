"""Raw SQL from several connections at once, which know nothing of locks: look whether it fits, then write.

They meet at barriers, so that every one has looked before any writes. The database has to refuse what no longer fits,
at every isolation level. Dropping the triggers shows that nothing else does.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from mlmp_spawner.store import triggers
from mlmp_spawner.store.transaction import Busy, Refused, transaction, translate
from tests.invariant import violations
from tests.store.rows import allocate, book, node, reservation, run

WAIT = 60
"""Seconds after which a thread that waits for the others is a failure."""

on_each_level = pytest.mark.parametrize(
    ("db_url", "level"),
    [("sqlite", None), ("postgresql", "READ COMMITTED"), ("postgresql", "REPEATABLE READ"),
     ("postgresql", "SERIALIZABLE")],
    indirect=["db_url"],
)  # fmt: skip
on_postgresql_levels = pytest.mark.parametrize(
    ("db_url", "level"),
    [("postgresql", "READ COMMITTED"), ("postgresql", "REPEATABLE READ")],
    indirect=["db_url"],
)

FREE = """SELECT coalesce(sum(units), 0) FROM mlmp_allocation
WHERE node = :node AND root IS NULL AND start < :end AND "end" > :start"""


def connect(engine: Engine, level: str | None) -> Connection:
    """A connection as a stranger would open it."""
    connection = engine.connect()
    return connection.execution_options(isolation_level=level) if level else connection


def together(*parts: Callable[[], str]) -> list[str]:
    """Runs all parts at once; what each returned."""
    with ThreadPoolExecutor(len(parts)) as pool:
        return [future.result(WAIT) for future in [pool.submit(part) for part in parts]]


def verdict(work: Callable[[], None]) -> str:
    """``done``, ``busy`` or why the database refused."""
    try:
        work()
    except DBAPIError as error:
        match translate(error):
            case Refused(reason=reason):
                return reason
            case Busy():
                return "busy"
        raise
    return "done"


def fight(engine: Engine, level: str | None, writers: int, units: int) -> list[str]:
    """Everybody sees that all units are free, then everybody takes ``units`` of them; what became of each."""
    with transaction(engine) as connection:
        names = [reservation(connection) for _ in range(writers)]
    all_looked = threading.Barrier(writers, timeout=WAIT)

    def write(connection: Connection, name: str) -> None:
        allocate(connection, 10, 20, units, of=name)
        connection.commit()

    def writer(name: str) -> str:
        with connect(engine, level) as connection:
            taken = run(connection, FREE, node="n1", start=10, end=20).scalar()
            assert taken == 0
            if level is None:
                connection.rollback()  # SQLite: a reader that turns writer late is refused by SQLite itself
            all_looked.wait()
            # Who was merely overtaken tries again: it has seen, after all, that there is room.
            while (result := verdict(lambda: write(connection, name))) == "busy":
                connection.rollback()
            return result

    return together(*(lambda name=name: writer(name) for name in names))


class TestTheLastUnits:
    @on_each_level
    @pytest.mark.parametrize("writers", [2, 8])
    def test_go_to_one_of_those_who_saw_them_free(self, engine: Engine, level: str | None, writers: int) -> None:
        node(engine, units=4)
        assert Counter(fight(engine, level, writers, units=3)) == {"done": 1, "capacity": writers - 1}
        assert violations(engine) == []

    @on_each_level
    def test_go_to_as_many_as_fit(self, engine: Engine, level: str | None) -> None:
        node(engine, units=4)
        assert Counter(fight(engine, level, writers=8, units=1)) == {"done": 4, "capacity": 4}
        assert violations(engine) == []

    @on_each_level
    @pytest.mark.parametrize("writers", [2, 8])
    def test_are_double_booked_without_the_trigger(self, engine: Engine, level: str | None, writers: int) -> None:
        node(engine, units=4)
        with transaction(engine) as connection:
            triggers.drop(connection)
        assert Counter(fight(engine, level, writers, units=3)) == {"done": writers}
        assert [(found.taken, found.allowed) for found in violations(engine)] == [(3 * writers, 4)]


class TestAnOldView:
    """A transaction that began before the change of another one must not write as if it had not happened."""

    def _late(self, engine: Engine, level: str, meanwhile: str, **values: object) -> str:
        """A booking in a transaction that looked before ``meanwhile`` was committed."""
        node(engine, units=1)
        with transaction(engine) as connection:
            name = reservation(connection)
        with connect(engine, level) as late:
            assert run(late, FREE, node="n1", start=10, end=20).scalar() == 0
            with transaction(engine) as connection:
                run(connection, meanwhile, **values)

            def work() -> None:
                allocate(late, 10, 20, of=name)
                late.commit()

            return verdict(work)

    @on_postgresql_levels
    def test_an_outage_came(self, engine: Engine, level: str) -> None:
        sql = "INSERT INTO mlmp_outage (id, node, start, \"end\") VALUES ('o1', 'n1', 0, 100)"
        assert self._late(engine, level, sql) == ("outage" if level == "READ COMMITTED" else "busy")

    @on_postgresql_levels
    def test_capacity_was_lost(self, engine: Engine, level: str) -> None:
        sql = "UPDATE mlmp_capacity SET units = 0"
        assert self._late(engine, level, sql) == ("capacity" if level == "READ COMMITTED" else "busy")

    @on_postgresql_levels
    def test_the_node_left(self, engine: Engine, level: str) -> None:
        sql = "DELETE FROM mlmp_capacity"
        assert self._late(engine, level, sql) == ("capacity" if level == "READ COMMITTED" else "busy")

    @on_postgresql_levels
    def test_a_booking_was_made_longer(self, engine: Engine, level: str) -> None:
        node(engine, "n0", 1)
        book(engine, 0, 10, node="n0")
        sql = "UPDATE mlmp_allocation SET node = 'n1', \"end\" = 15"
        assert self._late(engine, level, sql) == ("capacity" if level == "READ COMMITTED" else "busy")

    @on_postgresql_levels
    @pytest.mark.parametrize("first", ["root", "child"])
    def test_a_root_is_shortened_while_a_child_is_added(self, engine: Engine, level: str, first: str) -> None:
        node(engine, units=1)
        root = book(engine, 0, 100)
        with transaction(engine) as connection:
            child = reservation(connection)

        def shorten(connection: Connection) -> None:
            run(connection, 'UPDATE mlmp_allocation SET "end" = 50 WHERE reservation = :root', root=root)
            connection.commit()

        def add(connection: Connection) -> None:
            allocate(connection, 50, 100, of=child, root=root)
            connection.commit()

        order = (shorten, add) if first == "root" else (add, shorten)
        with connect(engine, level) as late, connect(engine, level) as early:
            run(late, "SELECT count(*) FROM mlmp_allocation")
            assert verdict(lambda: order[0](early)) == "done"
            assert verdict(lambda: order[1](late)) == ("root" if level == "READ COMMITTED" else "busy")
        assert violations(engine) == []


@pytest.mark.faults
class TestALongFight:
    """Many connections book, extend, move, give back and draw on each other, as fast as they can."""

    WRITERS = 6

    @on_each_level
    def test_never_more_than_there_is(self, engine: Engine, level: str | None) -> None:
        for name in ("n1", "n2"):
            node(engine, name, 3)
        rounds = 10 * int(os.environ.get("FAULT_ROUNDS", "20"))
        stop = threading.Event()

        def writer(seed: int) -> str:
            # The seed makes each writer's own sequence repeatable.
            chance = random.Random(seed)
            counted: Counter[str] = Counter()
            mine: list[str] = []
            for _ in range(rounds):
                with connect(engine, level) as connection:
                    counted[verdict(lambda: self._something(connection, chance, mine))] += 1
            assert counted["done"] > rounds // 20, counted
            return "done"

        def watcher() -> str:
            while not stop.is_set():
                assert violations(engine) == []
            return "done"

        with ThreadPoolExecutor(1) as pool:
            watched = pool.submit(watcher)
            try:
                together(*(lambda seed=seed: writer(seed) for seed in range(self.WRITERS)))
            finally:
                stop.set()
            watched.result(WAIT)
        assert violations(engine) == []

    def _something(self, connection: Connection, chance: random.Random, mine: list[str]) -> None:
        start = chance.randrange(20)
        place = {"node": chance.choice(["n1", "n2"]), "start": start, "end": start + chance.randint(1, 8)}
        some = chance.choice(mine) if mine else None
        action = chance.choice(["book", "book", "extend", "move", "cut", "delete", "child"])
        if some is None or action == "book":
            name = reservation(connection)
            allocate(connection, of=name, units=chance.randint(1, 2), **place)
            connection.commit()
            mine.append(name)
            return
        if action == "child":
            allocate(connection, units=1, root=some, **place)
        else:
            sql = {
                "extend": 'UPDATE mlmp_allocation SET "end" = "end" + 2 WHERE reservation = :some',
                "cut": 'UPDATE mlmp_allocation SET "end" = "end" - 1 WHERE reservation = :some AND "end" > start + 1',
                "move": "UPDATE mlmp_allocation SET node = :node WHERE reservation = :some",
                "delete": "DELETE FROM mlmp_reservation WHERE id = :some",
            }[action]
            run(connection, sql, some=some, **({"node": place["node"]} if action == "move" else {}))
        connection.commit()


@pytest.mark.parametrize("db_url", ["postgresql"], indirect=True)
def test_moves_in_opposite_directions_do_not_deadlock(engine: Engine) -> None:
    """Both rows are locked in one order, whatever the direction."""
    for name in ("n1", "n2"):
        node(engine, name, 2)
    here, there = book(engine, 0, 10, node="n1"), book(engine, 0, 10, node="n2")
    for _ in range(20):
        start = threading.Barrier(2, timeout=WAIT)

        def move(name: str, target: str, start: threading.Barrier = start) -> str:
            start.wait()

            def work() -> None:
                with engine.begin() as connection:
                    sql = "UPDATE mlmp_allocation SET node = :node WHERE reservation = :id"
                    run(connection, sql, node=target, id=name)

            return verdict(work)

        assert together(lambda: move(here, "n2"), lambda: move(there, "n1")) == ["done", "done"]
        assert together(lambda: move(here, "n1"), lambda: move(there, "n2")) == ["done", "done"]
