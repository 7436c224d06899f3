"""What the service said: kept, renewed in time, and made into a host key that all servers of a person share."""

from __future__ import annotations

import threading
from pathlib import Path

from mlmp_spawner.errors import NotFound
from mlmp_spawner.lab import host_key, sshd
from mlmp_spawner.lab.allowed import RENEW, Asking
from mlmp_spawner.rules.ssh_certificates import HOST_VALID
from mlmp_spawner.units import DAY, now
from tests.lab.server import Said


class Counting(Said):
    """Counts the certificates that it made; ``refuses`` more."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.refuses = False

    def post(self, path: str, body: object) -> object:
        """A certificate."""
        if self.refuses:
            raise NotFound("SSH is switched off here.")
        self.made += 1
        return super().post(path, body)  # type: ignore[arg-type]


def keys(folder: Path) -> str:
    kept, runtime = folder / "kept", folder / "run"
    runtime.mkdir(parents=True, exist_ok=True)
    return host_key.prepare(kept, runtime)


def test_the_host_certificate_is_kept_and_renewed_a_week_before_its_end(tmp_path: Path) -> None:
    service, line, file = Counting(), keys(tmp_path), tmp_path / "allowed.json"
    assert Asking(service, file, line).ask().certificate.startswith("ssh-ed25519-cert-v01@openssh.com ")
    again = Asking(service, file, line)
    assert again.ask() == again.ask()
    assert service.made == 1
    late = now() + HOST_VALID - RENEW + DAY
    assert Asking(service, file, line, now=lambda: late).ask().certificate
    assert service.made == 2


def test_another_host_key_or_another_authority_gets_a_certificate_of_its_own(tmp_path: Path) -> None:
    service, file = Counting(), tmp_path / "allowed.json"
    first = Asking(service, file, keys(tmp_path / "a")).ask()
    second = Asking(service, file, keys(tmp_path / "b")).ask()
    assert first.certificate != second.certificate
    service.authority = Said().authority
    third = Asking(service, file, keys(tmp_path / "b")).ask()
    assert third.certificate != second.certificate
    assert service.made == 3


def test_without_a_certificate_people_come_in_all_the_same(tmp_path: Path) -> None:
    service, line = Counting(), keys(tmp_path)
    service.refuses = True
    said = Asking(service, tmp_path / "allowed.json", line).ask()
    assert (said.refusal, said.certificate) == ("", "")


def test_servers_that_start_at_once_make_one_host_key(tmp_path: Path) -> None:
    found: list[str] = []

    def start(number: int) -> None:
        runtime = tmp_path / f"run{number}"
        runtime.mkdir()
        found.append(host_key.prepare(tmp_path / "kept", runtime))

    starts = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for each in starts:
        each.start()
    for each in starts:
        each.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["host_key"]


def test_where_a_volume_has_no_hard_links_the_key_is_kept_all_the_same(tmp_path: Path) -> None:
    def none(made: Path, target: Path) -> None:
        raise PermissionError("Operation not permitted")

    target = tmp_path / "host_key"
    for content in ("first", "second"):
        made = tmp_path / "made"
        made.write_text(content)
        host_key.place(made, target, link=none)
    assert target.read_text() == "first"


def test_a_client_that_is_gone_without_a_word_is_noticed(tmp_path: Path) -> None:
    assert {"ClientAliveInterval 30", "ClientAliveCountMax 4"} <= set(sshd.lines(tmp_path, {}))


def test_what_would_break_a_line_of_sshds_configuration_is_not_passed_on() -> None:
    line = sshd.set_env({"A": "1", "TWO": "a\nPermitRootLogin yes", "THREE": "\r", "TERM": "x", "SSH_TTY": "y"})
    assert line == 'SetEnv "A=1"'
