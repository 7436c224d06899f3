"""Seats: given out when a class opens, started, used or given back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete, select

from mlmp_spawner.errors import Conflict, MLMPError, NoCapacity, NotNow, TooManyRequests, Unavailable
from mlmp_spawner.operations import admission, booking, catalog_sync, changes, limits, listing
from mlmp_spawner.operations.admission import StartOptions, admit, deadline_of
from mlmp_spawner.operations.availability import offer
from mlmp_spawner.operations.clock import Clock, RunningServer
from mlmp_spawner.operations.courses import classes, opening, settling
from mlmp_spawner.operations.courses.servers import ClassServers
from mlmp_spawner.operations.jobs.submit import Submission, check
from mlmp_spawner.operations.outages import Wanted, set_outages
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.job_manifest import parse
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import courses as course_store
from mlmp_spawner.store.tables import notice, users
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import HOUR, MINUTE, SECOND
from tests.invariant import violations
from tests.operations.conftest import NOW, admin, ann, catalog
from tests.operations.courses.term import BEGINS, STUDENTS, TEACHER, a_class, course, seats
from tests.operations.test_clock import RememberedServers

on_sqlite = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)


class PlayedHub:
    """A hub that starts servers as it is told to, and a proxy that tells when somebody was there."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.now = NOW
        self.asked: list[str] = []
        self.refusals: dict[str, MLMPError] = {}
        self.slow = False
        self.visits: dict[tuple[str, str], int] = {}
        self.away = False

    async def start_server(self, user: str, server: str, options: Mapping[str, Any]) -> bool:
        self.asked.append(user)
        if user in self.refusals:
            raise self.refusals[user]
        admitted = admit(self.site, actor=Actor(user), server=server, options=StartOptions(**options), now=self.now)
        if not self.slow:
            self.comes_up(admitted.reservation)
        return not self.slow

    def comes_up(self, seat: Reservation) -> None:
        admission.started(self.site, seat.id, now=self.now)
        self.visits[seat.owner, seat.server] = self.now + 20 * SECOND

    async def last_activity(self) -> dict[tuple[str, str], int]:
        if self.away:
            raise Unavailable("The hub does not answer just now.")
        return dict(self.visits)


def looks(servers: ClassServers, hub: PlayedHub, now: int) -> None:
    hub.now = now

    async def look() -> None:
        await servers.look(now)
        await servers.idle()

    asyncio.run(look())


def opened(site: Site, **more: Any) -> Reservation:
    row = a_class(site, **more)
    opening.look(site, row.start)
    return changes.get(site, row.id)


def takes(site: Site, class_id: str, now: int) -> dict[str, int]:
    return {a.node: a.units for a in changes.get(site, class_id).allocations if a.start <= now < a.end}


