"""Users of the system on one machine: each server is its user's alone, ends whole, and the service is nobody's root.

Real accounts, real PAM, a real ``mlmp up --auth pam``.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlmp_spawner import cgroups, processes, units
from tests.live import Person, Site, wait_for
from tests.system_users import SystemUser, pam_service, runnable_by_all, service_account, system_user, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

API = "/services/mlmp/api/v1"


@dataclass
class Lab:
    """A lab machine and the people on it."""

    site: Site
    account: SystemUser
    ann: SystemUser
    ben: SystemUser
    shared: Path
    group: str

    def person(self, user: SystemUser) -> Person:
        """The user, logged in with the password of the system."""
        return self.site.person(user.name, user.password)

    def record(self, user: SystemUser) -> processes.Record:
        """The one server that the user has."""
        (found,) = [record for record in self.site.servers() if record.owner == user.name]
        return found


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
c.MLMPLocalSpawner.cgroup = {group!r}
c.MLMP.stop_lead = 3
c.MLMP.tick = 0.5
"""
        site = Site(root, auth="pam", settings=settings, wrapper=runnable_by_all())
        stack.callback(forget_group, group)
        stack.callback(site.close)
        site.start("--account", account.name)
        yield Lab(site, account, ann, ben, shared, group)


def forget_group(name: str) -> None:
    """Removes the control groups around those of all servers."""
    group = cgroups.Group("none", base=name)
    for folder in (group.unified, *group.others.values()):
        if folder is not None and folder.parent.exists():
            folder.parent.rmdir()


def running(lab: Lab, user: SystemUser, seconds: float = 120, **asked: object) -> tuple[Person, dict[str, str]]:
    """The user, with a server that runs under a new booking, and what is in its environment."""
    person = lab.person(user)
    booking = person.book(seconds, **asked)
    answer = person.start(reservation=booking["id"])
    assert answer.status_code == 201, answer.text
    return person, person.environment()


def put_back(person: Person) -> None:
    """Stops the person's server and gives the booking back."""
    person.stop()
    wait_for(lambda: not person.servers())
    items = person.api.get(f"{API}/reservations", params={"owner": person.name}).json()["items"]
    for item in items:
        person.api.delete(f"{API}/reservations/{item['id']}")


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
    assert {path.partition("/")[0] for path in own} == {"db", "deadlines"}
    database = {path.name: path.stat() for path in (data / "db").iterdir()}
    assert {"mlmp.sqlite", "mlmp.sqlite-wal", "mlmp.sqlite-shm"} <= set(database)
    assert {(each.st_uid, each.st_mode & 0o777) for each in database.values()} == {(lab.account.uid, 0o600)}


def test_a_server_is_its_users_and_its_guard_is_not(lab: Lab) -> None:
    person, environment = running(lab, lab.ann)
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
    put_back(person)


def test_nobody_sees_files_secrets_or_units_of_the_other(lab: Lab) -> None:
    lab.ann.home.chmod(0o700)
    ann, of_ann = running(lab, lab.ann, units=2)
    ben, of_ben = running(lab, lab.ben, units=2)
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
    for person in (ann, ben):
        put_back(person)


def test_a_deadline_is_not_for_the_user_to_write(lab: Lab) -> None:
    person, _ = running(lab, lab.ann, 60, profile="cpu")
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
    put_back(person)


def test_what_all_share_is_at_hand_and_read_only(lab: Lab) -> None:
    person, _ = running(lab, lab.ben, profile="cpu")
    link = lab.ben.home / "shared"
    assert os.readlink(link) == str(lab.shared)
    assert link.lstat().st_uid == lab.ben.uid
    assert lab.ben.run("cat", str(link / "weights")).stdout == "all of them\n"
    assert lab.ben.run("touch", str(link / "mine")).returncode != 0
    put_back(person)


def test_a_stop_ends_all_of_the_server_and_nothing_else_of_its_user(lab: Lab) -> None:
    session = lab.ann.starts("sleep", "600")  # as it were by ssh
    try:
        person, _ = running(lab, lab.ann, profile="cpu")
        record = lab.record(lab.ann)
        below = processes.below(record.pid)
        assert len(below) >= 2  # the server, and what it detached with setsid and nohup
        person.stop()
        wait_for(lambda: not processes.alive(record.identity))
        assert not [pid for pid in below if processes.identity(pid)]
        assert session.poll() is None
        put_back(person)
    finally:
        session.kill()
        session.wait()


def test_a_share_is_kept_to_where_this_machine_can(lab: Lab) -> None:
    missing = cgroups.not_enforced(base=lab.group)
    person, _ = running(lab, lab.ann, profile="gpu")
    record = lab.record(lab.ann)
    assert dict(record.not_enforced) == {kind: why for kind, why in missing.items() if kind != cgroups.DEVICES}
    group = cgroups.Group(record.id, base=lab.group)
    if cgroups.MEMORY not in missing:
        assert set(processes.below(record.pid)) <= group.pids()
        assert record.pid not in group.pids()
    assert json.loads((lab.site.data / "up.json").read_text())["not_enforced"].keys() == missing.keys()
    put_back(person)
    assert not group.pids()
    wait_for(lambda: not any(folder.exists() for folder in (group.unified, *group.others.values()) if folder))


def test_who_has_no_account_starts_nothing(lab: Lab) -> None:
    assert lab.site.person("nobody-here", "any").token == ""


def test_whoever_is_killed_the_end_is_kept(lab: Lab) -> None:
    person, _ = running(lab, lab.ann, 12)
    record = lab.record(lab.ann)
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
