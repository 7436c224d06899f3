"""What `mlmp ssh-config` and `mlmp ssh` ask, write and refuse; what is written is judged by OpenSSH's own client."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner.client import ssh
from mlmp_spawner.client.config import Access
from mlmp_spawner.client.models import Ssh
from mlmp_spawner.errors import NotNow
from mlmp_spawner.units import MINUTE
from tests.client.answers import ID, at, me, reservation
from tests.client.conftest import CommandLine
from tests.client.standin import Answer, Asked, StandIn, problem

AUTHORITY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBb2pMaZ0p7Lx1Sm7cGzQd0SNqGo6fQ2Vxk7VyVYzM5h"
CERTIFICATE = "ssh-ed25519-cert-v01@openssh.com AAAA"


def about(**changes: Any) -> dict[str, Any]:
    """How SSH reaches Ann's servers."""
    body = {"enabled": True, "login": "jovyan", "authority": AUTHORITY, "gateway": None, "principal": "ann"}
    return {**body, **changes}


def hub(server: StandIn, **changes: Any) -> list[dict[str, Any]]:
    """A hub with SSH; Ann's registered keys."""
    keys: list[dict[str, Any]] = []

    def add(asked: Asked) -> Answer:
        key = asked.body["key"]
        keys.append({"id": "k" * 16, "title": asked.body["title"], "fingerprint": ssh.fingerprint(key)})
        return Answer(201, keys[-1])

    server.on["GET me"] = Answer(200, me())
    server.on["GET ssh"] = Answer(200, about(**changes))
    server.on["GET ssh-keys"] = lambda asked: Answer(200, {"items": keys})
    server.on["POST ssh-keys"] = add
    server.on["POST ssh-certificates"] = Answer(200, {"certificate": CERTIFICATE, "expires": "2026-01-01T00:00:00Z"})
    return keys


@pytest.fixture
def home(mlmp: CommandLine, tmp_path: Path) -> Path:
    """An empty home."""
    home = tmp_path / "home"
    home.mkdir()
    mlmp.environment |= {"HOME": str(home)}
    return home


@pytest.fixture
def where(tmp_path: Path) -> ssh.Place:
    """Where all of it lies."""
    return ssh.Place(tmp_path / "mlmp" / "ssh")


def as_ssh_reads_it(where: ssh.Place, host: str) -> dict[str, str]:
    """What OpenSSH makes of the configuration for a host."""
    done = subprocess.run(["ssh", "-G", "-F", where.config, host], capture_output=True, text=True, check=True)
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


# -- the key of this computer ----------------------------------------------------------------------------------------


def test_the_key_is_made_and_registered_once(mlmp: CommandLine, server: StandIn, where: ssh.Place) -> None:
    keys = hub(server)
    for _ in range(2):
        ran = mlmp("ssh-config")
        assert ran.status == 0, ran.err
    assert len(keys) == 1 and keys[0]["title"].startswith("mlmp on ")
    assert server.times("POST", "ssh-keys") == 1
    shown = subprocess.run(["ssh-keygen", "-lf", where.public_key], capture_output=True, text=True, check=True).stdout
    assert keys[0]["fingerprint"] in shown
    assert where.key.stat().st_mode & 0o077 == 0 and where.directory.stat().st_mode & 0o077 == 0
    assert where.certificate.read_text() == CERTIFICATE + "\n"


def test_a_key_that_was_removed_is_not_registered_again(mlmp: CommandLine, server: StandIn, where: ssh.Place) -> None:
    keys = hub(server)
    assert mlmp("ssh-config").status == 0
    keys.clear()
    ran = mlmp("ssh-config")
    assert ran.status == 1 and keys == []
    assert "was removed" in ran.err and f"mlmp ssh-key add {where.public_key}" in ran.err


def test_at_another_hub_it_is_registered_there_too(mlmp: CommandLine, server: StandIn, where: ssh.Place) -> None:
    keys = hub(server)
    where.directory.mkdir(parents=True)
    where.registered.write_text('[["https://elsewhere.example.org/", "ann"], 3]')
    assert mlmp("ssh-config").status == 0
    assert len(keys) == 1


def test_a_key_that_another_call_has_just_registered_is_used(mlmp: CommandLine, server: StandIn) -> None:
    hub(server)
    server.on["POST ssh-keys"] = problem(409, "conflict", "It is there already.", id="k" * 16)
    assert mlmp("ssh-config").status == 0


