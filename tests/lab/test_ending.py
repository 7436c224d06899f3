"""Terminals are told 10 and 2 minutes before the end, each once, and again when an extension has moved it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.lab import ending
from mlmp_spawner.units import HOUR, MINUTE

lefts = st.integers(-HOUR, 3 * HOUR)


@given(left=lefts)
def test_nobody_is_told_early_or_after_the_end(left: int) -> None:
    told = ending.due(left, None)
    assert (told is None) == (left <= 0 or left > 10 * MINUTE)


@given(st.lists(lefts))
def test_as_time_goes_by_each_moment_is_told_once_at_most(lefts: list[int]) -> None:
    told: int | None = None
    said = []
    for left in sorted(lefts, reverse=True):
        told = ending.still_told(left, told)
        if (moment := ending.due(left, told)) is not None:
            said.append(moment)
            told = moment
    assert said == sorted(set(said), reverse=True)
    assert set(said) <= set(ending.MOMENTS)


def test_a_terminal_opened_in_the_last_minutes_is_told_the_last_moment_alone() -> None:
    assert ending.due(90_000, None) == 2 * MINUTE
    assert ending.due(60_000, 2 * MINUTE) is None


def test_after_an_extension_it_is_told_again() -> None:
    assert ending.still_told(HOUR, 2 * MINUTE) is None
    assert ending.still_told(5 * MINUTE, 2 * MINUTE) is None
    assert ending.due(5 * MINUTE, None) == 10 * MINUTE
    assert ending.still_told(2 * MINUTE, 10 * MINUTE) == 10 * MINUTE


def test_the_words_name_the_minutes_and_how_to_get_more() -> None:
    assert ending.words(10 * MINUTE - 4000, "abc12345").startswith("Your booking ends in 10 min")
    assert ending.words(20_000, "abc12345").startswith("Your booking ends in 1 min")
    assert ending.words(20_000, "abc12345").endswith("mlmp extend abc12345 1h")
