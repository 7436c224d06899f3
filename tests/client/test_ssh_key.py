"""``mlmp ssh-key`` against a stand-in, and its words against the real service."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner import units
from mlmp_spawner.operations import ssh_keys
from mlmp_spawner.operations.site import Site
from tests.client.answers import at
from tests.client.conftest import CommandLine
from tests.client.standin import Answer, StandIn, problem
from tests.operations.conftest import site
from tests.rules.test_ssh_keys import ED25519, rsa_line
from tests.web.harness import RunningApp

__all__ = ["site"]

PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
FINGERPRINT = "SHA256:Nqjfu22tJJY5wtVbVTTHqLFyOPk8Yq+IFbrgVeAXgjg"


def key(id: str = "abcd2345efgh", **changes: Any) -> dict[str, Any]:
    body = {"id": id, "title": "laptop", "algorithm": "ssh-ed25519", "fingerprint": FINGERPRINT, "key": "AAAA"}
    return {**body, "added_at": at(-60_000), "used_at": None, **changes}


def keys(*items: dict[str, Any]) -> Answer:
    return Answer(200, {"items": list(items), "next_cursor": None})


@pytest.fixture
def public(tmp_path: Path) -> Path:
    file = tmp_path / "id_test.pub"
    file.write_text(f"{ED25519} ann@laptop\n")
    return file


def test_keys_are_listed_with_their_last_use(mlmp: CommandLine, server: StandIn) -> None:
    server.on["GET ssh-keys"] = keys(key(), key("other2345678", title="x\x1b[2J", used_at=at(-1000)))
    ran = mlmp("ssh-key", "ls")
    assert ran.status == 0 and "laptop" in ran.out and FINGERPRINT in ran.out and "never" in ran.out
    assert "\x1b" not in ran.out
    assert [one["id"] for one in mlmp("ssh-key", "ls", "--json").json["items"]] == ["abcd2345efgh", "other2345678"]
    server.on["GET ssh-keys"] = keys()
    assert "mlmp ssh-key add" in mlmp("ssh-key", "ls").out


def test_a_key_is_added_from_a_file_or_from_standard_input(mlmp: CommandLine, server: StandIn, public: Path) -> None:
    server.on["POST ssh-keys"] = Answer(201, key())
    ran = mlmp("ssh-key", "add", str(public), "--title", "laptop")
    assert ran.status == 0 and FINGERPRINT in ran.out
    assert server.asked[-1].body == {"key": f"{ED25519} ann@laptop\n", "title": "laptop"}
    assert mlmp("ssh-key", "add", "-", "--json", stdin=ED25519).json["id"] == "abcd2345efgh"
    assert server.asked[-1].body["key"] == ED25519


def test_without_a_file_the_usual_one_is_taken(mlmp: CommandLine, server: StandIn, tmp_path: Path) -> None:
    server.on["POST ssh-keys"] = Answer(201, key())
    mlmp.environment = {**mlmp.environment, "HOME": str(tmp_path / "home")}
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    missing = mlmp("ssh-key", "add")
    assert missing.status == 1 and "ssh-keygen" in missing.err
    (tmp_path / "home" / ".ssh" / "id_rsa.pub").write_text("ssh-rsa the older")
    (tmp_path / "home" / ".ssh" / "id_ed25519.pub").write_text(ED25519)
    assert mlmp("ssh-key", "add").status == 0
    assert server.asked[-1].body["key"] == ED25519


def test_a_private_key_never_leaves_the_computer(mlmp: CommandLine, server: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "id_ed25519"
    file.write_text(PRIVATE)
    for ran in (mlmp("ssh-key", "add", str(file)), mlmp("ssh-key", "add", "-", stdin=PRIVATE)):
        assert ran.status == 2 and "nothing was sent" in ran.err
    assert f"{file}.pub" in mlmp("ssh-key", "add", str(file)).err.replace("\n", "")
    assert server.asked == []


@pytest.mark.parametrize("file", ["no-such.pub", "."])
def test_a_file_that_can_t_be_read_is_named(mlmp: CommandLine, server: StandIn, tmp_path: Path, file: str) -> None:
    ran = mlmp("ssh-key", "add", str(tmp_path / file))
    assert ran.status in (1, 2) and os.path.basename(str(tmp_path)) in ran.err.replace("\n", "")


@pytest.mark.parametrize("name", ["abcd2345efgh", FINGERPRINT, "laptop"])
def test_a_key_is_removed_by_whatever_names_it(mlmp: CommandLine, server: StandIn, name: str) -> None:
    server.on["GET ssh-keys"] = keys(key("other2345678", title="other", fingerprint="SHA256:x"), key())
    server.on["DELETE ssh-keys/abcd2345efgh"] = Answer(204)
    ran = mlmp("ssh-key", "rm", name)
    assert ran.status == 0 and "Removed: laptop" in ran.out
    assert server.times("DELETE", "ssh-keys/abcd2345efgh") == 1


def test_what_names_no_key_or_several_removes_none(mlmp: CommandLine, server: StandIn) -> None:
    server.on["GET ssh-keys"] = keys(key(), key("other2345678", fingerprint="SHA256:x"))
    none, several = mlmp("ssh-key", "rm", "phone"), mlmp("ssh-key", "rm", "laptop")
    assert none.status == 1 and "mlmp ssh-key ls" in none.err
    assert several.status == 2 and "abcd2345efgh, other2345678" in several.err.replace("\n", "")
    assert all(one.method == "GET" for one in server.asked)


def test_a_refusal_is_in_the_service_s_words(mlmp: CommandLine, server: StandIn, public: Path) -> None:
    server.on["POST ssh-keys"] = problem(409, "conflict", "This key is registered already, as 'laptop'.")
    ran = mlmp("ssh-key", "add", str(public))
    assert ran.status == 1 and "already, as 'laptop'" in ran.err


@pytest.fixture
def ann(site: Site, tmp_path: Path) -> Iterator[CommandLine]:
    with RunningApp(site, units.now()) as app:
        access = {"MLMP_URL": f"{app.url}/", "MLMP_TOKEN": "ann-token", "XDG_CONFIG_HOME": str(tmp_path)}
        yield CommandLine({**access, "DISPLAY": None})


@pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)
def test_from_adding_to_removing_with_the_real_service(ann: CommandLine, site: Site, public: Path) -> None:
    assert "Added: ann@laptop" in ann("ssh-key", "add", str(public)).out
    again = ann("ssh-key", "add", str(public))
    assert again.status == 1 and "already" in again.err
    weak = ann("ssh-key", "add", "-", stdin=rsa_line(2048))
    assert weak.status == 2 and "2048 bits" in weak.err
    assert "ann@laptop" in ann("ssh-key", "ls").out
    assert ann("ssh-key", "rm", "ann@laptop").status == 0
    assert ssh_keys.of_owner(site, "ann") == []