def test_too_many_keys_are_told(mlmp: CommandLine, server: StandIn) -> None:
    hub(server)
    server.on["POST ssh-keys"] = problem(409, "conflict", "There are 50 keys already.")
    ran = mlmp("ssh-config")
    assert ran.status == 1 and "50 keys" in ran.err


def test_calls_at_once_make_one_key(where: ssh.Place) -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.append(ssh.make_key(where))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4 and len(set(made)) == 1
    assert [path.name for path in where.directory.iterdir()] == ["identity"]


def test_without_openssh_it_says_how_to_get_it(mlmp: CommandLine, server: StandIn, tmp_path: Path) -> None:
    hub(server)
    mlmp.environment |= {"PATH": str(tmp_path)}
    ran = mlmp("ssh-config")
    assert ran.status == 3 and "ssh-keygen is not on this computer" in ran.err and "openssh-client" in ran.err


# -- the configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["ann", "ann--train-2"])
def test_servers_are_reached_by_name_and_checked_by_the_ca(
    mlmp: CommandLine, server: StandIn, where: ssh.Place, host: str
) -> None:
    hub(server)
    assert mlmp("ssh-config").status == 0
    read = as_ssh_reads_it(where, host)
    assert read["proxycommand"].endswith("mlmp ssh --proxy '%h'")
    assert (read["user"], read["hostkeyalias"], read["stricthostkeychecking"]) == ("jovyan", "ann", "true")
    assert (read["identityfile"], read["userknownhostsfile"]) == (str(where.key), str(where.known_hosts))
    assert where.known_hosts.read_text() == f"@cert-authority ann {AUTHORITY}\n"


def test_other_hosts_are_left_alone(mlmp: CommandLine, server: StandIn, where: ssh.Place) -> None:
    hub(server)
    assert mlmp("ssh-config").status == 0
    for host in ("anna", "ben", "example.org"):
        assert "proxycommand" not in as_ssh_reads_it(where, host)


def test_a_host_name_that_would_leave_its_quotes_reaches_no_shell(
    mlmp: CommandLine, server: StandIn, where: ssh.Place
) -> None:
    hub(server)
    assert mlmp("ssh-config").status == 0
    done = subprocess.run(["ssh", "-G", "-F", where.config, "ann--'$(id)'"], capture_output=True, text=True)
    assert "proxycommand" not in done.stdout


def test_paths_with_spaces_and_percents_are_understood(where: ssh.Place, tmp_path: Path) -> None:
    odd = ssh.Place(tmp_path / "100 % odd" / "ssh")
    ssh.write_config(odd, Ssh.parse(about()))
    assert as_ssh_reads_it(odd, "ann")["userknownhostsfile"] == str(odd.known_hosts)


def test_by_the_gateway_the_jump_host_is_checked_as_well(mlmp: CommandLine, server: StandIn, where: ssh.Place) -> None:
    hub(server, gateway={"host": "gate.example.org", "port": 2222})
    assert mlmp("ssh-config", "--gateway").status == 0
    read = as_ssh_reads_it(where, "ann--train")
    assert (read["proxyjump"], read["hostkeyalias"]) == (ssh.GATEWAY, "ann")
    gate = as_ssh_reads_it(where, ssh.GATEWAY)
    assert (gate["hostname"], gate["port"], gate["user"]) == ("gate.example.org", "2222", "ann")
    assert (gate["hostkeyalias"], gate["stricthostkeychecking"]) == (ssh.GATEWAY, "true")


def test_a_gateway_that_is_not_there_is_refused(mlmp: CommandLine, server: StandIn) -> None:
    hub(server)
    ran = mlmp("ssh-config", "--gateway")
    assert ran.status == 1 and "no SSH gateway" in ran.err


@pytest.mark.parametrize(
    "answer",
    [
        {"login": "x\n    ProxyCommand evil"},
        {"authority": f"{AUTHORITY}\n* {AUTHORITY}"},
        {"principal": "*"},
        {"principal": "ann other"},
        {"gateway": {"host": "gate\nProxyCommand evil", "port": 22}},
        {"gateway": {"host": "-oProxyCommand=evil", "port": 22}},
    ],
)
def test_what_does_not_belong_into_a_configuration_is_not_written(
    mlmp: CommandLine, server: StandIn, where: ssh.Place, answer: dict[str, Any]
) -> None:
    hub(server, **answer)
    ran = mlmp("ssh-config", *(["--gateway"] if "gateway" in answer else []))
    assert ran.status == 3 and "can't be understood" in ran.err
    assert not where.config.exists()


