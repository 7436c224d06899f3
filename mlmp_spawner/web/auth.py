"""Who is asking: by the hub's cookie or a token, and what its *scopes* allow.

Only scopes decide. The ``admin`` field of the hub's user model is never looked at: it stays true for an admin's token
that was narrowed to next to nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Literal

from jupyterhub.services.auth import HubOAuth
from tornado.web import HTTPError

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.operations.site import Actor
from mlmp_spawner.rules.guests import is_guest

BOOK = "custom:mlmp:book"
COURSES = "custom:mlmp:courses"
ADMIN = "custom:mlmp:admin"
HUB_ADMIN = "admin-ui"

Right = Literal["none", "access", "book", "run", "courses", "admin"]
"""What a route asks for: nothing, being let in to MLMP, booking, running the courses that one is an instructor of,
making courses, running the machines."""

SCOPES: dict[Right, str] = {"book": BOOK, "run": BOOK, "courses": COURSES, "admin": ADMIN}
"""The scope of the hub that gives a right."""

HUB_PATIENCE = 10.0
STALE_FOR = 300.0
CACHED = 30
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """A user or service of the hub, as one token shows it. ``runs_jobs``: whether a guest's course allows them jobs;
    of others the scopes say."""

    name: str
    kind: str = "user"
    groups: frozenset[str] = field(default=frozenset())
    scopes: frozenset[str] = field(default=frozenset())
    runs_jobs: bool = True

    @classmethod
    def from_model(cls, model: dict[str, Any]) -> Caller:
        """From what ``/hub/api/user`` answers to a token; its ``scopes`` are those of the token."""
        return cls(
            name=model["name"],
            kind=model.get("kind", "user"),
            groups=frozenset(model.get("groups") or ()),
            scopes=frozenset(model.get("scopes") or ()),
        )

    @property
    def is_admin(self) -> bool:
        """Whether the token holds an admin scope that no filter narrows."""
        return bool(self.scopes & {ADMIN, HUB_ADMIN})

    @property
    def can_book(self) -> bool:
        """Whether the token may book for its owner: unfiltered, or filtered to the owner or one of its servers."""
        mine = f"{BOOK}!user={self.name}"
        of_a_server = f"{BOOK}!server={self.name}/"
        return self.is_admin or any(scope in (BOOK, mine) or scope.startswith(of_a_server) for scope in self.scopes)

    @property
    def can_teach(self) -> bool:
        """Whether the token may make courses: unfiltered, or as an admin."""
        return self.is_admin or COURSES in self.scopes

    @property
    def can_run(self) -> bool:
        """Whether the token may run the courses that its owner is an instructor of. Who that is the rosters say; a
        server's token may not, since whatever runs there may use it."""
        return self.can_teach or (self.kind == "user" and self.can_book and not self.is_server)

    @property
    def is_guest(self) -> bool:
        """Whether it is a guest, who sees nobody else and books nothing ahead."""
        return self.kind == "user" and is_guest(self.name)

    @property
    def is_server(self) -> bool:
        """Whether the token is that of a user's server: whatever runs there may use it, so it makes nothing that
        would outlive it."""
        return any(scope.startswith(("access:servers!server=", f"{BOOK}!server=")) for scope in self.scopes)

    def has(self, right: Right) -> bool:
        """Whether the token gives this right. Being let in at all is checked before."""
        given = {"book": self.can_book, "run": self.can_run, "courses": self.can_teach, "admin": self.is_admin}
        return right in ("none", "access") or given[right]

    def actor(self) -> Actor:
        """The same person as the operations know them."""
        return Actor(self.name, self.groups, admin=self.is_admin)


class HubAuthentication(HubOAuth):
    """The hub's own OAuth client, with three changes: it asks the hub again after half a minute instead of five,
    it waits ten seconds for the answer, and while the hub does not answer it goes by what the hub said last, five
    minutes at most, so that people can extend and release while the hub restarts or its database is away.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("cache_max_age", CACHED)
        super().__init__(**kwargs)
        self._last_known: dict[str, tuple[float, dict[str, Any]]] = {}
        self._refused: dict[str, float] = {}

    def user_for_token(
        self, token: str, use_cache: bool = True, session_id: str = "", *, sync: bool = True
    ) -> Awaitable[dict[str, Any] | None] | dict[str, Any] | None:
        """The hub's model of the token's owner, None for a token it does not know.

        :raises Unavailable: the hub does not answer and never knew this token, or not lately.
        """
        if sync:
            return self._synchronize(self._identify, token, use_cache, session_id)
        return self._identify(token, use_cache, session_id)

    async def ask_hub(self, token: str, use_cache: bool, session_id: str) -> dict[str, Any] | None:
        """One question to the hub (or its cached answer)."""
        answer: Awaitable[dict[str, Any] | None] = super().user_for_token(token, use_cache, session_id, sync=False)
        return await asyncio.wait_for(answer, HUB_PATIENCE)

    async def _identify(self, token: str, use_cache: bool, session_id: str) -> dict[str, Any] | None:
        if not token or len(token) > 1024 or not token.isascii() or not token.isprintable():
            return None
        digest = hashlib.sha256(token.encode()).hexdigest()
        now = time.monotonic()
        try:
            model = await self.ask_hub(token, use_cache, session_id)
            if model is None and now - self._refused.get(digest, -CACHED) > CACHED:
                model = await self._ask_again(token, session_id)
        except (HTTPError, OSError, asyncio.TimeoutError) as error:
            seen, model = self._last_known.get(digest, (0.0, None))
            if model is None or now - seen > STALE_FOR:
                raise Unavailable("The hub does not answer just now.", hint="Try again in a few seconds.") from error
            return model
        if model is None:
            self._last_known.pop(digest, None)
            self._refused[digest] = now
        else:
            self._last_known[digest] = (now, model)
        self._forget(now)
        return model

    async def _ask_again(self, token: str, session_id: str) -> dict[str, Any] | None:
        """A hub without its database refuses every token, so its no holds only if it knows our own.

        :raises OSError: it does not.
        """
        if await self.ask_hub(self.api_token, False, "") is None:
            raise OSError("the hub does not know even this service's own token")
        return await self.ask_hub(token, False, session_id)

    def _forget(self, now: float) -> None:
        """What is known, and who was refused, takes no more room than it needs."""
        if len(self._last_known) > MOST:
            self._last_known = {k: v for k, v in self._last_known.items() if now - v[0] <= STALE_FOR}
        if len(self._refused) > MOST:
            self._refused = {k: v for k, v in self._refused.items() if now - v <= CACHED}
