"""What a control group keeps, on this machine's own; and folders that stand for machines of other kinds."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlmp_spawner import cgroups
from mlmp_spawner.cgroups import Group, Limits
from tests.live import wait_for

MIB = 1 << 20

OPENS = """if True:
    for name in ("full", "urandom", "zero"):
        try:
            open(f"/dev/{name}").close()
            print(name)
        except OSError as error:
            print(error)"""


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """A group around those of the tests, where this machine lets us make any."""
    name = f"mlmp-test-{secrets.token_hex(4)}"
    missing = cgroups.not_enforced(base=name)
    if missing:
        pytest.skip(f"control groups can't be made here: {missing}")
    yield name
    group = Group("x", base=name)
    for folder in (group.unified, *group.others.values()):
        if folder is not None and folder.parent.exists():
            folder.parent.rmdir()


@pytest.fixture
def group(base: str) -> Iterator[Group]:
    made = Group(secrets.token_hex(4), base=base)
    yield made
    assert made.end()


def run(group: Group, program: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in the group."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, preexec_fn=group.enter, capture_output=True, text=True, timeout=60, check=False)


def test_memory_beyond_the_share_is_not_to_be_had(group: Group) -> None:
    assert group.make(Limits(memory=128 * MIB)) == {}
    assert run(group, "bytearray(32 << 20)").returncode == 0
    assert run(group, "bytearray(512 << 20)").returncode == -signal.SIGKILL


def test_processes_beyond_the_share_are_not_to_be_had(group: Group) -> None:
    assert group.make(Limits(processes=20)) == {}
    program = """if True:
        import os, signal
        for _ in range(50):
            if os.fork() == 0:
                os.close(1), os.close(2)
                signal.pause()"""
    assert "Resource temporarily unavailable" in run(group, program).stderr
    assert len(group.pids()) <= 20


def test_cores_are_counted_as_the_kernel_does(group: Group) -> None:
    assert group.make(Limits(cpus=1.5)) == {}
    said = {
        path.name: path.read_text().split()
        for folder in (group.unified, group.others.get("cpu")) if folder is not None
        for path in folder.glob("cpu*")
        if path.name in ("cpu.max", "cpu.cfs_quota_us")
    }  # fmt: skip
    assert next(iter(said.values()))[0] == "150000"


def test_a_device_that_is_not_booked_can_not_be_opened_and_others_can(group: Group) -> None:
    assert group.make(Limits(denied=((1, 7),))) == {}  # /dev/full
    refused, *others = run(group, OPENS).stdout.splitlines()
    assert refused == "[Errno 1] Operation not permitted: '/dev/full'"
    assert others == ["urandom", "zero"]


def test_a_version_2_machine_filters_devices_by_a_program(group: Group) -> None:
    if group.unified is None:
        pytest.skip("version 2 is not mounted here")
    group.others.pop("devices", None)
    assert group.make(Limits(denied=((1, 7), (1, 9)))) == {}
    *refused, other = run(group, OPENS).stdout.splitlines()
    assert len(refused) == 2
    assert all("not permitted" in line for line in refused)
    assert other == "zero"


def test_all_of_it_is_killed_even_while_it_forks(group: Group) -> None:
    assert group.make(Limits(processes=200)) == {}
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    process = subprocess.Popen([sys.executable, "-c", bomb], preexec_fn=group.enter)
    wait_for(lambda: len(group.pids()) > 50)
    assert group.end()
    assert process.wait(30) == -signal.SIGKILL
    assert group.pids() == set()


def machine(tmp_path: Path, *mounts: str) -> Path:
    """A file that stands for /proc/self/mountinfo."""
    file = tmp_path / "mountinfo"
    lines = ((tmp_path / place, rest) for place, rest in (each.split(" ", 1) for each in mounts))
    file.write_text("\n".join(f"31 1 0:21 / {place} rw - {rest}" for place, rest in lines) + "\n")
    return file


def test_without_control_groups_it_is_said_for_each_kind(tmp_path: Path) -> None:
    reason = "this machine has no control group for it"
    assert cgroups.not_enforced(mounts=machine(tmp_path)) == dict.fromkeys(cgroups.KINDS, reason)


def test_version_2_switches_controllers_on_from_the_top_down(tmp_path: Path) -> None:
    mounts = machine(tmp_path, "unified cgroup2 cgroup2 rw")
    for folder in ("unified", "unified/mlmp"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cgroup.subtree_control").write_text("cpu")
    made = Group("one", mounts=mounts)
    assert made.make(Limits(memory=4096, cpus=0.001, processes=7)) == {}
    found = {path.name: path.read_text() for path in (tmp_path / "unified/mlmp/one").iterdir()}
    assert found == {"memory.max": "4096", "cpu.max": "1000 100000", "pids.max": "7"}
    assert (tmp_path / "unified/mlmp/cgroup.subtree_control").read_text() == "+pids"


def test_swap_is_no_way_around_the_share_where_the_kernel_counts_it(tmp_path: Path) -> None:
    unified, memory = tmp_path / "unified", tmp_path / "memory"
    for folder in (unified / "mlmp/one", memory / "mlmp/one"):
        folder.mkdir(parents=True)
    for folder in (unified, unified / "mlmp"):
        (folder / "cgroup.subtree_control").write_text("memory")
    (unified / "mlmp/one/memory.swap.max").write_text("max")
    (memory / "mlmp/one/memory.memsw.limit_in_bytes").write_text("9223372036854771712")
    version_2 = machine(tmp_path, "unified cgroup2 cgroup2 rw")
    assert Group("one", mounts=version_2).make(Limits(memory=4096)) == {}
    assert (unified / "mlmp/one/memory.swap.max").read_text() == "0"
    version_1 = machine(tmp_path, "memory cgroup cgroup rw,memory")
    assert Group("one", mounts=version_1).make(Limits(memory=4096)) == {}
    assert (memory / "mlmp/one/memory.memsw.limit_in_bytes").read_text() == "4096"


def test_a_share_can_be_made_smaller_and_larger(group: Group) -> None:
    for size in (128, 64, 256):
        assert group.make(Limits(memory=size * MIB)) == {}


def test_a_file_system_that_may_only_be_read_is_the_reason(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        mounts = machine(tmp_path, "nowhere/proc cgroup2 cgroup2 rw")
        (tmp_path / "nowhere").symlink_to("/")  # no folder can be made in /proc
        assert set(cgroups.not_enforced(mounts=mounts)) == set(cgroups.KINDS)
