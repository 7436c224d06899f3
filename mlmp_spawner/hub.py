"""What the service asks of JupyterHub, over its REST API.

Scopes that the service's token needs: ``list:users``, ``read:users:groups``, ``read:servers``, ``start:servers``,
``delete:servers``, ``proxy``, ``admin:groups``, ``custom:mlmp:guests``; where rosters make users ``admin:users``; in a
cluster that runs jobs ``custom:mlmp:surroundings``.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from mlmp_spawner.errors import (
    Conflict,
    Invalid,
    MLMPError,
    NotAllowed,
    NotFound,
    NotNow,
    TooManyRequests,
    Unavailable,
)
from mlmp_spawner.units import from_iso

log = logging.getLogger("mlmp.hub")

PAGE = 100
SLOW = httpx.Timeout(30.0, connect=5.0)
"""The hub answers a start when the server is ready or after its ``slow_spawn_timeout`` (10 s)."""
HOME = httpx.Timeout(18.0, connect=5.0)
"""Making a user's home takes that long at most, or is asked for again."""

ERASE = httpx.Timeout(120.0, connect=5.0)
"""A guest may have left many files."""

_PAGINATION = "application/jupyterhub-pagination+json"
_REFUSALS: dict[int, type[MLMPError]] = {
    400: NotNow,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    422: Invalid,
    429: TooManyRequests,
}


@dataclass(frozen=True, slots=True)
class HubServer:
    """A server as the hub sees it. ``pending``: spawn, stop, check or None."""

    name: str
    ready: bool
    pending: str | None
    stopped: bool
    user_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HubUser:
    """A user as the hub sees one, with the servers that are not stopped."""

    name: str
    groups: frozenset[str]
    servers: Mapping[str, HubServer]


