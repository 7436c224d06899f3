"""What who teaches does to a class: more time, a word to everybody in it, their servers started and stopped."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TypeVar

from sqlalchemy import Connection

from mlmp_spawner.errors import Changed, Invalid, NoCapacity, NotNow, TooLate
from mlmp_spawner.operations import changes, history, planning, yielding
from mlmp_spawner.operations.booking import ATTEMPTS
from mlmp_spawner.operations.courses import classes, placing
from mlmp_spawner.operations.courses.courses import busy, own
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.class_seats import CourseClass
from mlmp_spawner.rules.class_servers import BEFORE_END, What, Wish
from mlmp_spawner.rules.courses import Course
from mlmp_spawner.rules.placement import Taken, Wanted, longest_from, yields_to
from mlmp_spawner.rules.reservations import LONGEST, Interval, Reservation
from mlmp_spawner.store import classes as store
from mlmp_spawner.store import courses as courses_store
from mlmp_spawner.store import reservations
from mlmp_spawner.store.transaction import Busy, Refused, read, transaction
from mlmp_spawner.units import HOUR, MINUTE, SECOND, format_duration, to_iso

T = TypeVar("T")

MOST_MORE = 4 * HOUR
"""How much longer (ms) a class is made at once."""

LONGEST_MESSAGE = 300
"""Characters of what is said to everybody in a class."""


@dataclass(frozen=True, slots=True)
class Room:
    """A class as who teaches sees it. ``seats``: those that people have or had; ``free``: how many nobody has, by
    node; ``without``: who of the roster has none, and whether the hub knows them; ``wishes``: what is wanted of the
    servers, by seat."""

    course: Course
    one: CourseClass
    row: Reservation
    seats: list[Reservation]
    free: dict[str, int]
    without: dict[str, bool]
    wishes: dict[str, Wish]


def look(site: Site, course: str, class_id: str, *, actor: Actor, now: int) -> Room:
    """A class with everybody in it. :raises NotFound, NotAllowed: it is no class of the actor's."""
    with read(site.engine) as connection:
        mine = own(connection, course, actor, lock=False)
        one, row = classes.found(connection, course, class_id)
        seats = store.seats(connection, class_id)
        active = {seat.owner for seat in seats if seat.state(now) == "active"}
        known = courses_store.in_hub(connection, course)
        members = courses_store.members(connection, course, "student", "guest")
        return Room(
            mine, one, row, seats, {node: left for node, left in placing.free(row, seats, now).items() if left > 0},
            {member.name: member.name in known for member in members if member.name not in active},
            store.wishes(connection, [class_id]),
        )  # fmt: skip


def extend(
    site: Site, course: str, class_id: str, duration: int, *, actor: Actor, now: int
) -> tuple[Reservation, list[Reservation]]:
    """Lets a class with its seats go on for ``duration`` (ms) more, where they are; the class, and the seats that do.

    :raises NotFound, NotAllowed: it is no class of the actor's. :raises TooLate: its servers are being stopped.
    :raises NoCapacity: somebody else has some of the nodes then; ``longest_end`` says how far it could go.
    """
    if not SECOND <= duration <= MOST_MORE:
        raise Invalid.field("duration", f"a class is made at most {format_duration(MOST_MORE)} longer at once")

    def write(connection: Connection, row: Reservation) -> tuple[Reservation, list[Reservation]]:
        if row.state(now) == "ended" or now >= row.stop_at(site.stop_lead):
            raise TooLate("The class is over, or its servers are being stopped.", hint="Book another class.")
        if row.interval.length + duration > LONGEST:
            raise Invalid.field("duration", f"a class lasts less than {format_duration(LONGEST)}")
        _make_room(connection, row, duration, now)
        end = row.end + duration
        theirs = [seat for seat in placing.open_seats(connection, row.id, now)
                  if seat.end == row.end and seat.stopping_at is None]  # fmt: skip
        _lengthen(connection, row, end, "changed", actor, now)  # the class first: seats never reach beyond it
        for seat in theirs:
            _lengthen(connection, seat, end, "class_extended", actor, now)
            changes.separated(connection, replace(seat, end=end), now)
        longer = [reservations.find(connection, one.id) or one for one in (row, *theirs)]
        return longer[0], longer[1:]

    return _attempt(site, course, class_id, actor, write)


