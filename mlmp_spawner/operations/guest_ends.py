"""The end of guests: at the end of their time login and servers, after the stated delay files, account and user.

Each step can be done again, and what was done is written down after it: whoever is killed in between, the next look
goes on. The last line in the history, ``guest_erased``, is written when the hub said that nothing is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import Engine, update

from mlmp_spawner import units
from mlmp_spawner.errors import MLMPError
from mlmp_spawner.hub import HubClient
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations import changes, history
from mlmp_spawner.operations.jobs import of_guests
from mlmp_spawner.operations.site import CLOCK, Site
from mlmp_spawner.store import courses as course_store
from mlmp_spawner.store import guests as store
from mlmp_spawner.store import reservations
from mlmp_spawner.store.guests import Guest
from mlmp_spawner.store.tables import reservation
from mlmp_spawner.store.transaction import Busy, read, transaction
from mlmp_spawner.units import DAY, MINUTE

log = logging.getLogger("mlmp.guests")

LOOK = 10.0
"""Seconds between two looks."""
NOT_IN = 2 * MINUTE
"""How long it may take from the code to being in; then the code is good again."""
AT_ONCE = 8
"""Guests who are ended or erased at the same time."""
CODES_KEPT = 90 * DAY
"""How long hashes of codes are kept after their end."""


class GuestEnds:
    """The loop.

    :param site: the site as it is now. :param delay: ms from the end of a guest's time to the erasure, where it ends
        before its time: its course is gone. :param files: of jobs.
    """

    def __init__(self, site: Callable[[], Site], hub: HubClient, delay: int, files: JobFiles) -> None:
        self._site, self._hub, self._delay, self._files = site, hub, delay, files

    async def run(self) -> None:
        """Looks again and again. No failure ends it."""
        while True:
            try:
                await self.look(units.now())
            except MLMPError as error:
                log.warning("looking after guests: %s", error.detail)
            except Exception:
                log.exception("looking after guests failed; tried again")
            await asyncio.sleep(LOOK)

    async def look(self, now: int) -> None:
        """Does for every guest what is due. What fails for one is tried again, and keeps nobody else from it."""
        engine = self._site().engine
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(guest: Guest) -> None:
            async with gate:
                try:
                    await self._do(guest, now)
                except (MLMPError, Busy) as error:
                    log.warning("guest %s: %s", guest.name, error)
                except Exception:
                    log.exception("guest %s: tried again", guest.name)

        await asyncio.gather(*[one(guest) for guest in await asyncio.to_thread(_due, engine, now)])

    async def _do(self, guest: Guest, now: int) -> None:
        engine = self._site().engine
        if guest.entered_at is None and guest.created_at < now - NOT_IN:
            if await asyncio.to_thread(_give_up, engine, guest, now) and await self._hub.erase_guest(guest.name):
                await asyncio.to_thread(_undo, engine, guest)
            return
        if guest.ended_at is None:
            await asyncio.to_thread(_cancel_jobs, engine, guest.name, now)
            if not await self._hub.end_guest(guest.name):
                return  # a server is on its way out
            await asyncio.to_thread(_give_back, self._site(), guest.name, now)
            guest = await asyncio.to_thread(_ended, engine, guest, now, self._delay)
        if now < guest.erase_at or not await asyncio.to_thread(_erase_jobs, engine, self._files, guest.name, now):
            return
        if await self._hub.erase_guest(guest.name):
            await asyncio.to_thread(_erased, engine, guest, now)


def _due(engine: Engine, now: int) -> list[Guest]:
    with transaction(engine) as connection:
        store.drop_old_codes(connection, before=now - CODES_KEPT)
        return store.due(connection, now=now, not_in_since=now - NOT_IN)


def _give_up(engine: Engine, guest: Guest, now: int) -> bool:
    """From here on this guest can't come in any more; False where they just did."""
    with transaction(engine) as connection:
        found = store.find(connection, guest.name)
        if found is None or found.entered_at is not None:
            return False
        store.set_facts(connection, guest.name, ended_at=now)
    return True


def _undo(engine: Engine, guest: Guest) -> None:
    with transaction(engine) as connection:
        course_store.remove_members(connection, guest.course, [guest.name])
        store.free_code(connection, guest.name)
        store.remove(connection, guest.name)


def _cancel_jobs(engine: Engine, name: str, now: int) -> None:
    """Before their processes end: or what made an end of them would be taken for a fault, and they tried again."""
    with transaction(engine) as connection:
        of_guests.end(connection, name, now)


def _erase_jobs(engine: Engine, files: JobFiles, name: str, now: int) -> bool:
    """Whether nothing is left of their jobs."""
    with transaction(engine) as connection:
        of_guests.end(connection, name, now)
        return of_guests.erase(connection, files, name)


def _give_back(site: Site, name: str, now: int) -> None:
    """Ends all bookings."""
    with read(site.engine) as connection:
        mine = reservations.of_owner(connection, name, since=now)
    for one in mine:
        if one.state(now) != "ended":
            with suppress(MLMPError):  # it is over, or gone, meanwhile
                changes.cancel(site, one.id, actor=CLOCK, now=now, message="The time of the guest is over.")


def _ended(engine: Engine, guest: Guest, now: int, delay: int) -> Guest:
    """Nothing of them runs, and nobody gets in as them."""
    facts = {"ended_at": now}
    if guest.expires_at > now:  # the course is gone
        facts |= {"expires_at": now, "erase_at": now + delay}
    with transaction(engine) as connection:
        of_guests.end(connection, guest.name, now)  # what was submitted at the last moment
        course_store.remove_members(connection, guest.course, [guest.name])
        if store.set_facts(connection, guest.name, **facts):
            history.record(connection, "guest_left", actor=CLOCK.name, at=now, owner=guest.name, course=guest.course)
        return store.find(connection, guest.name) or guest


def _erased(engine: Engine, guest: Guest, now: int) -> None:
    """The record. What they called their bookings goes too: it may say who they were."""
    with transaction(engine) as connection:
        connection.execute(update(reservation).where(reservation.c.owner == guest.name).values(title=""))
        if store.set_facts(connection, guest.name, erased_at=now):
            history.record(
                connection, "guest_erased", actor=CLOCK.name, at=now, owner=guest.name, course=guest.course,
                ended=guest.ended_at, stated=guest.erase_at,
            )  # fmt: skip