class TestOpening:
    def test_everybody_on_the_roster_gets_a_seat_in_its_order_as_many_as_there_are(self, site: Site):
        course(site)
        row = a_class(site)
        opening.look(site, row.start - 1)
        assert seats(site, row.id) == {}
        opening.look(site, row.start)
        given = seats(site, row.id)
        assert list(given) and set(given) == {"s1", "s2", "s3", "s4"}  # who teaches comes last
        assert {(one.kind, one.parent, one.start, one.end, one.units) for one in given.values()} == {
            ("session", row.id, row.start, row.end, 1)
        }
        assert {one.allocations[0].root for one in given.values()} == {row.id}
        assert classes.get(site, "ml", row.id)[0].opened_at == row.start
        opening.look(site, row.start + MINUTE)
        assert len(seats(site, row.id)) == 4
        assert violations(site.engine) == []

    def test_one_node_is_filled_before_the_next(self, site: Site):
        course(site, seats=6, students=("s1", "s2", "s3"))
        row = opened(site)
        assert sorted(one.nodes[0] for one in seats(site, row.id).values()) == ["gpu-a", "gpu-a", "gpu-b", "gpu-b"]

    def test_who_the_hub_does_not_know_yet_gets_a_seat_when_it_does(self, site: Site):
        course(site, students=("s1", "s2"))
        with transaction(site.engine) as connection:
            connection.execute(delete(users).where(users.c.name == "s2"))
        row = opened(site)
        assert set(seats(site, row.id)) == {"s1", "teacher"}
        with transaction(site.engine) as connection:
            connection.execute(users.insert().values(id=77, name="s2"))
        opening.look(site, row.start + MINUTE)
        assert set(seats(site, row.id)) == {"s1", "teacher", "s2"}

    def test_who_is_taken_off_the_roster_loses_the_seat_to_who_has_none(self, site: Site):
        course(site)
        row = opened(site)
        with transaction(site.engine) as connection:
            course_store.remove_members(connection, "ml", ["s1"])
        opening.look(site, row.start + MINUTE)
        assert set(seats(site, row.id, row.start + MINUTE)) == {"s2", "s3", "s4", "s5"}

    def test_a_seat_that_was_released_goes_to_the_next_and_not_back(self, site: Site):
        course(site)
        row = opened(site)
        now = row.start + MINUTE
        changes.cancel(site, seats(site, row.id)["s1"].id, actor=Actor("s1"), now=now)
        assert takes(site, row.id, now) == {"gpu-a": 4}, "it goes back to the class"
        opening.look(site, now)
        assert set(seats(site, row.id, now)) == {"s2", "s3", "s4", "s5"}

    def test_who_uses_the_default_server_already_gets_one_beside_it(self, site: Site):
        course(site, seats=2)
        mine = booking.book(site, BookingRequest("gpu", start=NOW, duration=2 * HOUR), actor=Actor("s1"), now=NOW)
        row = opened(site)
        given = seats(site, row.id)
        assert mine.server == "" and given["s1"].server == given["s1"].id and given["s2"].server == ""

    def test_a_class_that_was_given_back_opens_no_seats(self, site: Site):
        course(site)
        row = a_class(site)
        classes.cancel(site, "ml", row.id, actor=TEACHER, now=NOW)
        opening.look(site, row.start)
        assert seats(site, row.id) == {}

    def test_the_clock_opens_it(self, site: Site):
        course(site)
        row = a_class(site)
        clock = Clock(lambda: site, RememberedServers())
        assert asyncio.run(clock.tick(row.start - 3 * SECOND)) == row.start
        asyncio.run(clock.tick(row.start))
        assert len(seats(site, row.id)) == 4 and clock.failures == 0

    def test_the_end_of_a_class_ends_its_servers(self, site: Site):
        course(site, seats=1)
        row = opened(site)
        servers = RememberedServers()
        clock = Clock(lambda: site, servers)
        seat = seats(site, row.id)["s1"]
        admit(site, actor=Actor("s1"), server="", options=StartOptions(seat.id), now=row.start)
        admission.started(site, seat.id, now=row.start)
        servers.alive[seat.id] = RunningServer(seat.id, "s1", "")
        with read(site.engine) as connection:
            assert deadline_of(connection, site, changes.get(site, seat.id)).end == row.end
        asyncio.run(clock.tick(row.end - 10 * MINUTE))
        assert changes.get(site, seat.id).warned_at == row.end - 10 * MINUTE
        asyncio.run(clock.tick(row.end - 30 * SECOND))
        assert changes.get(site, seat.id).stopping_at == row.end - 30 * SECOND


