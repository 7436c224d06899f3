"""Asks about everybody who has a server or a token, and takes both from those who are not known any more.

It runs in the hub: only there can tokens be taken back and servers be stopped without a token that may do that to all.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timezone
from typing import Any, Protocol

from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.user import User
from sqlalchemy import or_

AT_ONCE = 10
"""Questions under way at the same time."""
AGAIN = 5.0
"""Seconds until what could not be taken away yet (a server that is just being started) is tried again."""
MANY = 3
"""So many who are not known any more, and nobody who is, are more likely a mistake where people log in."""


class Login(Protocol):
    """What this needs of an authenticator: see :class:`~mlmp_spawner.logins.watched.MLMPLogin`."""

    check_every: int
    grace: float
    refused: dict[str, float]
    log: Any

    async def look(self, user: User) -> bool | None:
        """Asks whether a person is known; None: there is no answer."""

    def refuse(self, user: User) -> None:
        """Begins the grace of somebody of whom the last answer was no."""

    async def came_from_here(self, user: User) -> bool:
        """Whether a person is asked about at all."""


class Watch:
    """The loop. No failure ends it.

    :param login: whom to ask. :param app: the hub.
    """

    def __init__(self, login: Login, app: JupyterHub) -> None:
        self.login = login
        self.app = app
        self._task: asyncio.Task[None] | None = None
        self._stops: dict[tuple[str, str], asyncio.Task[None]] = {}

    def start(self) -> None:
        """Begins, where there is an event loop (a hub that only prints its settings has none)."""
        try:
            self._task = asyncio.get_running_loop().create_task(self._run())
        except RuntimeError:
            return

    async def _run(self) -> None:
        asked = time.monotonic()
        while True:
            await asyncio.sleep(self._pause(asked))
            try:
                if time.monotonic() >= asked + self.login.check_every:
                    asked = time.monotonic()
                    await self.ask_all()
                await self.end_refused()
            except Exception:
                self.login.log.exception("Asking about people where they log in failed; tried again")

    def _pause(self, asked: float) -> float:
        """Seconds until the next round, or until somebody's time is up."""
        ends = [since + self.login.grace for since in self.login.refused.values()]
        now = time.monotonic()
        coming = [max(end - now, AGAIN if end <= now else 0.0) for end in ends]
        return max(0.05, min([asked + self.login.check_every - now, *coming]))

    async def ask_all(self) -> None:
        """Asks about all who have something to lose; what they may do follows what is said of them.

        Nobody's time begins to run out in a round in which many turn unknown and nobody is known.
        """
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(user: User) -> bool | None:
            async with gate:
                try:
                    return await self.login.look(user) if await self.login.came_from_here(user) else None
                except Exception:
                    self.login.log.exception("Asking about %r failed; they keep what they have", user.name)
                    return None

        people = self._with_something_to_lose()
        answers = await asyncio.gather(*[ask(user) for user in people])
        gone = [user for user, known in zip(people, answers, strict=True) if known is False]
        new = [user for user in gone if user.name not in self.login.refused]
        if len(new) >= MANY and True not in answers:
            self.login.log.error(
                "Where people log in, nobody of %d is known any more: taken for a mistake there. Nobody loses "
                "anything until somebody is known. If they all left, log in yourself, or delete them in the hub",
                len(new),
            )
            return
        for user in new:
            self.login.refuse(user)

    async def end_refused(self) -> None:
        """Takes tokens and servers from those whose time is up: all tokens first, so that nothing new is started.

        No server's stop is waited for, since it may never return: that of a pod on a dead node.
        """
        now = time.monotonic()
        over: list[User] = []
        for name in [name for name, since in self.login.refused.items() if now >= since + self.login.grace]:
            found = orm.User.find(self.app.db, name)
            if found is None:
                self.login.refused.pop(name, None)
                continue
            over.append(self.app.users[found])
            try:
                await self._take_tokens(over[-1])
            except Exception:
                self.app.db.rollback()
                self.login.log.exception("The tokens of %r could not be taken back; tried again", name)
        for user in over:
            for server, spawner in list(user.spawners.items()):
                if spawner.active and not spawner.pending and (user.name, server) not in self._stops:
                    self._stops[user.name, server] = asyncio.create_task(self._stop(user, server))

    def _with_something_to_lose(self) -> list[User]:
        now = datetime.now(timezone.utc).replace(tzinfo=None)  # as the hub writes it
        tokens = orm.User.api_tokens.any(or_(orm.APIToken.expires_at.is_(None), orm.APIToken.expires_at > now))
        servers = orm.User._orm_spawners.any(orm.Spawner.server_id.is_not(None))
        return [self.app.users[found] for found in self.app.db.query(orm.User).filter(or_(tokens, servers))]

    async def _take_tokens(self, user: User) -> None:
        tokens = list(user.orm_user.api_tokens)
        if not tokens:
            return
        for one in [*tokens, *user.orm_user.oauth_codes]:
            self.app.db.delete(one)
        user.orm_user.cookie_id = orm.new_token()
        self.app.db.commit()
        self.login.log.warning("%r lost %d token(s): not known any more", user.name, len(tokens))
        user.sync_groups([])
        await user.save_auth_state(None)

    async def _stop(self, user: User, server: str) -> None:
        self.login.log.warning("%r loses the server %r: not known any more", user.name, server)
        try:
            await self.app.proxy.delete_user(user, server)
            await user.stop(server)
        except Exception:
            self.login.log.exception("The server %r of %r could not be stopped; tried again", server, user.name)
        finally:
            del self._stops[user.name, server]
