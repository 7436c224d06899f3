"""Of everybody but its owner a server asks the hub each time, and while they are connected again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application
from tornado.websocket import WebSocketClientConnection, WebSocketHandler, websocket_connect

from mlmp_spawner.lab.desk import visitors
from mlmp_spawner.lab.desk.visitors import Visitors


class Hub:
    """Its answers: the names by token of those who may be in the server. ``asked``: for which tokens."""

    access_scopes = ("access:servers!server=ann/",)

    def __init__(self) -> None:
        self.may = {"owner": "ann", "first": "ivy", "second": "ivy"}
        self.asked: list[str] = []
        self.fault: Exception | None = None

    async def user_for_token(
        self, token: str, use_cache: bool = True, session_id: str = "", *, sync: bool = True
    ) -> dict[str, Any] | None:
        assert not use_cache and not sync, "an answer of before says nothing"
        self.asked.append(token)
        if self.fault:
            raise self.fault
        return {"name": self.may[token]} if token in self.may else None

    def check_scopes(self, scopes: Any, user: dict[str, Any]) -> bool:
        return user["name"] in ("ann", "ivy")


class Socket(WebSocketHandler):
    """Says whatever is said to it."""

    async def prepare(self) -> None:
        token = self.get_argument("token")
        name = "ann" if token == "owner" else "ivy"
        if not await self.settings["visitors"].may_enter(self, name, token):
            self.set_status(403)
            await self.finish()

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message)


class Server:
    """A server with its visitors."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.visitors = Visitors(self.hub, "ann")
        self.http = HTTPServer(Application([("/", Socket)], visitors=self.visitors))
        socket, self.port = bind_unused_port()
        self.http.add_sockets([socket])

    async def connect(self, token: str) -> WebSocketClientConnection:
        return await websocket_connect(f"ws://127.0.0.1:{self.port}/?token={token}")


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr(visitors, "EVERY", 0.05)
    made = Server()
    yield made
    made.http.stop()
    await made.http.close_all_connections()


async def is_open(connection: WebSocketClientConnection) -> bool:
    await connection.write_message("there?")
    return await asyncio.wait_for(connection.read_message(), 20) == "there?"


async def ends(connection: WebSocketClientConnection) -> None:
    assert await asyncio.wait_for(connection.read_message(), 20) is None
    assert connection.close_code == visitors.GONE


async def test_who_may_not_be_there_any_more_is_out_and_all_others_go_on(server: Server):
    owner, first, second = [await server.connect(token) for token in ("owner", "first", "second")]
    del server.hub.may["first"]
    await ends(first)
    assert await is_open(owner) and await is_open(second)
    assert "owner" not in server.hub.asked, "of the owner nothing is asked"


@pytest.mark.parametrize("fault", [OSError("down"), asyncio.TimeoutError()])
async def test_whom_the_hub_does_not_speak_for_is_out_but_never_the_owner(server: Server, fault: Exception):
    owner, first = await server.connect("owner"), await server.connect("first")
    server.hub.fault = fault
    await ends(first)
    assert await is_open(owner)
    assert not await server.visitors.may_enter(object(), "ivy", "first")


async def test_all_connections_of_one_are_ended_before_a_look_is_over(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(visitors, "EVERY", 3600)
    several = [await server.connect("first") for _ in range(3)]
    server.hub.may.clear()
    await server.visitors.look()
    for one in several:
        await ends(one)


async def test_nothing_is_asked_when_nobody_is_there(server: Server):
    first = await server.connect("first")
    assert await is_open(first)
    first.close()
    await asyncio.wait_for(first.read_message(), 20)

    async def quiet() -> None:
        while True:
            before = len(server.hub.asked)
            await asyncio.sleep(0.3)
            if len(server.hub.asked) == before:
                return

    await asyncio.wait_for(quiet(), 20)
