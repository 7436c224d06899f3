"""``mlmp check``: one list of all that is wrong; exit status 0 or 2."""

from __future__ import annotations

import fcntl
import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlmp_spawner.admin.check import up_runs
from mlmp_spawner.client.cli import cli
from mlmp_spawner.lab import sshd
from mlmp_spawner.operations import ssh_authority


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


def check(data: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["check", "--data", str(data), "--port", "0", *options])


def test_a_machine_on_which_nothing_is_wrong(data: Path) -> None:
    result = check(data)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("Nothing is wrong.\n")


def test_all_that_is_wrong_is_listed_with_file_line_and_what_to_do(data: Path, tmp_path: Path) -> None:
    data.chmod(0o755)
    (data / "jupyterhub_config.py").write_text("c.JupyterHub.admin_acces = True\n")
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "profiles.yaml").write_text("profiles:\n  gpu:\n    resource: nvidia.com/gpus\n")
    result = check(data, "--catalog", str(folder), "--host", "0.0.0.0")
    assert result.exit_code == 2
    assert (
        f"wrong  catalog: {folder}/profiles.yaml:3: profiles.gpu.resource: no node has 'nvidia.com/gpus'"
        in result.stdout
    )
    assert "wrong  configuration" in result.stdout
    assert "there is no c.JupyterHub.admin_acces; did you mean 'admin_access'?" in result.stdout
    assert f"-> chmod 700 {data}" in result.stdout
    assert result.stdout.endswith("4 things are wrong.\n")


def test_programs_get_the_same_in_json(data: Path) -> None:
    data.chmod(0o755)
    result = check(data, "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 2
    assert answer["ok"] is False
    assert [finding["subject"] for finding in answer["wrong"]] == ["data"]
    assert answer["wrong"][0]["hint"] == f"chmod 700 {data}"


def test_ports_that_our_own_mlmp_holds_are_not_wrong(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, (data / "up.lock").open("w") as lock:
        port = str(listener.getsockname()[1])
        assert not up_runs(data)
        assert check(data, "--port", port).exit_code == 2
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert up_runs(data)
        result = check(data, "--port", port)
    assert result.exit_code == 0, result.output
    assert f"note   address: mlmp up runs with {data}" in result.stdout


def test_the_example_of_a_cluster_is_not_for_one_machine(data: Path) -> None:
    example = Path(__file__).parents[2] / "profiles/examples/cluster"
    result = check(data, "--catalog", str(example))
    assert "this is one machine, but 'nodes' lists 3" in result.stdout


def test_without_sshd_it_says_how_people_get_in_by_ssh(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sshd, "PLACES", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    said = "sshd is not installed"
    result = check(data)
    assert said in result.stdout
    assert "apt-get install openssh-server" in result.stdout
    (data / "jupyterhub_config.py").write_text("c.MLMP.ssh = False\n")
    assert said not in check(data).stdout


def test_an_ssh_authority_that_can_t_be_used_is_named(data: Path) -> None:
    assert not (data / "ssh_ca").exists() and check(data).exit_code == 0
    assert not (data / "ssh_ca").exists()  # looking makes none
    (data / "ssh_ca").write_text("hello")
    result = check(data)
    assert result.exit_code == 2 and f"the SSH CA, {data}/ssh_ca" in result.stdout
    (data / "jupyterhub_config.py").write_text("c.MLMP.ssh = False\n")
    assert check(data).exit_code == 0
    (data / "jupyterhub_config.py").write_text("c.MLMP.ssh_ca_file = '/nonexistent/ssh_ca'\n")
    assert "can't make it there" in check(data).stdout


def test_an_ssh_authority_that_others_can_read_is_wrong(data: Path) -> None:
    ssh_authority.load(data / "ssh_ca")
    assert check(data).exit_code == 0
    (data / "ssh_ca").chmod(0o644)
    result = check(data)
    assert result.exit_code == 2 and f"-> chmod 600 {data}/ssh_ca" in result.stdout
