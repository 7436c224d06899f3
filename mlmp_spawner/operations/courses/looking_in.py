"""Who teaches looks into the server of a student in class who agreed: until one of these does not hold any more.

The agreement is for one seat and binds to the hub's number of who gave it. Who looks in has a share of that server in
the hub; the row that says so is written before the share is made, and goes when the hub said that the share is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection

from mlmp_spawner import units
from mlmp_spawner.errors import MLMPError, NotAllowed, NotFound, NotNow
from mlmp_spawner.operations import history
from mlmp_spawner.operations.courses import classes, placing
from mlmp_spawner.operations.courses.courses import own
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import classes as classes_store
from mlmp_spawner.store import courses, reservations
from mlmp_spawner.store import look_in as store
from mlmp_spawner.store.look_in import Agreement, Looking
from mlmp_spawner.store.transaction import Busy, read, transaction

log = logging.getLogger("mlmp.classes")

EVERY = 1.0
"""Seconds between two looks at what does not hold any more."""

NOT_HERE = "This hub lets nobody look into servers."
NOT_A_SEAT = "Only into the server of a seat in class somebody may look."
NOT_THIS_COURSE = "In this course nobody looks into servers."
NOT_NOW = "The seat has not begun, or is over."


@dataclass(frozen=True, slots=True)
class LookIn:
    """How it is for one seat. ``why``: why it can't be agreed to, "" where it can; ``agreed_at`` (ms UTC): since when
    it is; ``teachers``: who may look in then; ``looking``: who is let in."""

    why: str
    agreed_at: int | None = None
    teachers: tuple[str, ...] = ()
    looking: tuple[Looking, ...] = ()


class Hub(Protocol):
    """The calls to the hub, as :class:`mlmp_spawner.hub.HubClient` makes them. A seam for tests."""

    async def share_server(self, user: str, server: str, viewer: str) -> None: ...
    async def unshare_server(self, user: str, server: str, viewer: str) -> None: ...


def of_seat(site: Site, seat_id: str, *, actor: Actor, now: int) -> LookIn:
    """As who has the seat sees it. :raises NotFound: there is no such booking. :raises NotAllowed: it is another's."""
    with read(site.engine) as connection:
        seat = _own_seat(connection, seat_id, actor)
        why, course = _offered(connection, site, seat, now)
        given = store.agreement(connection, seat.id)
        teachers = courses.members(connection, course, "instructor") if course else []
        return LookIn(
            why, given.agreed_at if given and not why else None, tuple(one.name for one in teachers),
            tuple(store.looking(connection, seat.id)),
        )  # fmt: skip


def agree(site: Site, seat_id: str, *, actor: Actor, now: int) -> None:
    """From now on who teaches may look into the server of this seat.

    :raises NotFound, NotAllowed: see :func:`of_seat`. :raises NotNow: it is not offered.
    """
    with transaction(site.engine) as connection:
        seat = _own_seat(connection, seat_id, actor)
        why, _ = _offered(connection, site, seat, now)
        if why or seat.owner_id is None:
            raise NotNow(why or NOT_NOW)
        if store.agreement(connection, seat.id) is None:
            store.agree(connection, Agreement(seat.id, seat.owner_id, now))
            history.record(connection, "look_in_agreed", actor=actor.name, at=now, reservation=seat)


def withdraw(site: Site, seat_id: str, *, actor: Actor, now: int) -> None:
    """From now on nobody may; :meth:`LookIns.look` ends what there is. :raises NotFound, NotAllowed: see there."""
    with transaction(site.engine) as connection:
        seat = _own_seat(connection, seat_id, actor)
        if store.withdraw(connection, seat.id):
            history.record(connection, "look_in_withdrawn", actor=actor.name, at=now, reservation=seat)


def agreed(site: Site, course: str, class_id: str, *, actor: Actor, now: int) -> dict[str, bool]:
    """The seats of a class into which the actor may look now, and whether they are let in already."""
    with read(site.engine) as connection:
        member = courses.member(connection, course, actor.name)
        if member is None or member.role != "instructor":
            return {}
        found = store.agreements(connection)
        inside = {one.seat for one in store.looking(connection) if one.viewer == actor.name}
        return {
            seat.id: seat.id in inside
            for seat in placing.open_seats(connection, class_id, now)
            if _holds(connection, site, seat, found.get(seat.id), now)
        }


def check_teaches(site: Site, course: str, *, actor: Actor) -> None:
    """:raises NotFound, NotAllowed: the actor does not teach this course."""
    with read(site.engine) as connection:
        _check_teaches(connection, course, actor)


