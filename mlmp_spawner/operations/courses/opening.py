"""Open classes: when one's time begins, its seats are given to those on the roster, as many as there are.

A seat that nobody has goes to who is put on the roster meanwhile, or comes to the spawn page; after unused ones were
given back, only to who comes. Seats that a node lost are looked for elsewhere until the class settles. All of it may
be cut off between any two lines: each step is one transaction, and the next look does what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from mlmp_spawner.errors import Changed
from mlmp_spawner.operations import changes, yielding
from mlmp_spawner.operations.booking import ATTEMPTS
from mlmp_spawner.operations.courses import placing
from mlmp_spawner.operations.site import CLOCK, Actor, Site
from mlmp_spawner.rules import class_seats as rules
from mlmp_spawner.rules.class_seats import CourseClass, Placed
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.store import classes as store
from mlmp_spawner.store import courses
from mlmp_spawner.store import reservations as reservations_store
from mlmp_spawner.store.classes import Booked
from mlmp_spawner.store.tables import reservation
from mlmp_spawner.store.transaction import Busy, Refused, read, transaction
from mlmp_spawner.units import DAY

log = logging.getLogger(__name__)

MENDED_AHEAD = 32 * DAY
"""How far ahead seats that a node lost are looked for elsewhere."""

_SOME = 500


@dataclass(frozen=True, slots=True)
class Turn:
    """Somebody who is to get a seat: the hub's id, and the server that it is for, None for one of its own."""

    name: str
    user_id: int
    server: str | None


def look(site: Site, now: int) -> None:
    """Opens what is to be opened, gives out what is left, and looks for seats that were lost. What fails is tried
    again with the next look, and keeps nothing else from being done."""
    with read(site.engine) as connection:
        under_way = store.under_way(connection, now)
        to_come = store.to_come(connection, now, now + MENDED_AHEAD)
        lacking = [row for one, row in to_come if _missing(connection, site, one, row, now)]
        waiting = [
            row for one, row in under_way
            if one.opened_at is None or _turns(connection, one, row, now) or _strangers(connection, one, now)
        ]  # fmt: skip
    for row in lacking:
        _try(site, row, now, mend)
    for row in waiting:
        _try(site, row, now, give_out)


def _try(site: Site, row: Reservation, now: int, step: Callable[[Site, str, int], object]) -> None:
    try:
        step(site, row.id, now)
    except (Refused, Busy, Changed) as error:
        log.info("class %s: %s; tried again", row.id, error)
    except Exception:
        log.exception("class %s: %s failed; tried again", row.id, step.__name__)


def give_out(site: Site, class_id: str, now: int) -> list[Reservation]:
    """Gives seats to those on the roster who have none yet, in its order, and takes those of people who are not on it
    any more; the new seats.

    :raises Refused, Busy: somebody else was in the way.
    """
    with transaction(site.engine, lock=_locks(site, class_id)) as connection:
        found = _open(connection, class_id, now)
        if found is None:
            return []
        one, row = found
        store.open_at(connection, class_id, now)
        for seat in _strangers(connection, one, now):
            placing.end_seat(connection, seat, reason="released", action="released", actor=CLOCK.name, now=now)
        seats = store.seats(connection, class_id)
        left = placing.free(row, seats, now)
        given = []
        for turn in _turns(connection, one, row, now):
            node = rules.next_node(left)
            if node is None:
                break
            left[node] -= 1
            given.append(placing.give(connection, row, turn.name, turn.user_id, node, turn.server, now))
        return given


def offered(connection: Connection, name: str, now: int) -> list[Reservation]:
    """The classes under way in which a seat is left for somebody who has none."""
    found = []
    for _, row in store.for_member(connection, name, now):
        seats = store.seats(connection, row.id)
        has = any(seat.owner == name and seat.state(now) == "active" for seat in seats)
        if not has and any(placing.free(row, seats, now).values()):
            found.append(row)
    return found


def take(
    site: Site, *, actor: Actor, server: str | None, profile: str | None, node: str | None, units: int | None, now: int
) -> Reservation | None:
    """A seat for somebody who comes to a class under way of a course that they are in and has none; None where there
    is none left, or something else is asked for.

    :param server: the name of the server that is to start; None for one that no booking of the actor uses then.
    """
    with read(site.engine) as connection:
        mine = store.for_member(connection, actor.name, now)
    wanted = [row.id for _, row in mine if _is_asked(site, row, profile, units)]
    for class_id in wanted:
        for _ in range(ATTEMPTS):
            try:
                return _take(site, class_id, actor, server, node, now)
            except (Refused, Busy):
                continue
            except _NoneLeft:
                break
    return None


class _NoneLeft(Exception):
    """The class has no seat for who asks."""


