"""Guests beside whatever login a hub has: they come by a code, at ``/hub/guest``.

A class before the login that is configured (:mod:`mlmp_spawner.logins.beside`). It takes care of people whose names
begin with ``guest-``, and leaves all others to that login, which can give nobody such a name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from jupyterhub.app import JupyterHub
from jupyterhub.auth import Authenticator
from jupyterhub.spawner import Spawner, SpawnException
from jupyterhub.traitlets import EntryPointType
from jupyterhub.user import User
from jupyterhub.utils import maybe_future
from sqlalchemy import Engine
from traitlets import HasTraits

from mlmp_spawner import units
from mlmp_spawner.logins import beside
from mlmp_spawner.logins.beside import WITH_GUESTS
from mlmp_spawner.logins.guest_api import ErasureHandler, LeaveHandler, erase
from mlmp_spawner.logins.guest_page import GuestPage
from mlmp_spawner.logins.guest_tries import Tries
from mlmp_spawner.operations.courses import guests
from mlmp_spawner.rules.guests import is_guest
from mlmp_spawner.settings import MLMP
from mlmp_spawner.store.engine import make_engine

T = TypeVar("T")


class GuestLogin(Authenticator):
    """Put it before an authenticator: ``class MyLogin(GuestLogin, Theirs)``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tries = Tries()
        self._engine: Engine | None = None

    def mlmp(self) -> MLMP:
        """The settings."""
        return MLMP(config=self.config)

    async def ask_database(self, question: Callable[[Engine], T]) -> T:
        """Asks in a worker thread: the hub's loop waits for nobody.

        :raises MLMPError: it refuses, or does not answer. :raises Busy: another transaction is in the way.
        """
        if self._engine is None:
            self._engine = make_engine(self.mlmp().db_url)
        engine = self._engine
        return await asyncio.to_thread(lambda: question(engine))

    def close(self) -> None:
        """Closes its connections."""
        if self._engine is not None:
            self._engine.dispose()

    async def is_let_in(self, name: str) -> bool:
        """Whether a guest may (still) be here."""
        return await self.ask_database(lambda engine: guests.is_let_in(engine, name, now=units.now()))

    # -- what JupyterHub calls ------------------------------------------------------------------------------------

    def get_handlers(self, app: JupyterHub) -> list[Any]:
        """Those of the login, the guests' page, and what the service ends them by."""
        theirs: list[Any] = super().get_handlers(app)
        return [
            *theirs,
            (r"/guest", GuestPage),
            (r"/api/mlmp/guests/([^/]+)/leave", LeaveHandler),
            (r"/api/mlmp/guests/([^/]+)", ErasureHandler),
        ]

    async def get_authenticated_user(self, handler: Any, data: Any) -> Any:
        """As the login has it; but it makes nobody a guest."""
        found = await super().get_authenticated_user(handler, data)
        if found and is_guest(found["name"]):
            self.log.warning("The login let in %r: that would be a guest's name", found["name"][:64])
            return None
        return found

    def validate_username(self, username: str) -> bool:
        """Nobody but a code makes a user with a guest's name: no login, no admin."""
        return not is_guest(username) and bool(super().validate_username(username))

    async def add_user(self, user: User) -> None:
        """A guest has no account anywhere yet."""
        if not is_guest(user.name):
            await maybe_future(super().add_user(user))

    async def delete_user(self, user: User) -> None:
        """Of a guest all files and the account go first, whoever deletes the user: nobody could find them later."""
        if is_guest(user.name):
            await erase(user)
        else:
            await maybe_future(super().delete_user(user))

    async def refresh_user(self, user: User, handler: Any = None, **kwargs: Any) -> Any:
        """A guest is known until the end of their time."""
        if is_guest(user.name):
            return await self.is_let_in(user.name)
        return await maybe_future(super().refresh_user(user, handler, **kwargs))

    async def came_from_here(self, user: User) -> bool:
        """Of a login that asks again and again: nobody there knows a guest."""
        theirs = getattr(super(), "came_from_here", None)
        return not is_guest(user.name) and (theirs is None or await theirs(user))

    async def pre_spawn_start(self, user: User, spawner: Spawner) -> None:
        """Nothing is started for a guest whose time is over.

        :raises SpawnException: saying so.
        """
        if not is_guest(user.name):
            await maybe_future(super().pre_spawn_start(user, spawner))
        elif not await self.is_let_in(user.name):
            refusal = SpawnException("Your time as a guest is over.", reason="guest_over", status_code=403)
            refusal.jupyterhub_message = "Your time as a guest is over."
            raise refusal

    async def post_spawn_stop(self, user: User, spawner: Spawner) -> None:
        """What a login does after a server was started for one of its people."""
        if not is_guest(user.name):
            await maybe_future(super().post_spawn_stop(user, spawner))


def with_guests(login: Any) -> type[GuestLogin]:
    """The class that lets guests in beside a login. :param login: a class, or how JupyterHub names one."""
    theirs = _Chosen(login=login).login
    return type(f"{theirs.__name__}WithGuests", (GuestLogin, theirs), {"__doc__": theirs.__doc__})


class _Chosen(HasTraits):
    login = EntryPointType(klass=Authenticator, entry_point_group="jupyterhub.authenticators")


def __getattr__(name: str) -> Any:
    """``WithGuests``: the class for the login that :mod:`mlmp_spawner.logins.beside` was told."""
    if name != WITH_GUESTS.rpartition(".")[2]:
        raise AttributeError(name)
    return with_guests(beside.theirs())
