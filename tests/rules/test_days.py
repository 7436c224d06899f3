"""Days on a clock with a zone: 23, 24 and 25 hours, midnights that there are not, lines where the hours begin."""

from __future__ import annotations

from datetime import date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules import days
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.units import HOUR, MINUTE, from_iso, to_iso

ZURICH = ZoneInfo("Europe/Zurich")


@pytest.mark.parametrize(
    ("zone", "day", "hours", "begins"),
    [
        ("Europe/Zurich", date(2027, 1, 15), 24, "2027-01-14T23:00:00Z"),
        ("Europe/Zurich", date(2027, 3, 28), 23, "2027-03-27T23:00:00Z"),
        ("Europe/Zurich", date(2027, 10, 31), 25, "2027-10-30T22:00:00Z"),
        ("Australia/Lord_Howe", date(2027, 4, 4), 24.5, "2027-04-03T13:00:00Z"),
        ("Africa/Cairo", date(2027, 4, 30), 23, "2027-04-29T22:00:00Z"),  # 00:00 is skipped
        ("America/Havana", date(2027, 11, 7), 25, "2027-11-07T04:00:00Z"),  # 00:00 is there twice
        ("Pacific/Apia", date(2011, 12, 30), 24, "2011-12-30T10:00:00Z"),  # a day that was left out
    ],
)
def test_a_day_is_as_long_as_its_clock_makes_it(zone: str, day: date, hours: float, begins: str):
    found = days.window(day, 1, ZoneInfo(zone))
    assert to_iso(found.start) == begins
    assert found.length == hours * HOUR


def test_an_hour_that_is_there_twice_has_two_lines_and_one_that_is_skipped_none():
    def labels(day: date) -> list[str]:
        return [one.label for one in days.ticks(days.window(day, 1, ZURICH), ZURICH, every=1)]

    assert labels(date(2027, 10, 31))[:5] == ["Sun 31 Oct", "01:00", "02:00", "02:00", "03:00"]
    assert labels(date(2027, 3, 28))[:4] == ["Sun 28 Mar", "01:00", "03:00", "04:00"]
    assert len(labels(date(2027, 10, 31))) == 25


def test_hours_are_those_of_the_clock_not_so_many_after_midnight():
    found = days.ticks(days.window(date(2027, 10, 30), 3, ZURICH), ZURICH, every=6)
    assert [one.label for one in found if one.kind == "hour"] == ["06:00", "12:00", "18:00"] * 3
    kolkata = ZoneInfo("Asia/Kolkata")
    first = days.ticks(days.window(date(2027, 1, 15), 1, kolkata), kolkata, every=1)[1]
    assert to_iso(first.at) == "2027-01-14T19:30:00Z"


def test_a_window_that_begins_within_a_day_has_no_line_for_its_beginning():
    start = from_iso("2027-01-15T08:20:00Z")
    found = days.ticks(Interval(start, start + 3 * HOUR), ZURICH, every=1)
    assert [one.label for one in found] == ["10:00", "11:00", "12:00"]


@given(
    st.dates(date(2000, 1, 1), date(2150, 1, 1)),
    st.sampled_from(["Europe/Zurich", "America/Havana", "Africa/Cairo", "Australia/Lord_Howe", "Asia/Tokyo", "UTC"]),
    st.integers(1, 8),
    st.sampled_from([1, 3, 6]),
)
def test_windows_follow_one_another_and_every_line_lies_on_its_hour(day: date, name: str, count: int, every: int):
    zone = ZoneInfo(name)
    window = days.window(day, count, zone)
    assert days.day_of(window.start, zone) == day
    assert days.window(date.fromordinal(day.toordinal() + count), 1, zone).start == window.end
    lines = days.ticks(window, zone, every=every)
    assert [one.kind for one in lines].count("day") == count
    assert lines[0].at == window.start
    assert all(one.at < other.at for one, other in pairwise(lines))
    for one in lines:
        local = datetime.fromtimestamp(one.at / 1000, zone)
        assert local.minute * MINUTE % HOUR == 0 and (one.kind == "day" or local.hour % every == 0)
