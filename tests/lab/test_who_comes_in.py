"""Who comes in by SSH, and for how long: whom the service says, at this moment."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest

from mlmp_spawner.client.problems import NotSignedIn
from mlmp_spawner.lab import sshd
from mlmp_spawner.lab.door import Door
from mlmp_spawner.lab.sessions import Session
from mlmp_spawner.rules import ssh_certificates
from tests.lab.server import Server, eventually, run


async def test_a_key_that_nobody_registered_is_refused(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mlmp.ssh")
    server.key("stranger")
    ended = await server.ssh("ann", "true", key="stranger")
    assert ended.status == 255
    assert "Permission denied (publickey)" in ended.err
    assert "Accepted" not in caplog.text


async def test_no_password_is_asked_for(server: Server) -> None:
    ended = await server.ssh("-o", "PubkeyAuthentication=no", "-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=1",
                             "ann", "true")  # fmt: skip
    assert "Permission denied (publickey)" in ended.err


async def test_a_key_in_the_homes_own_authorized_keys_does_not_count(server: Server) -> None:
    own = server.home / ".ssh" / "authorized_keys"
    own.parent.mkdir(mode=0o700)
    own.write_text(Path(f"{server.key('own')}.pub").read_text())
    assert (await server.ssh("ann", "true", key="own")).status == 255


async def test_nobody_logs_in_as_another_account(server: Server) -> None:
    server.login = "daemon"
    assert (await server.ssh("ann", "true")).status == 255


async def test_a_key_that_is_registered_now_comes_in_now(server: Server) -> None:
    private = server.key("desk")
    assert (await server.ssh("ann", "true", key="desk")).status == 255
    server.service.register(private)
    assert (await server.ssh("ann", "true", key="desk")).status == 0


async def test_a_removed_key_is_refused_and_its_open_sessions_end(server: Server) -> None:
    desk = server.service.register(server.key("desk"))
    files = {name: server.home / name for name in ("desk", "laptop")}
    opened = {}
    for name, file in files.items():
        opened[name] = await server.open("ann", f"echo $$ >{name}.new; mv {name}.new {name}; sleep 100", key=name)
        await eventually(file.exists)
    del server.service.keys[desk.fingerprint]
    assert await asyncio.wait_for(opened["desk"].wait(), 10) == 255
    await eventually(lambda: not Path(f"/proc/{files['desk'].read_text().strip()}").exists())
    assert (await server.ssh("ann", "true", key="desk")).status == 255
    assert opened["laptop"].returncode is None
    opened["laptop"].kill()
    await opened["laptop"].wait()


@pytest.mark.parametrize("telling", [False, True], ids=["looking", "telling"])
async def test_a_look_that_fails_is_not_the_last(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, telling: bool
) -> None:
    opened = await server.open("ann", "echo $$ >pid.new; mv pid.new pid; sleep 100")
    await eventually((server.home / "pid").exists)
    failing = (server.service, "get") if telling else (server.door, "look")

    def fails(*_: str) -> None:
        raise RuntimeError("nobody thought of this")

    with monkeypatch.context() as patched:
        patched.setattr(*failing, fails)
        await eventually(lambda: "nobody thought of this" in caplog.text)
    server.service.keys.clear()
    assert await asyncio.wait_for(opened.wait(), 10) == 255


async def test_an_account_with_a_space_in_its_name_is_one_word_to_sshd(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sshd, "account", lambda: "ann lee")
    assert 'AuthorizedPrincipalsCommandUser="ann lee"' in await server.door.command()


async def test_the_key_of_an_account_with_a_space_in_its_name_is_known(server: Server) -> None:
    """Or its sessions would outlast it."""
    fingerprint = next(iter(server.service.keys))
    quiet = await asyncio.create_subprocess_exec("true")
    await quiet.wait()
    session = Session(quiet)
    session._hear(f"Accepted publickey for ann lee from UNKNOWN port 65535 ssh2: ED25519 {fingerprint}")
    assert session.fingerprint == fingerprint


async def test_a_certificate_counts_for_a_registered_key_of_this_person_only(server: Server) -> None:
    """The keys themselves are not looked at here: the file with them is taken away."""
    await server.ssh("ann", "true")
    (server.socket.parent / "authorized_keys").write_text("")
    assert (await server.ssh("ann", "true")).status == 255
    server.certify(server.root / "laptop", principal="ben")
    assert (await server.ssh("ann", "true")).status == 255
    server.certify(server.root / "laptop")
    assert (await server.ssh("ann", "true")).status == 0
    server.certify(server.key("stranger"))
    assert (await server.ssh("ann", "true", key="stranger")).status == 255


async def test_a_certificate_of_another_ca_is_refused(server: Server) -> None:
    stranger = server.key("stranger")
    ours = server.service.authority
    server.service.authority = ssh_certificates.read_authority(ssh_certificates.new_authority())
    server.certify(stranger)
    server.service.authority = ours
    assert (await server.ssh("ann", "true", key="stranger")).status == 255


async def test_while_the_service_is_away_its_last_word_holds_and_a_fresh_certificate_too(server: Server) -> None:
    assert (await server.ssh("ann", "true")).status == 0
    opened = await server.open("ann", "cat")
    server.service.away()
    await server.stop()
    await opened.wait()
    await server.start()
    assert (await server.ssh("ann", "true")).status == 0
    opened = await server.open("ann", "cat")
    await eventually(lambda: server.listener.sessions)
    asked = server.service.asked
    await eventually(lambda: server.service.asked > asked + 4)
    assert opened.returncode is None
    opened.kill()
    await opened.wait()
    fresh, other = server.key("fresh"), server.key("other")
    server.certify(fresh)
    server.certify(other, principal="ben")
    assert (await server.ssh("ann", "true", key="fresh")).status == 0
    assert (await server.ssh("ann", "true", key="other")).status == 255


async def test_nobody_comes_in_before_the_service_has_said_anything(server: Server) -> None:
    server.service.away()
    assert await first_words(server) == "MLMP: The hub has not said yet who may come in.\r\n"


async def test_who_is_refused_is_told_why(server: Server) -> None:
    server.service.facts["enabled"] = False
    assert await first_words(server) == "MLMP: SSH is switched off on this hub.\r\n"
    server.service.facts["enabled"] = True
    server.service.error = NotSignedIn("The hub does not take this token.")
    assert await first_words(server) == "MLMP: The hub does not take this token.\r\n"


async def test_without_sshd_it_is_said_how_to_get_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sshd, "PLACES", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await first_words(server) == f"MLMP: There is no sshd here, so no SSH. {sshd.INSTALL}\r\n"
    monkeypatch.undo()
    assert (await server.ssh("ann", "true")).status == 0


@pytest.mark.parametrize("spoilt", ["", "{", "[]", '{"keys": 3}', '{"keys": {"a": "b"}}', "\0\0\0"])
async def test_a_spoilt_file_of_last_words_is_none(server: Server, spoilt: str) -> None:
    kept = server.home / ".local/share/mlmp/ssh/allowed.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(spoilt)
    server.service.away()
    assert "has not said yet" in await first_words(server)


@pytest.mark.parametrize(
    "answer",
    [
        {"principal": "ben ann"},
        {"principal": "ann\nben"},
        {"principal": "#ann"},
        {"principal": None, "enabled": None, "extra": 1},
        {"principal": 3},
    ],
)
async def test_an_answer_that_sshd_could_misread_lets_nobody_in(server: Server, answer: dict[str, object]) -> None:
    server.service.facts |= answer
    assert (await first_words(server)).startswith("MLMP: ")


async def test_a_key_with_options_is_no_key(server: Server) -> None:
    key = next(iter(server.service.keys.values()))
    server.service.keys["SHA256:x"] = type(key)('command="id",ssh-ed25519', key.blob, "SHA256:x", "")
    assert (await server.ssh("ann", "true")).status == 255


async def test_the_last_words_are_for_the_users_eyes_only(server: Server) -> None:
    await server.ssh("ann", "true")
    folder = server.home / ".local/share/mlmp/ssh"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert server.socket.parent.stat().st_mode & 0o777 == 0o700
    assert json.loads((folder / "allowed.json").read_text())["principal"] == "ann"


async def test_many_who_come_at_once_all_get_in(server: Server) -> None:
    ended = await asyncio.gather(*(server.ssh("ann", f"echo {number}") for number in range(20)))
    assert [one.out for one in ended] == [f"{number}\n" for number in range(20)]


async def test_many_who_come_at_once_share_the_questions_to_the_service(server: Server) -> None:
    door = Door(server.socket.parent, server.home, server.environment, server.service)
    await door.command()
    asked = server.service.asked
    await asyncio.gather(*(door.command() for _ in range(20)))
    assert 0 < server.service.asked - asked <= 2 * len(("ssh", "ssh-keys"))


async def first_words(server: Server) -> str:
    """What a client hears before SSH begins."""
    reader, writer = await asyncio.open_unix_connection(server.socket)
    writer.write(b"SSH-2.0-test\r\n")
    line = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    return line.decode()


async def test_ssh_itself_is_turned_away_as_well(server: Server) -> None:
    server.service.facts["enabled"] = False
    ended = await run("ssh", *server.options, "-i", str(server.root / "laptop"), "ann", "true")
    assert ended.status == 255
