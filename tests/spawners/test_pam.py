"""Users of the system on one machine: each server is its user's alone, ends whole, and the service is nobody's root.

Real accounts, real PAM, a real ``mlmp up --auth pam``.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlmp_spawner import cgroups, processes, units
from tests.live import Person, Site, wait_for
from tests.system_users import SystemUser, pam_service, runnable_by_all, service_account, system_user, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

API = "/services/mlmp/api/v1"


@dataclass
class Lab:
    """A lab machine and the people on it. Ann and Ben have a server each, with two of the four GPUs."""

    site: Site
    account: SystemUser
    ann: SystemUser
    ben: SystemUser
    shared: Path
    group: str
    environments: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def group_is_missing(self) -> bool:
        """Whether this machine has no control groups that can be made."""
        return cgroups.Group("none", base=self.group).unified is None

    def person(self, user: SystemUser) -> Person:
        """The user, logged in with the password of the system."""
        return self.site.person(user.name, user.password)

    def record(self, user: SystemUser, server: str = "") -> processes.Record:
        """The server of the user."""
        (found,) = [each for each in self.site.servers() if (each.owner, each.server) == (user.name, server)]
        return found

    def start(self, user: SystemUser, seconds: float, name: str = "", **asked: object) -> Person:
        """Starts a server of the user under a new booking."""
        person = self.person(user)
        booking = person.book(seconds, **asked)
        answer = person.start(name, reservation=booking["id"])
        assert answer.status_code == 201, answer.text + self.output(user)
        return person

    def give_back(self, record: processes.Record) -> None:
        """Waits until a server is gone, and gives the rest of its booking back."""
        person = self.person(next(user for user in (self.ann, self.ben) if user.name == record.owner))
        wait_for(lambda: record.server not in person.servers())
        assert person.api.delete(f"{API}/reservations/{record.id}").status_code in (200, 204)

    def output(self, user: SystemUser) -> str:
        """What the user's servers said."""
        logs = (self.site.data / "logs" / "servers").glob(f"{user.name}*.log")
        return "".join(log.read_text() for log in logs)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlmp-lab-")))
        root.chmod(0o755)
        ann, ben = stack.enter_context(system_user()), stack.enter_context(system_user())
        account = stack.enter_context(service_account())
        service = stack.enter_context(pam_service())
        shared = root / "models"
        shared.mkdir(mode=0o755)
        (shared / "weights").write_text("all of them\n")
        group = f"mlmp-test-{secrets.token_hex(4)}"
        settings = f"""
c.PAMAuthenticator.service = {service!r}
c.MLMPLocalSpawner.shared = {str(shared)!r}
c.SystemUserSpawner.cgroup = {group!r}
c.MLMP.stop_lead = 3
c.MLMP.tick = 0.5
"""
        site = Site(root, auth="pam", settings=settings, wrapper=runnable_by_all())
        stack.callback(forget_group, group)
        stack.callback(site.close)
        site.start("--account", account.name)
        made = Lab(site, account, ann, ben, shared, group)
        for user in (ann, ben):
            user.home.chmod(0o700)
            made.environments[user.name] = made.start(user, 900, units=2).environment()
        yield made


def forget_group(name: str) -> None:
    """Removes the control group around those of all servers, and what is left in it."""
    group = cgroups.Group("none", base=name)
    around = [folder.parent for folder in (group.unified, *group.others.values()) if folder is not None]
    for left in {each.name for folder in around if folder.exists() for each in folder.iterdir() if each.is_dir()}:
        assert cgroups.Group(left, base=name).end()
    for folder in around:
        if folder.exists():
            folder.rmdir()


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_only_the_password_of_the_system_lets_in(lab: Lab) -> None:
    assert lab.person(lab.ann).token
    assert lab.site.person(lab.ann.name, "any").token == ""
    assert lab.site.person("root", "any").token == ""