class TestLimits:
    def test_seats_count_in_no_limit_of_their_owners(self, site: Site):
        course(site, seats=4)
        row = opened(site)
        used = listing.used(site, "s1", now=row.start)
        assert (used.units_at_peak, used.hours_in_week, used.open_bookings) == (0, 0, 0)
        assert listing.used_by_all(site, now=row.start)["s1"].open_bookings == 0

    def test_self_study_is_what_members_of_the_course_have_outside_class(self, site: Site):
        course(site, self_study=3.0)
        assert limits.of_person(site, "s1", {"course-ml"}).hours_per_week == 3.0
        assert limits.of_person(site, "ann", set()).hours_per_week is None

    def test_a_seat_is_no_longer_than_its_class_and_stays_where_it_is(self, site: Site):
        course(site)
        row = opened(site)
        seat = seats(site, row.id)["s1"]
        for change in ({"end": row.end + HOUR}, {"units": 2}, {"node": "gpu-b"}, {"start": NOW}):
            with pytest.raises(NotNow):
                changes.change(site, seat.id, changes.Changes(**change), actor=Actor("s1"), now=row.start + MINUTE)
        with pytest.raises(NotNow):
            changes.extend(site, seat.id, actor=admin, now=row.start + MINUTE, duration=HOUR)

    def test_no_job_runs_inside_a_seat(self, site: Site):
        course(site)
        row = opened(site)
        manifest = parse({"command": "true", "profile": "gpu", "hours": 1, "inside": seats(site, row.id)["s1"].id})
        with pytest.raises(Conflict, match="a seat of a class"):
            check(site, Submission(manifest), actor=Actor("s1"), now=row.start)

    def test_others_seats_are_listed_for_nobody_but_admins(self, site: Site):
        course(site)
        row = opened(site)

        def owners(viewer: str | None) -> set[str]:
            return {one.owner for one in listing.listing(site, now=row.start, viewer=viewer)[0]}

        assert owners("ann") == {"course:ml"}
        assert owners("s1") == {"course:ml", "s1"}
        assert {"s2", "s3"} <= owners(None)


class TestComingLate:
    def test_who_comes_while_a_seat_is_left_gets_it(self, site: Site):
        course(site, seats=5, students=("s1",))
        row = opened(site)  # s1 and who teaches have seats
        with transaction(site.engine) as connection:
            connection.execute(users.insert().values(id=88, name="late"))
            course_store.put_members(connection, "ml", [course_store.Member("ml", "late", "student", NOW)])
        admitted = admit(site, actor=Actor("late"), server="", options=StartOptions(), now=row.start + MINUTE)
        assert admitted.reservation.parent == row.id and len(admitted.unit_ids) == 1
        assert admitted.reservation.end == row.end
        again = admit(site, actor=Actor("late"), server="", options=StartOptions(), now=row.start + 2 * MINUTE)
        assert again.reservation.id == admitted.reservation.id

    def test_who_has_a_seat_starts_in_it_whatever_is_asked(self, site: Site):
        course(site)
        row = opened(site)
        admitted = admit(site, actor=Actor("s1"), server="", options=StartOptions(profile="gpu"), now=row.start)
        assert admitted.reservation.parent == row.id

    def test_when_no_seat_is_left_one_starts_as_anybody_does(self, site: Site):
        course(site)
        row = opened(site)
        admitted = admit(site, actor=Actor("s5"), server="", options=StartOptions(profile="gpu"), now=row.start)
        assert admitted.reservation.parent is None and admitted.node == "gpu-b"

    def test_who_is_not_in_the_course_gets_no_seat(self, site: Site):
        course(site, seats=6, students=("s1",))
        row = opened(site)
        with pytest.raises(NoCapacity):
            admit(site, actor=ann, server="", options=StartOptions(profile="gpu"), now=row.start)

    def test_who_asks_for_something_else_gets_that_or_nothing(self, site: Site):
        course(site, seats=3, students=("s1",))
        row = opened(site)
        with transaction(site.engine) as connection:
            connection.execute(users.insert().values(id=88, name="late"))
            course_store.put_members(connection, "ml", [course_store.Member("ml", "late", "student", NOW)])
        asked = StartOptions(profile="gpu", units=2)
        assert admit(site, actor=Actor("late"), server="", options=asked, now=row.start).reservation.parent is None

    def test_a_seat_that_is_left_is_offered_to_who_has_none(self, site: Site):
        course(site, seats=6, units=1, students=("s1", "s2"))
        row = a_class(site)
        assert [one.id for one in offer(site, actor=Actor("s1"), now=row.start).classes] == [row.id]
        assert offer(site, actor=ann, now=row.start).classes == ()
        assert offer(site, actor=Actor("s1"), now=row.start - 1).classes == ()
        opening.look(site, row.start)
        assert offer(site, actor=Actor("s1"), now=row.start).classes == ()
        asked = StartOptions(profile="gpu", duration=HOUR)
        mine = seats(site, row.id)["s1"]
        changes.cancel(site, mine.id, actor=Actor("s1"), now=row.start + MINUTE)
        again = admission.from_now(site, actor=Actor("s1"), options=asked, now=row.start + 2 * MINUTE)
        assert (again.parent, again.server, again.end) == (row.id, "", row.end)
        with pytest.raises(NoCapacity):  # one seat for each, and all units are the class's
            admission.from_now(site, actor=Actor("s1"), options=asked, now=row.start + 3 * MINUTE)

    def test_the_hub_gives_seats_while_the_service_is_down(self, site: Site):
        course(site)
        row = a_class(site)
        admitted = admit(site, actor=Actor("s4"), server="", options=StartOptions(), now=row.start)
        assert admitted.reservation.parent == row.id
        opening.look(site, row.start + MINUTE)
        assert set(seats(site, row.id)) == {"s4", "s1", "s2", "s3"}


