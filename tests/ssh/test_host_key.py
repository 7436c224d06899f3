"""The gateway's key stays, and its certificate is what OpenSSH's client believes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import asyncssh
import pytest

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.ssh import host_key
from mlmp_spawner.units import now
from tests.ssh.gate import make_key


def test_the_key_is_made_once_for_the_account_alone(tmp_path: Path) -> None:
    path = tmp_path / "ssh_host_key"
    first = host_key.load(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert host_key.load(path).get_fingerprint() == first.get_fingerprint()


def test_a_broken_key_is_named_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ssh_host_key"
    path.write_text("no key")
    with pytest.raises(ConfigurationError, match="ssh_host_key"):
        host_key.load(path)
    assert path.read_text() == "no key"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_a_key_as_helm_makes_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(path)], check=True)
    assert host_key.load(path).get_algorithm() == "ssh-ed25519"


@pytest.mark.parametrize("host", ["", "ssh.example.org"])
def test_the_certificate_says_that_it_is_the_gateway(tmp_path: Path, host: str) -> None:
    authority, certificate = make_key(tmp_path, "ca"), tmp_path / "cert.pub"
    key = host_key.load(tmp_path / "ssh_host_key")
    for _ in range(2):
        host_key.certify(key, certificate, authority=str(authority), host=host, now=now())
    told = subprocess.run(
        ["ssh-keygen", "-L", "-f", str(certificate)], capture_output=True, text=True, check=True
    ).stdout
    assert "host certificate" in told
    principals = told.split("Principals:")[1].split("Critical")[0].split()
    assert principals == ["mlmp-gateway", *([host] if host else [])]
    signer = asyncssh.read_private_key(authority).get_fingerprint()
    assert signer in told


def test_without_the_ca_it_says_what_is_missing(tmp_path: Path) -> None:
    key = host_key.load(tmp_path / "ssh_host_key")
    (tmp_path / "ca").write_text("no key")
    with pytest.raises(ConfigurationError, match="the SSH CA"):
        host_key.certify(key, tmp_path / "cert.pub", authority=str(tmp_path / "ca"), host="", now=now())
