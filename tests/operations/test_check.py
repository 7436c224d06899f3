"""What is wrong with a machine is found, all of it, with what to do."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from sqlalchemy import URL, text
from traitlets.config import Configurable

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.operations import check as parts
from mlmp_spawner.operations.check import Finding, ToCheck, check
from mlmp_spawner.rules.catalog_yaml import catalog_from_texts
from mlmp_spawner.settings import MLMP
from mlmp_spawner.store import schema
from mlmp_spawner.store.engine import make_engine

SHIPPED = Path(__file__).parents[2] / "profiles"
CLASSES: dict[str, type[Configurable]] = {"MLMP": MLMP}


@pytest.fixture
def right(tmp_path: Path) -> ToCheck:
    """A machine on which nothing is wrong."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    url = URL.create("sqlite", database=str(data / "hub.sqlite")).render_as_string()
    return ToCheck(data, SHIPPED, url, classes=CLASSES, ports=(0,))


def wrong(found: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.subject, finding.message) for finding in found if finding.wrong]


def test_on_a_right_machine_nothing_is_wrong(right: ToCheck) -> None:
    assert wrong(check(right)) == []


def test_everything_that_is_wrong_is_found_at_once_and_comes_first(right: ToCheck, tmp_path: Path) -> None:
    right.data.chmod(0o755)
    config = tmp_path / "config.py"
    config.write_text("c.MLMP.stop_led = 3\nc.MLMP.tick = 'soon'\n")
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "profiles.yaml").write_text("profiles: {gpu: {resource: nvidia.com/gpus, cpu: 3}, a b: {}}\n")

    def no_node() -> None:
        raise ConfigurationError(["there is no Node.js"])

    found = check(replace(right, config=config, catalog=folder, host="0.0.0.0", programs=(no_node,)))
    subjects = [finding.subject for finding in found if finding.wrong]
    assert set(subjects) == {"programs", "configuration", "data", "address", "catalog"}
    assert subjects.count("catalog") == 3
    assert [finding.wrong for finding in found] == sorted((finding.wrong for finding in found), reverse=True)


class TestConfiguration:
    @staticmethod
    def found(right: ToCheck, tmp_path: Path, text: str) -> list[str]:
        file = tmp_path / "config.py"
        file.write_text(text)
        messages = [finding.message for finding in parts.configuration(replace(right, config=file))]
        return [message.replace(f"{file}: ", "") for message in messages]

    def test_a_setting_that_there_is_not_is_named_with_the_close_one(self, right: ToCheck, tmp_path: Path) -> None:
        (message,) = self.found(right, tmp_path, "c.MLMP.stop_led = 3")
        assert message == "there is no c.MLMP.stop_led; did you mean 'stop_lead'?"

    def test_a_value_of_the_wrong_kind_is_named(self, right: ToCheck, tmp_path: Path) -> None:
        (message,) = self.found(right, tmp_path, "c.MLMP.tick = 'soon'")
        assert "'tick' trait" in message

    @pytest.mark.parametrize("text", ["this is no Python", "1 / 0", "import sys; sys.exit(3)", "open('/none')"])
    def test_a_file_that_does_not_run_is_told_whatever_it_raises(
        self, right: ToCheck, tmp_path: Path, text: str
    ) -> None:
        assert len(self.found(right, tmp_path, text)) == 1

    def test_what_other_classes_are_told_is_not_ours_to_judge(self, right: ToCheck, tmp_path: Path) -> None:
        assert self.found(right, tmp_path, "c.LDAPAuthenticator.server = 'x'\nc.MLMP.tick = 2") == []


class TestData:
    @pytest.mark.parametrize("mode", [0o750, 0o705, 0o777])
    def test_a_data_directory_that_others_can_look_into_is_wrong(self, right: ToCheck, mode: int) -> None:
        right.data.chmod(mode)
        (finding,) = parts.data_directory(right)
        assert f"has mode {mode:04o}" in finding.message
        assert finding.hint == f"chmod 700 {right.data}"

    def test_a_data_directory_that_is_not_there_yet_is_made_later(self, right: ToCheck) -> None:
        assert list(parts.data_directory(replace(right, data=right.data / "a/b"))) == []

    def test_a_file_in_its_place_is_wrong(self, right: ToCheck) -> None:
        (right.data / "file").touch()
        (finding,) = parts.data_directory(replace(right, data=right.data / "file/a"))
        assert "is not a directory" in finding.message

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    def test_a_data_directory_of_another_account_is_wrong(self, right: ToCheck) -> None:
        os.chown(right.data, 12345, 12345)
        (finding,) = parts.data_directory(right)
        assert "belongs to uid 12345" in finding.message


