"""``mlmp db backup`` and ``restore``: what they refuse, and what they leave behind."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlmp_spawner.client.cli import cli


def mlmp(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["db", *arguments])


def users(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM users ORDER BY name")]


def add(path: Path, name: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO users (name, admin, cookie_id) VALUES (?, 0, ?)", (name, name))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with Ada in its database."""
    directory = tmp_path / "data"
    directory.mkdir()
    assert mlmp("upgrade", "--data", str(directory)).exit_code == 0
    add(database(directory), "ada")
    return directory


def database(data: Path) -> Path:
    (file,) = data.glob("**/mlmp.sqlite")
    return file


@pytest.fixture
def copy(data: Path, tmp_path: Path) -> Path:
    file = tmp_path / "copy.sqlite"
    result = mlmp("backup", str(file), "--data", str(data))
    assert (result.exit_code, "0 bookings" in result.output) == (0, True), result.output
    return file


def test_a_copy_is_one_file_for_its_owner_alone(copy: Path) -> None:
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [path.name for path in copy.parent.iterdir() if path.is_file()] == [copy.name]
    assert users(copy) == ["ada"]


def test_an_older_copy_is_replaced_and_the_database_itself_never(data: Path, copy: Path) -> None:
    add(database(data), "ben")
    assert mlmp("backup", str(copy), "--data", str(data)).exit_code == 0
    assert users(copy) == ["ada", "ben"]
    refused = mlmp("backup", str(database(data)), "--data", str(data))
    assert (refused.exit_code, "the database itself" in refused.output) == (2, True)


def test_what_was_there_before_a_restore_is_kept(data: Path, copy: Path) -> None:
    add(database(data), "ben")
    said = json.loads(mlmp("restore", str(copy), "--data", str(data), "--json").stdout)
    assert users(database(data)) == ["ada"]
    assert users(Path(said["kept"])) == ["ada", "ben"]
    again = json.loads(mlmp("restore", said["kept"], "--data", str(data), "--json").stdout)
    assert again["kept"] != said["kept"]
    assert users(database(data)) == ["ada", "ben"]
    with closing(sqlite3.connect(database(data))) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_damaged_database_is_no_obstacle(data: Path, copy: Path) -> None:
    database(data).write_bytes(b"not a database at all" * 1000)
    assert mlmp("restore", str(copy), "--data", str(data)).exit_code == 0
    assert users(database(data)) == ["ada"]


@pytest.mark.parametrize("folder", [".", "db"], ids=["same user", "pam"])
def test_it_refuses_while_mlmp_up_runs(data: Path, copy: Path, folder: str) -> None:
    if folder == "db":
        (data / folder).mkdir()
        database(data).rename(data / folder / "mlmp.sqlite")
    handle = os.open(data / "up.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    refused = mlmp("restore", str(copy), "--data", str(data))
    os.close(handle)
    assert (refused.exit_code, "runs with" in refused.output) == (2, True)


@pytest.mark.parametrize("statement", ["SELECT 1 FROM users", "BEGIN IMMEDIATE"])
def test_it_refuses_while_anybody_has_the_database_open(data: Path, copy: Path, statement: str) -> None:
    with closing(sqlite3.connect(database(data), isolation_level=None)) as reader:
        reader.execute(statement).fetchone()
        refused = mlmp("restore", str(copy), "--data", str(data))
    assert (refused.exit_code, "in use" in refused.output) == (2, True), refused.output
    assert list(data.glob("*before*")) == []


def test_a_copy_with_faults_is_refused_and_changes_nothing(data: Path, copy: Path, tmp_path: Path) -> None:
    damaged, newer, other = tmp_path / "damaged", tmp_path / "newer", tmp_path / "other"
    content = bytearray(copy.read_bytes())
    content[4096 * 3 : 4096 * 6] = os.urandom(4096 * 3)
    damaged.write_bytes(content)
    newer.write_bytes(copy.read_bytes())
    for path, statement in (
        (newer, "UPDATE mlmp_alembic_version SET version_num = '9999'"),
        (other, "CREATE TABLE x (y)"),
    ):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement)
    for path, said in (
        (damaged, ""),
        (newer, "newer MLMP"),
        (other, "not one of MLMP"),
        (tmp_path / "none", "no file"),
    ):
        refused = mlmp("restore", str(path), "--data", str(data))
        assert (refused.exit_code, said in refused.output) == (2, True), refused.output
    assert users(database(data)) == ["ada"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_restores_belongs_to_whom_it_belonged(data: Path, copy: Path) -> None:
    os.chown(database(data), 65534, 65534)
    assert mlmp("restore", str(copy), "--data", str(data)).exit_code == 0
    assert (database(data).stat().st_uid, stat.S_IMODE(database(data).stat().st_mode)) == (65534, 0o600)


def test_postgresql_is_told_its_own_tools() -> None:
    for verb, tool in (("backup", "pg_dump"), ("restore", "pg_restore")):
        refused = mlmp(verb, "file", "--db-url", "postgresql://host/name")
        assert (refused.exit_code, tool in refused.output) == (2, True)
