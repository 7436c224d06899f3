"""Processes on a GPU that belong to nobody's booking of it: found twice, named, stopped by identity."""

from __future__ import annotations

import getpass
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from mlmp_spawner import processes
from mlmp_spawner.activity import ServerUse, UnitUse
from mlmp_spawner.operations.intruders import GRACE, Intruders
from mlmp_spawner.units import MINUTE, SECOND
from tests.operations.conftest import NOW

STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
MEEK = "import time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[str]]:
    yield from _run(MEEK)


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[str]]:
    yield from _run(STUBBORN)


def _run(code: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, "--secret\x1b[31m"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    yield process
    process.kill()
    process.communicate()


def on(unit: str, *pids: int) -> dict[str, UnitUse]:
    return {unit: UnitUse(50, 1, frozenset(pids))}


FREE: dict[str, str | None] = {"GPU-0": None, "GPU-1": None}


def test_it_is_one_when_two_looks_saw_it_and_it_is_told_once(stranger: subprocess.Popen[str]):
    intruders = Intruders()
    assert intruders.look(on("GPU-0", stranger.pid), FREE, {}, NOW) == []
    assert intruders.found == []
    (change,) = intruders.look(on("GPU-0", stranger.pid), FREE, {}, NOW + MINUTE)
    assert intruders.look(on("GPU-1", stranger.pid), FREE, {}, NOW + 2 * MINUTE) == []
    assert (change.action, change.intruder.process) == ("intruder", processes.identity(stranger.pid))
    (found,) = intruders.found
    assert (found.user, found.units, found.since, found.pid) == (
        getpass.getuser(), ("GPU-1",), NOW, stranger.pid,
    )  # fmt: skip
    assert found.command.endswith("--secret\ufffd[31m") and len(found.command) <= 200
    assert intruders.look({}, FREE, {}, NOW + 3 * MINUTE) == [] == intruders.found
    assert stranger.poll() is None, "it is only shown"


def test_what_runs_below_the_server_of_the_booking_is_at_home_there_and_nowhere_else(stranger: subprocess.Popen[str]):
    servers = {"anns": ServerUse(pids=frozenset({stranger.pid})), "bens": ServerUse()}
    holders: dict[str, str | None] = {"GPU-0": "anns", "GPU-1": "bens"}
    intruders = Intruders()
    for _ in range(2):
        assert intruders.look(on("GPU-0", stranger.pid), holders, servers, NOW) == []
    for _ in range(2):
        intruders.look(on("GPU-1", stranger.pid), holders, servers, NOW)
    assert [(one.units, one.server_id) for one in intruders.found] == [(("GPU-1",), "anns")]


def test_units_that_are_not_for_booking_are_nobodys_business(stranger: subprocess.Popen[str]):
    intruders = Intruders(stop=True)
    for _ in range(2):
        assert intruders.look(on("GPU-of-the-desktop", stranger.pid), FREE, {}, NOW) == []


@pytest.mark.parametrize("ignored", ["command", "user"])
def test_some_commands_and_users_may(stranger: subprocess.Popen[str], ignored: str):
    name = processes_name(stranger.pid) if ignored == "command" else f"user:{getpass.getuser()}"
    intruders = Intruders(ignore=[name])
    for _ in range(2):
        intruders.look(on("GPU-0", stranger.pid), FREE, {}, NOW)
    assert intruders.found == []


def processes_name(pid: int) -> str:
    with open(f"/proc/{pid}/comm") as file:
        return file.read().strip()


def test_where_it_is_chosen_it_is_told_to_end_and_that_is_written_down(stranger: subprocess.Popen[str]):
    intruders = Intruders(stop=True)
    intruders.look(on("GPU-0", stranger.pid), FREE, {}, NOW)
    found = intruders.look(on("GPU-0", stranger.pid), FREE, {}, NOW + MINUTE)
    assert stranger.wait(30) == -signal.SIGTERM
    gone = intruders.enforce(NOW + MINUTE + SECOND)
    assert [change.action for change in [*found, *gone]] == ["intruder", "intruder_stopped"]
    assert intruders.found == [] and intruders.next_due() is None


def test_what_does_not_end_is_killed_after_its_grace(stubborn: subprocess.Popen[str]):
    intruders = Intruders(stop=True)
    for at in (NOW, NOW + MINUTE):
        intruders.look(on("GPU-0", stubborn.pid), FREE, {}, at)
    assert intruders.next_due() == NOW + MINUTE + GRACE
    assert intruders.enforce(NOW + MINUTE + GRACE - 1) == []
    assert stubborn.poll() is None
    gone = intruders.enforce(NOW + MINUTE + GRACE)
    assert stubborn.wait(30) == -signal.SIGKILL
    gone += intruders.enforce(NOW + MINUTE + GRACE + SECOND)
    assert [change.action for change in gone] == ["intruder_stopped"]


def test_what_the_service_may_not_stop_is_said_to_be_so(stranger: subprocess.Popen[str]):
    def refused(process: str, number: int) -> bool:
        raise PermissionError

    intruders = Intruders(stop=True, send=refused)
    for at in (NOW, NOW + MINUTE, NOW + 2 * MINUTE):
        intruders.look(on("GPU-0", stranger.pid), FREE, {}, at)
    (found,) = intruders.found
    assert "may not stop" in found.problem and found.stopping_at is None
    assert stranger.poll() is None


def test_another_process_of_the_same_pid_is_not_taken_for_it(stranger: subprocess.Popen[str]):
    sent: list[str] = []
    intruders = Intruders(stop=True, send=lambda process, number: bool(sent.append(process)))
    for at in (NOW, NOW + MINUTE):
        intruders.look(on("GPU-0", stranger.pid), FREE, {}, at)
    assert sent == [processes.identity(stranger.pid)]
    end = time.monotonic() + 30
    stranger.kill()
    stranger.wait()
    while processes.alive(sent[0]):
        assert time.monotonic() < end
    assert processes.send(sent[0], signal.SIGKILL) is False
