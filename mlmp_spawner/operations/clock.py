"""The clock: look at what is due, claim it, do it, write down that it was done.

Each action is claimed by compare-and-set in the database before anything is done, and doing it twice does no harm, so
that a clock killed between any two lines repeats at most something harmless. What runs is reached through
:class:`Servers`, one class per back-end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import delete, select

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import MLMPError, Unavailable
from mlmp_spawner.operations import admission, history, waitlist, yielding
from mlmp_spawner.operations.claims import claim
from mlmp_spawner.operations.courses import opening
from mlmp_spawner.operations.site import CLOCK, Site
from mlmp_spawner.rules.due import Action, IdleRelease, IdleWarn, Stop, due, next_due
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import unit_in_use
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import MINUTE, SECOND

log = logging.getLogger(__name__)

START_GRACE = MINUTE
"""How long a start may take until its process is seen; before that nothing is concluded from not seeing it."""
SEEN_AGAIN = 10 * SECOND
"""How long ago a server must have been written down as gone for its being seen to mean that it is not."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A user's server that was seen running. ``server_id``: see :attr:`Reservation.server_id`.

    ``leaves``: it was told to end.
    """

    server_id: str
    owner: str
    server: str
    leaves: bool = False


class Servers(Protocol):
    """What runs, and how it is reached. Every method may be called again with the same arguments.

    Where that can't be told just now they raise :class:`~mlmp_spawner.errors.MLMPError`.
    """

    async def running(self) -> dict[str, RunningServer]:
        """The servers that are seen running, by server id."""

    async def publish(self, server_id: str, deadline: Deadline) -> bool:
        """Tells the enforcers when the server ends; returns when they can read it.

        False where an enforcer may have acted by the former deadline before.
        """

    async def stop(self, running: RunningServer, deadline: Deadline) -> None:
        """Begins to stop a server: through the hub, or past it when the hub is silent."""

    async def forget(self, live: set[str]) -> None:
        """Clears away what was published for servers that are neither running nor in ``live``."""


class Clock:
    """Runs :meth:`tick` whenever something is due.

    :param site: gives the site as it is now, since the catalog may change.
    :param interval: the longest wait between two ticks, in ms.
    :param watched: whether somebody looks at what servers do just now. What was seen long ago makes nobody idle.
    :param start_grace: how long (ms) a start may take until it is seen.
    """

    def __init__(
        self,
        site: Callable[[], Site],
        servers: Servers,
        *,
        interval: int = 5 * SECOND,
        watched: Callable[[int], bool] = lambda now: True,
        start_grace: int = START_GRACE,
    ) -> None:
        self.site = site
        self.servers = servers
        self.interval = interval
        self.watched = watched
        self.start_grace = start_grace
        self._publishing = asyncio.Lock()
        self._tried = waitlist.Tried()
        self.failures = 0
        self.last_tick: int | None = None

    async def tick(self, now: int) -> int:
        """Does all that is due at ``now``; returns when to come again, in ms UTC.

        :raises MLMPError: what runs can't be told just now. What needs no server is done all the same, and nothing is
            concluded from not seeing any.
        """
        site = self.site()
        rows = await asyncio.to_thread(_open, site, now)
        running, unseen = await self._running()
        watched = self.watched(now)
        actions = [one for one in due(now, rows, site) if watched or not isinstance(one, (IdleWarn, IdleRelease))]
        await asyncio.gather(*(self._carry_out(site, action, running, now) for action in actions))
        await self._promote(site, now)
        await self._open_classes(site, now)
        if unseen is not None:
            raise unseen
        await self._reconcile(site, running, now)
        self.last_tick = now
        following = next_due(now, rows, site)
        return min(now + self.interval, following or now + self.interval)

    async def _running(self) -> tuple[dict[str, RunningServer], MLMPError | None]:
        try:
            return await self.servers.running(), None
        except MLMPError as error:
            return {}, error

    async def published(self, reservation: Reservation) -> bool:
        """After a change: tells the enforcers of the owner's servers when they end now. Call before answering.

        False where an enforcer may have begun to stop the reservation's own server before it was told.

        :raises Unavailable: the change stands, but they can't be told just now; each tick tries again.
        """
        told = next((told for row, told in await self._publish(reservation.owner) if row.id == reservation.id), True)
        if isinstance(told, MLMPError):
            raise Unavailable(
                f"The booking was changed, but its server could not be told. {told.detail}",
                hint="It is told as soon as that is possible. Look at the booking before you try again.",
            ) from told
        return told

    async def _publish(self, owner: str | None = None) -> list[tuple[Reservation, bool | MLMPError]]:
        """Reads and tells the deadlines in one go, so that an older view is never told after a newer one."""
        async with self._publishing:
            live = await asyncio.to_thread(_live, self.site(), owner)
            told = await asyncio.gather(*(self._tell(row.server_id, deadline) for row, deadline in live))
            return [(row, answer) for (row, _), answer in zip(live, told, strict=True)]

    async def _tell(self, server_id: str, deadline: Deadline) -> bool | MLMPError:
        """One that can't be told keeps no other from being told."""
        try:
            return await self.servers.publish(server_id, deadline)
        except MLMPError as error:
            log.warning("the deadline of %s: %s", server_id, error.detail)
            return error

    async def _carry_out(self, site: Site, action: Action, running: dict[str, RunningServer], now: int) -> None:
        """One action; a failure is logged and tried again at the next tick, and keeps no other from being done."""
        try:
            if not await asyncio.to_thread(claim, site, action, now):
                return
            if isinstance(action, Stop):
                await self._stop(site, action.reservation, running)
            elif isinstance(action, IdleRelease):  # its end is now, so its stop is due as well
                await self._carry_out(site, Stop(action.reservation, first=True), running, now)
        except MLMPError as error:
            log.warning("%s of %s: %s", type(action).__name__, action.reservation.id, error.detail)
        except Exception:
            self.failures += 1
            log.exception(
                "%s of %s failed; tried again at the next tick", type(action).__name__, action.reservation.id
            )

    async def _promote(self, site: Site, now: int) -> None:
        """Who waits gets what is free by now; a failure is logged and keeps nothing else from being done."""
        try:
            await asyncio.to_thread(waitlist.promote, site, now=now, tried=self._tried)
        except MLMPError as error:
            log.warning("the waitlist: %s", error.detail)
        except Exception:
            self.failures += 1
            log.exception("the waitlist failed; tried again at the next tick")

    async def _open_classes(self, site: Site, now: int) -> None:
        """Gives out the seats of classes whose time has come; a failure keeps nothing else from being done."""
        try:
            await asyncio.to_thread(opening.look, site, now)
        except MLMPError as error:
            log.warning("the classes: %s", error.detail)
        except Exception:
            self.failures += 1
            log.exception("the classes failed; tried again at the next tick")

    async def _stop(self, site: Site, reservation: Reservation, running: dict[str, RunningServer]) -> None:
        seen = running.get(reservation.server_id)
        if seen is not None:
            deadline = await asyncio.to_thread(_deadline, site, reservation)
            await self.servers.stop(seen, deadline)

    async def _reconcile(self, site: Site, running: dict[str, RunningServer], now: int) -> None:
        """Makes what is written agree with what is seen: deadlines, servers that are gone, units nobody holds."""
        live = [reservation for reservation, _ in await self._publish()]
        for reservation in live:
            started_long_ago = reservation.starting_at is None or reservation.starting_at < now - self.start_grace
            # What came up since the look began was not to be seen by it.
            settled = started_long_ago or (reservation.started_at is not None and reservation.started_at < now)
            if reservation.server_id not in running and settled:
                await asyncio.to_thread(admission.gone, site, reservation.server_id, now=now)
        known = {reservation.server_id for reservation in live}
        await asyncio.to_thread(_free_units, site, known | set(running), now - self.start_grace)
        for server_id, seen in running.items():
            if server_id in known:
                continue
            if await asyncio.to_thread(_is_over, site, server_id, now):
                await self.servers.stop(seen, Deadline(now, now + admission.AFTER_RELEASE))
            elif not seen.leaves:
                await asyncio.to_thread(_seen_again, site, server_id, now)
        await self.servers.forget(known | set(running))