class HubClient:
    """The hub's REST API, as the service uses it.

    :param api_url: such as ``http://127.0.0.1:8081/hub/api``.
    :param timeout: seconds for a plain question; starts and stops may take longer.

    Every call raises :class:`~mlmp_spawner.errors.Unavailable` when the hub does not answer, and the error that fits
    (with the hub's own sentence) when it refuses.
    """

    def __init__(self, api_url: str, token: str, *, timeout: float = 5.0) -> None:
        self._http = httpx.AsyncClient(
            base_url=api_url.rstrip("/") + "/",
            headers={"Authorization": f"token {token}"},
            timeout=httpx.Timeout(timeout),
            trust_env=False,
            # Without TLS, as on one machine, no authorities are read; redirects are not followed to anywhere else.
            verify=not api_url.startswith("http:"),
        )

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def alive(self) -> bool:
        """Whether the hub answers at all."""
        try:
            return (await self._http.get("")).status_code == 200
        except httpx.HTTPError:
            return False

    async def get_user(self, name: str) -> HubUser:
        """One user, with groups and servers.

        :raises NotFound: the hub has no such user.
        """
        try:
            answer = await self._ask("GET", f"users/{quote(name, safe='')}")
        except NotFound as error:  # the hub itself names nobody
            raise NotFound(f"The hub has no user {name!r}.", hint="Look at how the name is written.") from error
        return _user(answer.json())

    async def users(self) -> AsyncIterator[HubUser]:
        """All users with servers that run or are about to."""
        async for user in self._users(state="active"):
            yield user

    async def groups(self) -> dict[str, frozenset[str]]:
        """The groups of each user."""
        return {user.name: user.groups async for user in self._users()}

    async def _users(self, **narrowed: str) -> AsyncIterator[HubUser]:
        async for item in self._pages("users", **narrowed):
            yield _user(item)

    async def _pages(self, path: str, **narrowed: str) -> AsyncIterator[dict[str, Any]]:
        """The items of a list, whichever page they are on."""
        offset: int | None = 0
        while offset is not None:
            params = {**narrowed, "limit": PAGE, "offset": offset}
            answer = await self._ask("GET", path, params=params, headers={"Accept": _PAGINATION})
            body = answer.json()
            for item in body["items"]:
                yield item
            following = body["_pagination"].get("next")
            offset = following["offset"] if following else None

    async def group_members(self) -> dict[str, frozenset[str]]:
        """All groups, with the names of who is in them."""
        return {item["name"]: frozenset(item["users"]) async for item in self._pages("groups")}

    async def make_group(self, name: str) -> None:
        """Makes a group that nobody is in. :raises Conflict: there is one."""
        await self._ask("POST", _group_path(name), json={})

    async def delete_group(self, name: str) -> None:
        """Deletes a group; one that is gone is fine."""
        with suppress(NotFound):
            await self._ask("DELETE", _group_path(name))

    async def add_to_group(self, name: str, users: Sequence[str]) -> None:
        """Puts users into a group, or none of them. :raises NotFound: there is no such group.

        :raises NotNow: one of them is no user.
        """
        await self._ask("POST", f"{_group_path(name)}/users", json={"users": list(users)})

    async def remove_from_group(self, name: str, users: Sequence[str]) -> None:
        """Takes users out of a group. :raises NotFound, NotNow: see :meth:`add_to_group`."""
        await self._ask("DELETE", f"{_group_path(name)}/users", json={"users": list(users)})

    async def make_user(self, name: str) -> None:
        """Makes a user; one that is there is fine. :raises NotNow: the hub does not take the name."""
        with suppress(Conflict):
            await self._ask("POST", f"users/{quote(name, safe='')}")

    async def start_server(self, user: str, server: str, options: Mapping[str, Any]) -> bool:
        """Starts a server; True when it is ready, False when it is on its way (or was already).

        :raises MLMPError: the spawner's refusal, with its own sentence as ``detail``.
        """
        body = {"display_name": server, "user_options": dict(options)}
        answer = await self._ask("POST", _server_path(user, server), json=body, timeout=SLOW)
        return answer.status_code == 201

    async def stop_server(self, user: str, server: str, *, remove: bool = False) -> bool:
        """Stops a server; True when it is gone, False when it is on its way out. One that does not run is gone."""
        try:
            answer = await self._ask("DELETE", _server_path(user, server), json={"remove": remove}, timeout=SLOW)
        except NotFound:
            return True
        return answer.status_code == 204

    async def surroundings(self, user: str) -> dict[str, Any]:
        """As whom, and with which files, a user's jobs run in a cluster; their home is there afterwards.

        :raises MLMPError: it can't be known or made, with the hub's own sentence as ``detail``.
        """
        path = f"mlmp/users/{quote(user, safe='')}/surroundings"
        answer = await self._ask("POST", path, json={}, timeout=HOME)
        found: dict[str, Any] = answer.json()
        return found

    async def end_guest(self, name: str) -> bool:
        """Takes tokens, login and servers from a guest; False while a server is on its way out: ask again."""
        path = f"mlmp/guests/{quote(name, safe='')}/leave"
        return (await self._ask("POST", path, json={}, timeout=SLOW)).status_code == 204

    async def erase_guest(self, name: str) -> bool:
        """Besides, erases files, account and user; False while that takes its time: ask again.

        :raises MLMPError: a part can't be erased now, with the hub's own sentence as ``detail``.
        """
        answer = await self._ask("DELETE", f"mlmp/guests/{quote(name, safe='')}", timeout=ERASE)
        return answer.status_code == 204

    async def restore_routes(self) -> None:
        """Asks the hub to give the proxy all its routes again (a proxy that was restarted knows none)."""
        await self._ask("POST", "proxy", timeout=SLOW)

    async def has_route(self, prefix: str) -> bool:
        """Whether the proxy has a route for ``prefix`` (of any host)."""
        answer = await self._ask("GET", "proxy")
        routes = answer.json()
        return any(spec.endswith(prefix) for spec in routes)

    async def last_activity(self) -> dict[tuple[str, str], int]:
        """When something last went through the proxy to each server, by user and server, in ms UTC.

        :raises Unavailable: it is a proxy that does not tell.
        """
        found: dict[tuple[str, str], int] = {}
        offset: int | None = 0
        tells = False
        while offset is not None:
            params = {"limit": PAGE, "offset": offset}
            answer = await self._ask("GET", "proxy", params=params, headers={"Accept": _PAGINATION})
            body = answer.json()
            for route in body["items"].values():
                about = route.get("data") or {}
                tells = tells or "last_activity" in about
                if about.get("user") and about.get("last_activity"):
                    name = (str(about["user"]), str(about.get("server_name") or ""))
                    found[name] = from_iso(str(about["last_activity"]))
            following = body["_pagination"].get("next")
            offset = following["offset"] if following else None
        if not tells:
            raise Unavailable("The proxy does not tell when its servers were last used.")
        return found

    async def _ask(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, **kwargs)
        except httpx.HTTPError as error:
            raise Unavailable("The hub does not answer just now.", hint="Try again in a few seconds.") from error
        if answer.is_success:
            return answer
        raise _refusal(answer)


def _group_path(name: str) -> str:
    return f"groups/{quote(name, safe='')}"


def _server_path(user: str, server: str) -> str:
    path = f"users/{quote(user, safe='')}"
    return f"{path}/servers/{quote(server, safe='')}" if server else f"{path}/server"


def _user(model: Mapping[str, Any]) -> HubUser:
    servers = {
        name: HubServer(
            name=name,
            ready=bool(item.get("ready")),
            pending=item.get("pending"),
            stopped=bool(item.get("stopped", False)),
            user_options=item.get("user_options") or {},
        )
        for name, item in (model.get("servers") or {}).items()
    }
    return HubUser(model["name"], frozenset(model.get("groups") or ()), servers)


def _refusal(answer: httpx.Response) -> MLMPError:
    """The hub's refusal as an error of ours. A 403 to the service's own token is a fault of the configuration."""
    try:
        message = str(answer.json().get("message") or "")
    except (ValueError, AttributeError):
        message = ""
    status = answer.status_code
    if status >= 500 or status not in _REFUSALS:
        log.warning("the hub answered %d to %s %s", status, answer.request.method, answer.request.url.path)
        said = message if message != "Internal Server Error" else ""
        return Unavailable(said or "The hub could not do this just now.", hint="Try again in a few seconds.")
    error = _REFUSALS[status](message or "The hub refused this.")
    if status == 429:
        wait = answer.headers.get("Retry-After", "")
        error.data["retry_after"] = int(wait) if wait.isdecimal() else 5
    return error
