"""Who is let into somebody's server is out as soon as the hub says so.

A server of the hub keeps its answers for minutes, and asks nothing of a connection that is open. Of everybody but its
owner it has to ask anew at each request, and again and again while a connection of theirs is open.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from tornado.websocket import WebSocketHandler

EVERY = 2.0
"""Seconds between two questions about those who are connected."""
PATIENCE = 5.0
"""Seconds for one answer; who is not known for sure is out."""
GONE = 1008

_log = logging.getLogger(__name__)


class HubAuth(Protocol):
    """What is asked of JupyterHub's :class:`~jupyterhub.services.auth.HubOAuth`."""

    access_scopes: Any

    def user_for_token(
        self, token: str, use_cache: bool = True, session_id: str = "", *, sync: bool = True
    ) -> Awaitable[dict[str, Any] | None]: ...

    def check_scopes(self, scopes: Any, user: dict[str, Any]) -> Any: ...


class Visitors:
    """Those who are in this server, but for its ``owner``, each by the token of the hub that they showed."""

    def __init__(self, hub: HubAuth, owner: str) -> None:
        self._hub, self._owner = hub, owner
        self._here: WeakKeyDictionary[WebSocketHandler, str] = WeakKeyDictionary()
        self._watching: asyncio.Task[None] | None = None

    async def may_enter(self, handler: Any, name: str, token: str) -> bool:
        """Whether a request may go on, by what the hub says now; a connection is looked at from then on."""
        if name == self._owner:
            return True
        if isinstance(handler, WebSocketHandler):  # first, so that it is ended whatever happens meanwhile
            self._here[handler] = token
            if self._watching is None or self._watching.done():
                self._watching = asyncio.get_running_loop().create_task(self._watch())
        return await self._may_stay(token)

    async def look(self) -> None:
        """Ends the connections of those who may not be here any more."""
        for token in {token for handler, token in self._here.items() if handler.ws_connection is not None}:
            if not await self._may_stay(token):
                self._end(token)

    async def _watch(self) -> None:
        """As long as there is somebody."""
        while self._here:
            await asyncio.sleep(EVERY)
            try:
                await self.look()
            except Exception:  # noqa: BLE001 -- the next look follows
                _log.exception("looking at who is in this server failed; tried again")

    async def _may_stay(self, token: str) -> bool:
        try:
            asked = self._hub.user_for_token(token, use_cache=False, sync=False)
            model = await asyncio.wait_for(asked, PATIENCE)
        except Exception as error:  # noqa: BLE001 -- a hub that does not answer says it in many ways
            _log.warning("the hub does not say whether somebody may be in this server: %s", error)
            return False
        return bool(model and self._hub.check_scopes(self._hub.access_scopes, model))

    def _end(self, token: str) -> None:
        for handler in [handler for handler, of in self._here.items() if of == token]:
            connection: Any = handler.ws_connection
            if connection is not None:
                handler.close(GONE, "You may not be in this server any more.")
                connection.stream.close()  # what they still send is not waited for
            del self._here[handler]


def watch_visitors(server: Any) -> Visitors | None:
    """Has a Jupyter server of the hub ask so; None where it is none of the hub's."""
    try:
        from jupyterhub.singleuser.extension import JupyterHubIdentityProvider
    except ImportError:
        return None
    former = server.identity_provider
    if not isinstance(former, JupyterHubIdentityProvider):
        return None
    visitors = Visitors(former.hub_auth, os.environ.get("JUPYTERHUB_USER", ""))

    class Provider(JupyterHubIdentityProvider):  # type: ignore[misc]
        """The hub's, that asks of visitors each time."""

        async def get_user(self, handler: Any) -> Any:
            """Who asks; None: nobody who may."""
            user = await super().get_user(handler)
            if user is None:
                return None
            token = self.hub_auth.get_token(handler) or ""
            return user if await visitors.may_enter(handler, user.username, token) else None

    provider = Provider(parent=server, log=server.log, hub_auth=former.hub_auth)
    server.identity_provider = provider
    server.web_app.settings["identity_provider"] = provider
    return visitors
