"""Fair share: what was used fades, and whoever used least has the next turn."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules.fair_share import Shares, Turns, consumed, decayed
from mlmp_spawner.units import DAY, HOUR

WEEK = 7 * DAY


@dataclass(frozen=True)
class Row:
    owner: str
    queued_at: int
    group: str = ""
    rank: int = 0

    @property
    def order(self) -> tuple[int, int]:
        return self.rank, self.queued_at


def in_turn(rows: list[Row], shares: Shares, charge: float = 0.0) -> list[Row]:
    """All of them in their turns; each is charged at once."""
    turns = Turns(rows, shares)
    found = []
    while (row := turns.next()) is not None:
        found.append(row)
        shares.charge(row.group, row.owner, charge)
    return found


def test_after_a_half_life_what_was_used_counts_half():
    assert decayed(8.0, 0, WEEK, WEEK) == 4.0
    assert decayed(8.0, 0, 3 * WEEK, WEEK) == 1.0
    assert decayed(8.0, 0, 10_000 * WEEK, WEEK) == 0.0


def test_nothing_grows_where_the_clock_went_back():
    assert decayed(8.0, WEEK, 0, WEEK) == 8.0
    assert consumed(2, HOUR, 0, WEEK) == 0.0


def test_a_short_use_counts_nearly_whole_and_a_long_one_less():
    assert consumed(2, 0, HOUR, WEEK) == pytest.approx(2 * HOUR, rel=0.01)
    assert consumed(2, 0, 1000 * WEEK, WEEK) < 4 * WEEK


@given(st.integers(1, 64), st.integers(0, 60 * DAY), st.integers(0, 60 * DAY), st.floats(0.01, 100))
def test_it_is_the_same_whether_a_use_is_charged_at_once_or_in_parts(units: int, first: int, second: int, days: float):
    half_life, end = days * DAY, first + second
    parts = decayed(consumed(units, 0, first, half_life), first, end, half_life)
    parts += consumed(units, first, end, half_life)
    assert parts == pytest.approx(consumed(units, 0, end, half_life), rel=1e-6, abs=1e-3)


@given(st.integers(1, 64), st.integers(0, 400 * DAY), st.floats(0.01, 100))
def test_nothing_counts_more_than_it_was(units: int, length: int, days: float):
    assert 0 <= consumed(units, 0, length, days * DAY) <= units * length * (1 + 1e-9)


def test_the_group_that_used_least_goes_first_whoever_of_it_used_much():
    rows = [Row("ann", 1, "red"), Row("bob", 2, "blue")]
    shares = Shares(groups={"red": 5.0, "blue": 4.0}, users={"bob": 100.0})
    assert [row.owner for row in in_turn(rows, shares)] == ["bob", "ann"]


def test_within_a_group_the_person_who_used_least_goes_first():
    rows = [Row("ann", 1, "red"), Row("bob", 2, "red"), Row("cy", 3, "red")]
    shares = Shares(users={"ann": 2.0, "cy": 1.0})
    assert [row.owner for row in in_turn(rows, shares)] == ["bob", "cy", "ann"]


def test_between_those_who_used_the_same_the_one_who_waits_longest_goes_first():
    rows = [Row("ann", 5, "a"), Row("zoe", 3, "z"), Row("bob", 4, "a")]
    assert [row.owner for row in in_turn(rows, Shares())] == ["zoe", "bob", "ann"]


def test_what_is_charged_counts_for_a_person_in_all_groups():
    rows = [Row("ann", 1, "red"), Row("ann", 2, "blue"), Row("bob", 9, "blue")]
    found = in_turn(rows, Shares(), charge=1.0)
    assert [(row.owner, row.group) for row in found] == [("ann", "red"), ("bob", "blue"), ("ann", "blue")]


def test_a_thousand_jobs_of_one_person_cost_another_one_turn():
    rows = [Row("ann", n) for n in range(1000)] + [Row("bob", 5000)]
    assert [row.owner for row in in_turn(rows, Shares(), charge=1.0)][1] == "bob"


some_rows = st.lists(
    st.builds(
        Row,
        owner=st.sampled_from(["ann", "bob", "cy"]),
        queued_at=st.integers(0, 5),
        group=st.sampled_from(["", "red", "blue"]),
        rank=st.integers(0, 2),
    ),
    max_size=20,
)
some_shares = st.builds(
    Shares,
    st.dictionaries(st.sampled_from(["", "red", "blue"]), st.floats(0, 10)),
    st.dictionaries(st.sampled_from(["ann", "bob", "cy"]), st.floats(0, 10)),
)


@given(some_rows, some_shares, st.floats(0, 5))
def test_everyone_has_a_turn_once_and_it_is_always_the_turn_of_who_used_least(
    rows: list[Row], shares: Shares, charge: float
):
    turns = Turns(rows, shares)
    left = list(rows)
    while (row := turns.next()) is not None:
        least = min(shares.groups.get(one.group, 0.0) for one in left)
        assert shares.groups.get(row.group, 0.0) == least
        group = [one for one in left if one.group == row.group]
        assert shares.users.get(row.owner, 0.0) == min(shares.users.get(one.owner, 0.0) for one in group)
        assert row.order == min(one.order for one in group if one.owner == row.owner)
        left.remove(row)
        shares.charge(row.group, row.owner, charge)
    assert left == []


@given(st.integers(1, 30), st.integers(1, 5))
def test_groups_that_ask_alike_take_turns_however_many_people_they_have(count: int, people: int):
    rows = [Row(f"u{n % people}", n, "large") for n in range(count)]
    rows += [Row("v", n, "small") for n in range(count)]
    found = in_turn(rows, Shares(), charge=1.0)
    for n in range(len(found)):
        counts = Counter(row.group for row in found[: n + 1])
        assert abs(counts["large"] - counts["small"]) <= 1
