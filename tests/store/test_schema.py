"""The schema gets up, down and up again beside a hub's, and is what ``store.tables`` says."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, func, insert, inspect, select, text

from mlmp_spawner.errors import ConfigurationError, Unavailable
from mlmp_spawner.store import course_tables, guest_tables, schema
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import delivery, metadata, notice, person, ssh_key
from tests.store.rows import book, node

# Their tables are there as soon as they are imported.
assert course_tables.metadata is guest_tables.metadata is metadata


def ours(url: str) -> set[str]:
    """Everything in the database whose name is MLMP's."""
    engine = create_engine(url)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            found = connection.execute(text("SELECT name FROM sqlite_master WHERE name LIKE 'mlmp%'"))
        else:
            found = connection.execute(
                text("SELECT relname FROM pg_class WHERE relname LIKE 'mlmp%' "
                     "UNION SELECT tgname FROM pg_trigger WHERE tgname LIKE 'mlmp%' "
                     "UNION SELECT proname FROM pg_proc WHERE proname LIKE 'mlmp%'")
            )  # fmt: skip
        names = {row[0] for row in found}
    engine.dispose()
    return names


@pytest.fixture
def url(empty_db_url: str) -> str:
    """A database with the part of a hub's that we refer to."""
    engine = create_engine(empty_db_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR(255) UNIQUE)"))
    engine.dispose()
    return empty_db_url


def test_up_down_and_up_again(url: str) -> None:
    assert schema.current(url) is None
    assert schema.upgrade(url) == schema.head() == schema.current(url)
    full = ours(url)
    assert {table.name for table in metadata.sorted_tables} < full
    assert schema.downgrade(url, "base") is None
    assert ours(url) <= {"mlmp_alembic_version", "sqlite_autoindex_mlmp_alembic_version_1", "mlmp_alembic_version_pkc"}
    assert schema.upgrade(url) == schema.head()
    assert ours(url) == full


def test_upgrading_again_changes_nothing(url: str) -> None:
    schema.upgrade(url)
    engine = make_engine(url)
    node(engine)
    book(engine, 0, 10)
    engine.dispose()
    before = ours(url)
    assert schema.upgrade(url) == schema.head()
    assert ours(url) == before


def test_a_scan_of_before_knows_its_size_afterwards(url: str) -> None:
    schema.upgrade(url)
    schema.downgrade(url, "0007")
    engine = create_engine(url)
    rows = '{"names": ["lr"], "values": [[0.1], [0.2], [0.3]]}'
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO mlmp_scan (id, owner, name, rows, created_at) VALUES ('s', 'ann', 'old', :rows, 0)"),
            {"rows": rows},
        )
    schema.upgrade(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT size FROM mlmp_scan")).scalar() == 3
    engine.dispose()


def test_the_tables_are_those_that_the_queries_know(url: str) -> None:
    """Whoever changes ``store.tables`` writes a migration too."""
    schema.upgrade(url)
    engine = make_engine(url)

    def is_ours(_: object, name: str | None, kind: str, *rest: object) -> bool:
        return kind != "table" or ((name or "").startswith("mlmp_") and name != schema.VERSION_TABLE)

    # On SQLite Alembic takes one empty text for another than itself.
    defaults = engine.dialect.name == "postgresql"
    options = {"compare_type": True, "compare_server_default": defaults, "include_object": is_ours}
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        found = inspect(connection)
        checks = {table.name: len(found.get_check_constraints(table.name)) for table in metadata.sorted_tables}
    engine.dispose()
    # The foreign keys to the hub's table are the one thing that our metadata does not have.
    assert {(kind, key.parent.name, key.referred_table.name) for kind, key, *_ in differences} == {
        ("remove_fk", name, "users")
        for name in ("mlmp_reservation", "mlmp_person", "mlmp_notice", "mlmp_ssh_key", "mlmp_job", "mlmp_scan")
    }, differences
    assert checks == {
        "mlmp_allocation": 2,
        "mlmp_capacity": 1,
        "mlmp_class": 1,
        "mlmp_course": 2,
        "mlmp_course_group": 0,
        "mlmp_course_member": 1,
        "mlmp_guest": 0,
        "mlmp_guest_code": 0,
        "mlmp_history": 0,
        "mlmp_idempotency": 0,
        "mlmp_job": 3,
        "mlmp_job_attempt": 0,
        "mlmp_job_code": 0,
        "mlmp_job_usage": 1,
        "mlmp_delivery": 0,
        "mlmp_limits": 1,
        "mlmp_notice": 0,
        "mlmp_person": 0,
        "mlmp_scan": 1,
        "mlmp_series": 1,
        "mlmp_ssh_key": 0,
        "mlmp_ssh_way": 0,
        "mlmp_use": 0,
        "mlmp_outage": 1,
        "mlmp_reservation": 3,
        "mlmp_unit_in_use": 0,
    }


def test_the_history_of_a_deleted_user_stays(url: str) -> None:
    schema.upgrade(url)
    engine = make_engine(url)
    node(engine)
    booked = book(engine, 0, 10)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO users (id, name) VALUES (7, 'ada')"))
        connection.execute(text("UPDATE mlmp_reservation SET owner_id = 7"))
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM users"))
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT id, owner, owner_id FROM mlmp_reservation")).one()
    engine.dispose()
    assert tuple(kept) == (booked, "ada", None)


def test_what_a_deleted_user_was_told_and_chose_goes_with_them(url: str) -> None:
    schema.upgrade(url)
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO users (id, name) VALUES (7, 'ada')"))
        connection.execute(insert(person).values(user_id=7, choices={}, mail="ada@example.org"))
        connection.execute(insert(notice).values(id=1, user_id=7, kind="moved", at=0, details={}))
        connection.execute(insert(delivery).values(notice=1, channel="mail", address="ada@example.org", due_at=0))
        connection.execute(insert(ssh_key).values(id="key", user_id=7, owner="ada", algorithm="ssh-ed25519", key="A",
                                                  fingerprint="SHA256:A", added_at=0))  # fmt: skip
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM users"))
        left = [connection.execute(select(func.count()).select_from(table)).scalar()
                for table in (person, notice, delivery, ssh_key)]  # fmt: skip
    engine.dispose()
    assert left == [0, 0, 0, 0]


def test_without_the_hub_s_tables_nothing_is_made(empty_db_url: str) -> None:
    with pytest.raises(ConfigurationError, match="users"):
        schema.upgrade(empty_db_url)
    assert ours(empty_db_url) == set()


def test_an_unknown_revision_is_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="nonsense"):
        schema.upgrade(url, "nonsense")
    assert ours(url) <= {"mlmp_alembic_version", "sqlite_autoindex_mlmp_alembic_version_1", "mlmp_alembic_version_pkc"}


def test_a_migration_that_fails_leaves_nothing(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mlmp_history (something INTEGER)"))
    engine.dispose()
    with pytest.raises(Exception, match="mlmp_history"):
        schema.upgrade(url)
    assert ours(url) == {"mlmp_history"}


def test_two_at_once_make_one_schema(url: str) -> None:
    start = threading.Barrier(2, timeout=60)

    def upgrade() -> str | None:
        start.wait()
        return schema.upgrade(url)

    with ThreadPoolExecutor(2) as pool:
        assert [f.result() for f in [pool.submit(upgrade), pool.submit(upgrade)]] == [schema.head()] * 2


def test_a_database_that_is_not_there_is_not_reachable() -> None:
    with pytest.raises(Unavailable):
        schema.current("postgresql://nobody@/nowhere?host=/nonexistent")