class LookIns:
    """Lets in who may, and lets nobody in who may not any more."""

    def __init__(self, site: Callable[[], Site], hub: Hub) -> None:
        self._site, self._hub = site, hub
        self._lock = asyncio.Lock()  # or a share could be made just after it was revoked

    async def run(self) -> None:
        """Looks again and again; no failure ends it."""
        while True:
            try:
                await self.look(units.now())
            except (MLMPError, Busy) as error:
                log.warning("who looks into servers: %s", error)
            except Exception:
                log.exception("looking at who looks into servers failed; tried again")
            await asyncio.sleep(EVERY)

    async def look(self, now: int) -> None:
        """Revokes the shares that do not hold any more.

        :raises MLMPError: the hub or the database does not answer; those that come after it were tried all the same.
        """
        async with self._lock:
            failed: MLMPError | None = None
            for one in await asyncio.to_thread(_ended, self._site(), now):
                try:
                    await self._hub.unshare_server(one.owner, one.server, one.viewer)
                except MLMPError as error:
                    failed = error
                else:
                    await asyncio.to_thread(_drop, self._site(), one)
            if failed is not None:
                raise failed

    async def begin(self, course: str, class_id: str, person: str, *, actor: Actor, now: int) -> Looking:
        """Lets the actor into the server of a person's seat.

        :raises NotFound, NotAllowed: they do not teach this class. :raises NotNow: it is not agreed to, or the server
            does not run. :raises Unavailable: the hub does not answer.
        """
        async with self._lock:
            one = await asyncio.to_thread(_let_in, self._site(), course, class_id, person, actor, now)
            await self._hub.share_server(one.owner, one.server, one.viewer)
            return one


def _own_seat(connection: Connection, seat_id: str, actor: Actor) -> Reservation:
    seat = reservations.find(connection, seat_id)
    if seat is None:
        raise NotFound(f"There is no booking {seat_id[:40]!r}.")
    if seat.owner != actor.name:
        raise NotAllowed("Who may look into a server is for whose it is to say.")
    return seat


def _offered(connection: Connection, site: Site, seat: Reservation, now: int) -> tuple[str, str | None]:
    """Why it can't be agreed to ("": it can), and the course that the seat is of."""
    found = classes_store.find(connection, seat.parent) if seat.is_seat and seat.parent else None
    if found is None:
        return NOT_A_SEAT, None
    course = courses.find(connection, found[0].course)
    if not site.look_in:
        return NOT_HERE, found[0].course
    if course is None or not course.look_in:
        return NOT_THIS_COURSE, found[0].course
    return ("" if seat.state(now) == "active" else NOT_NOW), course.name


def _holds(connection: Connection, site: Site, seat: Reservation, given: Agreement | None, now: int) -> bool:
    """Whether who teaches may look into the server of a seat."""
    if given is None or given.owner_id != seat.owner_id:
        return False
    return not _offered(connection, site, seat, now)[0]


def _check_teaches(connection: Connection, course: str, actor: Actor) -> None:
    own(connection, course, actor, lock=False)
    member = courses.member(connection, course, actor.name)
    if member is None or member.role != "instructor":
        raise NotAllowed("Only who teaches the course looks into servers.")


def _let_in(site: Site, course: str, class_id: str, person: str, actor: Actor, now: int) -> Looking:
    with transaction(site.engine) as connection:
        _check_teaches(connection, course, actor)
        classes.found(connection, course, class_id)
        mine = [seat for seat in placing.open_seats(connection, class_id, now) if seat.owner == person]
        seat = mine[0] if mine else None
        if seat is None or not _holds(connection, site, seat, store.agreement(connection, seat.id), now):
            raise NotNow(f"{person[:60]} has not agreed that you look in.",
                         hint="They do that on the page of their seat.")  # fmt: skip
        if seat.server_state() != "running":
            raise NotNow("The server does not run.")
        for one in store.looking(connection, seat.id):
            if one.viewer == actor.name:
                return one
        new = Looking(seat.id, actor.name, seat.owner, seat.server, now)
        store.let_in(connection, new)
        history.record(connection, "looked_in", actor=actor.name, at=now, reservation=seat)
        return new


def _ended(site: Site, now: int) -> list[Looking]:
    """Those who are let in and may not be any more. Agreements for seats that are over are forgotten."""
    with read(site.engine) as connection:
        found = [one for one in store.looking(connection) if not _may_stay(connection, site, one, now)]
        is_over = store.is_over(connection, now)
    if is_over:
        with transaction(site.engine) as connection:
            store.drop_over(connection, now)
    return found


def _may_stay(connection: Connection, site: Site, one: Looking, now: int) -> bool:
    seat = reservations.find(connection, one.seat)
    if seat is None or (seat.owner, seat.server) != (one.owner, one.server):
        return False
    if not _holds(connection, site, seat, store.agreement(connection, seat.id), now):
        return False
    course = _offered(connection, site, seat, now)[1]
    member = courses.member(connection, course, one.viewer) if course else None
    return member is not None and member.role == "instructor"


def _drop(site: Site, one: Looking) -> None:
    with transaction(site.engine) as connection:
        store.drop(connection, one)
