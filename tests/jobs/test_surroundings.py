"""What jobs' pods need of their owner is asked of a hub that answers over HTTP, and kept for a while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mlmp_spawner.errors import Conflict, NotFound, Unavailable
from mlmp_spawner.hub import HubClient
from mlmp_spawner.jobs import surroundings
from mlmp_spawner.jobs.surroundings import HubSurroundings

SAID: dict[str, Any] = {
    "namespace": "students", "url": "http://proxy/", "storage": {"claim": "homes", "home": "/home/jovyan"},
    "folder": "ann", "account": {"uid": 4711, "gid": 100, "groups": [50], "fs_group": None, "of_login": True},
    "pull_policy": "Always", "pull_secrets": ["theirs", "ours"], "requested_share": 0.8, "priority_class": "users",
    "runtime_class": "gvisor", "tolerations": [{"key": "lab"}],
}  # fmt: skip


class PlayedHub:
    """Answers each call with the next of what it was told to say, the last one again and again."""

    def __init__(self, *answers: tuple[int, dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split(b"\r\n", 1)[0].decode())
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        content = json.dumps(body).encode()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode())
        writer.write(content)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def asking(hub: PlayedHub) -> AsyncIterator[HubSurroundings]:
    server = await asyncio.start_server(hub.answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    client = HubClient(f"http://{host}:{port}/hub/api", "token")
    async with server:
        yield HubSurroundings(client, image="mlmp/hub:1", pull_secrets=("ours",), api_url="http://mlmp/api/v1/")
        await client.close()


async def test_they_are_the_hubs_with_what_the_service_knows_itself() -> None:
    hub = PlayedHub((200, SAID))
    async with asking(hub) as of:
        found = await of("ann/ä@x.org")
    assert hub.asked == ["POST /hub/api/mlmp/users/ann%2F%C3%A4%40x.org/surroundings HTTP/1.1"]
    assert (found.namespace, found.url, found.folder, found.storage.claim) == (
        "students", "http://proxy/", "ann", "homes",
    )  # fmt: skip
    assert (found.account.uid, found.account.gid, found.account.groups) == (4711, 100, frozenset({50}))
    assert (found.image, found.api_url) == ("mlmp/hub:1", "http://mlmp/api/v1/")
    assert found.pull_secrets == ("theirs", "ours")
    assert (found.requested_share, found.priority_class, found.runtime_class) == (0.8, "users", "gvisor")
    assert found.tolerations == ({"key": "lab"},)


async def test_many_jobs_of_one_person_ask_once() -> None:
    hub = PlayedHub((200, SAID))
    async with asking(hub) as of:
        found = await asyncio.gather(*(of("ann") for _ in range(20)))
        await of("bob")
    assert len(set(map(id, found))) == 1
    assert len(hub.asked) == 2


async def test_after_a_while_the_hub_looks_again_whether_the_home_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "KEPT", 0.0)
    hub = PlayedHub((200, SAID), (200, SAID | {"folder": "ann---2"}))
    async with asking(hub) as of:
        assert [(await of("ann")).folder, (await of("ann")).folder] == ["ann", "ann---2"]
        assert not of._known or list(of._known) == ["ann"]


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFound), (409, Conflict), (500, Unavailable), (503, Unavailable)]
)
async def test_a_refusal_has_the_hubs_sentence_and_is_not_kept(status: int, error: type[Exception]) -> None:
    hub = PlayedHub((status, {"message": "Your folder can't be made."}), (200, SAID))
    async with asking(hub) as of:
        with pytest.raises(error, match="folder can't be made"):
            await of("ann")
        assert (await of("ann")).folder == "ann"
