"""Times in words, for a viewer in a zone. The browser says the same: tests/browser/test_times.py."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from mlmp_spawner.units import from_iso
from mlmp_spawner.web.times import find_zone, from_input, said, to_input

ZURICH = ZoneInfo("Europe/Zurich")
NOW = "2026-11-21T11:30:00Z"  # a Saturday, 12:30 in Zurich

WORDS = [
    ("2026-11-21T13:00:00Z", "clock", "14:00"),
    ("2026-11-21T22:59:00Z", "clock", "23:59"),
    ("2026-11-21T23:00:00Z", "clock", "tomorrow 00:00"),
    ("2026-11-20T07:15:00Z", "clock", "yesterday 08:15"),
    ("2026-11-24T07:15:00Z", "clock", "Tue 08:15"),
    ("2026-11-27T07:15:00Z", "clock", "Fri 08:15"),
    ("2026-11-28T07:15:00Z", "clock", "28 Nov 08:15"),
    ("2026-09-01T07:15:00Z", "clock", "1 Sep 09:15"),
    ("2027-11-24T07:15:00Z", "clock", "24 Nov 2027 08:15"),
    ("2026-11-24T07:15:00Z", "end", "08:15"),
    ("2026-11-24T07:15:00Z", "date", "Tue 24 Nov"),
]


@pytest.mark.parametrize(("instant", "show", "words"), WORDS)
def test_an_instant_is_said_as_people_say_it(instant: str, show: str, words: str):
    assert said(from_iso(instant), show, now=from_iso(NOW), zone=ZURICH) == words


def test_a_field_of_the_form_is_on_the_viewers_clock_on_both_sides_of_a_change_of_it():
    assert from_input("2026-11-24T08:15", ZURICH) == from_iso("2026-11-24T07:15:00Z")
    assert from_input("2026-07-24T08:15", ZURICH) == from_iso("2026-07-24T06:15:00Z")
    assert to_input(from_iso("2026-07-24T06:15:00Z"), ZURICH) == "2026-07-24T08:15"


def test_a_time_with_an_offset_means_itself():
    assert from_input("2026-11-24T08:15:00+05:00", ZURICH) == from_iso("2026-11-24T03:15:00Z")


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01T00:00", "0001-01-01T00:00", "9999-12-31T23:59", "24:00"])
def test_what_is_not_a_time_is_refused(text: str):
    with pytest.raises(ValueError):
        from_input(text, ZURICH)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "Europe", "\x00", "x" * 500, "Zürich", None])
def test_what_is_no_zone_is_none(name: str | None):
    assert find_zone(name) is None
