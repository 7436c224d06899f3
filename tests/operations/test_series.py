"""Series: every date of a rule or none, changed and cancelled from one date on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from mlmp_spawner.errors import Changed, Conflict, Invalid, NoCapacity, NotAllowed, NotNow, OverLimit, TooLate
from mlmp_spawner.operations import booking, changes, limit_settings, series, series_changes
from mlmp_spawner.operations.changes import Changes
from mlmp_spawner.operations.limit_settings import Subject
from mlmp_spawner.operations.requests import BookingRequest, Recurrence
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Limits
from mlmp_spawner.rules.recurrence import local
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import series as series_store
from mlmp_spawner.store import tables
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY, HOUR, MINUTE, from_iso, parse_duration
from tests.invariant import violations
from tests.operations.conftest import NOW, admin, ann, ben

ZURICH = ZoneInfo("Europe/Zurich")
MONDAY = from_iso("2027-01-18T08:15:00+01:00")
"""The first Monday after NOW, at a quarter past eight."""

WEEK = 7 * DAY

on_sqlite = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)
"""What no database has a say in is tried on one of them."""


def request(rrule: str = "FREQ=WEEKLY;COUNT=4", without: tuple[str, ...] = (), **more: Any) -> BookingRequest:
    body: dict[str, Any] = {"profile": "gpu", "start": MONDAY, "duration": 2 * HOUR}
    return BookingRequest(**(body | more), recurrence=Recurrence(rrule, "Europe/Zurich", without))


def booked(site: Site, first: Reservation) -> list[Reservation]:
    assert first.series is not None
    with read(site.engine) as connection:
        return series_store.bookings(connection, first.series)


def days(rows: list[Reservation]) -> list[str]:
    return [f"{local(row.start, ZURICH):%m-%d %H:%M}" for row in rows]


def count(site: Site, table: Any) -> int:
    with read(site.engine) as connection:
        return len(connection.execute(select(table)).all())


class TestBooking:
    def test_every_date_is_a_booking_of_its_own_and_the_first_is_answered(self, site: Site):
        first = series.book_series(site, request(units=2, title="thesis"), actor=ann, now=NOW)
        rows = booked(site, first)
        assert days(rows) == ["01-18 08:15", "01-25 08:15", "02-01 08:15", "02-08 08:15"]
        assert rows[0] == first and first.start == MONDAY
        for row in rows:
            assert (row.owner, row.units, row.title, row.end - row.start) == ("ann", 2, "thesis", 2 * HOUR)
            assert row.allocations and row.occurrence == row.start and row.state(NOW) == "booked"
        with read(site.engine) as connection:
            kept = series_store.find(connection, first.series or "")
        assert kept is not None
        assert (kept.rrule, kept.zone, kept.start) == ("FREQ=WEEKLY;COUNT=4", "Europe/Zurich", MONDAY)

    def test_the_wall_clock_counts_over_both_changes(self, site: Site):
        first = series.book_series(site, request("FREQ=WEEKLY;UNTIL=20271108"), actor=ann, now=NOW)
        rows = booked(site, first)
        assert len(rows) == 43
        assert {f"{local(row.start, ZURICH):%a %H:%M}" for row in rows} == {"Mon 08:15"}
        assert {(row.end - row.start) for row in rows} == {2 * HOUR}
        assert {(b.start - a.start) // HOUR for a, b in pairwise(rows)} == {167, 168, 169}

    def test_days_that_are_left_out_are_not_booked_and_counted(self, site: Site):
        first = series.book_series(site, request(without=("2027-01-25",)), actor=ann, now=NOW)
        assert days(booked(site, first)) == ["01-18 08:15", "02-01 08:15", "02-08 08:15"]

    def test_a_series_from_now_on_begins_now_and_goes_on_at_this_minute(self, site: Site):
        now = NOW + 20_000
        asked = request("FREQ=DAILY;COUNT=3", start=None)
        rows = booked(site, series.book_series(site, asked, actor=ann, now=now))
        assert [row.start for row in rows] == [now, NOW + DAY, NOW + 2 * DAY]
        assert {row.end - row.start for row in rows} == {2 * HOUR}

    @on_sqlite
    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"waitlist": True}, "waitlist"),
            ({"rrule": "FREQ=HOURLY;COUNT=3"}, "recurrence.rrule"),
            ({"without": ("2027-01-26",)}, "recurrence.except"),
            ({"without": ("Monday",)}, "recurrence.except"),
            ({"duration": 8 * DAY}, "duration"),
            ({"start": NOW - HOUR}, "start"),
        ],
    )
    def test_nonsense_is_refused_by_field(self, site: Site, change: dict[str, Any], field: str):
        with pytest.raises(Invalid) as refusal:
            series.book_series(site, request(**change), actor=ann, now=NOW)
        assert refusal.value.data["errors"][0]["field"] == field
        assert count(site, tables.reservation) == 0

    @on_sqlite
    @pytest.mark.parametrize("zone", ["", "Mars/Base", "../../etc/passwd", "Europe", "a" * 65, "Europe/Z\x00rich"])
    def test_a_zone_that_is_none_is_refused(self, site: Site, zone: str):
        asked = replace(request(), recurrence=Recurrence("FREQ=DAILY;COUNT=2", zone))
        with pytest.raises(Invalid, match="Europe/Zurich"):
            series.book_series(site, asked, actor=ann, now=NOW)

    @on_sqlite
    def test_a_hundred_bookings_at_most(self, site: Site):
        rows = booked(site, series.book_series(site, request("FREQ=DAILY;COUNT=100"), actor=ann, now=NOW))
        assert len(rows) == 100
        with pytest.raises(Invalid, match="more than 100"):
            series.book_series(site, request("FREQ=DAILY;UNTIL=20270601"), actor=ann, now=NOW)

    def test_the_same_key_books_once(self, site: Site):
        one = series.book_series(site, request(), actor=ann, now=NOW, idempotency_key="k")
        assert series.book_series(site, request(), actor=ann, now=NOW + MINUTE, idempotency_key="k") == one
        assert count(site, tables.reservation) == 4
        with pytest.raises(Conflict, match="another request"):
            series.book_series(site, request("FREQ=WEEKLY;COUNT=5"), actor=ann, now=NOW, idempotency_key="k")


class TestRefusal:
    def fill(self, site: Site, *starts: int, units: int = 4, node: str = "gpu-a") -> None:
        for start in starts:
            for where, number in (("gpu-a", 4), ("gpu-b", 2)):
                asked = BookingRequest(profile="gpu", start=start, duration=2 * HOUR, units=number, node=where)
                booking.book(site, asked, actor=ben, now=NOW)

    def test_it_names_the_dates_and_writes_nothing(self, site: Site):
        self.fill(site, MONDAY + WEEK, MONDAY + 3 * WEEK + HOUR)
        before = count(site, tables.reservation)
        with pytest.raises(NoCapacity) as refusal:
            series.book_series(site, request(), actor=ann, now=NOW)
        assert refusal.value.data["clashes"] == ["2027-01-25", "2027-02-08"]
        assert refusal.value.detail.startswith("On 2 of 4 dates 1 × A100 for 2 h is not free: at most 0 ")
        assert count(site, tables.reservation) == before and count(site, tables.series) == 0

    def test_what_it_offers_can_be_had(self, site: Site):
        self.fill(site, MONDAY + WEEK)
        with pytest.raises(NoCapacity) as refusal:
            series.book_series(site, request(), actor=ann, now=NOW)
        offered = {one["kind"]: one["request"] for one in refusal.value.data["alternatives"]}
        assert set(offered) == {"except", "later"}
        assert offered["except"]["recurrence"]["except"] == ["2027-01-25"]
        assert offered["later"]["start"] == "2027-01-18T09:15:00Z"  # from 10:15, when ben's is over
        for one in offered.values():
            again = again_of(one)
            assert series.book_series(site, again, actor=ann, now=NOW).series

    def test_another_node_is_offered_where_one_was_named(self, site: Site):
        asked = BookingRequest(profile="gpu", start=MONDAY, duration=2 * HOUR, units=2, node="gpu-b")
        booking.book(site, asked, actor=ben, now=NOW)
        with pytest.raises(NoCapacity) as refusal:
            series.book_series(site, request(node="gpu-b"), actor=ann, now=NOW)
        kinds = {one["kind"]: one["request"] for one in refusal.value.data["alternatives"]}
        assert "node" not in kinds["node"] and kinds["except"]["node"] == "gpu-b"

    def test_others_are_moved_for_a_series_as_for_a_booking(self, site: Site):
        asked = BookingRequest(profile="gpu", start=MONDAY + WEEK, duration=2 * HOUR, units=2)
        small, large = (booking.book(site, asked, actor=ben, now=NOW) for _ in range(2))
        assert (small.nodes, large.nodes) == (("gpu-b",), ("gpu-a",))
        changes.cancel(site, small.id, actor=ben, now=NOW)
        first = series.book_series(site, request(units=4), actor=ann, now=NOW)
        assert all(row.nodes == ("gpu-a",) for row in booked(site, first))
        assert violations(site.engine) == []


@on_sqlite
class TestLimits:
    def limit(self, site: Site, **said: Any) -> None:
        limit_settings.put(site, Subject("user", "ann"), Limits(**said), actor=admin, now=NOW)

    def test_each_date_is_counted_with_the_others(self, site: Site):
        self.limit(site, hours_per_week=9)
        series.book_series(site, request("FREQ=DAILY;COUNT=4"), actor=ann, now=NOW)
        with pytest.raises(OverLimit) as refusal:
            series.book_series(site, request("FREQ=DAILY;COUNT=2", start=MONDAY + 4 * HOUR), actor=ann, now=NOW)
        assert "2 of 2 bookings would pass a limit" in refusal.value.detail
        assert refusal.value.data["clashes"] == ["2027-01-18", "2027-01-19"]
        assert refusal.value.data["limits"][0]["allowed"] == 9

    def test_all_of_them_are_open_bookings(self, site: Site):
        self.limit(site, open_bookings=5)
        booking.book(site, BookingRequest(profile="gpu", start=NOW + HOUR, duration=HOUR), actor=ann, now=NOW)
        with pytest.raises(OverLimit, match="At most 5 bookings open at once: 1 booking now, this asks for 5"):
            series.book_series(site, request("FREQ=WEEKLY;COUNT=5"), actor=ann, now=NOW)
        series.book_series(site, request("FREQ=WEEKLY;COUNT=4"), actor=ann, now=NOW)

    def test_the_last_date_is_within_how_far_ahead_one_may_book(self, site: Site):
        self.limit(site, ahead=20 * DAY)
        with pytest.raises(OverLimit) as refusal:
            series.book_series(site, request(), actor=ann, now=NOW)
        assert refusal.value.data["clashes"] == ["2027-02-08"]

    def test_the_no_show_grace_of_each_is_what_held(self, site: Site):
        self.limit(site, no_show_grace=20 * MINUTE)
        rows = booked(site, series.book_series(site, request(), actor=ann, now=NOW))
        assert {row.no_show_grace for row in rows} == {20 * MINUTE}


class TestCancelling:
    def test_one_becomes_an_exception_of_its_series(self, site: Site):
        rows = booked(site, series.book_series(site, request(), actor=ann, now=NOW))
        done = series_changes.cancel(site, rows[1].id, actor=ann, now=NOW)
        assert done.touched == (rows[1].id,) and done.reservation.end_reason == "cancelled"
        found, now = series_changes.look(site, rows[0].series or "")
        assert found.without == ("2027-01-25",)
        assert [row.state(NOW) for row in now] == ["booked", "ended", "booked", "booked"]

    def test_from_one_date_on(self, site: Site):
        rows = booked(site, series.book_series(site, request(), actor=ann, now=NOW))
        done = series_changes.cancel(site, rows[2].id, which="following", actor=ann, now=NOW)
        assert done.touched == (rows[2].id, rows[3].id)
        found, now = series_changes.look(site, rows[0].series or "")
        assert found.rrule == "FREQ=WEEKLY;UNTIL=20270131"
        assert [row.state(NOW) for row in now] == ["booked", "booked", "ended", "ended"]
        assert not any(row.allocations for row in now[2:])

    def test_what_has_begun_or_is_over_is_not_touched(self, site: Site):
        rows = booked(site, series.book_series(site, request(), actor=ann, now=NOW))
        later = rows[1].start + HOUR
        done = series_changes.cancel(site, rows[1].id, which="all", actor=ann, now=later)
        assert done.touched == (rows[2].id, rows[3].id)
        assert done.reservation == rows[1] and done.reservation.state(later) == "active"
        assert booked(site, rows[0])[:2] == rows[:2]
        with pytest.raises(TooLate):
            series_changes.cancel(site, rows[1].id, which="all", actor=ann, now=later)

    @pytest.mark.parametrize("which", ["this", "following", "all"])
    def test_what_was_cancelled_can_be_had_again(self, site: Site, which: Any):
        asked = request("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH;COUNT=8", without=("2027-02-04",), units=2, node="gpu-a")
        rows = booked(site, series.book_series(site, asked, actor=ann, now=NOW))
        chosen = rows[2]
        done = series_changes.cancel(site, chosen.id, which=which, actor=ann, now=NOW)
        assert done.undo is not None
        again = series.book(site, again_of(done.undo), actor=ann, now=NOW)
        back = [again] if again.series is None else booked(site, again)
        gone = [row for row in rows if row.id in done.touched]
        assert [(r.start, r.end, r.units, r.nodes) for r in back] == [(r.start, r.end, r.units, r.nodes) for r in gone]

    def test_others_may_not(self, site: Site):
        rows = booked(site, series.book_series(site, request(), actor=ann, now=NOW))
        for which in ("this", "following", "all"):
            with pytest.raises(NotAllowed):
                series_changes.cancel(site, rows[0].id, which=which, actor=ben, now=NOW)
        assert series_changes.cancel(site, rows[0].id, which="all", actor=admin, now=NOW).touched

    def test_what_is_of_no_series_has_nothing_that_follows(self, site: Site):
        one = booking.book(site, BookingRequest(profile="gpu", start=MONDAY), actor=ann, now=NOW)
        with pytest.raises(Invalid, match="does not repeat"):
            series_changes.cancel(site, one.id, which="following", actor=ann, now=NOW)


class TestChanging:
    def test_from_one_date_on_it_is_a_series_that_carries_on_the_former(self, site: Site):
        rows = booked(site, series.book_series(site, request(without=("2027-02-01",)), actor=ann, now=NOW))
        wanted = Changes(start=rows[1].start + 90 * MINUTE, end=rows[1].start + 3 * HOUR, units=2, title="new")
        done = series_changes.change(site, rows[1].id, wanted, which="following", actor=ann, now=NOW)
        after = booked(site, done.reservation)
        assert days(after) == ["01-25 09:45", "02-08 09:45"]
        assert {(row.units, row.title, row.end - row.start) for row in after} == {(2, "new", 90 * MINUTE)}
        assert [row.occurrence for row in after] == [row.start for row in after]
        assert booked(site, rows[0]) == rows[:1]
        former, _ = series_changes.look(site, rows[0].series or "")
        now, _ = series_changes.look(site, done.reservation.series or "")
        assert (former.rrule, former.without) == ("FREQ=WEEKLY;UNTIL=20270124", ())
        assert (now.replaces, now.rrule, now.without) == (former.id, "FREQ=WEEKLY;UNTIL=20270208", ("2027-02-01",))
        assert (now.start, now.duration) == (after[0].start, 90 * MINUTE)
        assert violations(site.engine) == []

    def test_all_of_it_stays_the_same_series(self, site: Site):
        rows = booked(site, series.book_series(site, request(), actor=ann, now=NOW))
        wanted = Changes(start=rows[2].start + HOUR)
        done = series_changes.change(site, rows[2].id, wanted, which="all", actor=ann, now=NOW)
        assert done.reservation.series == rows[0].series
        assert days(booked(site, rows[0])) == ["01-18 09:15", "01-25 09:15", "02-01 09:15", "02-08 09:15"]
        kept, _ = series_changes.look(site, rows[0].series or "")
        assert kept.start == MONDAY + HOUR and kept.rrule == "FREQ=WEEKLY;COUNT=4"

    def test_the_new_time_of_day_holds_over_a_change_of_the_clocks(self, site: Site):
        rows = booked(site, series.book_series(site, request("FREQ=WEEKLY;COUNT=12"), actor=ann, now=NOW))
        wanted = Changes(start=rows[0].start + 3 * HOUR)
        series_changes.change(site, rows[0].id, wanted, which="all", actor=ann, now=NOW)
        assert {text[6:] for text in days(booked(site, rows[0]))} == {"11:15"}

    def test_it_may_move_into_the_time_it_had_itself(self, site: Site):
        rows = booked(site, series.book_series(site, request("FREQ=DAILY;COUNT=5", units=4), actor=ann, now=NOW))
        wanted = Changes(end=rows[0].start + 20 * HOUR, start=rows[0].start + 10 * HOUR)
        series_changes.change(site, rows[0].id, wanted, which="all", actor=ann, now=NOW)
        assert {text[6:] for text in days(booked(site, rows[0]))} == {"18:15"}
        assert violations(site.engine) == []

    def test_where_one_date_is_taken_nothing_changes(self, site: Site):
        rows = booked(site, series.book_series(site, request(), actor=ann, now=NOW))
        for node, units in (("gpu-a", 4), ("gpu-b", 2)):
            asked = BookingRequest(
                profile="gpu", start=rows[2].start + 3 * HOUR, duration=HOUR, units=units, node=node
            )
            booking.book(site, asked, actor=ben, now=NOW)
        with pytest.raises(NoCapacity) as refusal:
            series_changes.change(site, rows[0].id, Changes(start=MONDAY + 2 * HOUR), which="all", actor=ann, now=NOW)
        assert refusal.value.data["clashes"] == ["2027-02-01"]
        assert booked(site, rows[0]) == rows

    def test_limits_hold_for_all_of_them_together(self, site: Site):
        rows = booked(site, series.book_series(site, request("FREQ=DAILY;COUNT=4"), actor=ann, now=NOW))
        limit_settings.put(
            site, Subject("user", "ann"), Limits(hours_per_week=12, open_bookings=1), actor=admin, now=NOW
        )
        longer = Changes(end=MONDAY + 3 * HOUR)
        assert series_changes.change(site, rows[0].id, longer, which="all", actor=ann, now=NOW).touched
        with pytest.raises(OverLimit, match="4 of 4"):
            series_changes.change(site, rows[0].id, Changes(end=MONDAY + 4 * HOUR), which="all", actor=ann, now=NOW)

    @on_sqlite
    @pytest.mark.parametrize("wanted", [
        Changes(start=MONDAY + DAY), Changes(end=MONDAY), Changes(end=MONDAY + 8 * DAY), Changes(units=9),
        Changes(node="nowhere"),
    ])  # fmt: skip
    def test_nonsense_is_refused(self, site: Site, wanted: Changes):
        rows = booked(site, series.book_series(site, request(), actor=ann, now=NOW))
        with pytest.raises(Invalid):
            series_changes.change(site, rows[0].id, wanted, which="all", actor=ann, now=NOW)
        assert booked(site, rows[0]) == rows

    def test_what_has_begun_is_changed_alone(self, site: Site):
        rows = booked(site, series.book_series(site, request(), actor=ann, now=NOW))
        later = rows[0].start + HOUR
        with pytest.raises(NotNow, match="has begun"):
            series_changes.change(site, rows[0].id, Changes(title="x"), which="following", actor=ann, now=later)
        longer = Changes(end=rows[0].end + HOUR)
        assert series_changes.change(site, rows[0].id, longer, actor=ann, now=later).reservation.end == longer.end

    def test_a_change_made_meanwhile_is_noticed(self, site: Site):
        rows = booked(site, series.book_series(site, request(), actor=ann, now=NOW))
        changes.change(site, rows[0].id, Changes(title="x"), actor=ann, now=NOW)
        with pytest.raises(Changed):
            series_changes.change(
                site, rows[0].id, Changes(title="y"), which="all", actor=ann, now=NOW, if_match=rows[0].version
            )


def again_of(body: dict[str, Any]) -> BookingRequest:
    """A body of POST reservations as the request that it is."""
    known = {name: body[name] for name in ("profile", "units", "node_count", "title", "node") if name in body}
    known |= {name: from_iso(body[name]) for name in ("start", "end") if name in body}
    if "duration" in body:
        known["duration"] = parse_duration(body["duration"])
    if "recurrence" in body:
        rule = body["recurrence"]
        known["recurrence"] = Recurrence(rule["rrule"], rule["zone"], tuple(rule["except"]))
    return BookingRequest(**known)
