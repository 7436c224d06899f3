"""Who does not come in, who is told when, and who is cut; by OpenSSH's client into a real server on this machine."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.live import Site, wait_for
from tests.ssh.computers import Computer
from tests.ssh.conftest import with_server
from tests.ssh.terminals import on_a_terminal

pytestmark = pytest.mark.faults


@pytest.fixture
def ben(site: Site, tmp_path: Path) -> Computer:
    """Ben's computer, configured; he has no server."""
    made = Computer(site.person("ben"), tmp_path / "ben")
    configured = made.mlmp("ssh-config")
    assert configured.returncode == 0, configured.stderr
    return made


def test_nobody_reaches_anothers_server_by_its_name(ben: Computer, computer: Computer) -> None:
    told = ben.mlmp("ssh", "--proxy", "ann")
    assert told.returncode == 1 and "none of your servers; yours are ben and ben--NAME" in told.stderr


def test_anothers_booking_is_refused(ben: Computer, booking: dict[str, Any], computer: Computer) -> None:
    told = ben.mlmp("ssh", booking["id"])
    assert told.returncode == 1 and told.stderr.startswith("error:")


def test_the_hub_lets_no_foreign_token_to_the_way(ben: Computer, computer: Computer) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    address = f"{ben.person.site.url.replace('http', 'ws', 1)}user/ann/ssh/"
    with pytest.raises(InvalidStatus) as told:
        connect(address, additional_headers={"Authorization": f"token {ben.person.token}"})
    assert told.value.response.status_code in (403, 404)


def test_a_key_or_certificate_of_another_does_not_log_in_on_anyones_way(ben: Computer, computer: Computer) -> None:
    # Servers on one machine run as one account, so the account's name tells nobody apart.
    for more in ((), ("-o", f"CertificateFile={ben.place / 'certificate.pub'}")):
        told = computer.ssh("-i", str(ben.place / "identity" / "id_ed25519"), *more,
                            "-o", f"IdentityFile={ben.place}/identity/id_ed25519",
                            "-F", str(only_the_way(computer)), "ann", "true")  # fmt: skip
        assert told.returncode == 255 and "Permission denied (publickey)" in told.stderr


def only_the_way(computer: Computer) -> Path:
    """Ann's configuration without her key."""
    lines = (computer.place / "config").read_text().splitlines()
    path = computer.directory / "way"
    path.write_text("\n".join(line for line in lines if "Identity" not in line) + "\n    IdentitiesOnly yes\n")
    return path


def test_there_are_no_passwords(computer: Computer) -> None:
    told = computer.ssh(
        "-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password,keyboard-interactive", "ann", "true"
    )
    assert told.returncode == 255 and "Permission denied (publickey)" in told.stderr


def test_a_key_that_is_removed_is_cut_within_seconds_and_does_not_come_in_again(
    computer: Computer, booking: dict[str, Any], tmp_path: Path
) -> None:
    mine = Computer(computer.person, tmp_path / "laptop")
    assert mine.mlmp("ssh-config").returncode == 0
    api = computer.person.api
    with mine.open("ann", "echo in; sleep 1000") as session, computer.open("ann", "echo in; cat") as other:
        assert session.stdout is not None and session.stdout.readline() == "in\n"
        assert other.stdout is not None and other.stdout.readline() == "in\n"
        keys = api.get("/services/mlmp/api/v1/ssh-keys").json()["items"]
        assert api.delete(f"/services/mlmp/api/v1/ssh-keys/{keys[-1]['id']}").status_code == 204
        removed = time.monotonic()
        assert session.wait(20) == 255
        assert time.monotonic() - removed < 10
        assert other.poll() is None, "the session of another key was cut as well"
    assert mine.ssh("ann", "true").returncode == 255
    told = mine.mlmp("ssh", booking["id"], "true")
    assert told.returncode == 1 and "was removed from your keys" in told.stderr
    added = mine.mlmp("ssh-key", "add", str(mine.place / "identity" / "id_ed25519.pub"))
    assert added.returncode == 0, added.stderr
    assert mine.mlmp("ssh", booking["id"], "true").returncode == 0


def test_a_stopped_server_says_how_to_start_it(site: Site, tmp_path: Path) -> None:
    cleo = Computer(site.person("cleo"), tmp_path / "cleo")
    assert cleo.mlmp("ssh-config").returncode == 0
    nothing = cleo.ssh("cleo", "true")
    assert nothing.returncode == 255 and "No booking of yours is under way there" in nothing.stderr
    booked = cleo.person.book(600, profile="cpu")
    stopped = cleo.ssh("cleo", "true")
    assert stopped.returncode == 255 and f"mlmp start {booked['id']}" in stopped.stderr
    cleo.person.api.delete(f"/services/mlmp/api/v1/reservations/{booked['id']}")


def test_at_the_end_of_the_booking_sessions_are_told_and_cut_with_all_that_runs_in_them(
    site: Site, tmp_path: Path
) -> None:
    dora = Computer(site.person("dora"), tmp_path / "dora")
    booked = with_server(dora.person, 3600)
    marks = site.data / "homes" / "dora"
    assert dora.mlmp("ssh-config").returncode == 0
    with (
        dora.open("dora", "setsid sh -c 'echo $$ > pid; exec sleep 1000' & echo in; sleep 1000") as session,
        on_a_terminal(dora.words("ssh", "dora"), dora.environment, rows=24, columns=120) as tty,
    ):
        assert session.stdout is not None and session.stdout.readline() == "in\n"
        pid = int(wait_for(lambda: (marks / "pid").exists() and (marks / "pid").read_text(), 20))
        dora.person.end_in(booked, 45)
        wait_for(lambda: tty.sees_within("Your booking ends in"), 30, "a word on the end")
        assert session.wait(90) == 255
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), 20, "the end of what the session left behind")
    told = dora.ssh("dora", "true")
    assert told.returncode == 255
    assert "The booking ends just now" in told.stderr or "No booking of yours is under way" in told.stderr


def test_sessions_outlive_a_restart_of_hub_and_service(site: Site, computer: Computer) -> None:
    with computer.open("ann", "cat") as session:
        assert session.stdin is not None and session.stdout is not None
        print("before", file=session.stdin, flush=True)
        assert session.stdout.readline() == "before\n"
        before = site.pid_of("hub"), site.pid_of("service")
        site.kill("hub", "service")
        wait_for(lambda: all(site.pid_of(name) not in (None, *before) for name in ("hub", "service")), 60)
        print("after", file=session.stdin, flush=True)
        assert session.stdout.readline() == "after\n"
    wait_for(lambda: computer.ssh("ann", "true").returncode == 0, 60, "new sessions")


def test_without_openssh_on_the_computer_it_says_how_to_get_it(computer: Computer, booking: dict[str, Any]) -> None:
    bare = Computer(computer.person, computer.directory / "bare")
    bare.environment["PATH"] = "/nowhere"
    told = bare.mlmp("ssh", booking["id"])
    assert shutil.which("ssh") and told.returncode == 3 and "openssh-client" in told.stderr
