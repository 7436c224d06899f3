"""What is free over time, beside a plain count of every instant."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules.job_room import Fit, Line, Room, Shape
from mlmp_spawner.rules.placement import Board, Taken
from mlmp_spawner.rules.reservations import Interval

END = 20
rows = st.lists(
    st.tuples(st.integers(-3, END - 1), st.integers(1, 9), st.integers(1, 3)).map(lambda r: (r[0], r[0] + r[1], r[2])),
    max_size=6,
)


def later(row: tuple[int, int, int]) -> tuple[int, int, int]:
    """The same with a start that is not over yet."""
    start, end, units = row
    return max(0, start), max(1, end), units


def counted(capacity: int, taken: list[tuple[int, int, int]]) -> list[int]:
    """What is free at each instant."""
    return [capacity - sum(u for s, e, u in taken if s <= instant < e) for instant in range(2 * END)]


@given(st.integers(0, 8), rows, rows, rows, st.integers(0, END), st.integers(1, END), st.integers(1, 8))
def test_a_line_is_a_count_of_every_instant(
    capacity: int, held: list, started: list, planned: list, start: int, length: int, units: int
):
    line = Line(capacity, held, 0)
    started, planned = [later(row) for row in started], [later(row) for row in planned]
    for row in started:
        line.take(*row, planned=False)
    for row in planned:
        line.take(*row, planned=True)
    all_held, free = counted(capacity, held + started), counted(capacity, held + started + planned)

    assert [line.free_at(instant, planned=False) for instant in range(2 * END)] == all_held
    assert [line.free_at(instant) for instant in range(2 * END)] == free
    assert line.rises() == [n for n in range(1, 2 * END) if free[n] > free[n - 1]]
    assert line.lowest(start, start + length) == min(free[start : start + length])
    if all_held[start] >= units:
        lacking = [n for n in range(start, start + length) if all_held[n] < units]
        assert line.held_until(start, start + length, units) == min([start + length, *lacking])


def shape(**changes: object) -> Shape:
    values = {"nodes": frozenset("ab"), "units": 2, "workers": 1, "length": 9, "grace": 1, "preemptible": False}
    return Shape("gpu", **values | changes)  # type: ignore[arg-type]


def test_what_is_planned_is_in_the_way_of_a_start_and_not_in_use():
    room = Room([Board("a", 2)], 0)
    room.take(Fit(("a",), 10), 0, 2, planned=True)
    assert room.fit(shape(), 0) is None
    assert room.fit(shape(), 0, planned=False) == Fit(("a",), 10)
    assert room.enough(shape(), 0)


def test_every_start_is_found_in_order_and_others_are_looked_at_as_well():
    board = Board("a", 2, (Taken("x", 1, Interval(0, 5)), Taken("y", 1, Interval(20, 30))))
    found = Room([board], 0).fits(shape(), 0, others=[7])
    assert list(found) == [(5, Fit(("a",), 15)), (7, Fit(("a",), 17)), (30, Fit(("a",), 40))]


def test_a_node_with_less_than_nothing_free_takes_nothing_and_spoils_nothing():
    full = Board("a", 2, (Taken("x", 2, Interval(0, 5)),), (Interval(0, 5),))
    room = Room([full, Board("b", 4)], 0)
    assert room.enough(shape(workers=2), 0) and not room.enough(shape(workers=3), 0)
    assert room.fit(shape(workers=2), 0) == Fit(("b", "b"), 10)
    assert room.ever(shape(workers=3)) and not room.ever(shape(workers=4))
