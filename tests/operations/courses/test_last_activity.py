"""When servers were last used, as hub and proxy tell it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.hub import HubClient
from mlmp_spawner.units import from_iso

AT = "2026-11-22T10:00:00.000Z"


class PlayedHub(HubClient):
    """A hub that tells its routes two at a time."""

    def __init__(self, routes: dict[str, dict[str, Any]]) -> None:
        super().__init__("http://127.0.0.1:1/hub/api", "none")
        self.routes = routes

    async def _ask(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        assert (method, path) == ("GET", "proxy")
        offset = kwargs["params"]["offset"]
        some = dict(list(self.routes.items())[offset : offset + 2])
        following = {"offset": offset + 2} if offset + 2 < len(self.routes) else None
        return httpx.Response(200, json={"items": some, "_pagination": {"next": following}})


def route(**data: Any) -> dict[str, Any]:
    return {"routespec": "/", "target": "http://127.0.0.1:2", "data": data}


def told(routes: dict[str, dict[str, Any]]) -> dict[tuple[str, str], int]:
    async def ask() -> dict[tuple[str, str], int]:
        client = PlayedHub(routes)
        try:
            return await client.last_activity()
        finally:
            await client.close()

    return asyncio.run(ask())


def test_it_is_known_of_each_server_on_whatever_page_it_is():
    found = told({
        "/": route(hub=True, last_activity=AT),
        "/user/ann/": route(user="ann", server_name="", last_activity=AT),
        "/user/ben/x/": route(user="ben", server_name="x", last_activity="2026-11-22T10:00:01.500Z"),
    })  # fmt: skip
    assert found == {("ann", ""): from_iso(AT), ("ben", "x"): from_iso(AT) + 1500}


def test_a_proxy_that_does_not_tell_is_not_taken_for_one_that_saw_nobody():
    with pytest.raises(Unavailable):
        told({"/": route(hub=True), "/user/ann/": route(user="ann", server_name="")})