def _open(site: Site, now: int) -> list[Reservation]:
    with read(site.engine) as connection:
        return store.open_at(connection, now)


def _live(site: Site, owner: str | None) -> list[tuple[Reservation, Deadline]]:
    with read(site.engine) as connection:
        rows = [row for row in store.live(connection) if owner in (None, row.owner)]
        return [(row, admission.deadline_of(connection, site, row)) for row in rows]


def _deadline(site: Site, reservation: Reservation) -> Deadline:
    with read(site.engine) as connection:
        current = store.find(connection, reservation.id)
        return admission.deadline_of(connection, site, current or reservation)


def _is_over(site: Site, server_id: str, now: int) -> bool:
    """Whether nothing allows a server to run of which the database does not say that it does."""
    with read(site.engine) as connection:
        rows = store.chain(connection, server_id)
    return not any(row.state(now) == "active" for row in rows)


def _seen_again(site: Site, server_id: str, now: int) -> None:
    """What was given up for gone runs after all, so that its end is told again: its start took very long.

    Not where its units are told apart: they may be somebody else's by now.
    """
    with transaction(site.engine) as connection:
        for row in store.chain(connection, server_id):
            apart = row.state(now) == "active" and site.catalog.unit_ids(row.nodes[0], row.resource)
            if row.state(now) != "active" or apart or row.starting_at is None or row.stopped_at is None:
                continue
            if row.stopped_at < now - SEEN_AGAIN:
                store.update_reservation(connection, row, stopped_at=None, started_at=row.started_at or now)
                history.record(connection, "started", actor=CLOCK.name, at=now, reservation=row)
                log.warning("the server of %s, given up for gone, runs after all", row.id)


def _free_units(site: Site, known: set[str], before: int) -> None:
    """Frees units taken before then whose holder's server is neither known nor running: it had time to appear. Those
    of jobs are freed when the job is seen gone."""
    with read(site.engine) as connection:
        rows = connection.execute(select(unit_in_use.c.holder).where(unit_in_use.c.since < before)).all()
        holders = {row.holder for row in rows}
        holders -= yielding.held_by_jobs(connection, holders)
        orphans = {h for h in holders if (store.server_id_of(connection, h) or h) not in known}
    if orphans:
        with transaction(site.engine) as connection:
            connection.execute(delete(unit_in_use).where(unit_in_use.c.holder.in_(orphans)))
