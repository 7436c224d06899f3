"""The servers of classes: started in waves before a class begins, stopped and started again as who teaches wants, and
looked at for whether somebody is in them.

What is kept here is of no weight: a service that is started again looks at the database for what is to be started, and
at the proxy for who is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mlmp_spawner import units
from mlmp_spawner.errors import MLMPError, TooManyRequests
from mlmp_spawner.operations.courses import settling
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import class_servers as rules
from mlmp_spawner.rules.class_servers import Try, Visits, Wish
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import classes as store
from mlmp_spawner.store.transaction import Busy, Refused, read
from mlmp_spawner.units import SECOND

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks at what is to be started."""

VISITS_EVERY = 10 * SECOND
"""How long (ms) between two looks at who is in the servers."""

STOP_AGAIN = 15 * SECOND
"""How long (ms) a stop that was asked for is waited for: until then the hub may not have told yet that it is done."""

DID_NOT_COME_UP = "It did not come up."


class Hub(Protocol):
    """The calls to the hub, as :class:`mlmp_spawner.hub.HubClient` makes them. A seam for tests."""

    async def start_server(self, user: str, server: str, options: Mapping[str, Any]) -> bool: ...
    async def stop_server(self, user: str, server: str) -> bool: ...
    async def last_activity(self) -> dict[tuple[str, str], int]: ...


class ClassServers:
    """Starts the servers of seats, and settles classes.

    :param at_once: how many may be starting at the same time.
    """

    def __init__(self, site: Callable[[], Site], hub: Hub, *, at_once: int = 10) -> None:
        self.site = site
        self.hub = hub
        self.at_once = at_once
        self._tried: dict[str, Try] = {}
        self._visits: dict[str, Visits] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._wishes: dict[str, Wish] = {}
        self._stops: dict[str, int] = {}
        self._looked_at = 0

    async def run(self) -> None:
        """Looks again and again; no failure ends it."""
        try:
            while True:
                try:
                    await self.look(units.now())
                except MLMPError as error:
                    log.warning("the servers of classes: %s", error.detail)
                except (Refused, Busy) as error:
                    log.info("the servers of classes: %s; tried again", error)
                except Exception:
                    log.exception("looking at the servers of classes failed; tried again")
                await asyncio.sleep(EVERY)
        finally:
            for task in self._asking.values():
                task.cancel()

    async def look(self, now: int) -> None:
        """Starts what is to be started, and settles what is to be settled.

        :raises MLMPError: the hub or the database does not answer; what was to be started was asked for.
        """
        seats, self._wishes = await asyncio.to_thread(_seats, self.site(), now)
        known = {seat.id for seat in seats}
        self._tried = {one: tried for one, tried in self._tried.items() if one in known and not self._wished_since(
            one, tried.at)}  # fmt: skip
        self._visits = {one: visits for one, visits in self._visits.items() if one in known}
        self._stops = {one: at for one, at in self._stops.items() if one in known and now < at + STOP_AGAIN
                       and not self._wished_since(one, at)}  # fmt: skip
        for seat in self._next_stops(seats):
            self._stops[seat.id] = now
            self._asking[seat.id] = asyncio.create_task(self._stop(seat))
        for seat in rules.next_starts(now, seats, self._tried, self._asking.keys(), self.at_once, self._wishes):
            self._asking[seat.id] = asyncio.create_task(self._start(seat, now))
        if seats and now >= self._looked_at + VISITS_EVERY:
            await self._look_for_people(seats, now)
        await self._settle(now)

    def problem(self, seat: Reservation) -> str:
        """Why the server of a seat is not up after it was tried to start it; "" where there is nothing to say."""
        tried = self._tried.get(seat.id)
        if tried is None or not rules.is_to_start(seat, self._wishes.get(seat.id)) or seat.id in self._asking:
            return ""
        return tried.problem or DID_NOT_COME_UP

    def seen_at(self, seat: Reservation) -> int | None:
        """When somebody was last seen in the server of a seat (ms UTC); None: nobody was."""
        visits = self._visits.get(seat.id)
        return visits.last if visits is not None and rules.came(seat, visits) else None

    async def idle(self) -> None:
        """Returns when nothing is being asked for."""
        await asyncio.gather(*self._asking.values())

    def _wished_since(self, seat_id: str, at: int) -> bool:
        wish = self._wishes.get(seat_id)
        return wish is not None and wish.at > at

    def _next_stops(self, seats: list[Reservation]) -> list[Reservation]:
        """The servers that are stopped now, so many at a time; one that was asked for is given its time."""
        found = [seat for seat in seats if rules.is_to_stop(seat, self._wishes.get(seat.id))
                 and seat.id not in self._asking and seat.id not in self._stops]  # fmt: skip
        return found[: max(0, self.at_once - len(self._asking))]

    async def _stop(self, seat: Reservation) -> None:
        try:
            await self.hub.stop_server(seat.owner, seat.server)
        except MLMPError as error:
            log.warning("the server of %s for seat %s is not stopped: %s", seat.owner, seat.id, error.detail)
        except Exception:
            log.exception("stopping the server of %s for seat %s failed; tried again", seat.owner, seat.id)
        finally:
            del self._asking[seat.id]

    async def _start(self, seat: Reservation, now: int) -> None:
        former = self._tried.get(seat.id)
        count = former.count + 1 if former else 1
        problem = ""
        try:
            await self.hub.start_server(seat.owner, seat.server, {"reservation": seat.id})
        except TooManyRequests:
            count -= 1  # the hub itself lets it wait: that is nobody's fault
        except MLMPError as error:
            problem = error.detail
            log.warning("the server of %s for seat %s: %s", seat.owner, seat.id, error.detail)
        except Exception:
            problem = DID_NOT_COME_UP
            log.exception("the server of %s for seat %s; tried again", seat.owner, seat.id)
        finally:
            self._tried[seat.id] = Try(max(count, 1), now, problem)
            del self._asking[seat.id]

    async def _look_for_people(self, seats: list[Reservation], now: int) -> None:
        self._looked_at = now
        there = await self.hub.last_activity()
        for seat in seats:
            last = there.get((seat.owner, seat.server))
            if last is not None and seat.server_state() == "running":
                self._visits[seat.id] = rules.seen(now, self._visits.get(seat.id), last)

    async def _settle(self, now: int) -> None:
        site = self.site()
        for class_id, seats in (await asyncio.to_thread(settling.due, site, now)).items():
            if not rules.can_tell(now, seats, self._visits):
                continue  # or it would be said of people who are there that they are not
            used = {seat.id for seat in seats
                    if rules.in_use(now, seat, self._visits.get(seat.id), self._wishes.get(seat.id))}  # fmt: skip
            await asyncio.to_thread(settling.settle, site, class_id, used, now)


def _seats(site: Site, now: int) -> tuple[list[Reservation], dict[str, Wish]]:
    """The seats of classes under way, and what who teaches wants of their servers."""
    with read(site.engine) as connection:
        under_way = [row.id for _, row in store.under_way(connection, now)]
        seats = [seat for seat in store.seats_of_all(connection, under_way) if seat.state(now) == "active"]
        return seats, store.wishes(connection, under_way)
