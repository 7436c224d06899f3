"""The order of values: by size where they are numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.lab.pscan.axes import axis, number


def test_numbers_are_in_the_order_of_their_size():
    found = axis("lr", ["0.1", "1e-3", "10", "2", "-5", "+.5", "1e-3"])
    assert found.numeric
    assert found.values == ("-5", "1e-3", "0.1", "+.5", "2", "10")


def test_two_ways_to_write_a_number_are_two_values():
    assert axis("lr", ["0.10", "0.1"]).values == ("0.1", "0.10")


def test_words_with_numbers_are_in_the_order_that_people_expect():
    found = axis("run", ["run10", "run9", "run", "best"])
    assert not found.numeric
    assert found.values == ("best", "run", "run9", "run10")


def test_one_word_makes_all_of_them_words():
    assert not axis("lr", ["0.1", "auto"]).numeric


def test_a_value_that_is_not_told_comes_first():
    assert axis("lr", ["2", "", "-1"]).values == ("", "-1", "2")
    assert axis("lr", ["2", "", "-1"]).numeric
    assert not axis("note", [""]).numeric


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "1e99999", "٣", "1_000", " 1", "1\n", "", "0x1", "9" * 41])
def test_what_only_looks_like_a_number_is_none(text: str):
    assert number(text) is None


@given(st.sets(st.text(max_size=60), max_size=20))
def test_each_value_is_there_once_whatever_it_is(values: set[str]):
    found = axis("x", [*values, *values])
    assert len(found.values) == len(values)
    assert set(found.values) == values


@given(st.sets(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_whatever_is_written_by_a_program_is_sorted_by_size(values: set[float]):
    found = [float(value) for value in axis("x", map(repr, values)).values]
    assert found == sorted(found)