def test_the_service_and_the_proxy_have_no_root(lab: Lab) -> None:
    for name in ("service", "proxy"):
        pid = lab.site.pid_of(name)
        assert pid is not None
        found = status(pid)
        assert found["Uid"].split() == [str(lab.account.uid)] * 4
        assert found["Gid"].split() == [str(lab.account.gid)] * 4
        assert found["Groups"] == ""
        assert {int(found[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        assert found["NoNewPrivs"] == "1"


def test_root_runs_nothing_that_the_service_could_change(lab: Lab) -> None:
    data = lab.site.data
    own = {str(path.relative_to(data)) for path in data.rglob("*") if path.lstat().st_uid == lab.account.uid}
    assert {path.partition("/")[0] for path in own} == {"db", "deadlines", "jobs"}
    database = {path.name: path.stat() for path in (data / "db").iterdir()}
    assert {"mlmp.sqlite", "mlmp.sqlite-wal", "mlmp.sqlite-shm"} <= set(database)
    assert {(each.st_uid, each.st_mode & 0o777) for each in database.values()} == {(lab.account.uid, 0o600)}


def test_a_server_is_its_users_and_its_guard_is_not(lab: Lab) -> None:
    environment = lab.environments[lab.ann.name]
    assert (environment["HOME"], environment["USER"]) == (str(lab.ann.home), lab.ann.name)
    record = lab.record(lab.ann)
    (server, *_) = processes.below(record.pid)
    found = status(server)
    assert found["Uid"].split() == [str(lab.ann.uid)] * 4
    assert found["Gid"].split() == [str(lab.ann.gid)] * 4
    assert found["Groups"].split() == [str(lab.ann.gid)]
    assert {int(found[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert found["Umask"] == "0077"
    assert status(record.pid)["Uid"].split() == ["0"] * 4
    assert lab.ann.run("kill", "-9", str(record.pid)).returncode != 0
    assert processes.alive(record.identity)


def test_nobody_sees_files_secrets_or_units_of_the_other(lab: Lab) -> None:
    of_ann, of_ben = (lab.environments[user.name] for user in (lab.ann, lab.ben))
    theirs, his = (set(each["CUDA_VISIBLE_DEVICES"].split(",")) for each in (of_ann, of_ben))
    assert len(theirs) == len(his) == 2
    assert not theirs & his
    server = json.loads((lab.ann.home / "starts.jsonl").read_text().splitlines()[-1])["pid"]
    record = lab.record(lab.ann)
    data = lab.site.data
    for path in (
        lab.ann.home / "starts.jsonl", f"/proc/{server}/environ", f"/proc/{record.pid}/environ",
        f"/proc/{lab.site.pid_of('service')}/environ", f"/proc/{lab.site.pid_of('hub')}/environ",
        data / "up.json", data / "db" / "mlmp.sqlite", data / "deadlines" / record.id,
        data / "servers" / f"{record.id}.json", data / "logs" / "servers", data / "cookie_secret",
    ):  # fmt: skip
        said = lab.ben.run("cat", str(path))
        assert said.returncode != 0, path
        assert said.stdout == "", path
    token = of_ann["MLMP_TOKEN"]
    said = lab.ben.run("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'")
    assert "mlmp_spawner" in said.stdout  # what is started is there to be seen, secrets are not
    assert token not in said.stdout


def test_a_deadline_is_not_for_the_user_to_write(lab: Lab) -> None:
    record = lab.record(lab.ann)
    deadline = lab.site.data / "deadlines" / record.id
    before = deadline.read_text()
    for command in (
        f"echo > {deadline}",
        f"rm -f {deadline}",
        f"mv {lab.site.data} /tmp/moved",
        f"ls {lab.site.data}",
    ):
        assert lab.ann.run("sh", "-c", command).returncode != 0, command
    assert deadline.read_text() == before


def test_what_all_share_is_at_hand_and_read_only(lab: Lab) -> None:
    link = lab.ben.home / "shared"
    assert os.readlink(link) == str(lab.shared)
    assert link.lstat().st_uid == lab.ben.uid
    assert lab.ben.run("cat", str(link / "weights")).stdout == "all of them\n"
    assert lab.ben.run("touch", str(link / "mine")).returncode != 0


def test_a_stop_ends_all_of_the_server_and_nothing_else_of_its_user(lab: Lab) -> None:
    session = lab.ann.starts("sleep", "600")  # as it were by ssh
    try:
        person = lab.start(lab.ann, 60, "second", profile="cpu", server="second")
        record = lab.record(lab.ann, "second")
        group = cgroups.Group(record.id, base=lab.group)
        below = processes.below(record.pid)
        assert len(below) >= 2  # the server, and what it detached with setsid and nohup
        person.stop("second")
        wait_for(lambda: not processes.alive(record.identity))
        assert not [pid for pid in below if processes.identity(pid)]
        assert not any(folder.exists() for folder in (group.unified, *group.others.values()) if folder)
        assert session.poll() is None
        assert processes.alive(lab.record(lab.ann).identity)
        lab.give_back(record)
    finally:
        session.kill()
        session.wait()


def test_a_share_is_kept_to_where_this_machine_can(lab: Lab) -> None:
    missing = cgroups.not_enforced(base=lab.group)
    record = lab.record(lab.ann)
    assert dict(record.not_enforced) == {kind: why for kind, why in missing.items() if kind != cgroups.DEVICES}
    group = cgroups.Group(record.id, base=lab.group)
    if cgroups.MEMORY not in missing:
        assert set(processes.below(record.pid)) <= group.pids()
        assert record.pid not in group.pids()
    assert json.loads((lab.site.data / "up.json").read_text())["not_enforced"].keys() == missing.keys()


SQUATTER = """
import json, os, pwd, socket, sys, time
account = pwd.getpwnam(sys.argv[1])
os.setgroups([]), os.setgid(account.pw_gid), os.setuid(account.pw_uid)
print("ready", flush=True)
while True:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline").read().split("\\0")
        except OSError:
            continue
        if "--about" in words and (about := json.loads(words[words.index("--about") + 1]))["server"] == "wanted":
            squat = socket.create_server(("127.0.0.1", about["port"]))
            print("taken", flush=True)
            while True:
                squat.accept()
    time.sleep(0.01)
"""


def test_nobody_is_shown_what_another_account_serves_at_their_port(lab: Lab) -> None:
    command = [sys.executable, "-I", "-c", SQUATTER, lab.ben.name]
    squatter = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert squatter.stdout is not None
    try:
        assert squatter.stdout.readline() == "ready\n"
        refused = lab.person(lab.ann).start("wanted", profile="cpu", duration="10m")
        assert squatter.stdout.readline() == "taken\n"
        assert refused.status_code == 503 and "took the port" in refused.json()["message"]
    finally:
        squatter.kill()
        squatter.wait()


@pytest.mark.faults
def test_what_a_killed_guard_leaves_is_ended_by_its_group(lab: Lab) -> None:
    if lab.group_is_missing:
        pytest.skip("no control group can be made here")
    lab.start(lab.ben, 60, "orphan", profile="cpu", server="orphan")
    record = lab.record(lab.ben, "orphan")
    below = processes.below(record.pid)
    processes.send(record.identity, signal.SIGKILL)
    wait_for(lambda: not [pid for pid in below if processes.identity(pid)], 20)
    lab.give_back(record)


@pytest.mark.faults
def test_whoever_is_killed_the_end_is_kept(lab: Lab) -> None:
    person = lab.start(lab.ben, 12, "short", profile="cpu", server="short")
    record = lab.record(lab.ben, "short")
    end = json.loads((lab.site.data / "deadlines" / record.id).read_text())["end"]
    below = processes.below(record.pid)
    before = [lab.site.pid_of(name) for name in ("hub", "service")]
    lab.site.kill("service", "hub")
    wait_for(lambda: not processes.alive(record.identity), 20)
    assert units.now() <= end + 500
    assert not [pid for pid in below if processes.identity(pid)]
    for name, former in zip(("hub", "service"), before, strict=True):
        wait_for(lambda name=name, former=former: lab.site.pid_of(name) not in (None, former))
    wait_for(lambda: healthy(person), 60)


def healthy(person: Person) -> bool:
    """Whether hub and service answer."""
    try:
        answers = [person.api.get(path) for path in ("/hub/health", f"{API}/health")]
    except Exception:  # noqa: BLE001 -- not yet
        return False
    return all(answer.status_code == 200 for answer in answers)


def up(*options: str) -> subprocess.CompletedProcess[str]:
    """``mlmp up`` that is expected to refuse."""
    command = [sys.executable, "-m", "mlmp_spawner.client.cli", "up", "--auth", "pam", "--port", "0", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_missing_account_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    said = up("--data", str(tmp_path / "data"), "--account", "mlmp-is-not-there")
    assert said.returncode == 2
    assert "useradd --system" in said.stderr
    assert "mlmp-is-not-there" in said.stderr
    assert not (tmp_path / "data").exists()


def test_proxy_and_service_are_never_root(tmp_path: Path) -> None:
    said = up("--data", str(tmp_path / "data"), "--account", "root")
    assert said.returncode == 2
    assert "needs no root" in " ".join(said.stderr.split()) or "need no root" in said.stderr


def test_check_knows_what_the_machine_has(lab: Lab) -> None:
    """Where nothing is wrong it says so; a home that others can read, and what is not enforced, are remarks."""
    lab.ben.home.chmod(0o755)
    command = [sys.executable, "-m", "mlmp_spawner.client.cli", "check", "--auth", "pam", "--json"]
    command += ["--data", str(lab.site.data), "--catalog", str(lab.site.catalog), "--account", lab.account.name]
    said = subprocess.run(
        [*lab.site.wrapper, *command], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = json.loads(said.stdout)
    assert found["wrong"] == [], found["wrong"]
    remarks = {finding["subject"]: finding["message"] for finding in found["remarks"]}
    assert str(lab.ben.home) in remarks["homes"] or "more" in remarks["homes"]
    lab.ben.home.chmod(0o700)
