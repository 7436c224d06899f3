"""Guests of courses: the codes by which they come, and what they may.

A code is good for one person. Whoever uses it becomes a guest with a new name, on the roster of the code's course,
until the code's own end; what they leave is erased ``erase_after`` ms later
(:mod:`mlmp_spawner.operations.guest_ends`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Engine

from mlmp_spawner.errors import Conflict, Invalid, NotAllowed, NotFound
from mlmp_spawner.operations import history
from mlmp_spawner.operations.courses.courses import own
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules import guest_codes
from mlmp_spawner.rules.courses import Member
from mlmp_spawner.rules.guests import is_guest, new_name
from mlmp_spawner.store import courses as course_store
from mlmp_spawner.store import guests as store
from mlmp_spawner.store.guests import Code, Guest
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import DAY

LONGEST = 180 * DAY
MOST_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Guests:
    """The guests of a course who are not erased yet, and the codes that nobody used."""

    guests: tuple[Guest, ...]
    codes: tuple[Code, ...]


def new_codes(engine: Engine, course: str, count: int, *, until: int, actor: Actor, now: int) -> list[str]:
    """Makes codes; the only time that they are seen.

    :param until: when codes, and the guests who came by them, are over.
    :raises Invalid: too many at once, or an end that is past or too far ahead.
    :raises Conflict: the course has no room for so many guests.
    :raises NotFound, NotAllowed: see :func:`~mlmp_spawner.operations.courses.courses.own`.
    """
    if not 1 <= count <= MOST_AT_ONCE:
        raise Invalid.field("count", f"1 to {MOST_AT_ONCE} at once")
    if not now < until <= now + LONGEST:
        raise Invalid.field("until", f"later than now, and at most {LONGEST // DAY} days ahead")
    codes = [guest_codes.new() for _ in range(count)]
    with transaction(engine) as connection:
        found = own(connection, course, actor)
        taken = store.count(connection, course) + len(store.open_codes(connection, course, now=now))
        if taken + count > found.guests:
            raise Conflict(
                f"The course may have {found.guests} guests, and {taken} are there or invited.",
                hint="Withdraw the codes that nobody used, or change the number of guests of the course.",
                free=max(0, found.guests - taken),
            )
        store.add_codes(connection, [Code(_digest(code), course, now, actor.name, until) for code in codes])
        history.record(connection, "guest_codes", actor=actor.name, at=now, course=course, count=count, until=until)
    return codes


def withdraw(engine: Engine, course: str, *, actor: Actor, now: int) -> int:
    """Makes the codes of a course that nobody used useless; how many there were.

    :raises NotFound, NotAllowed: see :func:`new_codes`.
    """
    with transaction(engine) as connection:
        own(connection, course, actor)
        count = store.drop_open_codes(connection, course)
        if count:
            history.record(connection, "guest_codes", actor=actor.name, at=now, course=course, count=-count)
    return count


def of(engine: Engine, course: str, *, actor: Actor, now: int) -> Guests:
    """Who came, and who can still come.

    :raises NotFound, NotAllowed: see :func:`~mlmp_spawner.operations.courses.courses.own`.
    """
    with read(engine) as connection:
        own(connection, course, actor, lock=False)
        found = store.of_course(connection, course)
        return Guests(tuple(found), tuple(store.open_codes(connection, course, now=now)))


def redeem(engine: Engine, typed: str, *, erase_after: int, now: int) -> Guest | None:
    """Uses a code up for a new guest. None: it can't be used, whyever: mistyped, unknown, used, over.

    The guest is not in yet: :func:`entered` follows, or after a while the code is good again.
    """
    code = guest_codes.read(typed)
    digest = guest_codes.digest(code or "")  # looked up whatever it is: that takes as long
    name = new_name()
    with transaction(engine) as connection:
        used = store.use_code(connection, digest, by=name, now=now)
        if used is None or course_store.find(connection, used.course, lock=True) is None:
            return None
        guest = Guest(name, used.course, now, used.expires_at, used.expires_at + erase_after)
        store.add(connection, guest)
        course_store.put_members(connection, used.course, [Member(used.course, name, "guest", now)])
        history.record(connection, "guest_invited", actor=name, at=now, owner=name, course=used.course)
    return guest


def entered(engine: Engine, name: str, *, now: int) -> None:
    """A guest is in: from now on the code is used for good.

    :raises Conflict: it took so long that the code was given back meanwhile, or the guest's time was ended.
    """
    with transaction(engine) as connection:
        found = store.find(connection, name)
        if found is None or not found.is_let_in(now) or not store.set_facts(connection, name, entered_at=now):
            raise Conflict("This took too long.", hint="Enter your code again.")


def end(engine: Engine, course: str, name: str, *, erase_after: int, actor: Actor, now: int) -> Guest:
    """Ends a guest's time now; what follows is as after any end.

    :raises NotFound: no such guest of this course. :raises NotAllowed: see :func:`new_codes`.
    """
    with transaction(engine) as connection:
        own(connection, course, actor)
        found = store.find(connection, name)
        if found is None or found.course != course or found.erased_at is not None:
            raise NotFound(f"The course has no guest {name[:40]!r}.")
        if found.ended_at is None and found.expires_at > now:
            found = replace(found, expires_at=now, erase_at=now + erase_after)
            store.set_facts(connection, name, expires_at=now, erase_at=now + erase_after)
            if found.entered_at is None:  # or the code would be good again
                store.drop_code_of(connection, name)
            history.record(connection, "guest_ended", actor=actor.name, at=now, owner=name, course=course)
    return found


def is_let_in(engine: Engine, name: str, *, now: int) -> bool:
    """Whether a guest may (still) come in and start things."""
    with read(engine) as connection:
        found = store.find(connection, name)
        return found is not None and found.is_let_in(now)


def until(engine: Engine, name: str, *, now: int) -> int:
    """When a guest's time is over. :raises NotAllowed: it is over, or there is no such guest."""
    with read(engine) as connection:
        found = store.find(connection, name)
    if found is None or not found.is_let_in(now):
        raise NotAllowed("Your time as a guest is over.")
    return found.expires_at


def groups(engine: Engine, name: str, known: frozenset[str]) -> frozenset[str]:
    """The groups that count for somebody: ``known``, and for a guest besides what the course lets them use."""
    if not is_guest(name):
        return known
    with read(engine) as connection:
        return course_store.counting_groups(connection, name, known)


def job_hours(engine: Engine, name: str) -> float | None:
    """Unit-hours that a guest may use in jobs in all; None: no jobs."""
    with read(engine) as connection:
        return course_store.guest_jobs(connection, name)


def as_known(site: Site, actor: Actor) -> Actor:
    """The same person with the groups that count for them."""
    return replace(actor, groups=groups(site.engine, actor.name, actor.groups)) if is_guest(actor.name) else actor


def _digest(code: str) -> str:
    read_again = guest_codes.read(code)
    assert read_again is not None
    return guest_codes.digest(read_again)
