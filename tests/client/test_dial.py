"""Bytes both ways over a real WebSocket."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from mlmp_spawner.client.dial import LARGEST, Cut, NoWay, carry, dial, way_to

Handler = Callable[[ServerConnection], Awaitable[None]]
PLENTY = os.urandom(3_000_000)


@asynccontextmanager
async def server(handler: Handler, refuse: Callable[[Request], int | None] = lambda _: None) -> AsyncIterator[str]:
    """The address of a WebSocket server."""

    def check(connection: ServerConnection, request: Request) -> Response | None:
        status = refuse(request)
        return connection.respond(HTTPStatus(status), "no") if status else None

    async with serve(handler, "127.0.0.1", 0, process_request=check, max_size=None, max_queue=4) as running:
        yield f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/"


async def echo(way: ServerConnection) -> None:
    async for message in way:
        await way.send(message)


class Taken:
    """A writer that remembers."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        pass


def reader(data: bytes, *, end: bool = True) -> asyncio.StreamReader:
    """Bytes to read, and then the end."""
    made = asyncio.StreamReader()
    made.feed_data(data)
    if end:
        made.feed_eof()
    return made


@pytest.mark.parametrize(
    ("hub", "user", "server", "way"),
    [
        ("https://hub.example.org/", "ann", "", "wss://hub.example.org/user/ann/ssh/"),
        ("http://127.0.0.1:8000/base/", "ann", "train", "ws://127.0.0.1:8000/base/user/ann/train/ssh/"),
        ("https://h/", "ann@x.org", "", "wss://h/user/ann@x.org/ssh/"),
        ("https://h/", "../ben ü?", "", "wss://h/user/..%2Fben%20%C3%BC%3F/ssh/"),
    ],
)
def test_the_address_is_that_of_the_users_server(hub: str, user: str, server: str, way: str) -> None:
    assert way_to(hub, user, server) == way


async def test_a_redirect_is_not_followed_since_the_token_would_go_where_the_server_says() -> None:
    went: list[str] = []

    async def elsewhere(way: ServerConnection) -> None:
        went.append("there")

    async with server(elsewhere) as other:

        def send_on(connection: ServerConnection, _: Request) -> Response:
            answer = connection.respond(HTTPStatus.FOUND, "")
            answer.headers["Location"] = other
            return answer

        async with serve(echo, "127.0.0.1", 0, process_request=send_on) as running:
            address = f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/"
            with pytest.raises(NoWay, match="302"):
                await dial(address, "token", patience=0)
    assert went == []


async def test_a_message_that_would_fill_the_memory_ends_the_way() -> None:
    async def floods(way: ServerConnection) -> None:
        await way.send(bytes(LARGEST + 1))
        await way.wait_closed()

    async with server(floods) as address:
        way = await dial(address, "token")
        taken = Taken()
        with pytest.raises(Cut):
            await carry(way, reader(b"", end=False), taken)
    assert not taken.data


async def test_the_token_goes_along() -> None:
    seen: list[str | None] = []

    def note(request: Request) -> None:
        seen.append(request.headers.get("Authorization"))

    async with server(echo, note) as address:
        await (await dial(address, "secret")).close()
    assert seen == ["token secret"]


async def test_all_that_the_server_sends_arrives_in_order() -> None:
    async def send(way: ServerConnection) -> None:
        for at in range(0, len(PLENTY), 70_000):
            await way.send(PLENTY[at : at + 70_000])

    taken = Taken()
    async with server(send) as address:
        await carry(await dial(address, "t"), reader(b"", end=False), taken)
    assert bytes(taken.data) == PLENTY


async def test_all_that_is_read_is_sent_in_order() -> None:
    got = bytearray()

    async def take(way: ServerConnection) -> None:
        async for message in way:
            got.extend(message if isinstance(message, bytes) else message.encode())

    async with server(take) as address:
        await carry(await dial(address, "t"), reader(PLENTY), Taken())
    assert bytes(got) == PLENTY


async def test_no_more_is_read_than_the_server_takes() -> None:
    late = asyncio.Event()

    async def stall(way: ServerConnection) -> None:
        await late.wait()
        way.transport.abort()

    class Endless:
        read_so_far = 0

        async def read(self, n: int = -1) -> bytes:
            self.read_so_far += n
            return bytes(n)

    source = Endless()
    async with server(stall) as address:
        carrying = asyncio.create_task(carry(await dial(address, "t"), source, Taken()))
        seen = -1
        while seen != source.read_so_far:  # until it stands still
            seen = source.read_so_far
            await asyncio.sleep(0.3)
        assert seen < 64 << 20  # what sockets hold, not what there is
        late.set()
        await asyncio.gather(carrying, return_exceptions=True)


async def test_a_server_that_is_gone_cuts_it() -> None:
    async def vanish(way: ServerConnection) -> None:
        way.transport.abort()

    async with server(vanish) as address:
        with pytest.raises(Cut):
            await carry(await dial(address, "t"), reader(b"", end=False), Taken())


@pytest.mark.parametrize("status", [401, 403, 404, 424, 500])
async def test_a_refusal_is_told_at_once(status: int) -> None:
    asked: list[int] = []

    def refuse(request: Request) -> int:
        asked.append(1)
        return status

    async with server(echo, refuse) as address:
        with pytest.raises(NoWay) as told:
            await dial(address, "t", patience=5)
    assert (told.value.status, len(asked)) == (status, 1)


async def test_a_proxy_that_restarts_is_asked_again() -> None:
    answers = iter([503, 502, None])
    async with server(echo, lambda _: next(answers)) as address:
        await (await dial(address, "t")).close()


async def test_where_nobody_listens_it_says_so_in_time() -> None:
    with pytest.raises(NoWay, match="Connect call failed") as told:
        await dial("ws://127.0.0.1:9/", "t", patience=0.3)
    assert told.value.status is None


async def test_standard_streams_are_the_connection_and_nothing_is_lost_at_the_end() -> None:
    async def send(way: ServerConnection) -> None:
        first = await way.recv()
        for at in range(0, len(PLENTY), 500_000):
            await way.send(PLENTY[at : at + 500_000])
        await way.send(first)

    code = "import asyncio, sys; from mlmp_spawner.client.dial import join_standard_streams as join; " \
           "asyncio.run(join(sys.argv[1], 't'))"  # fmt: skip
    async with server(send) as address:
        ran = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, address, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert ran.stdin is not None and ran.stdout is not None
        ran.stdin.write(b"hello")
        await ran.stdin.drain()
        out = await ran.stdout.read()
        assert await ran.wait() == 0
    assert out == PLENTY + b"hello"


async def test_why_the_server_lets_nobody_in_is_told_and_is_not_taken_for_ssh() -> None:
    async def refuse(way: ServerConnection) -> None:
        await way.send(b"MLMP: There is no sshd here.\r\n")

    async with server(refuse) as address:
        taken = Taken()
        with pytest.raises(Cut, match=r"^There is no sshd here\.$"):
            await carry(await dial(address, "t"), reader(b"", end=False), taken)
        assert not taken.data
