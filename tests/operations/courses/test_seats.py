"""Seats: given out when a class opens, started, used or given back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import delete, select

from mlmp_spawner.errors import Conflict, NoCapacity, NotNow, OverLimit
from mlmp_spawner.operations import admission, booking, catalog_sync, changes, limit_settings, limits, listing
from mlmp_spawner.operations.admission import StartOptions, admit, deadline_of
from mlmp_spawner.operations.availability import offer
from mlmp_spawner.operations.clock import Clock, RunningServer
from mlmp_spawner.operations.courses import classes, opening, settling
from mlmp_spawner.operations.jobs.submit import Submission, check
from mlmp_spawner.operations.limit_settings import Subject
from mlmp_spawner.operations.outages import Wanted, set_outages
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import Limits
from mlmp_spawner.rules.job_manifest import parse
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import courses as course_store
from mlmp_spawner.store.tables import notice, users
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE, SECOND
from tests.invariant import violations
from tests.operations.conftest import NOW, admin, ann, catalog
from tests.operations.courses.term import BEGINS, TEACHER, a_class, course, opened, seats, takes
from tests.operations.test_clock import RememberedServers


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

    def test_self_study_is_what_students_have_outside_class_whatever_groups_the_hub_has_them_in(self, site: Site):
        course(site, self_study=3.0)
        for groups in ({"course-ml"}, set()):
            assert limits.of_person(site, "s1", groups).hours_per_week == 3.0
        assert limits.of_person(site, "teacher", {"course-ml"}).hours_per_week is None
        assert limits.of_person(site, "ann", {"course-ml"}).hours_per_week is None
        with read(site.engine) as connection:
            holding = limits.rules(connection, site)
        assert [holding.of(name, ()).hours_per_week for name in ("s1", "ann")] == [3.0, None]

    def test_of_two_courses_the_most_holds_and_what_an_admin_says_wins(self, site: Site):
        course(site, self_study=3.0)
        course(site, "other", students=("s1", "s2"), self_study=5.0)
        assert limits.of_person(site, "s1", ()).hours_per_week == 5.0
        said = Limits(hours_per_week=1)
        limit_settings.put(site, Subject("group", "course-other"), said, actor=admin, now=NOW)
        assert limits.of_person(site, "s1", {"course-other"}).hours_per_week == 3.0
        limit_settings.put(site, Subject("group", "course-ml"), said, actor=admin, now=NOW)
        assert limits.of_person(site, "s1", {"course-ml", "course-other"}).hours_per_week == 1
        limit_settings.put(site, Subject("user", "s1"), Limits(hours_per_week=9), actor=admin, now=NOW)
        assert limits.of_person(site, "s1", {"course-ml"}).hours_per_week == 9

    def test_beyond_self_study_nothing_is_booked_nor_started_and_class_takes_none_of_it(self, site: Site):
        course(site, self_study=3.0)
        row = opened(site)  # the seat of two hours and ten minutes
        late = row.end + HOUR
        mine = booking.book(site, BookingRequest("gpu", start=late, duration=2 * HOUR), actor=Actor("s1"), now=NOW)
        with pytest.raises(OverLimit) as refused:
            booking.book(site, BookingRequest("gpu", start=late + 3 * HOUR, duration=2 * HOUR), actor=Actor("s1"),
                         now=NOW)  # fmt: skip
        (broken,) = refused.value.data["limits"]
        assert (broken["limit"], broken["allowed"], broken["used"], broken["asked"]) == ("hours_per_week", 3.0, 2, 2)
        long = StartOptions(profile="gpu", duration=2 * HOUR)
        with pytest.raises(OverLimit):
            admission.from_now(site, actor=Actor("s1"), options=long, now=row.end + MINUTE)
        with pytest.raises(OverLimit):
            changes.extend(site, mine.id, actor=Actor("s1"), now=late, duration=2 * HOUR)
        after = mine.end + 7 * DAY
        again = BookingRequest("gpu", start=after, duration=3 * HOUR)
        assert booking.book(site, again, actor=Actor("s1"), now=mine.end).start == after

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
