"""A booking costs the same however many bookings there are: the index is used, and what is read does not grow."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, insert

from mlmp_spawner.rules.reservations import LONGEST
from mlmp_spawner.store import jobs, tables, triggers_sqlite
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR
from tests.store.rows import GPU, allocate, book, node, reservation, run

ROW = f"""INSERT INTO mlmp_allocation (reservation, root, node, resource, units, start, "end")
VALUES ('probe0000', NULL, 'n1', '{GPU}', 1, {LONGEST}, {LONGEST + HOUR})"""
WRITES = {
    "insert": ROW,
    "longer": 'UPDATE mlmp_allocation SET "end" = "end" + 1 WHERE reservation = \'probe0000\'',
    "more units": "UPDATE mlmp_allocation SET units = 2 WHERE reservation = 'probe0000'",
    "shorter": 'UPDATE mlmp_allocation SET "end" = "end" - 1 WHERE reservation = \'probe0000\'',
    "child": ROW.replace("NULL", "'root00000'"),
    "longer child": "UPDATE mlmp_allocation SET start = start - 1 WHERE root IS NOT NULL",
    "delete": "DELETE FROM mlmp_allocation WHERE reservation = 'probe0000'",
    "a user is deleted": "DELETE FROM users WHERE id = 1",
    "a reservation is deleted": "DELETE FROM mlmp_reservation WHERE id = 'probe0000'",
}

JOB = {
    "name": "train", "profile": "gpu", "resource": GPU, "units": 1, "workers": 1, "length": HOUR, "grace": 0,
    "retries": 0, "priority": 0, "preemptible": True, "manifest": {}, "secrets": {}, "created_at": 1, "queued_at": 1,
    "front": False,
}  # fmt: skip


def fill(engine: Engine, count: int) -> None:
    """So many bookings: other nodes, other resources, long ago, far ahead; and a few where the probe goes."""
    with transaction(engine) as connection:
        run(connection, "INSERT INTO users (id, name) VALUES (1, 'ada')")
        for name in ("n1", "n2"):
            for resource in (GPU, "mlmp.dev/slot"):
                sql = "INSERT INTO mlmp_capacity (node, resource, units) VALUES (:node, :resource, 8)"
                run(connection, sql, node=name, resource=resource)
        reservation(connection, "probe0000")
        allocate(connection, LONGEST - HOUR, LONGEST + 8 * HOUR, 3, of=reservation(connection, "root00000"))
        others = reservation(connection)
        far = 3 * LONGEST
        for n in range(count // 4):
            for where in ({"node": "n2"}, {"resource": "mlmp.dev/slot"}):
                allocate(connection, LONGEST + n * HOUR, LONGEST + (n + 2) * HOUR, of=others, **where)
            allocate(connection, -far - n * HOUR, -far - (n - 2) * HOUR, of=others)
            allocate(connection, far + n * HOUR, far + (n + 2) * HOUR, of=others)


@pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)
class TestSQLite:
    def test_no_trigger_scans_a_table(self, engine: Engine, db_url: str) -> None:
        with closing(sqlite3.connect(db_url.removeprefix("sqlite:///"))) as bare:
            plans = [(sql, plan) for sql in _statements() for plan in _plan(bare, sql)]
        assert len(plans) > 50
        for sql, plan in plans:
            scanned = re.match(r"SCAN (?!\(subquery|CONSTANT)", plan)
            assert not scanned, f"{plan}\n{sql}"
        assert sum("USING COVERING INDEX mlmp_allocation_range" in plan for _, plan in plans) >= 6
        assert any("INDEX mlmp_allocation_root" in plan for _, plan in plans)

    def test_the_steps_of_a_write_do_not_grow(self, engine: Engine, db_url: str) -> None:
        """Counted in instructions of SQLite's machine: a measure that no other process disturbs."""

        def steps() -> dict[str, int]:
            with closing(sqlite3.connect(db_url.removeprefix("sqlite:///"), isolation_level=None)) as bare:
                bare.execute("PRAGMA foreign_keys = ON")
                return {name: _steps(bare, sql) for name, sql in WRITES.items()}

        fill(engine, 40)
        few = steps()
        with transaction(engine) as connection:
            for table in ("allocation", "reservation", "capacity"):
                run(connection, f"DELETE FROM mlmp_{table}")
            run(connection, "DELETE FROM users")
        fill(engine, 8000)
        many = steps()
        assert {name: many[name] <= 1.1 * few[name] + 20 for name in WRITES} == dict.fromkeys(WRITES, True), (
            few,
            many,
        )


