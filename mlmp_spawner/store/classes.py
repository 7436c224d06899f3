"""Queries on classes and their seats. Every function takes an open connection."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from sqlalchemy import ColumnElement, Connection, and_, insert, or_, select, update

from mlmp_spawner.rules.class_seats import CourseClass
from mlmp_spawner.rules.class_servers import Wish
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.course_tables import course_class, course_member
from mlmp_spawner.store.tables import history, reservation

Booked = tuple[CourseClass, Reservation]
"""A class, and its booking."""

SERVERS = "class_servers"
"""The action in the history with which who teaches starts and stops servers: what is wanted lasts as it does."""

_SOME = 500


def is_seat() -> ColumnElement[bool]:
    """Reservations that are seats of classes; what else has a parent is a job's."""
    return and_(reservation.c.kind == "session", reservation.c.parent.is_not(None))


def add(connection: Connection, new: CourseClass) -> None:
    """Writes what a class is beside its booking, which is there already."""
    connection.execute(insert(course_class).values(asdict(new)))


def find(connection: Connection, class_id: str) -> Booked | None:
    """One class, or None."""
    found = _read(connection, course_class.c.reservation == class_id)
    return found[0] if found else None


def of_course(connection: Connection, course: str, window: Interval) -> list[Booked]:
    """The classes of a course that overlap ``window``, by start; those that were given back too."""
    return _read(connection, course_class.c.course == course, store.overlapping(window))


def under_way(connection: Connection, now: int) -> list[Booked]:
    """The classes for which something may be running now, and that nobody gave back."""
    mine = reservation.c.kind == "class"
    return _read(connection, mine, store.overlapping(Interval(now, now + 1)), store.not_given_back())


def to_come(connection: Connection, now: int, until: int) -> list[Booked]:
    """The classes that are not over and begin before ``until``, and that nobody gave back."""
    mine = (course_class.c.settled_at.is_(None), reservation.c.end > now, reservation.c.start < until)
    return _read(connection, *mine, store.not_given_back())


def for_member(connection: Connection, name: str, now: int) -> list[Booked]:
    """The classes under way of the courses that somebody is in."""
    courses = select(course_member.c.course).where(course_member.c.name == name)
    rows = _read(
        connection, course_class.c.course.in_(courses), reservation.c.start <= now, reservation.c.end > now,
        store.not_given_back(),
    )  # fmt: skip
    return [(one, row) for one, row in rows if row.allocations]


def open_at(connection: Connection, class_id: str, now: int) -> bool:
    """Notes that seats were given out; False where somebody had."""
    mine = (course_class.c.reservation == class_id, course_class.c.opened_at.is_(None))
    return connection.execute(update(course_class).where(*mine).values(opened_at=now)).rowcount == 1


def settle_at(connection: Connection, class_id: str, now: int) -> bool:
    """Notes that unused seats were given back; False where somebody had."""
    mine = (course_class.c.reservation == class_id, course_class.c.settled_at.is_(None))
    return connection.execute(update(course_class).where(*mine).values(settled_at=now)).rowcount == 1


def seats(connection: Connection, class_id: str) -> list[Reservation]:
    """The seats of a class, in the order in which they were given out; those that are over too."""
    order = (reservation.c.created_at, reservation.c.id)
    return store.select_where(connection, reservation.c.parent == class_id, is_seat(), order=order)


def seats_of_all(connection: Connection, class_ids: Iterable[str]) -> list[Reservation]:
    """The seats of several classes, in the order in which they were given out; those that are over too."""
    ids = sorted(class_ids)
    found: list[Reservation] = []
    for at in range(0, len(ids), _SOME):
        some = reservation.c.parent.in_(ids[at : at + _SOME])
        found += store.select_where(connection, some, is_seat(), order=(reservation.c.created_at, reservation.c.id))
    return found


def wishes(connection: Connection, class_ids: Iterable[str]) -> dict[str, Wish]:
    """What who teaches wants of the servers of seats, by seat: the last that was said of each."""
    c, ids = history.c, sorted(class_ids)
    found: dict[str, Wish] = {}
    for at in range(0, len(ids), _SOME):
        mine = (c.reservation.in_(ids[at : at + _SOME]), c.action == SERVERS)
        for row in connection.execute(select(c.at, c.details).where(*mine).order_by(c.id)):
            found |= dict.fromkeys(row.details["seats"], Wish(row.details["what"], row.at))
    return found


def root_of(connection: Connection, row: Reservation) -> Reservation:
    """The class that a seat is of; any other reservation is its own."""
    parent = store.find(connection, row.parent) if row.is_seat and row.parent else None
    return parent or row


def not_others_seats(viewer: str) -> ColumnElement[bool]:
    """All reservations but the seats that others have."""
    return or_(reservation.c.parent.is_(None), reservation.c.kind != "session", reservation.c.owner == viewer)


def _read(connection: Connection, *conditions: ColumnElement[bool]) -> list[Booked]:
    joined = course_class.join(reservation, reservation.c.id == course_class.c.reservation)
    rows = connection.execute(select(course_class).select_from(joined).where(*conditions)).all()
    known = {row.reservation: CourseClass(**row._mapping) for row in rows}
    ids = sorted(known)
    found: list[Reservation] = []
    for at in range(0, len(ids), _SOME):
        found += store.select_where(connection, reservation.c.id.in_(ids[at : at + _SOME]))
    found.sort(key=lambda row: (row.start, row.id))
    return [(known[row.id], row) for row in found]
