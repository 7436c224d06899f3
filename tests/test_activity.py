"""What is seen of servers and GPUs, on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlmp_spawner import activity, processes
from mlmp_spawner.activity import GpuWatch, ServerWatch
from mlmp_spawner.processes import Record

WORK = "t = __import__('time'); end = t.process_time() + {seconds}\nwhile t.process_time() < end: pass\n"

STAND_IN = """
import subprocess, sys
for line in sys.stdin:  # a command; its end is waited for
    subprocess.run([sys.executable, "-c", line.encode().decode("unicode_escape")])
    print("done", flush=True)
"""


class Server:
    """A stand-in for ``mlmp run`` with its record; ``do`` runs Python below it."""

    def __init__(self, records: Path, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", STAND_IN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        pid = self.process.pid
        record = Record(id=name, owner="ann", server="", pid=pid, identity=processes.identity(pid) or "")
        processes.write_record(records / f"{name}.json", record)

    def do(self, code: str, *, wait: bool = True) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(code.encode("unicode_escape").decode() + "\n")
        self.process.stdin.flush()
        if wait:
            assert self.process.stdout.readline() == "done\n"

    def end(self) -> None:
        for pid in processes.below(self.process.pid):
            os.kill(pid, 9)
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    both = Server(tmp_path, "busy"), Server(tmp_path, "asleep")
    yield both
    for one in both:
        one.end()


def test_cpu_time_of_what_runs_and_of_what_has_ended_meanwhile_counts_once(
    servers: tuple[Server, Server], tmp_path: Path
) -> None:
    busy, asleep = servers
    watch = ServerWatch(tmp_path, group="none-of-this-name")
    first = watch.read()
    assert first["busy"].cpu is None, "what was before the first look is nobody's"
    busy.do(WORK.format(seconds=0.3))
    asleep.do("import time; time.sleep(60)", wait=False)
    second = watch.read()
    assert 250 <= (second["busy"].cpu or 0) <= 900
    third = watch.read()
    assert (third["busy"].cpu or 0) < 100
    assert (third["asleep"].cpu or 0) < 200


def test_all_that_runs_below_it_is_part_of_a_server(servers: tuple[Server, Server], tmp_path: Path) -> None:
    _, asleep = servers
    watch = ServerWatch(tmp_path, group="none-of-this-name")
    asleep.do("import subprocess; subprocess.run(['sleep', '60'])", wait=False)
    deadline = time.monotonic() + 10
    while len(processes.below(asleep.process.pid)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    seen = watch.read()
    assert seen["asleep"].pids >= {asleep.process.pid, *processes.below(asleep.process.pid)}
    assert not seen["asleep"].pids & seen["busy"].pids
    assert seen["asleep"].memory > seen["busy"].memory > 1 << 20


def test_a_server_that_has_ended_is_not_seen(servers: tuple[Server, Server], tmp_path: Path) -> None:
    servers[0].end()
    assert set(ServerWatch(tmp_path).read()) == {"asleep"}


def test_a_server_that_began_after_the_last_look_counts_from_its_beginning(tmp_path: Path) -> None:
    watch = ServerWatch(tmp_path, group="none-of-this-name")
    assert watch.read() == {}
    late = Server(tmp_path, "late")
    try:
        late.do(WORK.format(seconds=0.2))
        assert (watch.read()["late"].cpu or 0) >= 150
    finally:
        late.end()


def test_control_groups_count_better_than_the_tree(tmp_path: Path) -> None:
    folder = tmp_path / "cgroup"
    (folder / "mlmp" / "busy").mkdir(parents=True)
    counter = folder / "mlmp" / "busy" / "cpu.stat"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"30 23 0:26 / {folder} rw - cgroup2 cgroup rw\n")
    group = activity.cgroups.Group("busy", mounts=mounts)
    counter.write_text("usage_usec 5000000\nuser_usec 1\n")
    assert activity._group_cpu(group) == 5000
    counter.write_text("nonsense")
    assert activity._group_cpu(group) is None
    assert activity._group_cpu(activity.cgroups.Group("other", mounts=mounts)) is None


def test_looking_at_gpus_never_fails_and_can_be_repeated() -> None:
    watch = GpuWatch()
    first = watch.read()
    assert set(watch.read()) == set(first)
    for use in first.values():
        assert use.utilisation is None or 0 <= use.utilisation <= 100
    watch.close()
    watch.close()
    assert set(watch.read()) == set(first)
    watch.close()