def _take(site: Site, class_id: str, actor: Actor, server: str | None, node: str | None, now: int) -> Reservation:
    with transaction(site.engine, lock=_locks(site, class_id)) as connection:
        found = _open(connection, class_id, now)
        user_id = reservations_store.user_id(connection, actor.name)
        if found is None or user_id is None:
            raise _NoneLeft
        one, row = found
        seats = store.seats(connection, class_id)
        member = courses.member(connection, one.course, actor.name)
        if member is None or any(seat.owner == actor.name and seat.state(now) == "active" for seat in seats):
            raise _NoneLeft
        left = placing.free(row, seats, now)
        place = rules.next_node(left if node is None else {node: left.get(node, 0)})
        if place is None:
            raise _NoneLeft
        if server is None and not _default_in_use(connection, [actor.name], placing.rest(row, now)):
            server = ""
        given = placing.give(connection, row, actor.name, user_id, place, server, now)
        changes.separated(connection, given, now)
        return given


def _is_asked(site: Site, row: Reservation, profile: str | None, units: int | None) -> bool:
    """Whether a seat of this class is what is asked for: also where a form sent what its profile has by itself."""
    known = site.catalog.profiles.get(row.profile)
    return profile in (None, row.profile) and units in (None, row.units, known.units if known else None)


def mend(site: Site, class_id: str, now: int) -> int:
    """Finds other places for seats that a class lacks, since their node was lost; how many it found.

    :raises Refused, Busy: somebody else was in the way.
    """
    with transaction(site.engine, lock=_locks(site, class_id)) as connection:
        found = store.find(connection, class_id)
        if found is None or found[0].settled_at is not None or found[1].state(now) not in ("booked", "active"):
            return 0
        return fill(connection, site, *found, now)


def fill(connection: Connection, site: Site, one: CourseClass, row: Reservation, now: int) -> int:
    """As many of the seats that a class lacks as fit; how many."""
    placed = _missing(connection, site, one, row, now)
    if placed is None:
        return 0
    for each in placed.yields:
        yielding.cut(connection, [each.reservation], each.at, now)
    has = placing.there(row, now)
    more = {node: has.get(node, 0) + placed.seats.get(node, 0) for node in has.keys() | placed.seats.keys()}
    placing.resize(connection, row, more, now)
    return sum(placed.seats.values())


def _missing(connection: Connection, site: Site, one: CourseClass, row: Reservation, now: int) -> Placed | None:
    """Where as many of the seats that a class lacks as fit would go; None where it lacks none, or none fits."""
    lacks = one.seats - sum(placing.there(row, now).values())
    if lacks <= 0:
        return None
    boards, rest = placing.boards(connection, site, row, now), placing.rest(row, now)
    fit = min(lacks, rules.most(boards, rest, row.units))
    return rules.place(boards, rest, row.units, fit) if fit else None


def _locks(site: Site, class_id: str) -> list[tuple[str, str]]:
    with read(site.engine) as connection:
        row = reservations_store.find(connection, class_id)
        nodes = reservations_store.capacities(connection, row.resource) if row else ()
        return [(node, row.resource) for node in nodes] if row else []


def _open(connection: Connection, class_id: str, now: int) -> Booked | None:
    found = store.find(connection, class_id)
    return found if found is not None and found[1].state(now) == "active" else None


def _turns(connection: Connection, one: CourseClass, row: Reservation, now: int) -> list[Turn]:
    """Who is to get a seat by itself: those on the roster that the hub knows and who never had one, or whose node was
    lost. Who teaches gets what is left when everybody else has one, those too whom the hub does not know yet. Nobody
    where unused seats were given back."""
    seats = store.seats(connection, one.reservation)
    left = sum(placing.free(row, seats, now).values())
    if one.settled_at is not None or left <= 0:
        return []
    had = {seat.owner for seat in seats if seat.end_reason != "capacity_lost"}
    without = [member for member in courses.members(connection, one.course) if member.name not in had]
    taught = [member for member in without if member.role != "instructor"]
    teachers = [member for member in without if member.role == "instructor"]
    known = courses.in_hub(connection, one.course)
    members = [member for member in taught if member.name in known]
    members += [member for member in teachers if member.name in known][: max(0, left - len(taught))]
    used = _default_in_use(connection, [member.name for member in members], Interval(max(now, row.start), row.end))
    return [Turn(member.name, known[member.name], None if member.name in used else "") for member in members]


def _strangers(connection: Connection, one: CourseClass, now: int) -> list[Reservation]:
    """The seats of people who are not on the roster any more."""
    members = {member.name for member in courses.members(connection, one.course)}
    return [seat for seat in placing.open_seats(connection, one.reservation, now) if seat.owner not in members]


def _default_in_use(connection: Connection, names: Sequence[str], window: Interval) -> set[str]:
    """Those of these people whose default server another booking of theirs uses meanwhile."""
    c = reservation.c
    found: set[str] = set()
    for at in range(0, len(names), _SOME):
        some = list(names[at : at + _SOME])
        query = select(c.owner).where(
            c.owner.in_(some), c.owner_id.is_not(None), reservations_store.is_booking(), c.server == "",
            reservations_store.overlapping(window), reservations_store.not_given_back(),
        )  # fmt: skip
        found |= set(connection.execute(query).scalars())
    return found
