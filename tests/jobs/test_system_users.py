"""Jobs of users of this machine: each runs as its owner, within its share, and none sees another's."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlmp_spawner import cgroups, processes
from tests.jobs.people import Submitter
from tests.live import Site, wait_for
from tests.system_users import SystemUser, pam_service, runnable_by_all, service_account, system_user, why_not

pytestmark = [pytest.mark.faults, pytest.mark.skipif(bool(why_not()), reason=why_not())]

# Asks for the memory of its share and more.
GREEDY = """\
print("begins", flush=True)
held = []
while True:
    held.append(bytearray(b"x" * (64 << 20)))
"""
CATALOG = """\
images:
  lab: {reference: example.org/lab:1}
nodes:
  here:
    cpus: 4
    memory: 2GiB
    accelerators: [{resource: nvidia.com/gpu, model: simulated, count: 4, simulated: true}]
profiles:
  gpu: {title: GPU, resource: nvidia.com/gpu, min_duration: 3s, default_duration: 10m}
"""


@dataclass
class Lab:
    """A lab machine and the people on it."""

    site: Site
    account: SystemUser
    ann: SystemUser
    ben: SystemUser
    group: str

    def submitter(self, user: SystemUser) -> Submitter:
        return Submitter(self.site.person(user.name, user.password))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlmp-jobs-")))
        root.chmod(0o755)
        ann, ben = stack.enter_context(system_user()), stack.enter_context(system_user())
        account, service = stack.enter_context(service_account()), stack.enter_context(pam_service())
        group = f"mlmp-test-{secrets.token_hex(4)}"
        settings = (
            f"c.PAMAuthenticator.service = {service!r}\nc.SystemUserSpawner.cgroup = {group!r}\nc.MLMP.tick = 0.5\n"
        )
        site = Site(root, auth="pam", settings=settings, wrapper=runnable_by_all(), simulate=False)
        (site.catalog / "catalog.yaml").write_text(CATALOG)
        stack.callback(forget_group, group)
        stack.callback(site.close)
        site.start("--account", account.name)
        for user in (ann, ben):
            user.home.chmod(0o700)
        yield Lab(site, account, ann, ben, group)


def forget_group(name: str) -> None:
    group = cgroups.Group("none", base=name)
    around = [folder.parent for folder in (group.unified, *group.others.values()) if folder is not None]
    for left in {each.name for folder in around if folder.exists() for each in folder.iterdir() if each.is_dir()}:
        assert cgroups.Group(left, base=name).end()
    for folder in around:
        if folder.exists():
            folder.rmdir()


def group_of(lab: Lab, attempt: str) -> list[Path]:
    """The control groups of an attempt that are there."""
    group = cgroups.Group(attempt, base=lab.group)
    return [folder for folder in (group.unified, *group.others.values()) if folder is not None and folder.is_dir()]


def test_it_runs_as_its_owner_and_its_files_are_theirs(lab: Lab) -> None:
    ann = lab.submitter(lab.ann)
    job = ann.submit(
        script="who.py", values={"TOKEN": "hidden"},
        code=ann.code(who_py="import os; print(os.getuid(), os.getgid(), os.getgroups(), os.environ['HOME'])\n"
                             "open('made', 'w').write('x')"),
    )  # fmt: skip
    ended = ann.ended(job)
    assert ended["outcome"] == "succeeded", (ended, ann.log(job))
    assert ann.log(job) == f"{lab.ann.uid} {lab.ann.gid} [{lab.ann.gid}] {lab.ann.home}\n"
    made = (lab.ann.home / "mlmp-jobs" / job / "made").stat()
    assert (made.st_uid, made.st_mode & 0o777) == (lab.ann.uid, 0o600)
    assert not group_of(lab, f"{job}-1")


def test_nobody_else_gets_at_what_is_kept_of_it_or_at_what_starts_it(lab: Lab) -> None:
    ann = lab.submitter(lab.ann)
    job = ann.submit(command=["echo", "private"])
    ann.ended(job)
    data = lab.site.data
    kept = [data / "jobs", *(data / "jobs").rglob("*")]
    assert {path.stat().st_uid for path in kept} == {lab.account.uid}
    assert not any(path.stat().st_mode & 0o077 for path in kept if path.is_dir() or path.name in ("log", "start.sock"))
    seen = lab.ben.run("cat", str(data / "jobs" / "logs" / f"{job}-1" / "log"))
    assert seen.returncode != 0 and "Permission denied" in seen.stderr


@pytest.mark.parametrize("question", [b"", b"nonsense\n", b'{"start": 1}\n', b'{"run": "ls"}\n', b'["start"]\n',
                                      b'{"start": "../../etc-1"}\n', b'{"start": "x", "user": "root"}\n',
                                      b"x" * 5000])  # fmt: skip
def test_what_starts_jobs_takes_nothing_but_an_id(lab: Lab, question: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(lab.site.data / "jobs" / "start.sock"))
        asking.settimeout(30)
        asking.sendall(question)
        asking.shutdown(socket.SHUT_WR)
        answer = asking.recv(1000)
    assert b"started" not in answer and b"error" in answer


def test_who_takes_more_memory_than_the_share_is_told_so(lab: Lab) -> None:
    if cgroups.MEMORY in cgroups.not_enforced(base=lab.group):
        pytest.skip("this machine has no control group for memory")
    ann = lab.submitter(lab.ann)
    job = ann.submit(script="greedy.py", code=ann.code(greedy_py=GREEDY), retries=1)
    ended = ann.ended(job)
    assert (ended["outcome"], ended["reason"], len(ended["attempts"])) == ("failed", "out_of_memory", 2)
    assert "begins" in ann.log(job)


def test_when_its_mlmp_run_is_killed_nothing_of_it_is_left(lab: Lab) -> None:
    ann = lab.submitter(lab.ann)
    job = ann.submit(command="env -i setsid sleep 1000 & echo up; sleep 1000")  # it hides where it comes from
    ann.printed(job, "up")
    record = processes.read_record(lab.site.data / "jobs" / "running" / f"{job}-1.json")
    assert record is not None
    inside = cgroups.Group(f"{job}-1", base=lab.group).pids()
    identities = [found for pid in inside if (found := processes.identity(pid))]
    assert len(identities) >= 3
    assert lab.ann.run("kill", "-9", str(record.pid)).returncode != 0, "its owner can't kill it"
    os.kill(record.pid, signal.SIGKILL)
    wait_for(lambda: ann.look(job)["attempts"][0]["reason"] == "vanished", 60, "its end")
    assert not any(processes.alive(identity) for identity in identities)
    assert not group_of(lab, f"{job}-1")
    ann.cancel(job)
    ann.ended(job)


def test_the_account_of_the_service_can_not_lead_root_astray(lab: Lab) -> None:
    """It owns the folders that root's ``mlmp run`` writes to: a link there leads nowhere."""
    ann = lab.submitter(lab.ann)
    secret = lab.site.data / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    job = ann.submit(command="echo up; sleep 1000")
    ann.printed(job, "up")
    ended = lab.site.data / "jobs" / "ended" / f"{job}-1"
    made = lab.account.run("ln", "-s", str(secret), str(ended))
    assert made.returncode == 0, made.stderr
    ann.cancel(job)
    record = processes.read_record(lab.site.data / "jobs" / "running" / f"{job}-1.json")
    wait_for(lambda: record is None or not record.alive, 60, "its end")
    assert secret.read_text() == "root's"
    assert ann.ended(job)["outcome"] == "cancelled"
