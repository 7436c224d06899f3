"""The gateway before OpenSSH's own client: who gets through where, who is refused, and when it ends."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncssh
import pytest

from mlmp_spawner.ssh import gateway
from mlmp_spawner.units import now
from tests.ssh.gate import Gate, Session, eventually, gate, make_key

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="no OpenSSH here; on Debian: openssh-client")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Private keys of Ann and Bob, and one that nobody registered."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: make_key(folder, name) for name in ("ann", "bob", "stranger")}


@pytest.fixture
async def door(keys: dict[str, Path], caplog: pytest.LogCaptureFixture) -> AsyncIterator[Gate]:
    """A gateway; Ann has two servers, Bob one."""
    caplog.set_level(logging.INFO, "mlmp.ssh")
    async with gate() as made:
        made.people.add("ann", keys["ann"], "", "gpu1")
        made.people.add("bob", keys["bob"], "")
        yield made


# -- who, and where to -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "server"), [("ann", ""), ("ann--gpu1", "gpu1")])
async def test_a_registered_key_leads_to_its_owners_running_servers(
    door: Gate, keys: dict[str, Path], host: str, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, told = await door.ssh("ann", keys["ann"], host)
    assert status == 0, told
    assert door.dialled == [("ann", server)]
    assert door.people.used_keys
    assert f"opened user='ann' server='{server}' reservation=r-ann{server} key=SHA256:" in caplog.text


@pytest.mark.parametrize(
    ("host", "port", "why"),
    [
        ("bob", 22, "only ann and ann--SERVER, port 22"),
        ("127.0.0.1", 22, "only ann and ann--SERVER, port 22"),
        ("169.254.169.254", 80, "only ann and ann--SERVER, port 22"),
        ("ann", 8888, "only ann and ann--SERVER, port 22"),
        ("ann--../../bob", 22, "only ann and ann--SERVER, port 22"),
        ("ann--gpu2", 22, "no server of yours runs as ann--gpu2; running: ann, ann--gpu1"),
    ],
)
async def test_nothing_else_is_reached_and_the_refusal_says_what_is(
    door: Gate, keys: dict[str, Path], host: str, port: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, told = await door.ssh("ann", keys["ann"], host, port)
    assert status == 255
    assert why in told
    assert door.dialled == []
    assert f"refused user='ann' host={host!r} port={port}" in caplog.text


@pytest.mark.parametrize(("name", "key"), [("bob", "ann"), ("ann", "stranger"), ("nobody", "ann"), ("root", "ann")])
async def test_another_name_or_key_is_refused_and_logged(
    door: Gate, keys: dict[str, Path], name: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, told = await door.ssh(name, keys[key], "ann")
    assert status == 255
    assert "Permission denied (publickey)." in told
    await eventually(lambda: f"no login from=127.0.0.1 user='{name}'" in caplog.text)


async def test_a_password_is_not_even_asked_for(door: Gate) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        await door.connect("ann", None, password="secret", preferred_auth="password,keyboard-interactive")


async def test_a_public_key_alone_opens_nothing(door: Gate, keys: dict[str, Path], tmp_path: Path) -> None:
    """Whoever has seen it may offer it; only who holds the other half signs."""
    forged = tmp_path / "forged"
    forged.write_bytes(keys["stranger"].read_bytes())
    forged.chmod(0o600)
    forged.with_suffix(".pub").write_bytes(keys["ann"].with_suffix(".pub").read_bytes())
    status, told = await door.ssh("ann", forged, "ann")
    assert (status, door.dialled) == (255, []), told


async def test_there_is_no_shell_no_listening_and_no_socket(door: Gate, keys: dict[str, Path]) -> None:
    async with await door.connect("ann", keys["ann"]) as connection:
        with pytest.raises(
            asyncssh.ChannelOpenError, match="this is only the way to your servers: ssh -J ann@GATEWAY"
        ):
            await connection.run("id")
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_port("", 0, "127.0.0.1", 1)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_unix_connection("/run/some.sock")
    assert door.dialled == []


@pytest.mark.parametrize(
    ("state", "why"),
    [("starting", "still starting; try again"), ("stopping", "is being stopped: the booking is over")],
)
async def test_a_server_on_its_way_is_not_reached_yet_or_any_more(
    door: Gate, keys: dict[str, Path], state: str, why: str
) -> None:
    door.people.server("ann", "", **{state: True})
    status, told = await door.ssh("ann", keys["ann"], "ann")
    assert status == 255
    assert why in told


@pytest.mark.parametrize(
    ("status", "why"),
    [(404, "without a way in for SSH"), (424, "does not run just now"), (503, "does not run just now"),
     (403, "can't be reached just now"), (None, "can't be reached just now")],
)  # fmt: skip
async def test_what_the_hub_answers_is_told_in_words(
    door: Gate, keys: dict[str, Path], status: int | None, why: str
) -> None:
    door.refuses_with = [status]
    async with await door.connect("ann", keys["ann"]) as connection:
        with pytest.raises(asyncssh.ChannelOpenError, match=why):
            await connection.open_connection("ann", 22)
        session = await Session.begin(connection, "ann")  # and then it is there
        assert await session.says(b"hello") == b"hello"


# -- the end ---------------------------------------------------------------------------------------------------------


async def test_a_removed_key_cuts_its_sessions_within_a_second(
    door: Gate, keys: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    connection = await door.connect("ann", keys["ann"])
    session = await Session.begin(connection, "ann")
    other = await Session.begin(await door.connect("bob", keys["bob"]), "bob")
    door.people.change("ann", keys=frozenset())
    removed = time.monotonic()
    await asyncio.wait_for(connection.wait_closed(), 10)
    assert time.monotonic() - removed < 1
    assert await session.over()
    await eventually(lambda: door.ways == 1)
    assert "cut user='ann' from=127.0.0.1 why='the key was removed'" in caplog.text
    assert await other.says(b"still here") == b"still here"


async def test_the_end_of_a_booking_cuts_its_sessions_and_no_others(
    door: Gate, keys: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    connection = await door.connect("ann", keys["ann"])
    ending, other = await Session.begin(connection, "ann"), await Session.begin(connection, "ann--gpu1")
    door.people.server("ann", "", gone=True)
    ended = time.monotonic()
    assert await ending.over()
    assert time.monotonic() - ended < 1.5
    assert await other.says(b"goes on") == b"goes on"
    assert "closed user='ann' server='' reservation=r-ann" in caplog.text


async def test_without_the_database_nobody_new_comes_in_and_who_is_in_stays_until_the_end(
    door: Gate, keys: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    connection = await door.connect("ann", keys["ann"])
    session = await Session.begin(connection, "ann")
    ending = await Session.begin(connection, "ann--gpu1")
    door.people.server("ann", "gpu1", end=now() + 1500)
    await eventually(lambda: door.known_end("gpu1") < now() + 1500)
    door.people.away = True
    status, told = await door.ssh("bob", keys["bob"], "bob")
    assert status == 255
    assert "The database does not answer" in told
    with pytest.raises(asyncssh.ChannelOpenError, match="The database does not answer"):
        await connection.open_connection("ann", 22)
    assert await ending.over()
    assert await session.says(b"goes on") == b"goes on"
    assert caplog.text.count("can't be looked at") == 1
    door.people.away = False
    status, told = await door.ssh("bob", keys["bob"], "bob")
    assert status == 0, told


async def test_whatever_is_wrong_with_a_look_sessions_end_at_their_known_end(
    door: Gate, keys: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    connection = await door.connect("ann", keys["ann"])
    session, ending = await Session.begin(connection, "ann"), await Session.begin(connection, "ann--gpu1")
    door.people.server("ann", "gpu1", end=now() + 1500)
    await eventually(lambda: door.known_end("gpu1") < now() + 1500)
    door.people.fails = RuntimeError("nobody thought of this")
    assert await ending.over()
    assert await session.says(b"goes on") == b"goes on"
    assert caplog.text.count("RuntimeError: nobody thought of this") == 1


async def test_a_database_that_hangs_holds_up_no_end(
    door: Gate, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "LOOK_WITHIN", 0.2)
    connection = await door.connect("ann", keys["ann"])
    session, ending = await Session.begin(connection, "ann"), await Session.begin(connection, "ann--gpu1")
    door.people.server("ann", "gpu1", end=now() + 1500)
    await eventually(lambda: door.known_end("gpu1") < now() + 1500)
    door.people.hangs = True
    assert await ending.over()
    assert await session.says(b"goes on") == b"goes on"


async def test_a_client_that_goes_leaves_nothing_behind(door: Gate, keys: dict[str, Path]) -> None:
    connection = await door.connect("ann", keys["ann"])
    await Session.begin(connection, "ann")
    assert door.ways == 1
    connection.abort()
    await eventually(lambda: door.ways == 0)
    assert not door.gateway.guests
    assert door.gateway.limits.nothing_counted


# -- how much --------------------------------------------------------------------------------------------------------


async def test_after_many_failed_logins_an_address_has_to_wait(
    keys: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mlmp.ssh")
    async with gate(failures_at_once=3, failures_per_minute=1) as door:
        door.people.add("ann", keys["ann"], "")
        for _ in range(3):
            with pytest.raises(asyncssh.PermissionDenied):
                await door.connect("ann", keys["stranger"])
        await eventually(lambda: caplog.text.count("no login from") == 3)
        with pytest.raises((asyncssh.Error, OSError)) as refused:
            await door.connect("ann", keys["ann"])
        assert not isinstance(refused.value, asyncssh.PermissionDenied)
        assert "too many logins from this address failed; try again in" in caplog.text


async def test_what_only_looks_whether_somebody_listens_is_no_failed_login(
    keys: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mlmp.ssh")
    async with gate(failures_at_once=1, failures_per_minute=1) as door:
        door.people.add("ann", keys["ann"], "")
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.close()
            await writer.wait_closed()
        assert (await door.ssh("ann", keys["ann"], "ann"))[0] == 0
        assert "no login" not in caplog.text


async def test_silent_connections_shut_nobody_out(keys: dict[str, Path]) -> None:
    async with gate(unknown_connections=3) as door:
        door.people.add("ann", keys["ann"], "")
        silent = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(3)]
        status, told = await door.ssh("ann", keys["ann"], "ann")
        assert status == 0, told
        oldest, _ = silent[0]
        assert (await asyncio.wait_for(oldest.read(), 10)).startswith(b"SSH-2.0-MLMP")  # and then the end
        for _, writer in silent:
            writer.close()


async def test_who_connects_without_end_is_slowed_though_no_name_is_ever_said(
    keys: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mlmp.ssh")
    async with gate(connections_at_once=3, connections_per_minute=1) as door:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            assert await reader.readline() == b"SSH-2.0-MLMP\r\n"
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        await eventually(lambda: "too many connections from this address; try again in" in caplog.text)


@pytest.mark.parametrize("dear", ["diffie-hellman-group14-sha256", "diffie-hellman-group-exchange-sha256"])
async def test_no_key_exchange_is_offered_that_costs_the_gateway_much(
    door: Gate, keys: dict[str, Path], dear: str
) -> None:
    with pytest.raises(asyncssh.KeyExchangeFailed):
        await door.connect("ann", keys["ann"], kex_algs=[dear])
    for common in ("curve25519-sha256", "ecdh-sha2-nistp256"):
        (await door.connect("ann", keys["ann"], kex_algs=[common])).abort()


async def test_what_is_refused_counts_as_a_session_that_was_tried(keys: dict[str, Path]) -> None:
    async with gate(opens_per_minute=3) as door:
        door.people.add("ann", keys["ann"], "")
        async with await door.connect("ann", keys["ann"]) as connection:
            for host, port in (("bob", 22), ("ann", 8888), ("10.0.0.1", 22)):
                with pytest.raises(asyncssh.ChannelOpenError, match="only ann and ann--SERVER"):
                    await connection.open_connection(host, port)
            with pytest.raises(asyncssh.ChannelOpenError, match="too many sessions a minute"):
                await connection.open_connection("bob", 22)


async def test_a_client_offers_only_so_many_keys(tmp_path: Path, keys: dict[str, Path]) -> None:
    async with gate(keys_per_login=2) as door:
        door.people.add("ann", keys["ann"], "")
        others = [make_key(tmp_path, f"other{number}") for number in range(5)]
        with pytest.raises(asyncssh.DisconnectError, match="too many keys were offered"):
            await door.connect("ann", *others, keys["ann"])


async def test_one_person_has_only_so_many_connections_and_sessions(keys: dict[str, Path]) -> None:
    async with gate(connections_per_user=2) as door:
        door.people.add("ann", keys["ann"], "")
        door.people.add("bob", keys["bob"], "")
        first, _ = [await door.connect("ann", keys["ann"]) for _ in range(2)]
        third = await door.connect("ann", keys["ann"])
        await asyncio.wait_for(third.wait_closed(), 5)
        for _ in range(2):
            await Session.begin(first, "ann")
        with pytest.raises(asyncssh.ChannelOpenError, match="more than 2 sessions; close some"):
            await first.open_connection("ann", 22)
        session = await Session.begin(await door.connect("bob", keys["bob"]), "bob")
        assert await session.says(b"not my fault") == b"not my fault"


async def test_more_is_not_taken_in_than_the_other_side_takes_out(door: Gate, keys: dict[str, Path]) -> None:
    """A server that does not read holds back its client, not the gateway's memory."""
    door.deaf = True
    session = await Session.begin(await door.connect("ann", keys["ann"]), "ann")
    sent = 0
    with suppress(asyncio.TimeoutError):
        for sent in range(64):  # noqa: B007 -- MiB, also where it stops
            session.writer.write(bytes(1 << 20))
            await asyncio.wait_for(session.writer.drain(), 1)
    assert sent < 32


@pytest.mark.faults
async def test_two_hundred_connections_are_carried(keys: dict[str, Path]) -> None:
    async with gate(connections_per_user=200, unknown_connections_per_address=200) as door:
        door.people.add("ann", keys["ann"], "")
        connections = [await door.connect("ann", keys["ann"]) for _ in range(200)]
        sessions = await asyncio.gather(*(Session.begin(one, "ann") for one in connections))
        began = time.monotonic()
        said = await asyncio.gather(*(one.says(f"{n}".encode()) for n, one in enumerate(sessions)))
        assert said == [f"{n}".encode() for n in range(200)]
        assert time.monotonic() - began < 5
        door.people.change("ann", keys=frozenset())
        removed = time.monotonic()
        await asyncio.gather(*(one.wait_closed() for one in connections))
        assert time.monotonic() - removed < 3