def _statements() -> Iterator[str]:
    for sql in triggers_sqlite.CREATE:
        for statement in re.search(r"BEGIN (.*) END$", sql, re.S).group(1).split(";"):
            if statement.strip():
                plain = re.sub(r"RAISE\([^)]*\)", "1", statement)
                yield re.sub(r'(NEW|OLD)\."?(\w+)"?', r":\1_\2", plain)


def _plan(bare: sqlite3.Connection, sql: str) -> list[str]:
    names = dict.fromkeys(re.findall(r":(\w+)", sql), 0)
    return [row[3] for row in bare.execute(f"EXPLAIN QUERY PLAN {sql}", names)]


def _steps(bare: sqlite3.Connection, sql: str) -> int:
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    bare.set_progress_handler(tick, 1)
    bare.execute(sql)
    bare.set_progress_handler(None, 1)
    return count


@pytest.mark.parametrize("db_url", ["postgresql"], indirect=True)
class TestPostgreSQL:
    @pytest.fixture
    def plans(self, db_url: str) -> Iterator[Callable[[str], list[str]]]:
        """The plans of all statements that one fires, those in functions too."""
        said: list[str] = []
        with psycopg.connect(db_url.replace("+psycopg", "")) as bare:
            bare.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
            for setting in ("log_min_duration = 0", "log_nested_statements = on", "log_level = notice"):
                bare.execute("LOAD 'auto_explain'")
                bare.execute(f"SET auto_explain.{setting}")

            def fired(sql: str) -> list[str]:
                said.clear()
                bare.execute(sql)
                return [message for message in said if "plan:" in message]

            yield fired

    def test_no_trigger_scans_a_table(self, engine: Engine, plans: Callable[[str], list[str]]) -> None:
        """Neither when the tables are small and never analysed (the plans are kept) nor when they have grown."""
        fill(engine, 400)
        for name, sql in WRITES.items():
            found = plans(sql)
            nested = [plan for plan in found if sql not in plan]
            assert nested, name
            for plan in nested:
                assert "Seq Scan on mlmp_" not in plan, f"{name}: {plan}"
            if name in ("insert", "longer", "more units"):
                assert any("mlmp_allocation_range" in plan for plan in nested), nested

    def test_what_is_read_does_not_grow(self, engine: Engine, db_url: str) -> None:
        def read(sql: str) -> int:
            with psycopg.connect(db_url.replace("+psycopg", "")) as bare:
                said: list[str] = []
                bare.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
                bare.execute("LOAD 'auto_explain'")
                for setting in ("log_min_duration = 0", "log_analyze = on", "log_nested_statements = on",
                                "log_level = notice", "log_timing = off"):  # fmt: skip
                    bare.execute(f"SET auto_explain.{setting}")
                bare.execute(sql)
                bare.rollback()
            counts = re.findall(r"Scan [^\n]* on mlmp_allocation[^\n]*rows=(\d+) loops=(\d+)\)", "\n".join(said))
            removed = re.findall(r"Rows Removed by [^:]*: (\d+)", "\n".join(said))
            assert counts
            return sum(int(rows) * int(loops) for rows, loops in counts) + sum(map(int, removed))

        fill(engine, 4000)
        assert read(ROW) <= 12
        assert read(ROW.replace("NULL", "'root00000'")) <= 12


def test_the_open_jobs_of_one_are_counted_by_an_index_of_these(engine: Engine) -> None:
    """Not by reading all that are open, or all of hers."""
    plans: list[str] = []

    def explain(connection: Connection, _: object, sql: str, values: Any, *rest: object) -> None:
        if "count(" in sql and not sql.startswith("EXPLAIN"):
            how = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
            plans.extend(str(row) for row in connection.exec_driver_sql(f"{how} {sql}", values))

    with transaction(engine) as connection:
        open_jobs = [{**JOB, "id": f"o{n}", "owner": f"owner{n % 500}"} for n in range(2000)]
        over = [{**JOB, "id": f"e{n}", "owner": f"owner{n % 500}", "ended_at": 5} for n in range(2000)]
        connection.execute(insert(tables.job), [{"ended_at": None, **row} for row in open_jobs + over])
    with engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
        event.listen(engine, "before_cursor_execute", explain)
        assert jobs.count_open(connection, "owner7") == 4
    event.remove(engine, "before_cursor_execute", explain)
    assert "mlmp_job_owner_open" in "".join(plans), plans


def test_the_probe_itself_is_accepted(engine: Engine) -> None:
    fill(engine, 40)
    with transaction(engine) as connection:
        for name in ("insert", "longer", "more units", "shorter", "delete", "child", "longer child"):
            assert run(connection, WRITES[name]).rowcount == 1
    node(engine, "n3")
    book(engine, 0, 1, node="n3")
