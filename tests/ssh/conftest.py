"""A real hub on this machine with a real JupyterLab of Ann's, and the computers of people."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner.lab.sshd import find
from tests.live import Person, Site, wait_for
from tests.ssh.computers import Computer


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The hub; servers are real JupyterLabs."""
    missing = [name for name in ("ssh", "scp", "sftp", "rsync") if shutil.which(name) is None]
    if missing or find() is None:
        pytest.skip("no OpenSSH or rsync here; on Debian: apt-get install openssh-server openssh-client rsync")
    made = Site(tmp_path_factory.mktemp("ssh"), lab=True)
    try:
        yield made.start("--ssh-port", "0")
    finally:
        made.close()


@pytest.fixture(scope="session")
def ann(site: Site) -> Person:
    """Ann, whose server runs."""
    return site.person("ann")


@pytest.fixture(scope="session")
def booking(ann: Person) -> dict[str, Any]:
    """Ann's booking under way, with its server."""
    return with_server(ann, 3600)


@pytest.fixture(scope="session")
def computer(ann: Person, booking: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Computer:
    """Ann's computer, configured."""
    return configured(Computer(ann, tmp_path_factory.mktemp("ann")))


@pytest.fixture(scope="session")
def behind_gateway(ann: Person, booking: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Computer:
    """Another one of hers, configured for the gateway."""
    return configured(Computer(ann, tmp_path_factory.mktemp("ann")), "--gateway")


@pytest.fixture(params=["mlmp", pytest.param("gateway", marks=pytest.mark.faults)])
def either(request: pytest.FixtureRequest) -> Computer:
    """A computer of Ann's, for each way in."""
    return request.getfixturevalue("computer" if request.param == "mlmp" else "behind_gateway")


def configured(computer: Computer, *options: str) -> Computer:
    """With what `mlmp ssh-config` writes."""
    done = computer.mlmp("ssh-config", *options)
    assert done.returncode == 0, done.stderr
    return computer


@pytest.fixture
def home(site: Site, booking: dict[str, Any]) -> Path:
    """Ann's home in her server."""
    return site.data / "homes" / "ann"


def with_server(person: Person, seconds: float, server: str = "", **asked: Any) -> dict[str, Any]:
    """A booking, and its server once it runs."""
    booked = person.book(seconds, server=server, **asked)
    started = person.start(server)
    assert started.status_code in (201, 202), started.text
    wait_for(lambda: person.servers().get(server, {}).get("ready"), 60, "the server's start")
    return booked
