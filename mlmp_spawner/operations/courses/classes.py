"""Book the classes of a course: every date of a rule, or none of them.

As with other bookings, what goes where is planned before the write transaction, and the database has the last word. A
refusal has a report of each date that does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import Connection

from mlmp_spawner.errors import Invalid, NotFound, TooLate, Unavailable
from mlmp_spawner.operations import history
from mlmp_spawner.operations.booking import ATTEMPTS
from mlmp_spawner.operations.changes import leave_out
from mlmp_spawner.operations.courses import placing
from mlmp_spawner.operations.courses.courses import own
from mlmp_spawner.operations.courses.refusing import refusal
from mlmp_spawner.operations.courses.term import ClassRequest, Dates, boards_over, dates_of
from mlmp_spawner.operations.idempotency import Repeatable
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules import class_seats as rules
from mlmp_spawner.rules.class_seats import CourseClass
from mlmp_spawner.rules.class_servers import Wish
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.store import classes as store
from mlmp_spawner.store import reservations
from mlmp_spawner.store import series as series_store
from mlmp_spawner.store.classes import Booked
from mlmp_spawner.store.transaction import Busy, Refused, lock_owner, read, transaction

Which = Literal["this", "following", "all"]


def book(
    site: Site, request: ClassRequest, *, actor: Actor, now: int, idempotency_key: str | None = None
) -> Reservation:
    """Books a class, or all those of ``request.recurrence``; returns the first.

    :param idempotency_key: see :func:`mlmp_spawner.operations.booking.book`.
    :raises NotFound, NotAllowed: it is no course of the actor's. :raises Invalid: it makes no sense.
    :raises NoCapacity: on some dates the seats don't fit, and nothing was booked; ``dates`` has for each of these how
        many would and when on that day all would, ``alternatives`` what can be posted instead.
    :raises Conflict: the idempotency key was used for another request, or the course's profile is gone.
    """
    repeatable = Repeatable(actor, request, idempotency_key)
    for _ in range(ATTEMPTS):
        with read(site.engine) as connection:
            if known := repeatable.known(connection, now):
                return known
            dates = dates_of(connection, site, request, actor, now)
            if None in dates.placed:
                raise refusal(connection, request, dates, now)
        try:
            locks = [(node, dates.slots[0].row.resource) for node in dates.nodes]
            with transaction(site.engine, lock=locks) as connection:
                lock_owner(connection, dates.course.owner)
                if known := repeatable.known(connection, now):
                    return known
                own(connection, request.course, actor)
                first = _write(connection, dates, actor, now)
                repeatable.remember(connection, first, now)
                return first
        except (Refused, Busy):
            continue
    raise Unavailable("The database is too busy to book just now.", hint="Nothing was changed; try again in a moment.")


def check(site: Site, request: ClassRequest, *, actor: Actor, now: int) -> Dates:
    """What :func:`book` would book. :raises MLMPError: as it would."""
    with read(site.engine) as connection:
        dates = dates_of(connection, site, request, actor, now)
        if None in dates.placed:
            raise refusal(connection, request, dates, now)
        return dates


def listing(site: Site, course: str, *, window: Interval) -> list[Booked]:
    """The classes of a course that overlap ``window``, by start, without those that were cancelled."""
    with read(site.engine) as connection:
        found = store.of_course(connection, course, window)
    return [(one, row) for one, row in found if row.cancelled_at is None]


def get(site: Site, course: str, class_id: str) -> tuple[CourseClass, Reservation, list[Reservation]]:
    """One class with its seats. :raises NotFound: the course has no such class."""
    with read(site.engine) as connection:
        return *found(connection, course, class_id), store.seats(connection, class_id)


def seats_of(site: Site, class_ids: Sequence[str]) -> dict[str, list[Reservation]]:
    """The seats of several classes, by class; those that are over too."""
    found: dict[str, list[Reservation]] = {class_id: [] for class_id in class_ids}
    with read(site.engine) as connection:
        for seat in store.seats_of_all(connection, class_ids):
            found[seat.parent or ""].append(seat)
    return found


def wishes(site: Site, class_ids: Sequence[str]) -> dict[str, Wish]:
    """What who teaches wants of the servers of seats, by seat."""
    with read(site.engine) as connection:
        return store.wishes(connection, class_ids)


def with_series(site: Site, first: Reservation) -> list[Booked]:
    """A class, and those that were booked with it, by start."""
    with read(site.engine) as connection:
        rows = [first] if first.series is None else series_store.bookings(connection, first.series)
        return [found for row in rows if (found := store.find(connection, row.id)) is not None]


def cancel(
    site: Site, course: str, class_id: str, *, actor: Actor, now: int, which: Which = "this"
) -> list[Reservation]:
    """Cancels a class, or those of its series that follow too, or all that have not begun; what has begun ends now,
    and the servers of its seats are stopped. The classes that were given back.

    :raises NotFound, NotAllowed: it is no class of the actor's. :raises TooLate: it is over.
    :raises Invalid: it is of no series.
    """
    for _ in range(ATTEMPTS):
        with read(site.engine) as connection:
            own(connection, course, actor, lock=False)
            locks = nodes_of(connection, found(connection, course, class_id)[1])
        try:
            with transaction(site.engine, lock=locks) as connection:
                own(connection, course, actor)
                chosen = found(connection, course, class_id)[1]
                rows = _chosen(connection, chosen, which, now)
                for row in rows:
                    give_back(connection, row, actor=actor.name, now=now)
                    if which == "this" and row.series is not None and row.start > now:
                        leave_out(connection, row)
                return rows
        except (Refused, Busy):
            continue
    raise Unavailable("The database is too busy just now.", hint="Nothing was changed; try again in a moment.")


def give_back(connection: Connection, row: Reservation, *, actor: str, now: int, reason: str = "cancelled") -> None:
    """Ends a class now, its seats first; what was is in the history."""
    begun = row.start < now
    for seat in placing.open_seats(connection, row.id, now):
        placing.end_seat(connection, seat, reason="released", action="released", actor=actor, now=now)
    if begun:
        reservations.cut_allocations(connection, row.id, now)
        reservations.update_reservation(connection, row, end=now, end_reason=reason)
    else:
        reservations.delete_allocations(connection, row.id)
        reservations.update_reservation(connection, row, cancelled_at=now, end_reason=reason)
    history.record(connection, "cancelled", actor=actor, at=now, reservation=row, start=row.start, end=row.end,
                   units=row.units, nodes=list(row.nodes))  # fmt: skip


def nodes_of(connection: Connection, row: Reservation) -> list[tuple[str, str]]:
    """All nodes of the resource of a class, to be locked."""
    return [(node, row.resource) for node in reservations.capacities(connection, row.resource)]


def found(connection: Connection, course: str, class_id: str) -> Booked:
    """A class of a course. :raises NotFound: the course has no such class."""
    booked = store.find(connection, class_id)
    if booked is None or booked[0].course != course:
        raise NotFound(f"The course has no class {class_id[:40]!r}.")
    return booked


def _chosen(connection: Connection, chosen: Reservation, which: Which, now: int) -> list[Reservation]:
    if which == "this":
        if chosen.state(now) == "ended":
            raise TooLate("The class is already over.")
        return [chosen]
    if chosen.series is None:
        raise Invalid.field("which", "this class is of no series; leave it out")
    since = chosen.start if which == "following" else now
    rows = series_store.bookings(connection, chosen.series)
    return [row for row in rows if row.start >= max(since, now) and row.state(now) == "booked"]


def _write(connection: Connection, dates: Dates, actor: Actor, now: int) -> Reservation:
    """Writes all of it, planned anew where somebody changed one of the nodes meanwhile."""
    resource = dates.slots[0].row.resource
    seen = {node: version for node, (_, version) in reservations.capacities(connection, resource).items()}
    stale = any(seen.get(node) != dates.versions.get(node) for node in dates.nodes)
    if dates.series is not None:
        series_store.add(connection, dates.series)
    for slot, known in zip(dates.slots, dates.placed, strict=True):
        row, placed = slot.row, known
        if stale:
            placed = rules.place(boards_over(connection, slot, dates.nodes), row.interval, row.units, dates.seats)
        if placed is None:
            raise Refused("capacity")  # overtaken: nothing of it is written
        placing.write(connection, row, placed, now)
        store.add(connection, CourseClass(row.id, dates.course.name, slot.begins, dates.seats,
                                          slot.begins + dates.course.grace))  # fmt: skip
        history.record(
            connection, "booked", actor=actor.name, at=now, reservation=row, start=row.start, end=row.end,
            units=row.units, seats=dates.seats, nodes=sorted(placed.seats), profile=row.profile,
            **({"series": row.series} if row.series else {}),
        )  # fmt: skip
    first = reservations.find(connection, dates.slots[0].row.id)
    assert first is not None
    return first
