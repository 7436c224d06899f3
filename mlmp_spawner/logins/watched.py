"""A login that stays true: whoever is not known any more where people log in loses servers and tokens by a known time.

JupyterHub asks an authenticator again about somebody who makes a request, and then at most asks them to log in: their
tokens and servers go on. Here everybody who has any is asked about, whether they make requests or not.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from jupyterhub.app import JupyterHub
from jupyterhub.auth import Authenticator
from jupyterhub.roles import assign_default_roles
from jupyterhub.spawner import Spawner, SpawnException
from jupyterhub.user import User
from jupyterhub.utils import maybe_future
from tornado import web
from traitlets import Float, Integer, Set, Unicode, default

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.logins.watch import Watch

JUST_ASKED = 5.0
"""Seconds in which an answer holds for further requests: a page makes many at once."""


@dataclass(slots=True)
class Answer:
    """What was learnt of a person, and when (monotonic seconds)."""

    at: float
    known: bool


class MLMPLogin(Authenticator):
    """Asks about people again and again. Put it before an authenticator: ``class MyLogin(MLMPLogin, Theirs)``.

    A person is not known any more when the provider says so, or when what it says of them would not let them in
    (groups that they left). A provider that does not answer has said nothing: everybody keeps what they have.
    """

    check_every = Integer(
        300,
        min=1,
        help="""Seconds between two questions about each person who has a server or a token. Who is not known any more
        loses both after `check_every` + `grace` seconds at the latest, plus the seconds that a stop takes.""",
    ).tag(config=True)
    grace = Float(
        600,
        min=0,
        help="""Seconds from the first no to the end of servers and tokens. Whoever logs in meanwhile keeps them.
        Nothing can be started in that time.""",
    ).tag(config=True)
    never_asked = Set(
        Unicode(), help="Names that nobody logs in with, which keep their tokens: accounts for scripts."
    ).tag(config=True)

    @default("allow_existing_users")
    def _default_allow_existing_users(self) -> bool:
        # That of JupyterHub is True as soon as `allowed_users` names anybody: whoever was let in once always would be.
        return False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.refused: dict[str, float] = {}
        """Since when (monotonic seconds) a person is not known any more."""
        self._answers: dict[str, Answer] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._watch: Watch | None = None

    # -- what a kind of login says --------------------------------------------------------------------------------

    async def ask(self, user: User, handler: Any = None) -> bool | dict[str, Any]:
        """What the provider says now: whether it knows the person, or (better) all that it says of them, as
        ``authenticate`` does. Any exception means that it does not answer."""
        return await maybe_future(super().refresh_user(user, handler))

    async def came_from_here(self, user: User) -> bool:
        """Whether this person logged in by this at all. Names that an admin made up did not: they lose nothing."""
        return user.name not in self.never_asked

    # -- what JupyterHub calls ------------------------------------------------------------------------------------

    def get_handlers(self, app: JupyterHub) -> list[Any]:
        """Begins to ask, too: JupyterHub calls this once, at its start."""
        if self._watch is None:
            self._watch = Watch(self, app)
            self._watch.start()
        handlers: list[Any] = super().get_handlers(app)
        return handlers

    async def refresh_user(self, user: User, handler: Any = None, **_: Any) -> bool:
        """Whether a person is known, or has to log in again. What changed is kept already."""
        last = self._answers.get(user.name)
        if last is not None and time.monotonic() < last.at + JUST_ASKED:
            return last.known
        return await self.look(user, handler) is not False

    async def get_authenticated_user(self, handler: Any, data: Any) -> Any:
        """As JupyterHub does it; where nobody answers, the page says so."""
        try:
            return await super().get_authenticated_user(handler, data)
        except Unavailable as error:
            self.log.warning("Where people log in there is no answer: %s", error)
            raise web.HTTPError(error.status, str(error)) from error

    async def look(self, user: User, handler: Any = None) -> bool | None:
        """Asks now, and keeps what is said of the person. None: there is no answer.

        One question at a time: what renews the tokens may be good for a single use, and a second one be taken for a
        theft of it. So it is kept before anybody asks again, here and not by JupyterHub later.
        """
        if user.name in self.never_asked:
            return True
        async with self._locks[user.name]:
            try:
                said = await self.ask(user, handler)
                if isinstance(said, dict) and self.enable_auth_state and "auth_state" in said:
                    await user.save_auth_state(said["auth_state"])  # whatever comes next: the former may be used up
                known = await self._is_let_in(user, said)
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is no answer
                self.log.warning("Where people log in there is no answer about %r: %s", user.name, error)
                return None
            if known and isinstance(said, dict):
                self._keep(user, said)
            self._answers[user.name] = Answer(time.monotonic(), known)
            if known and user.name in self.refused:
                del self.refused[user.name]
                self.log.info("%r is known again where people log in", user.name)
            return known

    def refuse(self, user: User) -> None:
        """Begins the grace of somebody of whom the last answer was no. It ran since that answer."""
        last = self._answers.get(user.name)
        if last is None or last.known or user.name in self.refused:
            return
        self.log.warning(
            "%r is not known any more where people log in: servers and tokens end in %g s", user.name, self.grace
        )
        self.refused[user.name] = last.at

    async def run_post_auth_hook(self, handler: Any, auth_model: Any) -> Any:
        """Whoever logs in is known again."""
        model = await super().run_post_auth_hook(handler, auth_model)
        if model:
            self.refused.pop(model["name"], None)
            self._answers.pop(model["name"], None)
        return model

    async def pre_spawn_start(self, user: User, spawner: Spawner) -> None:
        """Nothing is started for somebody who is not known any more, whoever asks for it.

        :raises SpawnException: saying so.
        """
        last = self._answers.get(user.name)
        if user.name in self.refused or (last is not None and not last.known):
            text = f"{user.name} is not known any more where people log in. Logging in again shows whether that is so."
            refusal = SpawnException(text, reason="login_needed", status_code=403)
            refusal.jupyterhub_message = text
            raise refusal
        await maybe_future(super().pre_spawn_start(user, spawner))

    # -- helpers --------------------------------------------------------------------------------------------------

    async def _is_let_in(self, user: User, said: bool | dict[str, Any]) -> bool:
        """Whether somebody of whom this is said would be let in under the same name."""
        if not isinstance(said, dict):
            return said
        said.setdefault("admin", None)
        if self.normalize_username(said["name"]) != user.name:
            return False
        if not await maybe_future(self.check_blocked_users(user.name, said)):
            return False
        return self.allow_all or bool(await maybe_future(self.check_allowed(user.name, said)))

    def _keep(self, user: User, said: dict[str, Any]) -> None:
        """As JupyterHub does it at a login."""
        if said["admin"] is not None and said["admin"] != user.admin:
            user.admin = said["admin"]
            assign_default_roles(user.db, entity=user)
        if self.manage_groups and said.get("groups") is not None:
            user.sync_groups(said["groups"])
        if self.manage_roles and said.get("roles") is not None:
            user.sync_roles(said["roles"])
        user.db.commit()