class TestSettling:
    def used(self, site: Site, row: Reservation, *names: str) -> set[str]:
        given = seats(site, row.id)
        return {given[name].id for name in names}

    def test_what_nobody_uses_goes_back_and_a_few_are_kept_for_the_late(self, site: Site):
        course(site, seats=6)
        row = opened(site)
        now = BEGINS + 15 * MINUTE
        assert settling.due(site, now - 1) == {} and list(settling.due(site, now)) == [row.id]
        assert settling.settle(site, row.id, self.used(site, row, "s1", "s2"), now) == 3
        assert takes(site, row.id, now - 1) == {"gpu-a": 4, "gpu-b": 2}, "what was stays as it was"
        assert sum(takes(site, row.id, now).values()) == 3
        assert set(seats(site, row.id, now)) == {"s1", "s2"}
        assert {one.end_reason for one in seats(site, row.id).values()} == {None, "no_show"}
        assert settling.due(site, now) == {}
        assert settling.settle(site, row.id, set(), now) is None
        # Walk-ups get the rest.
        free = booking.book(site, BookingRequest("gpu", start=now, duration=HOUR, units=3), actor=ann, now=now)
        assert free.nodes == ("gpu-a",)
        assert violations(site.engine) == []

    def test_after_that_the_first_who_comes_gets_the_seat_that_was_kept(self, site: Site):
        course(site, seats=4)
        row = opened(site)
        now = BEGINS + 15 * MINUTE
        settling.settle(site, row.id, self.used(site, row, "s1"), now)
        opening.look(site, now)
        assert set(seats(site, row.id, now)) == {"s1"}, "nobody gets one by itself any more"
        late = admit(site, actor=Actor("s3"), server="", options=StartOptions(), now=now + MINUTE)
        assert late.reservation.parent == row.id
        other = admit(site, actor=Actor("s2"), server="", options=StartOptions(profile="gpu"), now=now + MINUTE)
        assert other.reservation.parent is None

    def test_students_are_not_told_that_they_were_not_there(self, site: Site):
        course(site, seats=4)
        row = opened(site)
        settling.settle(site, row.id, set(), BEGINS + 15 * MINUTE)
        with read(site.engine) as connection:
            assert not connection.execute(select(notice).where(notice.c.kind == "released")).all()

    def test_servers_of_seats_that_were_given_back_are_stopped(self, site: Site):
        course(site, seats=2)
        row = opened(site)
        seat = seats(site, row.id)["s2"]
        admit(site, actor=Actor("s2"), server="", options=StartOptions(), now=row.start)
        admission.started(site, seat.id, now=row.start)
        now = BEGINS + 15 * MINUTE
        settling.settle(site, row.id, set(), now)
        servers = RememberedServers()
        servers.alive[seat.id] = RunningServer(seat.id, "s2", "")
        asyncio.run(Clock(lambda: site, servers).tick(now))
        assert changes.get(site, seat.id).stopping_at == now and seat.id in servers.stopped


