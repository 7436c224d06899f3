"""The SSH gateway of the chart, by OpenSSH's own client: `ssh -J`, with nothing of MLMP on the way."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.release import GATEWAY, Release
from tests.live import wait_for
from tests.ssh.computers import Computer

OWN = "/services/mlmp/api/v1"


@pytest.fixture(scope="module", autouse=True)
def client_programs() -> None:
    """OpenSSH's client."""
    missing = [name for name in ("ssh", "scp") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here; on Debian: apt-get install openssh-client")


def computer_of(release: Release, name: str, directory: Path) -> Computer:
    """Somebody's computer, configured for the gateway; its name is not known here, so the address stands for it."""
    made = Computer(release.api(name), directory)
    configured = made.mlmp("ssh-config", "--gateway")
    assert configured.returncode == 0, configured.stderr
    service = release.core.read_namespaced_service(f"{release.name}-ssh", release.namespace)
    config = made.place / "config"
    host = GATEWAY.partition(":")[0]
    assert f"HostName {host}\n" in config.read_text()
    config.write_text(config.read_text().replace(f"HostName {host}\n", f"HostName {service.spec.cluster_ip}\n"))
    return made


@pytest.fixture(scope="module")
def gina(release: Release) -> Iterator[dict[str, Any]]:
    """Gina's booking, whose server runs."""
    booked = release.book("gina", 1200, profile="cpu")
    yield release.start(booked, seconds=180)
    release.api("gina").api.delete(f"{OWN}/reservations/{booked['id']}")


@pytest.fixture(scope="module")
def computer(release: Release, gina: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Computer:
    """Gina's computer."""
    return computer_of(release, "gina", tmp_path_factory.mktemp("gina"))


def said(release: Release, what: str) -> bool:
    return what in release.logs("ssh")


def test_it_leads_into_ones_own_server_and_says_by_which_booking(
    release: Release, gina: dict[str, Any], computer: Computer
) -> None:
    ran = computer.ssh("-v", "gina", "echo $MLMP_RESERVATION_ID; exit 3")
    assert (ran.returncode, ran.stdout) == (3, f"{gina['id']}\n"), ran.stderr
    assert ran.stderr.count("matches the ED25519-CERT host certificate") == 2  # the gateway's, and the server's
    assert said(release, f"opened user='gina' server={gina['server']!r} reservation={gina['id']} key=SHA256:")


def test_files_pass_as_they_are(computer: Computer, tmp_path: Path) -> None:
    odd = bytes(range(256)) * 4096
    (tmp_path / "odd").write_bytes(odd)
    for source, target in ((tmp_path / "odd", "gina:odd"), ("gina:odd", tmp_path / "back")):
        ran = computer.run(*computer.words("scp", str(source), str(target)))
        assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "back").read_bytes() == odd


def test_anothers_server_is_refused_and_logged(
    release: Release, gina: dict[str, Any], computer: Computer, tmp_path: Path
) -> None:
    nils = computer_of(release, "nils", tmp_path)
    for target in ("gina:22", "nils:22", "mlmp-hub:8081", "169.254.169.254:80"):
        assert nils.ssh("-W", target, "mlmp-gateway").returncode == 255
    assert said(release, "refused user='nils' host='gina' port=22")
    assert said(release, "why='no server of yours runs as nils; running: none.")
    gina_s = nils.ssh("-l", "gina", "mlmp-gateway", "true")
    assert "Permission denied (publickey)" in gina_s.stderr


def test_a_removed_key_cuts_its_sessions_at_once(
    release: Release, gina: dict[str, Any], computer: Computer, tmp_path: Path
) -> None:
    laptop = computer_of(release, "gina", tmp_path)
    api = release.api("gina").api
    mine = " ".join((laptop.place / "identity" / "id_ed25519.pub").read_text().split()[:2])
    (key,) = [one for one in api.get(f"{OWN}/ssh-keys").json()["items"] if f"{one['algorithm']} {one['key']}" == mine]
    with laptop.open("gina", "echo in; cat") as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "in\n"
        assert api.delete(f"{OWN}/ssh-keys/{key['id']}").status_code == 204
        removed = time.monotonic()
        session.wait(20)
        assert time.monotonic() - removed < 2
    assert computer.ssh("gina", "true").returncode == 0  # the other key


def test_the_end_of_the_booking_ends_the_session(release: Release, tmp_path: Path) -> None:
    booked = release.start(release.book("ida", 1200, profile="cpu"), seconds=180)
    ida = computer_of(release, "ida", tmp_path)
    with ida.open("ida", "echo in; cat") as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "in\n"
        released = release.api("ida").api.delete(f"{OWN}/reservations/{booked['id']}")
        assert released.status_code < 300
        session.wait(20)
    wait_for(lambda: said(release, f"closed user='ida' server={booked['server']!r} reservation={booked['id']}"), 20)
    late = ida.ssh("ida", "true")
    assert late.returncode == 255
    assert "no server of yours runs as ida; running: none" in late.stderr
