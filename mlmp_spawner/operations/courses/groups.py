"""The hub has a group for each course, with all of its roster that the hub knows. The roster is the truth: what
somebody changes in the group by hand is changed back.

A group that MLMP did not make is never touched, whatever its name: it may give rights of which nobody who makes a
course must get hold.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from mlmp_spawner import units
from mlmp_spawner.errors import Conflict, MLMPError, NotAllowed, NotFound, NotNow
from mlmp_spawner.hub import HubClient
from mlmp_spawner.operations.site import Site
from mlmp_spawner.store import courses as store
from mlmp_spawner.store import people
from mlmp_spawner.store.transaction import Busy, read, transaction

log = logging.getLogger("mlmp.courses")

LOOK = 20.0
"""Seconds between two looks: somebody's first login is not told."""
AT_ONCE = 100
"""Users named in one request."""
MOST_NEW = 50
"""Users made in one look, so that the hub has time for others."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the groups should be: of each course's group who of the roster is a user of the hub; ``own``: those that
    MLMP made, ``unknown``: people on rosters that are no users yet."""

    groups: dict[str, frozenset[str]]
    own: frozenset[str]
    unknown: tuple[str, ...] = ()


@dataclass(slots=True)
class GroupKeeper:
    """Keeps the hub's groups as the rosters are. ``make_users``: whether people become users without a login."""

    site: Callable[[], Site]
    hub: HubClient
    make_users: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _told: set[str] = field(default_factory=set)

    def wake(self) -> None:
        """A roster was changed."""
        self._changed.set()

    async def run(self) -> None:
        """Looks when something was changed and every :data:`LOOK` seconds. No failure ends it."""
        while True:
            self._changed.clear()
            try:
                await self.follow(units.now())
            except (MLMPError, Busy) as error:
                log.warning("the groups of courses could not be brought up to date, tried again: %s", error)
            except Exception:
                log.exception("bringing the groups of courses up to date failed; tried again")
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK)

    async def follow(self, now: int) -> None:
        """One look. Killed anywhere in it, the next one does the rest.

        :raises Unavailable: the hub or the database does not answer.
        """
        wanted = await asyncio.to_thread(_wanted, self.site())
        if not wanted.groups and not wanted.own:
            return
        if self.make_users and wanted.unknown:
            await self._make_users(wanted.unknown)
            wanted = await asyncio.to_thread(_wanted, self.site())
        there = await self.hub.group_members()
        for name, members in wanted.groups.items():
            if name in there and name not in wanted.own:
                self._say(name, f"the hub has a group {name!r} that MLMP did not make: that course gets none")
            elif name in there or await self._make(name, now, known=name in wanted.own):
                await self._fill(name, there.get(name, frozenset()), members)
        for name in sorted(wanted.own - wanted.groups.keys()):
            await self.hub.delete_group(name)
            await asyncio.to_thread(_drop, self.site(), name)

    async def is_free(self, name: str) -> bool:
        """Whether a course may have this group of the hub: there is none, or MLMP made it.

        :raises Unavailable: the hub does not answer.
        """
        wanted = await asyncio.to_thread(_wanted, self.site())
        return name in wanted.own or name not in await self.hub.group_members()

    async def _make(self, name: str, now: int, *, known: bool) -> bool:
        """Makes a group; False: somebody else did just now. It is noted first, so that it is ours whatever happens."""
        if not known:
            await asyncio.to_thread(_note, self.site(), name, now)
        try:
            await self.hub.make_group(name)
        except Conflict:
            if not known:
                await asyncio.to_thread(_drop, self.site(), name)
            return known
        return True

    async def _fill(self, name: str, there: frozenset[str], members: frozenset[str]) -> None:
        for people_of, change in (
            (members - there, self.hub.add_to_group),
            (there - members, self.hub.remove_from_group),
        ):
            names = sorted(people_of)
            for at in range(0, len(names), AT_ONCE):
                try:
                    await change(name, names[at : at + AT_ONCE])
                except (NotNow, NotFound) as error:  # a user or the group went meanwhile
                    log.info("group %r is not as its roster yet: %s", name, error)

    async def _make_users(self, unknown: tuple[str, ...]) -> None:
        for name in [one for one in unknown if one not in self._told][:MOST_NEW]:
            try:
                await self.hub.make_user(name)
            except NotNow as error:
                self._say(name, f"the hub does not take {name!r}, who is on a roster, as a user: {error}")
            except NotAllowed:
                self._say("", "the service may not make users of people on rosters: its role lacks admin:users")
                return

    def _say(self, of: str, message: str) -> None:
        """Once, not at each look."""
        if of not in self._told:
            self._told.add(of)
            log.warning("%s", message)


def _wanted(site: Site) -> Wanted:
    with read(site.engine) as connection:
        rosters = {course.group: store.members(connection, course.name) for course in store.all_of(connection)}
        named = {member.name for members in rosters.values() for member in members}
        known = people.known(connection, named)
        groups = {
            group: frozenset(one.name for one in members if one.name in known) for group, members in rosters.items()
        }
        # The accounts of guests are made where their codes are redeemed.
        missing = {one.name for members in rosters.values() for one in members if one.role != "guest"} - known
        return Wanted(groups, store.groups(connection), tuple(sorted(missing)))


def _note(site: Site, name: str, now: int) -> None:
    with transaction(site.engine) as connection:
        store.add_group(connection, name, at=now)


def _drop(site: Site, name: str) -> None:
    with transaction(site.engine) as connection:
        store.drop_group(connection, name)
