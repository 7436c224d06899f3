"""Plain words to instants. It is Saturday 21 November 2026, 11:00 in Zurich."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlmp_spawner.client.when import JUST_NOW, parse_when
from mlmp_spawner.units import DAY, HOUR, MINUTE, from_iso

ZURICH = ZoneInfo("Europe/Zurich")
NOW = from_iso("2026-11-21T10:00:00Z")
ZONES = st.sampled_from(["UTC", "Europe/Zurich", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]).map(
    ZoneInfo
)
MINUTES = st.integers(from_iso("2020-01-01T00:00:00Z") // MINUTE, from_iso("2080-01-01T00:00:00Z") // MINUTE)
MOMENTS = MINUTES.map(lambda minutes: minutes * MINUTE)


def local(text: str, now: int = NOW) -> str:
    instant = parse_when(text, now=now, zone=ZURICH)
    return datetime.fromtimestamp(instant / 1000, ZURICH).isoformat(timespec="minutes")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("now", "2026-11-21T11:00+01:00"),
        ("14:00", "2026-11-21T14:00+01:00"),
        ("2pm", "2026-11-21T14:00+01:00"),
        ("12:30 am", "2026-11-22T00:30+01:00"),
        ("noon", "2026-11-21T12:00+01:00"),
        ("today 23:59", "2026-11-21T23:59+01:00"),
        ("tomorrow 9:00", "2026-11-22T09:00+01:00"),
        ("Tomorrow at 9am", "2026-11-22T09:00+01:00"),
        ("Tue 08:15", "2026-11-24T08:15+01:00"),
        ("next monday 9:00", "2026-11-23T09:00+01:00"),
        ("24 Nov 09:00", "2026-11-24T09:00+01:00"),
        ("Nov 24, 09:00", "2026-11-24T09:00+01:00"),
        ("24.11.2026 9:00", "2026-11-24T09:00+01:00"),
        ("3 January 9:00", "2027-01-03T09:00+01:00"),
        ("2026-11-24 9:00", "2026-11-24T09:00+01:00"),
        ("2026-11-24T09:00", "2026-11-24T09:00+01:00"),
        ("2026-11-24T09:00+01:00", "2026-11-24T09:00+01:00"),
        ("2026-11-24 09:00 -0500", "2026-11-24T15:00+01:00"),
        ("2026-11-24T08:00Z", "2026-11-24T09:00+01:00"),
        ("in 2h", "2026-11-21T13:00+01:00"),
        ("in 25 minutes", "2026-11-21T11:25+01:00"),
        ("in an hour", "2026-11-21T12:00+01:00"),
    ],
)
def test_words_mean_what_people_mean(text: str, meant: str) -> None:
    assert local(text) == meant


def test_a_time_of_day_that_is_past_means_tomorrow() -> None:
    assert local("10:00") == "2026-11-22T10:00+01:00"


def test_a_time_of_day_of_this_minute_still_means_today() -> None:
    assert local("11:00", now=NOW + 30_000) == "2026-11-21T11:00+01:00"


def test_todays_weekday_means_today_until_its_time_is_past() -> None:
    assert local("Sat 12:00") == "2026-11-21T12:00+01:00"
    assert local("Sat 10:00") == "2026-11-28T10:00+01:00"


@pytest.mark.parametrize(
    "text",
    ["", "soon", "5", "14", "3/4 9:00", "10 9:00", "november 9:00", "2027-02-30 9:00", "\x1b[31m", "\x00"],
)
def test_what_is_not_understood_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="tomorrow 9:00, Tue 08:15"):
        local(text)


@pytest.mark.parametrize("text", ["tomorrow", "Tue", "2026-11-24"])
def test_a_day_without_a_time_is_refused_saying_how_to_add_one(text: str) -> None:
    with pytest.raises(ValueError, match=f"does not say at what time; write '{text} 9:00'"):
        local(text)


@pytest.mark.parametrize("text", ["25:00", "9:75", "13pm", "0am"])
def test_a_time_that_no_clock_shows_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no clock shows"):
        local(text)


def test_a_time_that_the_clocks_leave_out_is_refused_with_the_next_one() -> None:
    with pytest.raises(ValueError, match="clocks go forward to 03:30 then; write 2027-03-28 03:30"):
        local("2027-03-28 02:30")


def test_a_time_that_the_clocks_show_twice_means_the_first() -> None:
    assert local("2026-10-25 02:30") == "2026-10-25T02:30+02:00"


@given(now=MOMENTS, zone=ZONES, hour=st.integers(0, 23), minute=st.integers(0, 59))
@example(now=from_iso("2027-03-27T23:00:00Z"), zone=ZURICH, hour=2, minute=30)
def test_a_time_of_day_is_the_next_one_on_the_clock(now: int, zone: ZoneInfo, hour: int, minute: int) -> None:
    try:
        found = parse_when(f"{hour}:{minute:02}", now=now, zone=zone)
    except ValueError as error:
        if "clocks go forward" not in str(error):
            raise
        return
    wall = datetime.fromtimestamp(found / 1000, zone)
    assert (wall.hour, wall.minute) == (hour, minute)
    assert now - JUST_NOW <= found <= now + DAY + HOUR


@given(now=MOMENTS, zone=ZONES, when=MOMENTS)
def test_a_date_and_time_is_read_as_the_zone_shows_it(now: int, zone: ZoneInfo, when: int) -> None:
    shown = datetime.fromtimestamp(when / 1000, zone)
    found = parse_when(f"{shown:%Y-%m-%d %H:%M}", now=now, zone=zone)
    assert datetime.fromtimestamp(found / 1000, zone).replace(tzinfo=None) == shown.replace(tzinfo=None)


@given(now=MOMENTS, zone=ZONES, when=MOMENTS, offset=st.integers(-14 * 60, 14 * 60))
def test_an_instant_with_its_offset_means_the_same_in_every_zone(
    now: int, zone: ZoneInfo, when: int, offset: int
) -> None:
    away = timezone(timedelta(minutes=offset))
    assert parse_when(datetime.fromtimestamp(when / 1000, away).isoformat(), now=now, zone=zone) == when


@given(text=st.text(max_size=40), now=MOMENTS, zone=ZONES)
def test_any_text_is_an_instant_or_refused(text: str, now: int, zone: ZoneInfo) -> None:
    with suppress(ValueError):
        assert isinstance(parse_when(text, now=now, zone=zone), int)