class TestServers:
    def test_they_are_started_in_waves_in_the_order_of_the_roster(self, site: Site):
        course(site, seats=6)
        row = opened(site)
        hub = PlayedHub(site)
        hub.slow = True
        servers = ClassServers(lambda: site, hub, at_once=2)
        looks(servers, hub, row.start)
        looks(servers, hub, row.start + SECOND)
        assert hub.asked == ["s1", "s2"]
        for name in ("s1", "s2"):
            hub.comes_up(seats(site, row.id)[name])
        looks(servers, hub, row.start + 20 * SECOND)
        assert hub.asked == ["s1", "s2", "s3", "s4"]
        looks(servers, hub, row.start + MINUTE)
        assert len(hub.asked) == 4

    def test_one_that_fails_is_shown_and_tried_again_and_keeps_no_other_from_starting(self, site: Site):
        course(site, seats=3)
        row = opened(site)
        hub = PlayedHub(site)
        hub.refusals["s1"] = Conflict("The volume is not there.")
        servers = ClassServers(lambda: site, hub, at_once=1)
        for second in range(4):
            looks(servers, hub, row.start + second * SECOND)
        assert hub.asked == ["s1", "s2", "s3"]
        given = seats(site, row.id)
        assert servers.problem(given["s1"]) == "The volume is not there."
        assert servers.problem(given["s2"]) == ""
        looks(servers, hub, row.start + 20 * SECOND)
        assert hub.asked[3:] == ["s1"]
        hub.refusals.clear()
        looks(servers, hub, row.start + 25 * SECOND)
        looks(servers, hub, row.start + 50 * SECOND)
        assert hub.asked[4:] == ["s1"] and servers.problem(seats(site, row.id)["s1"]) == ""

    def test_a_server_that_its_owner_stopped_is_not_started_again(self, site: Site):
        course(site, seats=1)
        row = opened(site)
        hub = PlayedHub(site)
        servers = ClassServers(lambda: site, hub)
        looks(servers, hub, row.start)
        admission.gone(site, seats(site, row.id)["s1"].id, now=row.start + MINUTE)
        looks(servers, hub, row.start + 2 * MINUTE)
        assert hub.asked == ["s1"]

    def test_a_hub_that_has_too_much_to_do_is_asked_again(self, site: Site):
        course(site, seats=1)
        row = opened(site)
        hub = PlayedHub(site)
        hub.refusals["s1"] = TooManyRequests("Too many users are starting.")
        servers = ClassServers(lambda: site, hub)
        looks(servers, hub, row.start)
        hub.refusals.clear()
        looks(servers, hub, row.start + 16 * SECOND)
        assert hub.asked == ["s1", "s1"]

    def test_seats_in_which_somebody_is_are_kept_and_the_others_given_back(self, site: Site):
        course(site, seats=4)
        row = opened(site)
        hub = PlayedHub(site)
        servers = ClassServers(lambda: site, hub)
        looks(servers, hub, row.start)
        looks(servers, hub, row.start + MINUTE)
        hub.visits["s1", ""] = row.start + 4 * MINUTE  # somebody comes early
        looks(servers, hub, row.start + 5 * MINUTE)
        hub.visits["s3", ""] = BEGINS + 5 * MINUTE
        looks(servers, hub, BEGINS + 14 * MINUTE)
        assert len(seats(site, row.id, BEGINS + 14 * MINUTE)) == 4
        looks(servers, hub, BEGINS + 15 * MINUTE)
        left = seats(site, row.id, BEGINS + 15 * MINUTE)
        assert set(left) == {"s1", "s3"}
        assert servers.seen_at(left["s3"]) == BEGINS + 5 * MINUTE
        assert takes(site, row.id, BEGINS + 15 * MINUTE) == {"gpu-a": 3}

    def test_nothing_is_given_back_while_it_can_t_be_told_who_is_there(self, site: Site):
        course(site, seats=2)
        row = opened(site)
        hub = PlayedHub(site)
        looks(ClassServers(lambda: site, hub), hub, row.start)
        hub.visits["s1", ""] = BEGINS + MINUTE
        again = ClassServers(lambda: site, hub)  # the service was started again, and does not know who came before
        hub.away = True
        with pytest.raises(Unavailable):
            looks(again, hub, BEGINS + 15 * MINUTE)
        hub.away = False
        looks(again, hub, BEGINS + 16 * MINUTE)
        assert set(seats(site, row.id, BEGINS + 16 * MINUTE)) == {"s1", "s2"}
        looks(again, hub, BEGINS + 17 * MINUTE)
        assert set(seats(site, row.id, BEGINS + 17 * MINUTE)) == {"s1"}

    def test_a_seat_whose_server_is_just_being_started_is_not_called_unused(self, site: Site):
        course(site, seats=2)
        row = opened(site)
        hub = PlayedHub(site)
        servers = ClassServers(lambda: site, hub)
        hub.refusals = {name: Conflict("Not yet.") for name in STUDENTS}
        looks(servers, hub, row.start)
        now = BEGINS + 15 * MINUTE
        admit(site, actor=Actor("s2"), server="", options=StartOptions(), now=now - MINUTE)
        looks(servers, hub, now)
        assert set(seats(site, row.id, now)) == {"s2"}


