"""The CA's file, and for whom it signs."""

from __future__ import annotations

import os
import pwd
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_identity

from mlmp_spawner.errors import ConfigurationError, Invalid, NotAllowed, Unavailable
from mlmp_spawner.operations import ssh_authority, ssh_keys
from mlmp_spawner.operations.site import SSH, Site, account_of, make_site
from mlmp_spawner.rules.ssh_certificates import public_line
from mlmp_spawner.rules.ssh_names import principal_of
from mlmp_spawner.settings import MLMP
from tests.operations.conftest import NOW, ann, ben
from tests.rules.test_ssh_keys import ED25519, in_hardware

#: What differs between databases is in test_ssh_keys.py.
ON_ONE = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)


def test_the_key_is_made_once_and_for_its_owner_s_eyes_only(tmp_path: Path):
    file = tmp_path / "ssh_ca"
    first = public_line(ssh_authority.load(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert public_line(ssh_authority.load(file)) == first
    assert [path.name for path in tmp_path.iterdir()] == ["ssh_ca"]


def test_of_many_who_make_it_at_once_all_have_the_same(tmp_path: Path):
    start = threading.Barrier(8, timeout=60)

    def work(_: int) -> str:
        start.wait()
        return public_line(ssh_authority.load(tmp_path / "ssh_ca"))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(work, range(8)))) == 1


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path):
    file = tmp_path / "ssh_ca"
    first = public_line(ssh_authority.load(file))
    other = tmp_path / "other"
    ssh_authority.load(other)
    os.utime(other, (1, 1))
    os.replace(other, file)
    assert public_line(ssh_authority.load(file)) != first


@pytest.mark.parametrize("content", ["", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_holds_no_key_is_named_and_left_alone(tmp_path: Path, content: str):
    file = tmp_path / "ssh_ca"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match="ssh_ca"):
        ssh_authority.load(file)
    assert file.read_text() == content


@pytest.mark.parametrize("file", ["", "/nonexistent/ssh_ca", "/"])
def test_where_no_key_can_be_made_the_reason_is_said(file: str):
    with pytest.raises(ConfigurationError, match="SSH CA"):
        ssh_authority.load(file)


def test_where_it_is_mounted_from_a_secret_that_is_older_the_reason_says_which_key_to_add():
    with pytest.raises(ConfigurationError, match=r"add the key ssh-ca to the Secret that secrets\.existingSecret"):
        ssh_authority.load("/nonexistent/ssh-ca")


@ON_ONE
def test_people_are_told_that_nothing_can_be_signed_not_where_the_file_is(site: Site):
    broken = replace(site, ssh=SSH(ca_file="/nonexistent/ssh_ca"))
    with pytest.raises(Unavailable) as refused:
        ssh_authority.public_line(broken)
    assert "nonexistent" not in refused.value.detail


@ON_ONE
def test_a_person_s_own_key_is_signed_for_them_alone(site: Site):
    made = ssh_keys.add(site, "ann", ED25519, actor=ann, now=NOW)
    certificate = ssh_authority.for_user(site, "ann", f"{ED25519} x", now=NOW)
    found = load_ssh_public_identity(certificate.line.encode())
    assert found.valid_principals == [b"ann"] and found.key_id == f"mlmp:ann:{made.fingerprint}".encode()
    assert ssh_keys.of_owner(site, "ann")[0].used_at == NOW
    with pytest.raises(NotAllowed, match="not registered for 'ben'"):
        ssh_authority.for_user(site, "ben", ED25519, now=NOW)
    ssh_keys.remove(site, "ann", made.id, actor=ann, now=NOW)
    with pytest.raises(NotAllowed, match="not registered for 'ann'"):
        ssh_authority.for_user(site, "ann", ED25519, now=NOW)


@ON_ONE
def test_a_key_in_hardware_gets_no_certificate_and_logs_in_by_itself(site: Site):
    text = in_hardware()
    ssh_keys.add(site, "ben", text, actor=ben, now=NOW)
    with pytest.raises(Invalid, match="the key itself logs in"):
        ssh_authority.for_user(site, "ben", text, now=NOW)


@pytest.mark.parametrize("owner", ["ann", "Ann Müller", "a,b", "*", "no-pty ann", "x" * 200])
@ON_ONE
def test_a_host_key_is_signed_for_the_one_name_that_is_its_owner_s(site: Site, owner: str):
    found = load_ssh_public_identity(ssh_authority.for_host(site, owner, ED25519, now=NOW).line.encode())
    assert found.valid_principals == [principal_of(owner).encode()]


@ON_ONE
def test_who_is_called_as_the_gateway_can_t_pass_for_it(site: Site):
    with_gateway = replace(site, ssh=replace(site.ssh, gateway=("SSH.example.org", 22)))
    with pytest.raises(NotAllowed, match="gateway"):
        ssh_authority.for_host(with_gateway, "ssh.example.org", ED25519, now=NOW)


@ON_ONE
def test_the_key_is_in_the_data_directory_or_in_what_of_it_the_service_owns(site: Site, tmp_path: Path):
    settings = MLMP(data=str(tmp_path))
    assert make_site(site.engine, site.catalog, settings).ssh.ca_file == str(tmp_path / "ssh_ca")
    (tmp_path / "db").mkdir()
    assert make_site(site.engine, site.catalog, settings).ssh.ca_file == str(tmp_path / "db" / "ssh_ca")
    settings.ssh_ca_file = "/etc/mlmp/ca"
    assert make_site(site.engine, site.catalog, settings).ssh.ca_file == "/etc/mlmp/ca"


@ON_ONE
def test_the_login_is_the_account_that_servers_run_as(site: Site):
    settings = MLMP(backend="kubernetes")
    assert make_site(site.engine, site.catalog, settings).ssh.login_of("ann") == "jovyan"
    settings.ssh_login = "{username}"
    assert make_site(site.engine, site.catalog, settings).ssh.login_of("ann") == "ann"


@ON_ONE
def test_on_one_machine_the_login_is_the_hub_s_own_account_whatever_logname_says(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LOGNAME", "somebody-else")
    found = make_site(site.engine, site.catalog, MLMP()).ssh.login_of("ann")
    assert found == pwd.getpwuid(os.getuid()).pw_name
    assert account_of(4_123_456_789) == ""


@ON_ONE
def test_the_gateway_is_named_in_small_letters_as_openssh_looks_for_it(site: Site):
    settings = MLMP(ssh_gateway="SSH.Example.org:22")
    assert make_site(site.engine, site.catalog, settings).ssh.gateway == ("ssh.example.org", 22)
