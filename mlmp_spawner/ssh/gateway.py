"""The gateway: registered keys alone, and through it only to one's own running servers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from websockets.asyncio.client import ClientConnection

from mlmp_spawner import units
from mlmp_spawner.errors import MLMPError, Unavailable
from mlmp_spawner.ssh.directory import Directory, Login, Standing
from mlmp_spawner.ssh.limits import Limits
from mlmp_spawner.store.transaction import Busy

log = logging.getLogger("mlmp.ssh")

LOOK = 0.5
"""Seconds between two looks at keys and bookings: a removed key cuts its sessions within that."""

LOOK_WITHIN = 3.0
"""Seconds after which a look counts as failed."""

Dial = Callable[[str, str, str], Awaitable[ClientConnection]]
"""Opens the way to a server of a user, by the server's own token. :raises NoWay: it is refused."""


class Guest(Protocol):
    """Somebody who has logged in."""

    @property
    def login(self) -> Login | None:
        """Who it is; None: not known yet."""

    def check(self, standings: Mapping[int, Standing] | None, asked: int) -> None:
        """Cuts what may not be any more, by what was so at ``asked`` (ms UTC); None: nobody knows just now."""

    def cut(self, why: str) -> None:
        """Ends all of it."""


class Gateway:
    """All that the connections share."""

    def __init__(
        self, directory: Directory, dial: Dial, limits: Limits, *, now: Callable[[], int] = units.now
    ) -> None:
        self.directory = directory
        self.dial = dial
        self.limits = limits
        self.guests: set[Guest] = set()
        self.now = now
        self._blind = False

    async def watch(self) -> None:
        """Cuts what may not be any more. No failure ends it."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("a look at keys and bookings failed; the next one follows")
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """Looks once. While the database is away, sessions run on until the end that was last known."""
        guests, asked = list(self.guests), self.now()
        standings = await self._standings({one.login.user for one in guests if one.login is not None})
        if standings is None:
            asked = self.now()  # the look itself may have taken long
        for guest in guests:
            guest.check(standings, asked)

    async def _standings(self, users: set[int]) -> Mapping[int, Standing] | None:
        """What holds of them; None where that can't be found out, for whatever reason: known ends have to hold."""
        try:
            found = await asyncio.wait_for(self.directory.standings(users), LOOK_WITHIN)
        except Exception as error:
            if not self._blind:
                expected = isinstance(error, MLMPError | Busy | asyncio.TimeoutError)
                log.warning(
                    "keys and bookings can't be looked at, sessions run on until their known end: %s",
                    str(error) or "no answer in time", exc_info=None if expected else error,
                )  # fmt: skip
            self._blind = True
            return None
        self._blind = False
        return found

    async def standing(self, login: Login) -> Standing | None:
        """What holds of somebody just now; None: nothing any more.

        :raises Unavailable: the database does not answer.
        """
        try:
            found = (await self.directory.standings({login.user})).get(login.user)
        except Busy as error:
            raise Unavailable("the database is too busy just now; try again") from error
        return found if found is not None and may(login, found) else None

    def close(self) -> None:
        """Ends all connections."""
        for guest in list(self.guests):
            guest.cut("the gateway is being restarted; connect again")


def may(login: Login, standing: Standing) -> bool:
    """Whether a login still holds."""
    return standing.name == login.name and login.fingerprint in standing.keys
