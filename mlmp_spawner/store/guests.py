"""Queries on guests and their codes. Every function takes an open connection; instants are ms UTC."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from mlmp_spawner.store.course_tables import course as course_table
from mlmp_spawner.store.guest_tables import guest, guest_code


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest. ``entered_at`` None: not in yet; ``ended_at``: since when servers and tokens are gone; ``erase_at``:
    when files and account are to be erased, ``erased_at``: when they were."""

    name: str
    course: str
    created_at: int
    expires_at: int
    erase_at: int
    entered_at: int | None = None
    ended_at: int | None = None
    erased_at: int | None = None

    def is_let_in(self, now: int) -> bool:
        """Whether the guest may come in and start things."""
        return self.ended_at is None and self.erased_at is None and now < self.expires_at


@dataclass(frozen=True, slots=True)
class Code:
    """What is kept of a code: no code, only its hash."""

    sha256: str
    course: str
    made_at: int
    made_by: str
    expires_at: int
    used_at: int | None = None
    used_by: str | None = None


def add_codes(connection: Connection, codes: Iterable[Code]) -> None:
    """:raises sqlalchemy.exc.IntegrityError: the course is not there."""
    connection.execute(insert(guest_code), [asdict(code) for code in codes])


def use_code(connection: Connection, sha256: str, *, by: str, now: int) -> Code | None:
    """Uses a code up, if nobody has and it is not over; None else. Of two at once, one gets it."""
    c = guest_code.c
    open_one = (c.sha256 == sha256, c.used_at.is_(None), c.expires_at > now)
    if not connection.execute(update(guest_code).where(*open_one).values(used_at=now, used_by=by)).rowcount:
        return None
    return Code(**connection.execute(select(guest_code).where(c.sha256 == sha256)).one()._mapping)


def free_code(connection: Connection, used_by: str) -> None:
    """Makes the code of somebody who never came in good again, unless it was withdrawn meanwhile."""
    connection.execute(update(guest_code).where(guest_code.c.used_by == used_by).values(used_at=None, used_by=None))


def open_codes(connection: Connection, course: str, *, now: int) -> list[Code]:
    """The codes of a course that can be used, the oldest first."""
    c = guest_code.c
    query = select(guest_code).where(c.course == course, c.used_at.is_(None), c.expires_at > now)
    return [Code(**row._mapping) for row in connection.execute(query.order_by(c.made_at, c.sha256))]


def drop_open_codes(connection: Connection, course: str) -> int:
    """Withdraws the codes of a course that nobody used, how many; also those of who is just coming, who may come in
    but not again."""
    c = guest_code.c
    coming = select(guest.c.name).where(guest.c.course == course, guest.c.entered_at.is_(None))
    connection.execute(delete(guest_code).where(c.course == course, c.used_by.in_(coming)))
    return connection.execute(delete(guest_code).where(c.course == course, c.used_at.is_(None))).rowcount


def drop_code_of(connection: Connection, used_by: str) -> None:
    """Withdraws the code that somebody used."""
    connection.execute(delete(guest_code).where(guest_code.c.used_by == used_by))


def drop_old_codes(connection: Connection, *, before: int) -> None:
    """Forgets the codes that were over then: what they led to is with the guests."""
    connection.execute(delete(guest_code).where(guest_code.c.expires_at < before))


def add(connection: Connection, new: Guest) -> None:
    """:raises sqlalchemy.exc.IntegrityError: there is, or was, one of that name."""
    connection.execute(insert(guest).values(asdict(new)))


def find(connection: Connection, name: str) -> Guest | None:
    """One guest, erased ones too; None: there never was one of that name."""
    found = _read(connection, guest.c.name == name)
    return found[0] if found else None


def of_course(connection: Connection, course: str) -> list[Guest]:
    """The guests of a course who are not erased, in the order in which they came."""
    return _read(connection, guest.c.course == course, guest.c.erased_at.is_(None))


def count(connection: Connection, course: str) -> int:
    """How many guests of a course there are who may come in, or are about to."""
    query = select(func.count()).where(guest.c.course == course, guest.c.ended_at.is_(None))
    return connection.execute(query.where(guest.c.erased_at.is_(None))).scalar() or 0


def due(connection: Connection, *, now: int, not_in_since: int) -> list[Guest]:
    """Those with whom something is to be done now: who never came in, who is over, whose course is gone.

    :param not_in_since: who used a code before then and is not in, never came in.
    """
    c = guest.c
    no_course = ~select(course_table.c.name).where(course_table.c.name == c.course).exists()
    over = c.ended_at.is_(None) & or_(c.expires_at <= now, no_course)
    half = c.entered_at.is_(None) & (c.created_at < not_in_since)
    return _read(connection, c.erased_at.is_(None), or_(over, half, c.erase_at <= now))


def set_facts(connection: Connection, name: str, **facts: int) -> bool:
    """Writes down what happened to a guest who is not erased; whether there is one."""
    mine = (guest.c.name == name, guest.c.erased_at.is_(None))
    return connection.execute(update(guest).where(*mine).values(**facts)).rowcount > 0


def remove(connection: Connection, name: str) -> None:
    """Drops a guest who never came in."""
    connection.execute(delete(guest).where(guest.c.name == name, guest.c.entered_at.is_(None)))


def _read(connection: Connection, *conditions: ColumnElement[bool]) -> list[Guest]:
    query = select(guest).where(*conditions).order_by(guest.c.created_at, guest.c.name)
    return [Guest(**row._mapping) for row in connection.execute(query)]
