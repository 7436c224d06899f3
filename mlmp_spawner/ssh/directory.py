"""Who a key belongs to, and which of their servers run: asked of the database, each time anew.

The gateway keeps nothing of it, so that a key that is removed, or a booking that ends, holds from the next look on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Engine

from mlmp_spawner import units
from mlmp_spawner.operations.ssh_keys import USED_EVERY
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.rules.ssh_names import principal_of
from mlmp_spawner.store import reservations, ssh_keys, ssh_ways
from mlmp_spawner.store.ssh_keys import Key
from mlmp_spawner.store.tables import reservation as bookings
from mlmp_spawner.store.transaction import read, transaction


@dataclass(frozen=True, slots=True)
class Login:
    """Somebody with one of their keys. ``user``: the hub's id, since a namesake of a deleted user is another."""

    user: int
    name: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs, or is on its way up or down, by its booking. ``end`` in ms UTC; ``token``: the server's own,
    empty where it is not known."""

    reservation: str
    end: int
    starting: bool = False
    stopping: bool = False
    token: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds of somebody just now: their name, the fingerprints of their keys, their servers by name."""

    name: str
    keys: frozenset[str]
    servers: Mapping[str, Running] = field(default_factory=dict)


class Directory(Protocol):
    """What the gateway asks. Each raises ``Unavailable`` or ``Busy`` where the database does not answer."""

    async def login(self, name: str, fingerprint: str) -> Login | None:
        """Whose key it is, of those who log in by this name; None: nobody's."""

    async def used(self, login: Login) -> None:
        """The key has just logged its owner in."""

    async def standings(self, users: Collection[int]) -> Mapping[int, Standing]:
        """What holds of each just now; who has no key any more, or is no user, is not in it."""


class DatabaseDirectory:
    """The directory in MLMP's database. ``now``: the time in ms UTC."""

    def __init__(self, engine: Engine, *, now: Callable[[], int] = units.now) -> None:
        self._engine = engine
        self._now = now
        self._looks = ThreadPoolExecutor(4, "look")  # or logins that wait to write would hold up what cuts sessions

    async def login(self, name: str, fingerprint: str) -> Login | None:
        """See :class:`Directory`."""
        return await asyncio.to_thread(self._login, name, fingerprint)

    async def used(self, login: Login) -> None:
        """See :class:`Directory`."""
        await asyncio.to_thread(self._used, login)

    async def standings(self, users: Collection[int]) -> Mapping[int, Standing]:
        """See :class:`Directory`."""
        if not users:
            return {}
        return await asyncio.get_running_loop().run_in_executor(self._looks, self._standings, sorted(users))

    def _login(self, name: str, fingerprint: str) -> Login | None:
        with read(self._engine) as connection:
            found = ssh_keys.of_all_with_fingerprint(connection, fingerprint)
        # Not every name can be written before an @: the one word that stands for it, nobody else's, goes first.
        by_name = {key.owner: key for key in found} | {principal_of(key.owner): key for key in found}
        key = by_name.get(name)
        return None if key is None else Login(key.user_id, key.owner, key.id, key.fingerprint)

    def _used(self, login: Login) -> None:
        now = self._now()
        with transaction(self._engine) as connection:
            ssh_keys.mark_used(connection, login.key, at=now, not_since=now - USED_EVERY)

    def _standings(self, users: list[int]) -> dict[int, Standing]:
        now = self._now()
        c = bookings.c
        with read(self._engine) as connection:
            keys = ssh_keys.of_people(connection, users)
            rows = reservations.select_where(
                connection, reservations.is_booking(), c.owner_id.in_(users), c.starting_at.is_not(None),
                c.stopped_at.is_(None), c.end > now,
            )  # fmt: skip
            ways = ssh_ways.of(connection, {row.server_id for row in rows})
        active = [row for row in rows if row.state(now) == "active"]
        return {user: _standing(user, keys, active, ways) for user in {key.user_id for key in keys}}


def _standing(user: int, keys: Iterable[Key], active: Iterable[Reservation], ways: Mapping[str, str]) -> Standing:
    mine = [key for key in keys if key.user_id == user]
    name = mine[0].owner
    servers = {
        row.server: _running(row, ways.get(row.server_id, ""))
        for row in active
        if row.owner_id == user and row.owner == name
    }
    return Standing(name, frozenset(key.fingerprint for key in mine), servers)


def _running(row: Reservation, token: str) -> Running:
    state = row.server_state()
    return Running(row.id, row.end, starting=state == "starting", stopping=state == "stopping", token=token)