def say(site: Site, course: str, class_id: str, text: str, *, actor: Actor, now: int) -> list[str]:
    """Tells everybody who has a seat something, as a notice; their names.

    :raises NotFound, NotAllowed: it is no class of the actor's. :raises Invalid: it is empty, long or not one line.
    :raises NotNow: nobody has a seat.
    """
    text = text.strip()
    if not text or len(text) > LONGEST_MESSAGE or not text.isprintable():
        raise Invalid.field("text", f"write 1 to {LONGEST_MESSAGE} printable characters in one line")

    def write(connection: Connection, row: Reservation) -> list[str]:
        seats = _seats(connection, row, now)
        for seat in seats:
            history.record(connection, "class_message", actor=actor.name, at=now, reservation=seat, message=text)
        return sorted(seat.owner for seat in seats)

    return _attempt(site, course, class_id, actor, write, lock=False)


def servers(
    site: Site,
    course: str,
    class_id: str,
    what: What,
    people: Collection[str] | None = None,
    *,
    actor: Actor,
    now: int,
) -> list[str]:
    """Wants the servers of these people (None: of everybody with a seat) started, stopped, or stopped and started
    again; whose that are. It is noted, and done in waves whatever is killed meanwhile.

    :raises NotFound, NotAllowed: it is no class of the actor's. :raises Invalid: somebody has no seat.
    :raises NotNow: nobody has a seat, or the class ends so soon that nothing is started any more.
    """

    def write(connection: Connection, row: Reservation) -> list[str]:
        seats = _seats(connection, row, now)
        strangers = sorted(set(people or ()) - {seat.owner for seat in seats})
        if strangers:
            raise Invalid.field("people", f"{', '.join(one[:60] for one in strangers[:5])} has no seat in it now")
        if what != "stop" and now >= row.end - BEFORE_END:
            raise NotNow(f"Nothing is started in the last {BEFORE_END // MINUTE} minutes.", hint="Extend the class.")
        chosen = [seat for seat in seats if people is None or seat.owner in people]
        if what == "start":
            chosen = [seat for seat in chosen if seat.server_state() == "none"]
        if chosen:
            history.record(connection, store.SERVERS, actor=actor.name, at=now, reservation=row, what=what,
                           seats=[seat.id for seat in chosen])  # fmt: skip
        return sorted(seat.owner for seat in chosen)

    return _attempt(site, course, class_id, actor, write, lock=False)


def _seats(connection: Connection, row: Reservation, now: int) -> list[Reservation]:
    seats = placing.open_seats(connection, row.id, now)
    if not seats:
        raise NotNow("Nobody has a seat in this class now.", hint="Seats are given out when its servers are started.")
    return seats


def _attempt(
    site: Site, course: str, class_id: str, actor: Actor, write: Callable[[Connection, Reservation], T], *,
    lock: bool = True,
) -> T:  # fmt: skip
    """One transaction on a class. :param lock: hold all nodes of its resource."""
    for _ in range(ATTEMPTS):
        with read(site.engine) as connection:
            own(connection, course, actor, lock=False)
            row = classes.found(connection, course, class_id)[1]
            locks = classes.nodes_of(connection, row) if lock else []
        try:
            with transaction(site.engine, lock=locks) as connection:
                own(connection, course, actor)
                return write(connection, classes.found(connection, course, class_id)[1])
        except (Refused, Busy, Changed):
            continue
    raise busy()


def _make_room(connection: Connection, row: Reservation, duration: int, now: int) -> None:
    """Jobs make way on the nodes of a class for ``duration`` more. :raises NoCapacity: somebody else is there."""
    more = Interval(row.end, row.end + duration)
    has = placing.there(row, row.end - 1)
    boards = planning.view(connection, row.resource, sorted(has), more).boards
    here = {board.node: longest_from([board], Wanted(row.units * has[board.node], more)) for board in boards}
    longest = min((here.get(node, 0) for node in has), default=0)
    if longest < duration:
        taken = ", ".join(sorted(node for node in has if here.get(node, 0) < duration))
        much = format_duration(longest) if longest >= SECOND else "no time"
        raise NoCapacity(
            f"The class can go on for {much}, not for {format_duration(duration)}: somebody else has {taken} then.",
            longest_end=to_iso(row.end + longest),
            hint=f"Let it go on for {much}." if longest >= SECOND else "Finish in time, or book another class.",
        )
    added = {node: Taken("", row.units * count, more) for node, count in has.items()}
    for each in yields_to(boards, added):
        yielding.cut(connection, [each.reservation], each.at, now)


def _lengthen(connection: Connection, row: Reservation, end: int, action: str, actor: Actor, now: int) -> None:
    reservations.extend_allocations(connection, row, end)
    reservations.update_reservation(connection, row, end=end, warned_at=None, offered_at=None)
    history.record(connection, action, actor=actor.name, at=now, reservation=row, start=row.start, end=end,
                   units=row.units, nodes=list(row.nodes))  # fmt: skip
