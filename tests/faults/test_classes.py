"""Classes when a process is killed between any two statements, and when many do many things at once."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import event, func, select

from mlmp_spawner.errors import MLMPError
from mlmp_spawner.operations import booking, changes
from mlmp_spawner.operations.admission import StartOptions, admit
from mlmp_spawner.operations.courses import classes, opening, settling
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import tables
from mlmp_spawner.store.course_tables import course_class
from mlmp_spawner.store.transaction import Busy, Refused, read
from mlmp_spawner.units import HOUR, MINUTE
from tests.invariant import violations
from tests.operations.conftest import NOW, ann, site
from tests.operations.courses.term import BEGINS, STUDENTS, TEACHER, a_class, course, request, seats

__all__ = ["site"]

pytestmark = pytest.mark.faults

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))


class Killed(BaseException):
    """The process is gone: nothing catches it."""


@contextmanager
def killed_after(site: Site, statements: int) -> Iterator[list[int]]:
    """Ends whatever runs after so many statements, as a kill would: what was not committed is not there."""
    count = [0]

    def before(*_: Any) -> None:
        count[0] += 1
        if count[0] > statements:
            raise Killed

    event.listen(site.engine, "before_cursor_execute", before)
    try:
        yield count
    finally:
        event.remove(site.engine, "before_cursor_execute", before)


def everything(site: Site) -> list[Any]:
    """All that is written of bookings and classes."""
    with read(site.engine) as connection:
        return [
            sorted(map(tuple, connection.execute(select(table)).all()), key=repr)
            for table in (tables.reservation, tables.allocation, course_class, tables.series)
        ]


def at_each_kill(site: Site, act: Callable[[], object]) -> int:
    """Kills ``act`` after each number of statements until it is through; each time nothing of it is left."""
    before, statements = everything(site), 0
    while True:
        try:
            with killed_after(site, statements):
                act()
            return statements
        except Killed:
            assert everything(site) == before, f"killed after {statements} statements"
            statements += 1


def test_a_kill_while_a_term_is_booked_leaves_nothing_of_it(site: Site):
    course(site)
    asked = request(recurrence="FREQ=WEEKLY;COUNT=3")
    assert at_each_kill(site, lambda: classes.book(site, asked, actor=TEACHER, now=NOW)) > 20
    with read(site.engine) as connection:
        assert connection.execute(select(func.count()).select_from(course_class)).scalar() == 3


def test_a_kill_while_a_class_opens_leaves_it_to_the_next_look(site: Site):
    course(site, seats=6)
    row = a_class(site)
    assert at_each_kill(site, lambda: opening.give_out(site, row.id, row.start)) > 20
    assert set(seats(site, row.id)) == set(STUDENTS)
    opening.look(site, row.start + MINUTE)
    assert set(seats(site, row.id)) == set(STUDENTS) and violations(site.engine) == []


def test_a_kill_while_a_class_settles_leaves_it_to_the_next_look(site: Site):
    course(site, seats=6)
    row = a_class(site)
    opening.look(site, row.start)
    used = {seats(site, row.id)["s1"].id}
    now = BEGINS + 15 * MINUTE
    assert at_each_kill(site, lambda: settling.settle(site, row.id, used, now)) > 20
    assert set(seats(site, row.id, now)) == {"s1"}
    left = {a.node: a.units for a in changes.get(site, row.id).allocations if a.end > now}
    assert sum(left.values()) == 2 and violations(site.engine) == []


def test_a_kill_while_a_class_is_cancelled_leaves_all_of_it_or_nothing(site: Site):
    course(site, seats=4)
    row = a_class(site)
    opening.look(site, row.start)
    now = BEGINS + MINUTE
    assert at_each_kill(site, lambda: classes.cancel(site, "ml", row.id, actor=TEACHER, now=now)) > 10
    assert seats(site, row.id, now) == {} and violations(site.engine) == []


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_in_a_race_for_the_seats_everybody_has_one_at_most_and_nothing_is_taken_twice(site: Site, seed: int):
    """Service, hub and walk-ups at once: while the class is opened, students come, and others take what is free."""
    course(site, seats=4)
    row = a_class(site)
    failures: list[BaseException] = []
    barrier = threading.Barrier(10)
    now = row.start + MINUTE

    def at_once(act: Callable[[], object]) -> Callable[[], None]:
        def work() -> None:
            barrier.wait()
            try:
                act()
            except (MLMPError, Busy, Refused):
                pass
            except BaseException as error:  # noqa: BLE001 -- the test tells it
                failures.append(error)

        return work

    def come(name: str) -> Callable[[], Reservation]:
        asked = StartOptions(profile="gpu", duration=HOUR)
        return lambda: admit(site, actor=Actor(name), server="", options=asked, now=now).reservation

    free = BookingRequest("gpu", start=now, duration=HOUR, units=1)
    acts: list[Callable[[], object]] = [come(name) for name in STUDENTS]
    acts += [lambda: opening.give_out(site, row.id, now)] * 2
    acts += [lambda: booking.book(site, free, actor=ann, now=now)] * 2
    random.Random(seed).shuffle(acts)
    threads = [threading.Thread(target=at_once(act)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    opening.look(site, now)

    assert failures == []
    given = seats(site, row.id, now)
    assert len(given) == 4 and set(given) <= {*STUDENTS, "teacher"}
    with read(site.engine) as connection:
        owners = connection.execute(
            select(tables.reservation.c.owner).where(tables.reservation.c.parent == row.id)
        ).scalars()
        assert sorted(owners) == sorted(given)
    assert violations(site.engine) == []


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_two_that_book_or_settle_at_once_do_it_once(site: Site, seed: int):
    course(site, seats=6)
    made: list[str] = []

    def book() -> None:
        with suppress(MLMPError):
            made.append(a_class(site).id)

    threads = [threading.Thread(target=book) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1, "all units are of one of them"
    opening.look(site, BEGINS)
    now, done = BEGINS + 15 * MINUTE, []
    threads = [threading.Thread(target=lambda: done.append(settling.settle(site, made[0], set(), now)))
               for _ in range(3)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done, key=repr) == [5, None, None] and violations(site.engine) == []
