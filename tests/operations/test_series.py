"""Series: every date of a rule or none, changed and cancelled from one date on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from mlmp_spawner.errors import Conflict, Invalid, NoCapacity, OverLimit
from mlmp_spawner.operations import booking, changes, limit_settings, series
from mlmp_spawner.operations.limit_settings import Subject
from mlmp_spawner.operations.requests import BookingRequest, Recurrence
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Limits
from mlmp_spawner.rules.recurrence import local
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import series as series_store
from mlmp_spawner.store import tables
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY, HOUR, MINUTE, from_iso
from tests.invariant import violations
from tests.operations.conftest import NOW, admin, ann, ben

ZURICH = ZoneInfo("Europe/Zurich")
MONDAY = from_iso("2027-01-18T08:15:00+01:00")
"""The first Monday after NOW, at a quarter past eight."""

WEEK = 7 * DAY


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZURICH).timestamp() * 1000)


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
        assert {(b.start - a.start) // HOUR for a, b in zip(rows, rows[1:], strict=False)} == {167, 168, 169}

    def test_days_that_are_left_out_are_not_booked_and_counted(self, site: Site):
        first = series.book_series(site, request(without=("2027-01-25",)), actor=ann, now=NOW)
        assert days(booked(site, first)) == ["01-18 08:15", "02-01 08:15", "02-08 08:15"]

    def test_a_series_from_now_on_begins_now_and_goes_on_at_this_minute(self, site: Site):
        now = NOW + 20_000
        asked = request("FREQ=DAILY;COUNT=3", start=None)
        rows = booked(site, series.book_series(site, asked, actor=ann, now=now))
        assert [row.start for row in rows] == [now, NOW + DAY, NOW + 2 * DAY]
        assert {row.end - row.start for row in rows} == {2 * HOUR}

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

    @pytest.mark.parametrize("zone", ["", "Mars/Base", "../../etc/passwd", "Europe", "a" * 65, "Europe/Z\x00rich"])
    def test_a_zone_that_is_none_is_refused(self, site: Site, zone: str):
        asked = replace(request(), recurrence=Recurrence("FREQ=DAILY;COUNT=2", zone))
        with pytest.raises(Invalid, match="Europe/Zurich"):
            series.book_series(site, asked, actor=ann, now=NOW)

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
            rule = one["recurrence"]
            again = BookingRequest(
                profile=one["profile"], units=one["units"], start=from_iso(one["start"]), duration=2 * HOUR,
                recurrence=Recurrence(rule["rrule"], rule["zone"], tuple(rule["except"])),
            )  # fmt: skip
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
        with pytest.raises(
            OverLimit, match="At most 5 bookings open at once: 1 booking now, this asks for 5 bookings"
        ):
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
