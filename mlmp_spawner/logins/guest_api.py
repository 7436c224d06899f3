"""What the service asks the hub when a guest's time is over: to take login and servers, and to erase what is left.

The hub alone can do that: its spawner knows where the files are, and under ``--auth pam`` it is root.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.user import User
from jupyterhub.utils import maybe_future
from tornado import web

from mlmp_spawner.errors import MLMPError
from mlmp_spawner.rules.guests import is_guest

SCOPE = "custom:mlmp:guests"
"""What the token of whoever asks needs; the service has it, and no user."""


class _OfAGuest(APIHandler):
    def guest(self, name: str) -> User | None:
        """The guest; None: the hub has no such user (any more).

        :raises HTTPError: the caller may not ask, or it is somebody who is no guest.
        """
        if SCOPE not in self.expanded_scopes:
            raise web.HTTPError(403, f"This needs the scope {SCOPE}")
        if not is_guest(name):
            raise web.HTTPError(404, "There is no such guest")
        return self.find_user(name)

    async def take_all(self, user: User) -> bool:
        """Takes tokens, login and servers; False while a server is not gone yet."""
        take_tokens(self.db, user)
        for server, spawner in list(user.spawners.items()):
            if spawner.active and not spawner.pending:
                await self.stop_single_user(user, server)
        return not any(spawner.active or spawner.pending for spawner in user.spawners.values())

    def say(self, done: bool) -> None:
        """204: it is done; 202: it is on its way, ask again."""
        self.set_status(204 if done else 202)


class LeaveHandler(_OfAGuest):
    """``POST mlmp/guests/NAME/leave``: no login, no token, no server, and nothing else of theirs that runs is left."""

    async def post(self, name: str) -> None:
        """204 when that is so, 202 while a server is being stopped."""
        user = self.guest(name)
        gone = user is None or await self.take_all(user)
        if user is not None and gone:
            await end(user)
        self.say(gone)


class ErasureHandler(_OfAGuest):
    """``DELETE mlmp/guests/NAME``: besides, files, account and user are gone afterwards."""

    async def delete(self, name: str) -> None:
        """204 when that is so, 202 while something takes its time. Asked again, it goes on where it was."""
        user = self.guest(name)
        if user is None:
            self.say(True)
        elif not await self.take_all(user):
            self.say(False)
        else:
            await self._erase(user)
            self.say(True)

    async def _erase(self, user: User) -> None:
        """The user last: as long as the hub has one, there may be something left of them."""
        await maybe_future(self.authenticator.delete_user(user))
        await user.delete_spawners()
        self.users.delete(user)


async def erase(user: User) -> None:
    """Erases what a guest left outside the hub.

    :raises HTTPError: not all of it is gone yet; what is in the way.
    """
    spawner = _spawner(user)
    if not hasattr(spawner, "erase_guest"):
        raise web.HTTPError(501, f"{type(spawner).__name__} does not know how to erase anybody's files")
    await _told(user, spawner.erase_guest())


async def end(user: User) -> None:
    """Ends what of a guest runs beside their servers, where something can: as an account of the system.

    :raises HTTPError: not all of it is gone yet; what is in the way.
    """
    spawner = _spawner(user)
    if hasattr(spawner, "end_guest"):
        await _told(user, spawner.end_guest())


def _spawner(user: User) -> Any:
    user.get_or_create_spawner("", "")  # for the row that one needs
    return user._new_spawner("")


async def _told(user: User, work: Awaitable[None]) -> None:
    try:
        await work
    except MLMPError as error:
        user.log.warning("Of guest %r not all is gone: %s", user.name, error.detail)
        raise web.HTTPError(error.status, error.detail.replace("%", "%%")) from error


def take_tokens(db: Any, user: User) -> None:
    """Takes back everything by which somebody is known: tokens, codes of logins, cookies."""
    for one in [*user.orm_user.api_tokens, *user.orm_user.oauth_codes]:
        db.delete(one)
    user.orm_user.cookie_id = orm.new_token()
    db.commit()
