"""Which rows of a timeline bookings are drawn in."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules.reservations import Interval, peak_use
from mlmp_spawner.rules.rows import Placed, assign


def placed(key: str, start: int, end: int, units: int = 1, created_at: int = 0) -> Placed:
    return Placed(key, units, Interval(start, end), created_at)


some = st.lists(
    st.builds(
        lambda n, start, length, units, created: placed(f"b{n}", start, start + length, units, created),
        st.integers(0, 1000), st.integers(0, 30), st.integers(1, 12), st.integers(1, 4), st.integers(0, 5),
    ),
    max_size=25,
    unique_by=lambda one: one.key,
)  # fmt: skip


def test_the_first_free_row_is_taken_and_given_back():
    found = assign([placed("a", 0, 4), placed("b", 1, 3), placed("c", 3, 5), placed("d", 4, 6)], 2)
    assert found == {"a": (0,), "b": (1,), "c": (1,), "d": (0,)}


def test_several_units_lie_together_where_they_can():
    found = assign([placed("a", 0, 9), placed("b", 0, 2, created_at=1), placed("c", 0, 9, created_at=2)], 5)
    assert found == {"a": (0,), "b": (1,), "c": (2,)}
    more = [placed("a", 0, 9), placed("b", 0, 2, created_at=1), placed("c", 0, 9, created_at=2), placed("d", 3, 5, 2)]
    assert assign(more, 5)["d"] == (3, 4)
    assert assign(more, 4)["d"] == (1, 3)


def test_of_two_that_begin_together_the_older_comes_first():
    assert assign([placed("a", 0, 1, created_at=9), placed("b", 0, 1, created_at=3)], 2) == {"b": (0,), "a": (1,)}


def test_where_capacity_was_lost_there_are_rows_beyond():
    assert assign([placed("a", 0, 2, 2), placed("b", 1, 3, 2)], 2) == {"a": (0, 1), "b": (2, 3)}
    assert assign([placed("a", 0, 2)], 0) == {"a": (0,)}


@given(some, st.integers(0, 6))
def test_no_two_share_a_row_and_what_fits_needs_no_more_rows_than_there_are(all_: list[Placed], capacity: int):
    found = assign(all_, capacity)
    assert found.keys() == {one.key for one in all_}
    for one in all_:
        assert len(set(found[one.key])) == one.units
        assert list(found[one.key]) == sorted(found[one.key])
        for other in all_:
            if other is not one and other.interval.overlaps(one.interval):
                assert not set(found[one.key]) & set(found[other.key])
    taken = [(one.interval.start, one.interval.end, one.units) for one in all_]
    most = peak_use(taken, Interval(0, 100))
    assert max((row for rows in found.values() for row in rows), default=-1) < max(capacity, most)


@given(some, st.integers(1, 6), st.randoms(use_true_random=False))
def test_the_order_in_which_they_are_read_does_not_matter(all_: list[Placed], capacity: int, chance: random.Random):
    shuffled = list(all_)
    chance.shuffle(shuffled)
    assert assign(shuffled, capacity) == assign(all_, capacity)


@given(some, st.integers(1, 6), st.integers(0, 30), st.integers(1, 9))
def test_what_is_booked_later_in_time_moves_nothing_that_begins_before(
    all_: list[Placed], capacity: int, start: int, length: int
):
    before = assign(all_, capacity)
    after = assign([*all_, placed("new", start, start + length, created_at=99)], capacity)
    for one in all_:
        if one.interval.start <= start:
            assert after[one.key] == before[one.key]