class TestLosingNodes:
    def test_seats_of_a_class_under_way_move_when_no_server_of_theirs_runs(self, site: Site):
        course(site, seats=3, students=("s1", "s2", "s3"), nodes=())
        row = opened(site)
        assert takes(site, row.id, row.start) == {"gpu-a": 3}
        now = row.start + MINUTE
        runs = seats(site, row.id)["s1"]
        admit(site, actor=Actor("s1"), server="", options=StartOptions(), now=now)
        smaller = replace(site, catalog=catalog(gpu_a=1, gpu_b=2))
        lost = catalog_sync.sync(smaller, now=now + MINUTE)
        assert [(one.reservation, one.outcome) for one in lost] == [(row.id, "moved")]
        assert takes(smaller, row.id, now + MINUTE) == {"gpu-a": 1, "gpu-b": 2}
        assert changes.get(smaller, runs.id).nodes == ("gpu-a",)
        opening.look(smaller, now + 2 * MINUTE)
        there = seats(smaller, row.id, now + 2 * MINUTE)
        assert set(there) == {"s1", "s2", "s3"} and there["s2"].nodes == ("gpu-b",)
        assert violations(smaller.engine, since=now + MINUTE) == []

    def test_a_seat_on_a_unit_that_is_gone_ends_and_its_owner_gets_another(self, site: Site):
        course(site, seats=2, students=("s1", "s2"), nodes=("gpu-b", "gpu-a"))
        row = opened(site)
        assert takes(site, row.id, row.start) == {"gpu-b": 2}
        units = {name: admit(site, actor=Actor(name), server="", options=StartOptions(), now=row.start).unit_ids
                 for name in ("s1", "s2")}  # fmt: skip
        assert {one for held in units.values() for one in held} == {"GPU-gpu-b-0", "GPU-gpu-b-1"}
        smaller = replace(site, catalog=catalog(gpu_a=4, gpu_b=1))
        catalog_sync.sync(smaller, now=row.start + MINUTE)
        left = seats(smaller, row.id, row.start + MINUTE)
        assert len(left) == 1
        assert takes(smaller, row.id, row.start + MINUTE) == {"gpu-a": 1, "gpu-b": 1}
        opening.look(smaller, row.start + 2 * MINUTE)
        assert len(seats(smaller, row.id, row.start + 2 * MINUTE)) == 2

    def test_maintenance_of_a_class_under_way_ends_nobody_s_work(self, site: Site):
        course(site, seats=2)
        row = opened(site)
        now = row.start + MINUTE
        set_outages(site, "gpu-b", [Wanted(now + HOUR, now + 3 * HOUR)], actor=admin, now=now)
        assert takes(site, row.id, now) == {"gpu-b": 2} and len(seats(site, row.id, now)) == 2
