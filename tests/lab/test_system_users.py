"""SSH on a lab machine: everybody in their own account, no further than their own server, and out when it ends.

Real accounts, a real ``mlmp up --auth pam``, real JupyterLabs, OpenSSH's own client.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner import processes
from tests.live import Person, Site, wait_for
from tests.ssh.computers import Computer
from tests.system_users import SystemUser, pam_service, runnable_by_all, service_account, system_user, why_not

pytestmark = [pytest.mark.faults, pytest.mark.skipif(bool(why_not()), reason=why_not())]


@dataclass
class At:
    """Somebody with a server and, at home, a computer."""

    user: SystemUser
    person: Person
    booking: dict[str, Any]
    computer: Computer

    def ssh(self, command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in the server."""
        return self.computer.mlmp("ssh", self.booking["id"], command)


@dataclass
class Lab:
    """A lab machine with two people."""

    site: Site
    ann: At
    ben: At


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlmp-ssh-")))
        root.chmod(0o755)
        account = stack.enter_context(service_account())
        settings = f"c.PAMAuthenticator.service = {stack.enter_context(pam_service())!r}\n"
        settings += "c.SystemUserSpawner.cgroup = ''\n"
        site = Site(root, lab=True, auth="pam", settings=settings, wrapper=runnable_by_all())
        stack.callback(site.close)
        site.start("--account", account.name)
        found = []
        for user in (stack.enter_context(system_user("--shell", "/bin/bash")) for _ in range(2)):
            user.home.chmod(0o700)
            person = site.person(user.name, user.password)
            booking = person.book(600, profile="cpu")
            assert person.start(reservation=booking["id"]).status_code in (201, 202)
            found.append(At(user, person, booking, Computer(person, root / user.name)))
        for one in found:
            wait_for(lambda one=one: one.person.servers().get("", {}).get("ready"), 60, "the start of a server")
        yield Lab(site, *found)


def test_everybody_is_their_own_account_in_their_own_home(lab: Lab) -> None:
    for one in (lab.ann, lab.ben):
        ran = one.ssh("id -un; pwd; touch by-ssh; echo $MLMP_RESERVATION_ID; grep NoNewPrivs /proc/self/status")
        assert ran.stdout.splitlines()[:3] == [one.user.name, str(one.user.home), one.booking["id"]], ran.stderr
        assert (one.user.home / "by-ssh").stat().st_uid == one.user.uid
        kept = one.user.home / ".local/share/mlmp/ssh/host_key"
        assert (kept.stat().st_uid, kept.stat().st_mode & 0o777) == (one.user.uid, 0o600)


def test_nobody_gets_to_the_sshd_of_another(lab: Lab) -> None:
    lab.ann.ssh("true")
    refused = lab.ben.computer.mlmp("ssh", "--proxy", lab.ann.user.name)
    assert refused.returncode != 0
    sockets = lab.ann.user.run("sh", "-c", "ls -d /tmp/jupyter-server-proxy-*/socket").stdout.split()
    assert sockets
    connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    for path in sockets:
        tried = lab.ben.user.run("/usr/bin/python3", "-c", connect, path)
        assert "PermissionError" in tried.stderr


def test_no_port_of_the_machine_is_shown_under_a_users_address(lab: Lab) -> None:
    port = lab.site.url.rstrip("/").rpartition(":")[2]
    place = f"/user/{lab.ann.user.name}"
    assert lab.ann.person.api.get(f"{place}/api/status").status_code == 200
    for path in (f"{place}/proxy/{port}/", f"{place}/proxy/localhost:{port}/", f"{place}/proxy/absolute/{port}/"):
        assert lab.ann.person.api.get(path, follow_redirects=True).status_code == 404


def test_what_was_started_by_ssh_ends_with_the_server(lab: Lab) -> None:
    """The last test here: the server is gone after it."""
    ran = lab.ann.ssh("trap '' TERM; setsid nohup sleep 3600 >/dev/null 2>&1 & echo $!")
    (pid,) = map(int, ran.stdout.split())
    with lab.ann.computer.open(lab.ann.user.name, "sleep 3600") as opened:
        assert processes.identity(pid)
        (record,) = [one for one in lab.site.servers() if one.owner == lab.ann.user.name]
        wait_for(lambda: any(b"sshd" in _words(each) for each in processes.below(record.pid)), 20, "the session")
        assert lab.ann.person.stop().status_code in (202, 204)
        assert opened.wait(30) == 255
        wait_for(lambda: processes.identity(pid) is None)


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
