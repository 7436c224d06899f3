"""The rules of sharing: what counts, which week is the fullest, what is refused and in which words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmp_spawner.rules.catalog import Limits, Profile
from mlmp_spawner.rules.policy import WEEK, Ask, Usage, busiest_week, check, durations, usage, violations_error
from mlmp_spawner.rules.reservations import Allocation, Interval, Reservation
from mlmp_spawner.units import DAY, HOUR, MINUTE

NOW = 20_000 * DAY


def booking(start: float, hours: float, units: int = 1, **more: object) -> Reservation:
    """A booking that begins ``start`` hours from now."""
    begin = NOW + round(start * HOUR)
    row = Reservation(id=f"{start}+{hours}", owner="ann", profile="gpu", resource="nvidia.com/gpu", units=units,
                      start=begin, end=begin + round(hours * HOUR))  # fmt: skip
    return replace(row, **more)  # type: ignore[arg-type]


def ask(start: float, hours: float, units: int = 1, **more: object) -> Ask:
    begin = NOW + round(start * HOUR)
    return replace(Ask(units, begin, begin + round(hours * HOUR), NOW), **more)  # type: ignore[arg-type]


class TestWhatCounts:
    def test_units_are_the_most_at_any_moment_of_what_is_asked(self) -> None:
        others = [booking(0, 2), booking(2, 2, 3), booking(3, 1, 2), booking(8, 1, 9)]
        assert usage(ask(1, 4), others).units_at_peak == 5

    def test_bookings_that_only_touch_do_not_add_up(self) -> None:
        assert usage(ask(2, 2), [booking(0, 2), booking(4, 2)]).units_at_peak == 0

    def test_hours_are_those_of_units(self) -> None:
        assert usage(ask(0, 1), [booking(5, 4, 2)]).hours_in_week == 8

    def test_hours_are_those_of_the_fullest_seven_days_that_hold_the_asked(self) -> None:
        before, after = booking(-100, 10), booking(100, 20)
        assert usage(ask(0, 1), [before, after]).hours_in_week == 20

    def test_bookings_more_than_a_week_away_do_not_count(self) -> None:
        assert usage(ask(0, 1), [booking(-24 * 7 - 5, 4), booking(24 * 7 + 2, 4)]).hours_in_week == 0

    def test_several_nodes_count_each(self) -> None:
        assert usage(ask(0, 1), [booking(0, 1, 2, node_count=3)]).units_at_peak == 6

    def test_what_was_released_counts_as_far_as_it_was_taken(self) -> None:
        row = booking(-2, 8, end_reason="released")
        part = Allocation(row.id, "n", row.resource, 1, row.start, row.start + HOUR)
        assert usage(ask(0, 1), [replace(row, allocations=(part,))]).hours_in_week == 1
        assert usage(ask(0, 1), [row]).hours_in_week == 0

    def test_what_waits_takes_no_units_but_is_open(self) -> None:
        found = usage(ask(0, 1), [booking(0, 1, waiting_reason="requested")])
        assert (found.units_at_peak, found.open_bookings) == (0, 1)

    def test_open_is_what_has_not_ended(self) -> None:
        rows = [booking(-3, 1), booking(-1, 3), booking(5, 1), booking(6, 1, cancelled_at=NOW)]
        assert usage(ask(0, 1), rows).open_bookings == 2

    def test_what_draws_on_a_parent_does_not_count_again(self) -> None:
        assert usage(ask(0, 1), [booking(0, 1, parent="class")]) == Usage()

    def test_profiles_that_do_not_count_are_left_out_of_units_and_hours(self) -> None:
        found = usage(ask(0, 1), [booking(0, 1, 8, profile="cpu")], uncounted={"cpu"})
        assert (found.units_at_peak, found.hours_in_week, found.open_bookings) == (0, 0, 1)


@pytest.mark.parametrize(
    ("limits", "request_", "used", "allowed"),
    [
        (Limits(units_at_once=3), ask(0, 1, 2), Usage(units_at_peak=1), True),
        (Limits(units_at_once=3), ask(0, 1, 2), Usage(units_at_peak=2), False),
        (Limits(units_at_once=0), ask(0, 1), Usage(), False),
        (Limits(units_at_once=0), ask(0, 1, counted=False), Usage(), True),
        (Limits(hours_per_week=8), ask(0, 2, 2), Usage(hours_in_week=4), True),
        (Limits(hours_per_week=8), ask(0, 2, 2), Usage(hours_in_week=4.01), False),
        (Limits(hours_per_week=1), ask(0, 1 / 3), Usage(hours_in_week=2 / 3), True),
        (Limits(hours_per_week=168), ask(0, 24 * 8), Usage(), True),
        (Limits(min_duration=HOUR), ask(0, 1), Usage(), True),
        (Limits(min_duration=HOUR), ask(0, 0.5), Usage(), False),
        (Limits(max_duration=HOUR), ask(0, 1), Usage(), True),
        (Limits(max_duration=HOUR), ask(0, 1.5), Usage(), False),
        (Limits(ahead=DAY), ask(24, 1), Usage(), True),
        (Limits(ahead=DAY), ask(25, 1), Usage(), False),
        (Limits(ahead=0), ask(0, 1), Usage(), True),
        (Limits(open_bookings=2), ask(0, 1), Usage(open_bookings=1), True),
        (Limits(open_bookings=2), ask(0, 1), Usage(open_bookings=2), False),
        (Limits(open_bookings=2), ask(0, 1, opens=False), Usage(open_bookings=2), True),
        (Limits(extension=HOUR), ask(0, 9, extends=HOUR), Usage(), True),
        (Limits(extension=0), ask(0, 9, extends=1), Usage(), False),
        (Limits(extension=0), ask(0, 9), Usage(), True),
        (Limits(), ask(24 * 1000, 24 * 30, 1000), Usage(1000, 1000, 1000), True),
    ],
)
def test_exactly_the_limit_is_allowed_and_no_more(limits: Limits, request_: Ask, used: Usage, allowed: bool) -> None:
    assert (check(limits, request_, used) == []) is allowed


def test_a_refusal_names_every_limit_with_its_numbers() -> None:
    limits = Limits(units_at_once=2, hours_per_week=10, max_duration=90 * MINUTE, ahead=DAY, open_bookings=1)
    error = violations_error(check(limits, ask(48, 4, 2), Usage(1, 6.5, 1)))
    assert error.detail == (
        "At most 2 units at once: other bookings take 1 unit, this asks for 2 units. "
        "At most 10 hours in any 7 days: other bookings take 6.5 hours, this asks for 8 hours. "
        "A booking lasts at most 1 h 30 min; this asks for 4 h. "
        "A booking starts at most 24 h ahead; this asks for 2 d. "
        "At most 1 booking open at once: 1 booking now."
    )
    assert error.problem()["limits"][0] == {
        "limit": "units_at_once", "allowed": 2, "used": 1, "asked": 2, "unit": "units",
    }  # fmt: skip
    assert error.problem()["code"] == "over_limit"


def test_every_limit_has_its_words() -> None:
    limits = Limits(min_duration=HOUR, extension=HOUR)
    error = violations_error(check(limits, ask(0, 0.5, extends=2 * HOUR), Usage()))
    assert (
        error.detail
        == "A booking lasts at least 1 h; this asks for 30 min. An extension adds at most 1 h; this asks for 2 h."
    )


def test_how_long_one_may_book_is_what_profile_and_limits_both_allow() -> None:
    profile = Profile(name="p", resource="r", min_duration=10 * MINUTE, max_duration=DAY)
    assert durations(profile, Limits()) == (10 * MINUTE, DAY)
    assert durations(profile, Limits(min_duration=HOUR, max_duration=2 * HOUR)) == (HOUR, 2 * HOUR)
    assert durations(profile, Limits(min_duration=0, max_duration=2 * DAY)) == (10 * MINUTE, DAY)


spans = st.lists(
    st.tuples(st.integers(-300, 300), st.integers(1, 300), st.integers(1, 4)).map(lambda s: (s[0], s[0] + s[1], s[2])),
    max_size=8,
)
"""Bookings in hours around the asked one, with units."""


@given(spans, st.integers(1, 250))
@settings(max_examples=200, deadline=None)
def test_the_fullest_week_is_found_as_if_every_hour_were_tried(taken: list[tuple[int, int, int]], length: int) -> None:
    def held(begin: int) -> int:
        return sum(units * max(0, min(end, begin + 168) - max(start, begin)) for start, end, units in taken)

    in_ms = [(start * HOUR, end * HOUR, units) for start, end, units in taken]
    expected = max(held(begin) for begin in range(-168, length + 1))
    assert busiest_week(in_ms, Interval(0, length * HOUR)) == expected * HOUR


@given(spans, st.integers(1, 250), st.integers(1, 4), st.integers(0, 400))
@settings(max_examples=200, deadline=None)
def test_what_is_allowed_keeps_every_week_within_the_limit(
    taken: list[tuple[int, int, int]], length: int, units: int, limit: int
) -> None:
    rows = [booking(start, end - start, n) for start, end, n in taken]
    asked = ask(0, length, units)
    everything = [*((NOW + s * HOUR, NOW + e * HOUR, n) for s, e, n in taken), (asked.start, asked.end, units)]
    fullest = busiest_week(everything, Interval(asked.start, asked.end)) / HOUR
    allowed = check(Limits(hours_per_week=limit), asked, usage(asked, rows)) == []
    assert allowed is (fullest <= limit)


@given(spans, st.integers(1, 250), st.integers(1, 4), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_what_is_allowed_keeps_every_moment_within_the_limit(
    taken: list[tuple[int, int, int]], length: int, units: int, limit: int
) -> None:
    asked = ask(0, length, units)
    rows = [booking(start, end - start, n) for start, end, n in taken]
    highest = max(units + sum(n for start, end, n in taken if start <= hour < end) for hour in range(length))
    assert (check(Limits(units_at_once=limit), asked, usage(asked, rows)) == []) is (highest <= limit)


def test_many_bookings_are_counted_quickly() -> None:
    rows = [booking(hour / 4, 0.2) for hour in range(-600, 600)]
    found = usage(ask(0, 1), rows)
    assert found.hours_in_week == pytest.approx(WEEK / HOUR * 0.8, abs=0.3)


@pytest.mark.parametrize(("later", "allowed"), [(0, True), (1, True), (-1, False)])
def test_a_rolling_week_is_right_to_the_minute(later: int, allowed: bool) -> None:
    """Ten hours are taken, ten may be: the next hour is free a week after the first one began, not a minute sooner."""
    taken = [booking(0, 10)]
    begin = NOW + WEEK + later * MINUTE
    asked = Ask(units_total=1, start=begin, end=begin + HOUR, now=NOW)
    assert (check(Limits(hours_per_week=10), asked, usage(asked, taken)) == []) is allowed


def test_the_minute_by_which_a_week_is_overfull_is_in_the_refusal() -> None:
    asked = Ask(units_total=1, start=NOW + WEEK - MINUTE, end=NOW + WEEK + HOUR - MINUTE, now=NOW)
    (violation,) = check(Limits(hours_per_week=10), asked, usage(asked, [booking(0, 10)]))
    assert violation.used + violation.asked == pytest.approx(10 + 1 / 60)
