"""The gateway of `mlmp up`, with a real hub and a real server behind it: cuts, restarts, and what its log says."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx
import pytest

from mlmp_spawner import processes
from tests.live import Site, command_line, wait_for
from tests.ssh.computers import Computer
from tests.ssh.conftest import configured, with_server

pytestmark = pytest.mark.faults

KEYS = "/services/mlmp/api/v1/ssh-keys"


def log(site: Site) -> str:
    return (site.data / "logs" / "ssh.log").read_text()


def is_in(session: Popen[str]) -> None:
    assert session.stdout is not None
    assert session.stdout.readline() == "in\n"


def test_a_removed_key_ends_its_sessions_within_a_second(
    site: Site, booking: dict[str, Any], behind_gateway: Computer, tmp_path: Path
) -> None:
    laptop = configured(Computer(behind_gateway.person, tmp_path / "laptop"), "--gateway")
    mine = (laptop.place / "identity" / "id_ed25519.pub").read_text().split()[1]
    api = laptop.person.api
    (key,) = [one for one in api.get(KEYS).json()["items"] if one["key"] == mine]
    with laptop.open("ann", "echo in; cat") as session, behind_gateway.open("ann", "echo in; cat") as other:
        is_in(session)
        is_in(other)
        api.delete(f"{KEYS}/{key['id']}").raise_for_status()
        removed = time.monotonic()
        assert session.wait(20) == 255
        assert time.monotonic() - removed < 1.5
        assert other.poll() is None, "the session of another key was cut as well"
    said = f"closed user='ann' server={booking['server']!r} reservation={booking['id']}"
    wait_for(lambda: any(said in line and "the key was removed" in line for line in log(site).splitlines()), 10)
    refused = laptop.ssh("ann", "true")
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr


def test_the_end_of_the_booking_ends_the_sessions_and_the_next_one_is_told(site: Site, tmp_path: Path) -> None:
    gus = configured(Computer(site.person("gus"), tmp_path / "gus"), "--gateway")
    booked = with_server(gus.person, 3600)
    with gus.open("gus", "echo in; cat") as session:
        is_in(session)
        gus.person.end_in(booked, 30)
        assert session.wait(90) == 255
    assert f"opened user='gus' server={booked['server']!r} reservation={booked['id']}" in log(site)
    late = gus.ssh("gus", "true")
    assert late.returncode == 255
    assert "no server of yours runs as gus; running: none" in late.stderr


def test_nobody_gets_to_anothers_server(site: Site, behind_gateway: Computer, tmp_path: Path) -> None:
    ben = configured(Computer(site.person("ben"), tmp_path / "ben"), "--gateway")
    for target in ("ann:22", "127.0.0.1:22", "localhost:8000"):
        told = ben.ssh("-W", target, "mlmp-gateway")
        assert told.returncode == 255
        assert "only ben and ben--SERVER, port 22, can be reached" in told.stderr
    as_ann = ben.ssh("-l", "ann", "-W", "ann:22", "mlmp-gateway")
    assert "Permission denied (publickey)" in as_ann.stderr
    assert "refused user='ben' host='ann' port=22 from=127.0.0.1" in log(site)


def test_what_it_sends_to_a_server_opens_that_one_and_no_other(
    site: Site, booking: dict[str, Any], behind_gateway: Computer
) -> None:
    assert behind_gateway.ssh("ann", "true").returncode == 0
    with sqlite3.connect(site.data / "mlmp.sqlite") as connection:
        ((token,),) = connection.execute("SELECT token FROM mlmp_ssh_way WHERE server = ?", [booking["id"]])
    asked = {"Authorization": f"token {token}"}
    scopes = httpx.get(f"{site.url}hub/api/user", headers=asked).json()["scopes"]
    server = f"ann/{booking['server']}"
    assert {scope for scope in scopes if scope.startswith("access:servers")} == {f"access:servers!server={server}"}
    with_server(site.person("ben"), 120)
    other = httpx.get(f"{site.url}user/ben/api/status", headers=asked)
    assert other.status_code == 403


def test_sessions_outlive_hub_and_service_and_a_gateway_that_dies_is_back_with_the_same_key(
    site: Site, behind_gateway: Computer
) -> None:
    with behind_gateway.open("ann", "cat") as session:
        assert session.stdin is not None
        assert session.stdout is not None
        print("before", file=session.stdin, flush=True)
        assert session.stdout.readline() == "before\n"
        parts = [site.pid_of(name) for name in ("hub", "service")]
        site.kill("hub", "service")
        wait_for(lambda: None not in (now := [site.pid_of(name) for name in ("hub", "service")]) and now != parts, 60)
        print("after", file=session.stdin, flush=True)
        assert session.stdout.readline() == "after\n"
        gateway = pid_of_gateway(site)
        assert gateway is not None
        processes.send(processes.identity(gateway) or "", 9)
        assert session.wait(20) == 255
    wait_for(lambda: pid_of_gateway(site) not in (None, gateway), 30, "another gateway")
    assert "The SSH gateway ended (killed by SIGKILL); started again" in site.output.read_text()
    wait_for(lambda: behind_gateway.ssh("ann", "true").returncode == 0, 60, "a session through it")


def pid_of_gateway(site: Site) -> int | None:
    assert site.process is not None
    for pid in processes.below(site.process.pid):
        if "mlmp_spawner.ssh" in command_line(pid)[:4]:
            return pid
    return None
