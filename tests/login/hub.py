"""What a login sees of a hub: its real database and its real users, with servers whose stop a test holds up."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyterhub import orm
from jupyterhub.roles import create_role, get_default_roles
from jupyterhub.spawner import Spawner
from jupyterhub.user import User, UserDict

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.logins.watched import MLMPLogin


class Book(MLMPLogin):
    """A login that reads a book: True, False, or what is said of a person; silence where it has no line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.says: dict[str, bool | dict[str, Any]] = {}
        self.breaks: set[str] = set()

    async def came_from_here(self, user: User) -> bool:
        """What is kept of some can't be read."""
        if user.name in self.breaks:
            raise ValueError("The page is torn.")
        return await super().came_from_here(user)

    async def ask(self, user: User, handler: Any = None) -> bool | dict[str, Any]:
        """What the book says."""
        if user.name not in self.says:
            raise Unavailable("The book is lent out.")
        return self.says[user.name]

    async def authenticate(self, handler: Any, data: dict[str, str]) -> dict[str, Any]:
        """Nobody is let in without the book."""
        raise Unavailable("The book is lent out, 100% of it.")


class Stuck(Spawner):
    """A server on a machine that does not answer: its stop never returns."""

    stops = 0

    async def start(self) -> str:
        """Nothing."""
        return "http://127.0.0.1:9"

    async def poll(self) -> int | None:
        """It runs."""
        return None

    async def stop(self, now: bool = False) -> None:
        """Never returns."""
        self.stops += 1
        await asyncio.Event().wait()


class NoRoutes:
    """A proxy that forgot the route."""

    async def delete_user(self, user: User, name: str = "") -> None:
        """Nothing to take away."""


class Hub:
    """A hub with people who each have a token, and a server if they are to have one."""

    def __init__(self, login: Any) -> None:
        self.login = login
        self.db = orm.new_session_factory("sqlite:///:memory:")()
        for role in get_default_roles():
            create_role(self.db, role)
        self.db.add(orm.OAuthClient(identifier="jupyterhub"))  # to whom the hub gives tokens
        self.db.commit()
        settings = {"authenticator": login, "spawner_class": Stuck, "base_url": "/"}
        self.users = UserDict(lambda: self.db, settings)
        self.proxy = NoRoutes()

    def person(self, name: str, *, server: bool = False) -> User:
        """Somebody with a token."""
        self.db.add(found := orm.User(name=name))
        self.db.commit()
        user = self.users[found]
        user.new_api_token()
        if server:
            spawner = user.spawners[""]
            spawner.server = None
            found.orm_spawners[""].server = orm.Server(ip="127.0.0.1", port=9)
            self.db.commit()
        return user

    def has_token(self, name: str) -> bool:
        """Whether somebody has one."""
        return bool(orm.User.find(self.db, name).api_tokens)
