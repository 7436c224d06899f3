"""``mlmp db`` on databases that a real JupyterHub makes."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from jupyterhub import orm
from sqlalchemy import create_engine, inspect, text

from mlmp_spawner.client.cli import cli
from mlmp_spawner.store import schema
from mlmp_spawner.store.engine import make_engine
from tests.databases import PostgreSQL
from tests.invariant import violations
from tests.store.rows import book, node


def mlmp(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, ["db", *arguments], env=env)


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found


def test_upgrade_makes_the_hub_s_tables_and_ours(empty_db_url: str) -> None:
    result = mlmp("upgrade", "--db-url", empty_db_url)
    assert result.exit_code == 0, result.output
    assert f"version {schema.head()}" in result.output
    assert {"users", "alembic_version", "mlmp_reservation", "mlmp_alembic_version"} <= tables(empty_db_url)


def test_several_that_start_at_once_on_an_empty_database_are_all_content(postgresql: PostgreSQL) -> None:
    """As hub and service do on a cluster."""
    url = postgresql.create(template=None)
    command = [sys.executable, "-m", "mlmp_spawner.client.cli", "db", "upgrade", "--db-url", url]
    starting = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(3)]
    said = [process.communicate(timeout=120)[0].decode() for process in starting]
    assert [process.returncode for process in starting] == [0, 0, 0], said
    postgresql.drop(url)


def test_the_hub_is_content_with_what_is_beside_its_tables(empty_db_url: str) -> None:
    mlmp("upgrade", "--db-url", empty_db_url)
    sessions = orm.new_session_factory(empty_db_url)  # it checks its own version
    engine = make_engine(empty_db_url)
    with sessions() as session:
        session.add(orm.User(name="ada"))
        session.commit()
        node(engine, units=1)
        booked = book(engine, 0, 10)
        with engine.begin() as connection:
            connection.execute(text("UPDATE mlmp_reservation SET owner_id = (SELECT id FROM users)"))
        session.delete(session.query(orm.User).one())
        session.commit()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id, owner_id FROM mlmp_reservation")).all() == [(booked, None)]
    assert violations(engine) == []
    engine.dispose()
    sessions.kw["bind"].dispose()


def test_a_hub_s_database_that_is_in_use_already(empty_db_url: str) -> None:
    sessions = orm.new_session_factory(empty_db_url)
    with sessions() as session:
        session.add(orm.User(name="ada"))
        session.commit()
        assert session.query(orm.User).count() == 1  # the hub keeps such a transaction open
        session.commit()
        assert mlmp("upgrade", "--db-url", empty_db_url).exit_code == 0
    sessions.kw["bind"].dispose()


def test_current_upgrade_downgrade_as_json(empty_db_url: str) -> None:
    def said(*arguments: str) -> dict:
        result = mlmp(*arguments, "--db-url", empty_db_url, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    newest = schema.head()
    assert said("upgrade") == {"version": newest, "newest": newest, "up_to_date": True}
    assert said("current") == {"version": newest, "newest": newest, "up_to_date": True}
    assert said("downgrade", "base") == {"version": None, "newest": newest, "up_to_date": False}
    assert not {name for name in tables(empty_db_url) if name.startswith("mlmp_")} - {schema.VERSION_TABLE}
    assert "users" in tables(empty_db_url)
    assert said("upgrade")["up_to_date"]


def test_sqlite_is_in_write_ahead_mode(tmp_path: Path) -> None:
    assert mlmp("upgrade", "--data", str(tmp_path)).exit_code == 0
    (file,) = tmp_path.glob("*.sqlite")
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert mlmp("current", env={"MLMP_DATA": str(tmp_path)}).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["current"], "--data"),
        (["current", "--db-url", "nonsense"], "sqlite:///FILE"),
        (["current", "--db-url", "mysql://host/name"], "mysql"),
        (["upgrade", "--db-url", "sqlite://"], "in memory"),
        (["current", "--db-url", "sqlite:////nonexistent/file.sqlite"], "/nonexistent"),
        (["upgrade", "--db-url", "sqlite:////nonexistent/file.sqlite"], "/nonexistent"),
        (["upgrade", "--data", "/nonexistent"], "/nonexistent"),
        (["upgrade", "--data", ".", "--db-url", "sqlite:///x"], "not both"),
        (["downgrade"], "REVISION"),
    ],
)
def test_wrong_configuration_is_exit_status_2(arguments: list[str], said: str) -> None:
    result = mlmp(*arguments, env={"MLMP_DATA": ""})
    assert (result.exit_code, said in result.output.replace("\n", " ")) == (2, True), result.output


def test_an_unknown_revision_is_exit_status_2(empty_db_url: str) -> None:
    mlmp("upgrade", "--db-url", empty_db_url)
    result = mlmp("downgrade", "nonsense", "--db-url", empty_db_url)
    assert (result.exit_code, "nonsense" in result.output) == (2, True)


def test_a_server_that_does_not_answer_is_exit_status_3() -> None:
    for verb in ("current", "upgrade"):
        assert mlmp(verb, "--db-url", "postgresql://nobody@/nowhere?host=/nonexistent").exit_code == 3


def test_looking_makes_no_file(tmp_path: Path) -> None:
    assert mlmp("current", "--data", str(tmp_path)).exit_code == 2
    assert list(tmp_path.iterdir()) == []
