"""What a start makes of an API server that says no, nothing, or something else than a moment ago."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from kubernetes_asyncio.client.exceptions import ApiException

from tests.spawners.pod_manifests import kubeconfig, made

__all__ = ["kubeconfig"]


@asynccontextmanager
async def answering(status: str) -> AsyncIterator[str]:
    """The address of an API server that gives one answer; none at all for ""."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if status:
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        yield f"http://{host}:{port}"


async def is_there_already(status: str) -> bool:
    """Whether a pod is this start's that was there when it was asked for."""
    spawner = made()
    async with answering(status) as address:
        spawner.api.api_client.configuration.host = address
        return await spawner._is_there_already()


@pytest.mark.parametrize("status", ["404 Not Found", "503 Service Unavailable", ""], ids=["gone", "later", "lost"])
async def test_a_pod_that_is_gone_or_not_seen_just_now_is_asked_for_again(status: str) -> None:
    assert await is_there_already(status) is False


async def test_a_refusal_is_one() -> None:
    with pytest.raises(ApiException):
        await is_there_already("403 Forbidden")
