"""The invariant with classes: nothing is booked twice and no seat lies outside its class, whatever is done when.

A state machine books and cancels classes and other bookings, lets people come, leave and be put on or off the roster,
lets time pass so that classes open, settle and end, and takes capacity away and gives it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import insert, select

from mlmp_spawner.errors import MLMPError
from mlmp_spawner.operations import booking, catalog_sync, changes
from mlmp_spawner.operations.admission import StartOptions, admit, started
from mlmp_spawner.operations.clock import Clock, RunningServer
from mlmp_spawner.operations.courses import classes, settling
from mlmp_spawner.operations.courses.term import ClassRequest
from mlmp_spawner.operations.requests import BookingRequest, Recurrence
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.courses import Course, Member
from mlmp_spawner.rules.due import is_live
from mlmp_spawner.store import classes as store
from mlmp_spawner.store import courses
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import reservation, unit_in_use, users
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import HOUR, MINUTE
from tests.invariant import violations
from tests.operations.conftest import NOW, catalog
from tests.operations.test_clock import RememberedServers
from tests.operations.test_invariant import ROUNDS, machine_on, run

PEOPLE = ("ann", "ben", "eve", "joe", "kim")
TEACHER = Actor("ann")


class Teaching(RuleBasedStateMachine):
    """Five people, a course of up to four seats, two nodes with four and two units."""

    fresh_database: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.engine = make_engine(self.fresh_database())
        self.now = NOW
        self.site = Site(self.engine, catalog(gpu_a=4, gpu_b=2))
        with transaction(self.engine) as connection:
            connection.execute(insert(users), [{"id": n, "name": name} for n, name in enumerate(PEOPLE, 1)])
            courses.insert_course(connection, Course(name="ml", title="ML", profile="gpu", seats=4, created_at=NOW))
            members = [Member("ml", name, "student" if n else "instructor", n) for n, name in enumerate(PEOPLE)]
            courses.put_members(connection, "ml", members)
        catalog_sync.sync(self.site, now=NOW)
        self.servers = RememberedServers()
        self.clock = Clock(lambda: self.site, self.servers)

    def teardown(self) -> None:
        self.engine.dispose()

    @rule(start=st.integers(0, 6), length=st.integers(1, 3), seats=st.integers(1, 6), again=st.booleans())
    def book_class(self, start: int, length: int, seats: int, again: bool) -> None:
        recurrence = Recurrence("FREQ=DAILY;COUNT=2", "UTC") if again else None
        asked = ClassRequest("ml", self.now + start * HOUR, duration=length * HOUR, seats=seats, recurrence=recurrence)
        before = len(self.rows())
        try:
            classes.book(self.site, asked, actor=TEACHER, now=self.now)
        except MLMPError:
            assert len(self.rows()) == before, "all or nothing"

    @rule(start=st.integers(0, 6), length=st.integers(1, 3), units=st.integers(1, 4), who=st.sampled_from(PEOPLE))
    def book(self, start: int, length: int, units: int, who: str) -> None:
        asked = BookingRequest("gpu", start=self.now + start * HOUR, duration=length * HOUR, units=units)
        self.tried(lambda: booking.book(self.site, asked, actor=Actor(who), now=self.now))

    @rule(place=st.integers(0, 5), which=st.sampled_from(["this", "following"]))
    def cancel_class(self, place: int, which: str) -> None:
        rows = [row for row in self.rows() if row.kind == "class"]
        if place < len(rows):
            self.tried(lambda: classes.cancel(
                self.site, "ml", rows[place].id, actor=TEACHER, now=self.now, which=which))  # fmt: skip

    @rule(who=st.sampled_from(PEOPLE))
    def come(self, who: str) -> None:
        def start() -> None:
            asked = StartOptions(profile="gpu", duration=HOUR)
            found = admit(self.site, actor=Actor(who), server="", options=asked, now=self.now).reservation
            started(self.site, found.id, now=self.now)
            known = changes.get(self.site, found.id)
            self.servers.alive[known.server_id] = RunningServer(known.server_id, known.owner, known.server)

        self.tried(start)

    @rule(who=st.sampled_from(PEOPLE))
    def leave(self, who: str) -> None:
        for row in self.rows():
            if row.owner == who and row.state(self.now) == "active":
                self.tried(lambda row=row: changes.cancel(self.site, row.id, actor=Actor(who), now=self.now))

    @rule(who=st.sampled_from(PEOPLE[1:]), on=st.booleans())
    def change_the_roster(self, who: str, on: bool) -> None:
        with transaction(self.engine) as connection:
            if on:
                courses.put_members(connection, "ml", [Member("ml", who, "student", self.now)])
            else:
                courses.remove_members(connection, "ml", [who])

    @rule(minutes=st.sampled_from([1, 5, 10, 25, 50, 120]))
    def time_passes(self, minutes: int) -> None:
        self.now += minutes * MINUTE
        self.servers.stopped.clear()
        asyncio.run(self.clock.tick(self.now))
        for server_id in self.servers.stopped:
            self.servers.alive.pop(server_id, None)
        asyncio.run(self.clock.tick(self.now))
        assert self.clock.failures == 0

    @rule(every=st.integers(1, 3))
    def settle(self, every: int) -> None:
        for class_id, seats in settling.due(self.site, self.now).items():
            used = {seat.id for n, seat in enumerate(seats) if n % every == 0}
            settling.settle(self.site, class_id, used, self.now)
            left = [seat.id for seat in classes.get(self.site, "ml", class_id)[2] if seat.state(self.now) == "active"]
            assert set(left) == used

    @rule(a=st.integers(0, 4), b=st.integers(0, 2))
    def capacity_changes(self, a: int, b: int) -> None:
        counts = {name: count for name, count in (("gpu_a", a), ("gpu_b", b)) if count}
        self.site = replace(self.site, catalog=catalog(**counts))
        catalog_sync.sync(self.site, now=self.now)

    def tried(self, act: Callable[[], object]) -> None:
        with suppress(MLMPError):
            act()

    def rows(self):  # type: ignore[no-untyped-def]
        with read(self.engine) as connection:
            ids = connection.execute(select(reservation.c.id).order_by(reservation.c.id)).scalars().all()
        return [changes.get(self.site, one) for one in ids]

    @invariant()
    def nothing_is_booked_twice_and_no_seat_lies_outside_its_class(self) -> None:
        assert violations(self.engine, since=self.now) == []

    @invariant()
    def seats_are_as_their_class_and_one_for_each(self) -> None:
        with read(self.engine) as connection:
            for one, row in store.under_way(connection, self.now):
                seats = [seat for seat in store.seats(connection, row.id) if seat.state(self.now) == "active"]
                assert len({seat.owner for seat in seats}) == len(seats) <= one.seats
                for seat in seats:
                    parts = sorted((part.start, part.end) for part in seat.allocations)
                    assert seat.end == row.end == parts[-1][1] and parts[0][0] == seat.start
                    assert all(left[1] == right[0] for left, right in pairwise(parts))
                    assert {part.units for part in seat.allocations} == {row.units}

    @invariant()
    def what_is_over_takes_nothing(self) -> None:
        for row in self.rows():
            if row.state(self.now) == "ended":
                assert all(part.end <= self.now for part in row.allocations)

    @invariant()
    def units_in_use_belong_to_what_may_run(self) -> None:
        with read(self.engine) as connection:
            holders = list(connection.execute(select(unit_in_use.c.holder)).scalars())
        assert all(is_live(changes.get(self.site, holder)) for holder in holders)


@pytest.fixture(params=["sqlite", "postgresql"])
def machine(request: pytest.FixtureRequest) -> Iterator[type[Teaching]]:
    with machine_on(request.param, request, Teaching) as made:
        yield made


def test_running_seats_end_where_their_machines_have_left_the_catalog(machine: type[Teaching]):
    site = machine()
    site.book_class(start=0, length=2, seats=4, again=False)
    site.time_passes(minutes=5)
    site.come("ann")
    site.come("ben")
    site.capacity_changes(a=0, b=0)
    site.nothing_is_booked_twice_and_no_seat_lies_outside_its_class()
    site.teardown()


def test_nothing_is_booked_twice_with_classes(machine: type[Teaching]):
    run(machine)


@pytest.mark.faults
def test_nothing_is_booked_twice_with_classes_for_long(machine: type[Teaching]):
    run(machine, rounds=4 * ROUNDS)
