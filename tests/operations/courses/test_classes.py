"""Classes: every date of a term or none of them, and what is said of the dates that don't fit."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from mlmp_spawner.errors import Conflict, Invalid, NoCapacity, NotAllowed, NotFound, TooLate
from mlmp_spawner.operations import booking, changes, outages, usage
from mlmp_spawner.operations.courses import classes
from mlmp_spawner.operations.requests import BookingRequest, Recurrence
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import GRACE
from mlmp_spawner.rules.recurrence import local
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.store import series as series_store
from mlmp_spawner.store import tables
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY, HOUR, MINUTE, from_iso, parse_duration
from tests.invariant import violations
from tests.operations.conftest import NOW, admin, ann, ben
from tests.operations.courses.term import BEGINS, TEACHER, a_class, course, request
from tests.operations.jobs.running import run_job

ZURICH = ZoneInfo("Europe/Zurich")
MONDAY = from_iso("2027-01-18T08:15:00+01:00")
WEEK = 7 * DAY

on_sqlite = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)


def of_series(site: Site, first: Reservation) -> list[Reservation]:
    with read(site.engine) as connection:
        return series_store.bookings(connection, first.series or "")


def count(site: Site, table: object) -> int:
    with read(site.engine) as connection:
        return len(connection.execute(select(table)).all())


def takes(row: Reservation) -> dict[str, int]:
    return {one.node: one.units for one in row.allocations}


class TestBooking:
    def test_a_class_takes_its_seats_from_setting_up_to_its_end(self, site: Site):
        course(site)
        row = a_class(site)
        assert (row.kind, row.owner, row.owner_id, row.start, row.end) == (
            "class", "course:ml", None, BEGINS - 10 * MINUTE, BEGINS + 2 * HOUR
        )  # fmt: skip
        assert takes(row) == {"gpu-a": 4}
        one, _, seats = classes.get(site, "ml", row.id)
        assert (one.begins, one.seats, one.settles, seats) == (BEGINS, 4, BEGINS + 15 * MINUTE, [])
        with pytest.raises(NoCapacity):
            booking.book(site, BookingRequest("gpu", start=row.start, duration=HOUR, node="gpu-a"), actor=ann, now=NOW)

    def test_different_numbers_of_seats_are_on_different_nodes(self, site: Site):
        course(site, units=2, seats=3)
        assert takes(a_class(site)) == {"gpu-a": 4, "gpu-b": 2}
        assert violations(site.engine) == []

    def test_only_the_nodes_of_the_course_are_taken(self, site: Site):
        course(site, seats=2, nodes=("gpu-b",))
        assert takes(a_class(site)) == {"gpu-b": 2}
        with pytest.raises(NoCapacity) as refused:
            a_class(site, seats=3, start=BEGINS + DAY)
        assert refused.value.data["dates"][0]["seats"] == 2

    def test_the_time_for_setting_up_is_cut_where_the_class_begins_at_once(self, site: Site):
        course(site)
        row = a_class(site, start=NOW, duration=HOUR)
        assert (row.start, row.end) == (NOW, NOW + HOUR)

    def test_a_weekly_class_keeps_its_time_of_day_over_both_changes_of_the_clock_and_leaves_out_holidays(
        self, site: Site
    ):
        course(site)
        first = a_class(
            site, start=MONDAY, recurrence="FREQ=WEEKLY;UNTIL=20271115", without=("2027-03-29",),
            holidays=("2027-05-01", "2027-05-17", "2027-12-25"),
        )  # fmt: skip
        rows = of_series(site, first)
        days = {f"{local(row.occurrence or 0, ZURICH):%m-%d}" for row in rows}
        assert {f"{local(row.occurrence or 0, ZURICH):%a %H:%M}" for row in rows} == {"Mon 08:15"}
        assert {f"{local(row.start, ZURICH):%H:%M}" for row in rows} == {"08:05"}
        assert len({row.start % DAY for row in rows}) == 2  # winter and summer, in UTC
        assert len(rows) == 42 and not days & {"03-29", "05-17"} and {"03-22", "04-05", "05-10", "11-01"} <= days
        assert all(takes(row) == {"gpu-a": 4} for row in rows)
        assert violations(site.engine) == []

    def test_a_class_takes_what_preemptible_jobs_have_only_where_nothing_else_is_left(self, site: Site):
        course(site)
        job = run_job(site, "gpu-a", now=NOW, units=3, length=10 * HOUR)
        beside = a_class(site, seats=2)
        assert takes(beside) == {"gpu-b": 2} and changes.get(site, job.reservation).end == NOW + 10 * HOUR + GRACE
        row = a_class(site, seats=3)
        assert takes(row) == {"gpu-a": 3}
        assert changes.get(site, job.reservation).end == row.start, "it has all the time before"
        assert violations(site.engine) == []

    def test_the_same_request_again_books_nothing_again(self, site: Site):
        course(site)
        asked = request(recurrence="FREQ=WEEKLY;COUNT=3")
        first = classes.book(site, asked, actor=TEACHER, now=NOW, idempotency_key="k")
        assert classes.book(site, asked, actor=TEACHER, now=NOW + 1, idempotency_key="k").id == first.id
        assert len(of_series(site, first)) == 3
        with pytest.raises(Conflict):
            classes.book(site, request(seats=1), actor=TEACHER, now=NOW, idempotency_key="k")

    @on_sqlite
    def test_what_makes_no_sense_is_refused(self, site: Site):
        course(site)
        for wrong in (
            {"duration": None}, {"end": BEGINS + HOUR}, {"start": NOW - HOUR}, {"duration": 0}, {"seats": 0},
            {"seats": 3000}, {"duration": 40 * DAY}, {"zone": "Mars/Base"}, {"start": NOW + 6 * 366 * DAY},
            {"recurrence": "FREQ=WEEKLY"}, {"recurrence": "FREQ=WEEKLY;COUNT=2", "holidays": ("never",)},
        ):  # fmt: skip
            with pytest.raises(Invalid):
                classes.book(site, request(**wrong), actor=TEACHER, now=NOW)
        assert count(site, tables.reservation) == 0

    @on_sqlite
    def test_only_who_teaches_it_books_for_a_course(self, site: Site):
        from mlmp_spawner.operations.site import Actor

        course(site)
        with pytest.raises(NotAllowed):
            classes.book(site, request(), actor=Actor("s1"), now=NOW)
        with pytest.raises(NotFound):
            classes.book(site, request(), actor=ann, now=NOW)
        with pytest.raises(NotFound):
            classes.book(site, request(course="other"), actor=admin, now=NOW)
        assert classes.book(site, request(), actor=admin, now=NOW).owner == "course:ml"


class TestConflicts:
    def test_a_class_that_conflicts_on_2_of_14_dates_is_not_booked_and_the_report_says_what_would_fit(
        self, site: Site
    ):
        course(site, seats=5)
        # On the third date three units of gpu-a are taken all morning, on the ninth gpu-b all day.
        third, ninth = MONDAY + 2 * WEEK, MONDAY + 8 * WEEK
        booking.book(site, BookingRequest("gpu", start=third - HOUR, duration=4 * HOUR, units=3, node="gpu-a"),
                     actor=ann, now=NOW)  # fmt: skip
        booking.book(site, BookingRequest("gpu", start=ninth - 9 * HOUR, duration=30 * HOUR, units=2, node="gpu-b"),
                     actor=ben, now=NOW)  # fmt: skip
        before = count(site, tables.reservation)
        with pytest.raises(NoCapacity) as refused:
            a_class(site, start=MONDAY, recurrence="FREQ=WEEKLY;COUNT=14")
        assert count(site, tables.reservation) == before and count(site, tables.series) == 0

        said = refused.value
        assert "2 of 14" in said.detail
        assert said.data["clashes"] == ["2027-02-01", "2027-03-15"]
        morning, day = said.data["dates"]
        assert morning == {"day": "2027-02-01", "start": "2027-02-01T07:15:00Z", "end": "2027-02-01T09:15:00Z",
                           "seats": 3, "instead": "2027-02-01T04:15:00Z"}  # fmt: skip
        assert (day["seats"], day["instead"]) == (4, None)

    def test_what_is_offered_instead_can_be_booked_as_it_is(self, site: Site):
        course(site, seats=5)
        booking.book(site, BookingRequest("gpu", start=MONDAY + WEEK, duration=3 * HOUR, units=3, node="gpu-a"),
                     actor=ann, now=NOW)  # fmt: skip
        with pytest.raises(NoCapacity) as refused:
            a_class(site, start=MONDAY, recurrence="FREQ=WEEKLY;COUNT=4")
        offered = {one["kind"]: one["request"] for one in refused.value.data["alternatives"]}
        assert offered.keys() == {"except", "smaller", "earlier"}
        for kind, body in offered.items():
            again = body["recurrence"]
            asked = request(
                start=from_iso(body["start"]), duration=parse_duration(body["duration"]), seats=body["seats"],
                recurrence=Recurrence(again["rrule"], again["zone"], tuple(again["except"])),
            )  # fmt: skip
            checked = classes.check(site, asked, actor=TEACHER, now=NOW)
            assert len(checked.slots) == (3 if kind == "except" else 4)
            first = classes.book(site, asked, actor=TEACHER, now=NOW)
            assert len(of_series(site, first)) == len(checked.slots)
            classes.cancel(site, "ml", first.id, actor=TEACHER, now=NOW, which="all")
        assert violations(site.engine) == []

    def test_a_single_class_that_does_not_fit_names_another_time_of_that_day(self, site: Site):
        course(site, seats=6)
        booking.book(site, BookingRequest("gpu", start=BEGINS, duration=HOUR), actor=ann, now=NOW)
        with pytest.raises(NoCapacity) as refused:
            a_class(site)
        (date,) = refused.value.data["dates"]
        assert date["seats"] == 5
        assert from_iso(date["instead"]) == BEGINS + 90 * MINUTE
        assert {one["kind"] for one in refused.value.data["alternatives"]} == {"smaller", "later"}

    def test_nothing_is_written_by_a_check(self, site: Site):
        course(site)
        found = classes.check(site, request(recurrence="FREQ=WEEKLY;COUNT=3"), actor=TEACHER, now=NOW)
        assert [dict(one.seats) for one in found.placed if one] == [{"gpu-a": 4}] * 3
        assert count(site, tables.reservation) == 0


class TestCancelling:
    def test_a_class_that_is_cancelled_gives_everything_back(self, site: Site):
        course(site, seats=6)
        row = a_class(site)
        classes.cancel(site, "ml", row.id, actor=TEACHER, now=NOW)
        assert changes.get(site, row.id).end_reason == "cancelled" and count(site, tables.allocation) == 0
        assert classes.listing(site, "ml", window=Interval(NOW, NOW + DAY)) == []
        with pytest.raises(TooLate):
            classes.cancel(site, "ml", row.id, actor=TEACHER, now=NOW)

    def test_the_rest_of_a_term_can_be_cancelled(self, site: Site):
        course(site)
        rows = of_series(site, a_class(site, start=MONDAY, recurrence="FREQ=WEEKLY;COUNT=5"))
        classes.cancel(site, "ml", rows[1].id, actor=TEACHER, now=NOW)
        classes.cancel(site, "ml", rows[3].id, actor=TEACHER, now=NOW, which="following")
        left = [one.reservation for one, _ in classes.listing(site, "ml", window=Interval(NOW, MONDAY + 9 * WEEK))]
        assert left == [rows[0].id, rows[2].id]
        with read(site.engine) as connection:
            found = series_store.find(connection, rows[0].series or "")
        assert found is not None and found.without == ("2027-01-25",)

    def test_a_class_of_another_course_is_not_found(self, site: Site):
        course(site)
        course(site, "other")
        row = a_class(site)
        with pytest.raises(NotFound):
            classes.cancel(site, "other", row.id, actor=TEACHER, now=NOW)


class TestAsABooking:
    def test_it_is_changed_in_its_course_alone(self, site: Site):
        course(site)
        row = a_class(site)
        with pytest.raises(Conflict):
            changes.cancel(site, row.id, actor=admin, now=NOW)
        with pytest.raises(Conflict):
            changes.change(site, row.id, changes.Changes(units=2), actor=admin, now=NOW)

    def test_it_counts_as_its_course_s(self, site: Site):
        course(site)
        row = a_class(site)
        found = usage.usage(site, Interval(NOW, row.end), by="user", zone=ZURICH, now=row.end)
        assert found.rows[0][0] == "course:ml" and found.rows[0][1].booked == 4 * (row.end - row.start)
        by_group = usage.usage(site, Interval(NOW, row.end), by="group", zone=ZURICH, now=row.end, groups={})
        assert by_group.rows[0][0] == "course-ml"

    def test_its_nodes_are_where_its_image_is_wanted(self, site: Site):
        course(site, seats=6)
        row = a_class(site)
        assert row.nodes == ("gpu-a", "gpu-b")

    def test_maintenance_moves_the_seats_that_are_hit_where_there_is_room(self, site: Site):
        course(site, seats=2)
        row = a_class(site)
        assert takes(row) == {"gpu-b": 2}
        wanted = [outages.Wanted(row.start, row.end, "new GPUs")]
        report = outages.set_outages(site, "gpu-b", wanted, actor=admin, now=NOW)
        assert [hit.outcome for hit in report.hits] == ["moved"]
        assert takes(changes.get(site, row.id)) == {"gpu-a": 2}

    def test_a_class_keeps_what_is_left_to_it_and_gets_the_rest_back(self, site: Site):
        from mlmp_spawner.operations.courses import opening

        course(site, seats=6)
        row = a_class(site)
        report = outages.set_outages(
            site, "gpu-b", [outages.Wanted(row.start, row.end)], actor=admin, now=NOW
        )  # fmt: skip
        assert [hit.outcome for hit in report.hits] == ["waiting"]
        assert takes(changes.get(site, row.id)) == {"gpu-a": 4}
        opening.look(site, NOW)
        assert takes(changes.get(site, row.id)) == {"gpu-a": 4}
        outages.set_outages(site, "gpu-b", [], actor=admin, now=NOW)
        opening.look(site, NOW + MINUTE)
        assert takes(changes.get(site, row.id)) == {"gpu-a": 4, "gpu-b": 2}
        assert violations(site.engine) == []

    def test_its_instructors_are_told_when_seats_are_lost(self, site: Site):
        course(site, seats=6)
        row = a_class(site)
        outages.set_outages(site, "gpu-b", [outages.Wanted(row.start, row.end)], actor=admin, now=NOW)
        with read(site.engine) as connection:
            found = connection.execute(
                select(tables.notice.c.kind, tables.users.c.name).join(
                    tables.users, tables.users.c.id == tables.notice.c.user_id
                ).where(tables.notice.c.kind == "moved")
            ).all()  # fmt: skip
        assert [tuple(one) for one in found] == [("moved", "teacher")]