class TestDatabase:
    def test_a_database_that_is_not_there_yet_is_made_later_and_not_by_looking(self, right: ToCheck) -> None:
        assert list(parts.database(right)) == []
        assert not (right.data / "hub.sqlite").exists()

    def test_a_database_without_our_tables_is_wrong_until_it_is_migrated(self, right: ToCheck) -> None:
        engine = make_engine(right.db_url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR(255))"))
        engine.dispose()
        (finding,) = parts.database(right)
        assert f"version none, this release needs {schema.head()}" in finding.message
        assert "mlmp db upgrade" in finding.hint
        schema.upgrade(right.db_url)
        assert list(parts.database(right)) == []

    def test_a_file_that_is_no_database_is_told(self, right: ToCheck) -> None:
        (right.data / "hub.sqlite").write_text("not a database " * 100)
        (finding,) = parts.database(right)
        assert "file is not a database" in finding.message

    def test_a_server_that_does_not_answer_is_told(self, right: ToCheck) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            url = f"postgresql://x:secret@127.0.0.1:{nobody.getsockname()[1]}/mlmp"
            (finding,) = parts.database(replace(right, db_url=url))
        assert finding.subject == "database"
        assert "secret" not in finding.message

    def test_another_kind_of_database_is_refused(self, right: ToCheck) -> None:
        (finding,) = parts.database(replace(right, db_url="mysql://x/y"))
        assert "valid: sqlite, postgresql" in finding.message


class TestAddress:
    def test_a_port_that_is_taken_is_wrong(self, right: ToCheck) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            (finding,) = parts.address(replace(right, ports=(taken.getsockname()[1],)))
        assert "can't be listened on" in finding.message

    def test_an_address_for_all_is_wrong_while_nobody_is_isolated(self, right: ToCheck) -> None:
        (finding,) = parts.address(replace(right, host="0.0.0.0"))
        assert "runs as the same account" in finding.message
        assert list(parts.address(replace(right, host="0.0.0.0", several_accounts=True))) == []

    def test_a_name_that_is_no_address_is_wrong(self, right: ToCheck) -> None:
        assert any("can't be listened on" in f.message for f in parts.address(replace(right, host="no such host")))

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
    def test_addresses_of_the_machine_itself_are_fine(self, right: ToCheck, host: str) -> None:
        assert list(parts.address(replace(right, host=host, ports=()))) == []


class TestPython:
    def test_a_python_that_users_can_not_reach_is_wrong_where_servers_run_as_them(self, right: ToCheck) -> None:
        program = right.data / "venv/bin/python"
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
        here = replace(right, python=program)
        assert list(parts.python(here)) == []
        messages = [finding.message for finding in parts.python(replace(here, several_accounts=True))]
        assert f"{right.data} has mode 0700, so users' servers can't run {program}" in messages

    def test_what_is_installed_is_what_is_needed(self, right: ToCheck) -> None:
        assert list(parts.packages(right)) == []

    def test_what_is_installed_elsewhere_is_not_asked_for_here(self, right: ToCheck, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(parts, "version", _nothing_is_installed)
        missing = [one.message for one in parts.packages(replace(right, extras=("kube",)))]
        assert "kubernetes is missing" in missing and "jupyterlab is missing" not in missing
        without = parts.packages(replace(right, extras=("kube",), elsewhere=("kubernetes",)))
        assert "kubernetes is missing" not in [one.message for one in without]


def _nothing_is_installed(name: str) -> str:
    raise PackageNotFoundError(name)


def test_a_node_with_more_units_than_cores_or_memory_for_them_is_remarked() -> None:
    catalog = catalog_from_texts({"a.yaml": """
nodes: {n: {accelerators: [{resource: gpu, count: 4}], cpus: 16, memory: 64GiB}}
profiles:
  fits: {resource: gpu, cpus: 4, memory: 16GiB}
  greedy: {resource: gpu, cpus: 8, memory: 32GiB}
"""})  # fmt: skip
    found = list(parts.overbooked(catalog))
    assert [finding.message for finding in found] == [
        "all 4 units of 'greedy' on n would take 32 cores of 16",
        "all 4 units of 'greedy' on n would take 128 GiB of 64 GiB",
    ]
    assert not any(finding.wrong for finding in found)