def test_an_account_that_openssh_s_files_do_not_take_is_named_as_the_cause(
    mlmp: CommandLine, server: StandIn, where: ssh.Place
) -> None:
    hub(server, login="jürgen")
    ran = mlmp("ssh-config")
    assert ran.status == 1 and "the account 'jürgen'" in ran.err and "ASCII letters" in ran.err
    assert not where.config.exists()


# -- ~/.ssh/config ---------------------------------------------------------------------------------------------------


def test_nothing_of_the_users_is_changed_unasked(mlmp: CommandLine, server: StandIn, home: Path) -> None:
    hub(server)
    ran = mlmp("ssh-config")
    assert "Include" in ran.out and not (home / ".ssh").exists()


def test_include_adds_one_line_at_the_top_and_keeps_the_rest(mlmp: CommandLine, server: StandIn, home: Path) -> None:
    hub(server)
    mine = home / ".ssh" / "config"
    mine.parent.mkdir()
    mine.write_bytes(b"Host other\n    User \xff\n")
    mine.chmod(0o640)
    for _ in range(2):
        assert mlmp("ssh-config", "--include", "--json").json["included"] is True
    lines = mine.read_bytes().splitlines()
    assert lines[0].startswith(b"Include ") and lines.count(lines[0]) == 1
    assert lines[-2:] == [b"Host other", b"    User \xff"]
    assert mine.stat().st_mode & 0o777 == 0o640


def test_an_include_within_a_host_does_not_count(mlmp: CommandLine, server: StandIn, home: Path) -> None:
    hub(server)
    assert mlmp("ssh-config", "--include").status == 0
    mine = home / ".ssh" / "config"
    mine.write_text("Host other\n" + mine.read_text())
    assert mlmp("ssh-config", "--json").json["included"] is False


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "told", "hint"),
    [
        ({"mine": False, "server_state": "running"}, "somebody else's", "mlmp ls"),
        ({}, "does not run", f"mlmp start {ID}"),
        ({"server_state": "starting"}, "still starting", f"mlmp start {ID}"),
        ({"stops_at": at(-MINUTE)}, "ends just now", "mlmp free"),
        ({"state": "ended"}, "the booking is", f"mlmp show {ID}"),
        ({"server_state": "running", "server": "A b"}, "can't be a host name", ""),
    ],
)
def test_ssh_refuses_with_what_to_do(
    mlmp: CommandLine, server: StandIn, found: dict[str, Any], told: str, hint: str
) -> None:
    hub(server)
    server.on[f"GET reservations/{ID}"] = Answer(200, reservation(**found))
    ran = mlmp("ssh", ID)
    assert ran.status == 1 and told in ran.err and hint in ran.err
    assert server.times("POST", "ssh-keys") == 0


def test_a_hub_without_ssh_says_so(mlmp: CommandLine, server: StandIn) -> None:
    hub(server, enabled=False, authority="")
    server.on[f"GET reservations/{ID}"] = Answer(200, reservation(server_state="running"))
    for ran in (mlmp("ssh", ID), mlmp("ssh-config"), mlmp("ssh", "--proxy", "ann")):
        assert ran.status == 1 and "switched off" in ran.err


@pytest.mark.parametrize("host", ["ben", "ann--", "ann--A", "ann--a--b", "", "ann/../ben"])
def test_the_proxy_takes_only_ones_own_hosts(mlmp: CommandLine, server: StandIn, host: str) -> None:
    hub(server)
    ran = mlmp("ssh", "--proxy", host)
    assert ran.status == 1 and "none of your servers" in ran.err


def test_what_the_hub_said_is_known_for_its_token_alone(where: ssh.Place) -> None:
    access, said = Access("https://hub.example.org/", "t"), Ssh.parse(about(gateway={"host": "gate", "port": 22}))
    assert ssh.remembered(where, access) is None
    ssh.remember(where, access, "ann", said)
    assert ssh.remembered(where, access) == ("ann", said)
    assert ssh.remembered(where, Access(access.url, "other")) is None
    assert ssh.remembered(where, Access("https://elsewhere.example.org/", "t")) is None
    assert where.about.stat().st_mode & 0o077 == 0
    where.about.write_text("{")
    assert ssh.remembered(where, access) is None


def test_hosts_and_servers_are_the_same_both_ways() -> None:
    mine = Ssh.parse(about(principal="b--c---0123456789abcdef"))
    for server in ("", "train", "a-1"):
        assert ssh.server_of(mine, ssh.host_of(mine, server)) == server
    with pytest.raises(NotNow, match="can't be a host name"):
        ssh.host_of(mine, "a--b")
