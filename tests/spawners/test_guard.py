"""``mlmp run`` ends what it runs on time, whatever that is and whoever else is dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from mlmp_spawner import deadlines, processes, units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.spawners import guard

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""

LEAVES_CHILDREN = """
import os, subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
pids = [subprocess.Popen(["setsid", "nohup", sys.executable, "-c", stubborn]).pid]
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:  # detached by the book: a double fork
        os.write(write, f"{os.getpid()}\\n".encode())
        time.sleep(600)
    os._exit(0)
os.wait()
pids.append(int(os.read(read, 99)))
print(*pids, flush=True)
time.sleep(float(sys.argv[1]))
"""


class Run:
    """One ``mlmp run`` as a process of its own."""

    def __init__(
        self, directory: Path, command: list[str], *, stop_in: float, end_in: float, about: str = "{}"
    ) -> None:
        self.directory = directory
        self.command = command
        self.about = about
        self.options: list[str] = []
        self.publish(stop_in, end_in)
        self.process: subprocess.Popen[str] | None = None

    def publish(self, stop_in: float, end_in: float) -> Deadline:
        now = units.now()
        deadline = Deadline(now + round(stop_in * 1000), now + round(end_in * 1000))
        deadlines.write(self.directory, "one", deadline)
        return deadline

    def start(
        self, stdout: int | IO[bytes] = subprocess.PIPE, stderr: int | IO[bytes] = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        files = {"--deadline": "one", "--record": "one.json", "--lock": "one.lock"}
        options = [text for option, name in files.items() for text in (option, str(self.directory / name))]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-m", guard.__name__, *options, "--about", self.about, *self.options, "--",
             *self.command],
            stdout=stdout, stderr=stderr, text=True, start_new_session=True,
        )  # fmt: skip
        return self.process

    def first_line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    made: list[Run] = []

    def make(command: list[str], *, stop_in: float = 60, end_in: float = 90, about: str = "{}") -> Run:
        made.append(Run(tmp_path, command, stop_in=stop_in, end_in=end_in, about=about))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            for pid in processes.below(one.process.pid):
                os.kill(pid, signal.SIGKILL)
            one.process.kill()
            one.process.wait()


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    return processes.alive(processes.identity(pid) or "")


def test_an_output_without_end_does_not_fill_the_disk(run: Callable[..., Run], tmp_path: Path) -> None:
    writer = "import time\nwhile True:\n    print('x' * 1000, flush=True)\n    time.sleep(0.0002)"
    one = run([sys.executable, "-c", writer])
    one.options = ["--output-limit", str(1 << 20)]
    output = tmp_path / "output"
    with output.open("ab") as file:
        one.start(stdout=file, stderr=file)
    wait_for(lambda: output.exists() and b"longer than 1 MiB; what was here before is gone" in output.read_bytes())
    before = output.stat().st_size
    wait_for(lambda: output.stat().st_size != before)
    assert one.process is not None and one.process.poll() is None


def test_ends_with_the_status_of_its_child(run: Callable[..., Run]) -> None:
    assert run([sys.executable, "-c", "raise SystemExit(7)"]).start().wait(10) == 7
    assert run(["sh", "-c", "kill -KILL $$"]).start().wait(10) == 128 + signal.SIGKILL


def test_says_what_it_could_not_start(run: Callable[..., Run]) -> None:
    process = run(["/nowhere/to/be-found"]).start()
    _, errors = process.communicate(timeout=10)
    assert process.returncode == guard.NOT_FOUND
    assert "can't start /nowhere/to/be-found" in errors


def test_records_what_runs_while_it_runs(run: Callable[..., Run], tmp_path: Path) -> None:
    one = run(SLEEPER, about=json.dumps({"owner": "Ünï code@x.org", "server": "s", "port": 4711}))
    process = one.start()
    assert one.first_line() == "up"
    (record,) = processes.running(tmp_path)
    assert (record.id, record.owner, record.server, record.port) == ("one", "Ünï code@x.org", "s", 4711)
    assert record.pid == process.pid
    assert record.stopping is None
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    assert not list(tmp_path.glob("*.json"))
    assert not list(tmp_path.glob("*.lock"))


def test_refuses_to_run_without_an_end(run: Callable[..., Run], tmp_path: Path) -> None:
    one = run(SLEEPER)
    deadlines.remove(tmp_path, "one")
    _, errors = one.start().communicate(timeout=10)
    assert "nothing runs without an end" in errors


def test_refuses_to_start_when_the_stop_is_due(run: Callable[..., Run]) -> None:
    process = run(SLEEPER, stop_in=-1, end_in=5).start()
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, "the booking is over" in errors) == (guard.USAGE, True)


def test_starts_nothing_twice(run: Callable[..., Run]) -> None:
    first = run(SLEEPER)
    first.start()
    assert first.first_line() == "up"
    second = run(SLEEPER).start()
    _, errors = second.communicate(timeout=10)
    assert second.returncode == guard.BUSY
    assert "runs already" in errors


def test_can_start_again_after_it_was_killed(run: Callable[..., Run]) -> None:
    first = run(SLEEPER)
    process = first.start()
    assert first.first_line() == "up"
    (child,) = processes.below(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: not alive(child))
    second = run(SLEEPER)
    second.start()
    assert second.first_line() == "up"


def test_stops_by_itself_at_the_end_and_never_before_the_stop_is_due(run: Callable[..., Run]) -> None:
    one = run(SLEEPER, stop_in=3, end_in=5)
    deadline = deadlines.read(one.directory, "one")
    assert deadline is not None
    process = one.start()
    process.wait(10)
    assert deadline.stop_at <= units.now() <= deadline.end + 500
    assert process.returncode == 128 + signal.SIGTERM


def test_kills_what_does_not_listen_before_the_end(run: Callable[..., Run]) -> None:
    one = run([sys.executable, "-c", STUBBORN], stop_in=1, end_in=3)
    deadline = deadlines.read(one.directory, "one")
    assert deadline is not None
    process = one.start()
    process.wait(10)
    assert process.returncode == 128 + signal.SIGKILL
    assert deadline.stop_at <= units.now() <= deadline.end


def test_an_extension_is_honoured(run: Callable[..., Run]) -> None:
    one = run(SLEEPER, stop_in=1, end_in=2)
    process = one.start()
    assert one.first_line() == "up"
    deadline = one.publish(3, 4)
    process.wait(10)
    assert deadline.stop_at <= units.now() <= deadline.end + 500


def test_a_shortened_end_is_honoured(run: Callable[..., Run]) -> None:
    one = run(SLEEPER)
    process = one.start()
    assert one.first_line() == "up"
    one.publish(-1, 2)
    process.wait(30)


def test_the_last_deadline_holds_when_the_file_is_gone(run: Callable[..., Run], tmp_path: Path) -> None:
    one = run(SLEEPER, stop_in=3, end_in=5)
    process = one.start()
    assert one.first_line() == "up"
    deadlines.remove(tmp_path, "one")
    process.wait(30)


@pytest.mark.parametrize("lives", ["0.2", "600"], ids=["when the server ends", "when the server is stopped"])
def test_leaves_nothing_behind(run: Callable[..., Run], lives: str) -> None:
    one = run([sys.executable, "-c", LEAVES_CHILDREN, lives], stop_in=60, end_in=90)
    process = one.start()
    detached = [int(pid) for pid in one.first_line().split()]
    assert len(detached) == 2
    if lives == "600":
        assert all(alive(pid) for pid in detached)
        process.send_signal(signal.SIGTERM)
    process.wait(15)
    assert not any(alive(pid) for pid in detached)


def test_what_is_left_behind_ends_before_the_end_at_the_latest(run: Callable[..., Run]) -> None:
    one = run([sys.executable, "-c", LEAVES_CHILDREN, "600"], stop_in=1, end_in=2.5)
    deadline = deadlines.read(one.directory, "one")
    assert deadline is not None
    process = one.start()
    detached = [int(pid) for pid in one.first_line().split()]
    process.wait(10)
    assert units.now() <= deadline.end
    assert not any(alive(pid) for pid in detached)


def test_a_second_sigterm_ends_it_now(run: Callable[..., Run], tmp_path: Path) -> None:
    one = run([sys.executable, "-c", STUBBORN])
    process = one.start()
    assert one.first_line() == "up"
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: (processes.running(tmp_path) or [None])[0].stopping is not None)
    process.send_signal(signal.SIGTERM)  # two enforcers at the same moment are one request
    time.sleep(guard.IMPATIENT / 1000 + 0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.wait(3)
    assert time.monotonic() - begun < guard.GRACE / 1000


def test_starts_quickly() -> None:
    """People wait for it: it imports no more than it needs."""
    heavy = "import sys, mlmp_spawner.spawners.guard; print([m for m in sys.modules if m.split('.')[0] in %r])"
    packages = {
        "sqlalchemy",
        "jupyterhub",
        "pydantic",
        "click",
        "tornado",
        "traitlets",
        "psutil",
        "subprocess",
        "asyncio",
    }
    output = subprocess.run([sys.executable, "-I", "-c", heavy % packages], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"
