"""Which answers of a provider are a no, and which are none at all: people lose their servers for a no only."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from jupyterhub import crypto
from jupyterhub.user import User
from tornado import web
from tornado.httpserver import HTTPServer

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.logins.oauth import OIDCLogin
from tests.login.hub import Hub
from tests.login.provider import free_port

Said = tuple[int, dict[str, str], Any]
REVOKED: Said = (400, {}, {"error": "invalid_grant"})
EXPIRED: Said = (401, {}, {"error": "invalid_token"})
TOKENS: Said = (200, {}, {"access_token": "b", "token_type": "Bearer", "refresh_token": "r2"})
ANN: Said = (200, {}, {"preferred_username": "ann", "groups": []})


class Provider:
    """Says at each path what a test wants, one answer after the other; the last one stays."""

    def __init__(self) -> None:
        self.says: dict[str, list[Said]] = {}
        self.url = f"http://127.0.0.1:{free_port()}"
        self._server = HTTPServer(web.Application([("/(.*)", Answers, {"provider": self})]))
        self._server.listen(int(self.url.rpartition(":")[2]), "127.0.0.1")

    async def close(self) -> None:
        """Ends it."""
        self._server.stop()
        await self._server.close_all_connections()


class Answers(web.RequestHandler):
    """Of the provider."""

    def initialize(self, provider: Provider) -> None:
        """Whose."""
        self.provider = provider

    def get(self, path: str) -> None:
        """What is to be said."""
        says = self.provider.says[path]
        code, headers, body = says.pop(0) if len(says) > 1 else says[0]
        self.set_status(code)
        for name, value in headers.items():
            self.set_header(name, value)
        self.finish(body if isinstance(body, str) else json.dumps(body))

    post = get


class Here:
    """A login, its provider and Ann, who logged in a while ago."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.login = OIDCLogin(
            client_id="mlmp", client_secret="secret", token_url=f"{provider.url}/token",
            userdata_url=f"{provider.url}/userinfo", username_claim="preferred_username", allow_all=True,
        )  # fmt: skip
        self.ann: User = Hub(self.login).person("ann")

    async def ask(self, *, userinfo: list[Said], token: list[Said]) -> Any:
        """What is concluded when the provider says this of the access token, and of the one that renews it."""
        kept = {"token_response": {"access_token": "a", "token_type": "Bearer"}, "refresh_token": "r"}
        await self.ann.save_auth_state(kept)
        self.provider.says = {"userinfo": userinfo, "token": token}
        return await self.login.ask(self.ann)


@pytest.fixture
async def here(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", secrets.token_hex(32))
    crypto.CryptKeeper.clear_instance()
    provider = Provider()
    yield Here(provider)
    await provider.close()
    crypto.CryptKeeper.clear_instance()


async def test_a_renewed_token_answers(here: Here) -> None:
    said = await here.ask(userinfo=[EXPIRED, ANN], token=[TOKENS])
    assert (said["name"], said["auth_state"]["refresh_token"]) == ("ann", "r2")


@pytest.mark.parametrize(
    "no",
    [
        REVOKED,
        (401, {}, "Unauthorized"),
        (401, {}, {"error": {"status": "UNAUTHENTICATED"}}),
        (403, {}, {"message": "Suspended"}),
        (400, {}, ""),
        (200, {}, {"error": "bad_refresh_token", "error_description": "It is incorrect or expired."}),
    ],
    ids=["revoked", "401 without more", "Google's", "403", "400 without more", "GitHub's with 200"],
)
async def test_a_token_that_is_taken_back_is_a_no(no: Said, here: Here) -> None:
    assert await here.ask(userinfo=[EXPIRED], token=[no]) is False


@pytest.mark.parametrize(
    "silence",
    [
        (404, {}, {"error": "not found"}),
        (405, {}, ""),
        (407, {}, ""),
        (408, {}, ""),
        (418, {}, {"error": "invalid_grant"}),
        (429, {}, ""),
        (503, {}, ""),
        (401, {}, {"error": "invalid_client"}),
        (400, {}, {"error": "unauthorized_client"}),
        (400, {}, {"error": "temporarily_unavailable"}),
        (400, {}, {"error": "server_error"}),
        (403, {"Retry-After": "60"}, {"message": "You have exceeded a secondary rate limit"}),
        (403, {"X-RateLimit-Remaining": "0"}, {"message": "API rate limit exceeded"}),
        (403, {}, "<html>Request blocked</html>"),
        (400, {}, "<html>The plain HTTP request was sent to HTTPS port</html>"),
        (200, {}, "<html>Welcome to our network</html>"),
        (200, {}, {}),
        (200, {}, {"error": "incorrect_client_credentials", "error_description": "They are not."}),
    ],
    ids=lambda said: f"{said[0]} {said[1] or said[2]}"[:40],
)
async def test_all_else_is_no_answer(silence: Said, here: Here) -> None:
    with pytest.raises(Unavailable):
        await here.ask(userinfo=[EXPIRED], token=[silence])


@pytest.mark.parametrize(
    "strange",
    [(200, {}, {"sub": "1"}), (200, {}, "<html>Hello</html>"), (404, {}, "")],
    ids=["no name", "html", "404"],
)
async def test_a_renewed_token_that_brings_nothing_of_use_is_no_no(strange: Said, here: Here) -> None:
    with pytest.raises(Unavailable):
        await here.ask(userinfo=[EXPIRED, strange], token=[TOKENS])


async def test_a_renewed_token_that_is_refused_too_is_a_no(here: Here) -> None:
    assert await here.ask(userinfo=[EXPIRED], token=[TOKENS]) is False


async def test_the_last_answer_counts(here: Here) -> None:
    assert await here.ask(userinfo=[(403, {}, "<html>Blocked</html>")], token=[REVOKED]) is False
