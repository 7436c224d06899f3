"""Write transactions: all or nothing, one after the other, and what they say when it can't be."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from mlmp_spawner.errors import ConfigurationError, Unavailable
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import Busy, Refused, lock_owner, read, transaction
from tests.store.rows import GPU, allocate, book, node, reservation, rows, run

WAIT = 60


class TestTransaction:
    def test_is_all_or_nothing(self, engine: Engine) -> None:
        node(engine, units=1)

        def two() -> None:
            with transaction(engine) as connection:
                allocate(connection, 0, 10)
                allocate(connection, 5, 15)

        with pytest.raises(Refused):
            two()
        assert rows(engine) == []

    def test_an_error_of_the_caller_undoes_it_and_is_passed_on(self, engine: Engine) -> None:
        node(engine)

        def fails() -> None:
            with transaction(engine) as connection:
                allocate(connection, 0, 10)
                raise KeyError

        with pytest.raises(KeyError):
            fails()
        assert rows(engine) == []

    def test_a_mistake_of_ours_is_passed_on_as_it_is(self, engine: Engine) -> None:
        with pytest.raises(DBAPIError), transaction(engine) as connection:
            run(connection, "SELECT nonsense FROM nowhere")

    def test_its_locks_are_taken_first(self, engine: Engine) -> None:
        """Who locks the same node waits; on PostgreSQL another node is free meanwhile."""
        node(engine, "n1")
        node(engine, "n2")
        order: list[str] = []
        inside, go_on = threading.Event(), threading.Event()

        def first() -> None:
            with transaction(engine, lock=[("n2", GPU), ("n1", GPU)]) as connection:
                inside.set()
                assert go_on.wait(WAIT)
                allocate(connection, 0, 10)
                order.append("first")

        def second() -> None:
            assert inside.wait(WAIT)
            with transaction(engine, lock=[("n1", GPU)]):
                order.append("second")

        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(first), pool.submit(second)]
            assert inside.wait(WAIT)
            assert rows(engine) == []  # readers wait for nobody
            go_on.set()
            for future in both:
                future.result(WAIT)
        assert order == ["first", "second"]

    def test_unknown_rows_to_lock_are_no_mistake(self, engine: Engine) -> None:
        with transaction(engine, lock=[("nowhere", GPU)]) as connection:
            lock_owner(connection, "ada")

    @pytest.mark.parametrize("db_url", ["postgresql"], indirect=True)
    def test_one_owner_at_a_time(self, engine: Engine) -> None:
        with transaction(engine) as connection:
            lock_owner(connection, "ada")
            with transaction(engine) as other:
                lock_owner(other, "grace")
                run(other, "SET LOCAL lock_timeout = 1")
                with pytest.raises(DBAPIError, match="lock timeout"):
                    lock_owner(other, "ada")
                other.rollback()

    @pytest.mark.parametrize("db_url", ["postgresql"], indirect=True)
    def test_a_deadlock_is_busy(self, engine: Engine) -> None:
        for name in ("n1", "n2"):
            node(engine, name)
        met = threading.Barrier(2, timeout=WAIT)

        def crosswise(here: str, there: str) -> str:
            try:
                with transaction(engine) as connection:
                    allocate(connection, 0, 10, node=here)
                    met.wait()
                    allocate(connection, 0, 10, node=there)
            except Busy:
                return "busy"
            return "done"

        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(crosswise, "n1", "n2"), pool.submit(crosswise, "n2", "n1")]
            assert sorted(future.result(WAIT) for future in both) == ["busy", "done"]

    @pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)
    def test_a_writer_in_another_process_is_waited_for_then_busy(self, db_url: str) -> None:
        holder, other = make_engine(db_url), make_engine(db_url)
        with transaction(holder) as connection:
            node_sql = "INSERT INTO mlmp_capacity (node, resource, units) VALUES ('n1', 'x', 1)"
            run(connection, node_sql)
            with other.connect() as probe:
                run(probe, "PRAGMA busy_timeout = 1")
            with pytest.raises(Busy), transaction(other):
                pass
        holder.dispose()
        other.dispose()


class TestRead:
    def test_sees_one_state_throughout(self, engine: Engine) -> None:
        node(engine)
        with read(engine) as connection:
            assert run(connection, "SELECT count(*) FROM mlmp_allocation").scalar() == 0
            book(engine, 0, 10)
            assert run(connection, "SELECT count(*) FROM mlmp_allocation").scalar() == 0
        with read(engine) as connection:
            assert run(connection, "SELECT count(*) FROM mlmp_allocation").scalar() == 1

    def test_leaves_nothing_behind_on_the_connection(self, db_url: str) -> None:
        engine = make_engine(db_url, pool_size=1)
        node(engine)
        with read(engine) as connection:
            run(connection, "SELECT count(*) FROM mlmp_allocation")
        with transaction(engine) as connection:
            allocate(connection, 0, 10)
            if engine.dialect.name == "postgresql":
                assert run(connection, "SHOW transaction_isolation").scalar() == "read committed"
        engine.dispose()

    @pytest.mark.parametrize("db_url", ["postgresql"], indirect=True)
    def test_writes_nothing(self, engine: Engine) -> None:
        with pytest.raises(DBAPIError, match="read-only"), read(engine) as connection:
            reservation(connection)


class TestEngine:
    @pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)
    def test_sqlite_keeps_foreign_keys_and_writes_ahead(self, engine: Engine) -> None:
        with engine.connect() as connection:
            assert run(connection, "PRAGMA foreign_keys").scalar() == 1
            assert run(connection, "PRAGMA journal_mode").scalar() == "wal"
            assert run(connection, "PRAGMA busy_timeout").scalar() == 5000

    @pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)
    def test_a_read_inside_a_write_transaction_is_not_overtaken(self, engine: Engine) -> None:
        node(engine, units=1)
        with transaction(engine) as connection:
            assert run(connection, "SELECT count(*) FROM mlmp_allocation").scalar() == 0
            other = make_engine(engine.url)
            with other.connect() as stranger:
                run(stranger, "PRAGMA busy_timeout = 1")
                with pytest.raises(DBAPIError, match="locked"):
                    reservation(stranger)
            other.dispose()
            allocate(connection, 0, 10)

    @pytest.mark.parametrize("db_url", ["postgresql"], indirect=True)
    def test_plain_postgresql_urls_and_their_options_work(self, db_url: str) -> None:
        plain = db_url.replace("+psycopg", "") + "&options=-c%20work_mem%3D5MB"
        engine = make_engine(plain)
        with engine.connect() as connection:
            assert run(connection, "SHOW work_mem").scalar() == "5MB"
            assert run(connection, "SHOW lock_timeout").scalar() == "5s"
        engine.dispose()

    @pytest.mark.parametrize("db_url", ["postgresql"], indirect=True)
    def test_a_restarted_server_is_found_again(self, engine: Engine) -> None:
        with engine.connect() as connection:
            pid = run(connection, "SELECT pg_backend_pid()").scalar()
        with engine.connect() as one, engine.connect() as other:
            assert run(one, "SELECT pg_backend_pid()").scalar() == pid
            run(other, "SELECT pg_terminate_backend(:pid, 10000)", pid=pid)
            with pytest.raises(DBAPIError):
                run(one, "SELECT 1")
        with read(engine) as connection:
            assert run(connection, "SELECT 1").scalar() == 1

    def test_a_server_that_is_not_there_is_unavailable(self) -> None:
        engine = make_engine("postgresql://nobody@/nowhere?host=/nonexistent")
        with pytest.raises(Unavailable), read(engine):
            pass
        with pytest.raises(Unavailable), transaction(engine):
            pass
        with pytest.raises(Unavailable), read(engine) as connection:
            connection.execute(text("SELECT 1"))

    @pytest.mark.parametrize("url", ["nonsense", "mysql://host/name", "sqlite://", "sqlite:///:memory:"])
    def test_other_urls_are_refused_with_what_is_valid(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match=r"(?i)sqlite"):
            make_engine(url)
