"""Where the seats of a class go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules import class_seats as rules
from mlmp_spawner.rules.placement import Board, Taken, Yield
from mlmp_spawner.rules.reservations import Interval

HOUR = Interval(0, 60)
FREE = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 12), max_size=6)


def board(node: str, capacity: int, *taken: Taken, away: tuple[Interval, ...] = ()) -> Board:
    return Board(node, capacity, taken, away)


class TestSpread:
    @given(FREE, st.integers(1, 40))
    def test_all_seats_find_room_or_none_does(self, free: dict[str, int], seats: int):
        found = rules.spread(free, seats)
        if sum(free.values()) < seats:
            assert found is None
            return
        assert found is not None
        assert sum(found.values()) == seats
        assert all(0 < count <= free[node] for node, count in found.items())

    @given(FREE, st.integers(1, 40))
    def test_no_fewer_nodes_would_do(self, free: dict[str, int], seats: int):
        found = rules.spread(free, seats)
        if found is not None:
            largest = sorted(free.values(), reverse=True)
            assert sum(largest[: len(found) - 1]) < seats

    def test_the_node_with_least_left_over_is_taken(self):
        assert rules.spread({"big": 20, "small": 6, "tiny": 4}, 5) == {"small": 5}

    def test_the_rest_of_a_large_class_goes_where_least_is_left_over(self):
        assert rules.spread({"a": 8, "b": 8, "c": 3, "d": 2}, 10) == {"a": 8, "d": 2}


class TestPlace:
    def test_seats_of_several_units_don_t_share_one_with_another_node(self):
        boards = [board("a", 4), board("b", 3)]
        assert rules.place(boards, HOUR, 2, 3) == rules.Placed({"a": 2, "b": 1})
        assert rules.place(boards, HOUR, 2, 4) is None
        assert rules.most(boards, HOUR, 2) == 3

    def test_jobs_make_way_only_where_there_is_no_room_without(self):
        job = Taken("job", 2, Interval(0, 100), yields=True)
        boards = [board("a", 4, job), board("b", 2)]
        assert rules.place(boards, HOUR, 1, 4) == rules.Placed({"a": 2, "b": 2})
        assert rules.place(boards, HOUR, 1, 5) == rules.Placed({"a": 4, "b": 1}, (Yield("job", 0),))

    def test_a_node_that_is_away_at_some_moment_takes_no_seat(self):
        boards = [board("a", 4, away=(Interval(59, 70),)), board("b", 2)]
        assert rules.places(boards, HOUR, 1) == {"a": 0, "b": 2}

    def test_another_time_is_the_first_that_fits(self):
        boards = [board("a", 4, Taken("x", 3, Interval(30, 90)))]
        assert rules.other_times(boards, HOUR, 1, 4, [15, -20, 30, 90]) == [90]
        assert rules.other_times(boards, HOUR, 1, 1, [15, 90]) == [15, 90]
        assert rules.other_times(boards, HOUR, 1, 5, [15, 90]) == rules.other_times(boards, HOUR, 1, 1, []) == []

    @given(st.lists(st.tuples(st.integers(-99, 99), st.integers(1, 60), st.integers(1, 4), st.booleans()), max_size=8),
           st.lists(st.integers(-90, 90), max_size=6), st.integers(1, 3), st.integers(1, 8))  # fmt: skip
    def test_by_each_of_them_all_seats_have_room(
        self, taken: list[tuple[int, int, int, bool]], shifts: list[int], units: int, seats: int
    ):
        rows = [Taken(str(n), many, Interval(start, start + length), yields=job)
                for n, (start, length, many, job) in enumerate(taken)]  # fmt: skip
        boards = [board("a", 4, *rows[::2], away=(Interval(70, 80),)), board("b", 8, *rows[1::2])]
        fit = [by for by in shifts if rules.most(boards, HOUR.at(by), units) >= seats]
        assert rules.other_times(boards, HOUR, units, seats, shifts) == fit


class TestSeats:
    def test_one_node_is_filled_before_the_next(self):
        free = {"a": 3, "b": 2, "c": 0}
        order = []
        while (node := rules.next_node(free)) is not None:
            order.append(node)
            free[node] -= 1
        assert order == ["b", "b", "a", "a", "a"]

    def test_at_least_one_seat_is_kept_for_who_comes_late(self):
        assert [rules.late_seats(n) for n in (1, 20, 21, 70, 500)] == [1, 1, 2, 4, 25]

    @given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(0, 9), st.integers(0, 9))),
           st.integers(0, 5))  # fmt: skip
    def test_what_is_used_stays_and_a_few_more(self, nodes: dict[str, tuple[int, int]], late: int):
        there = {node: max(pair) for node, pair in nodes.items()}
        used = {node: min(pair) for node, pair in nodes.items()}
        stay = rules.kept(there, used, late)
        assert all(used[node] <= stay.get(node, 0) <= there[node] for node in there)
        assert sum(stay.values()) == min(sum(there.values()), sum(used.values()) + late)

    def test_seats_for_the_late_are_beside_those_in_use(self):
        assert rules.kept({"a": 8, "b": 8}, {"b": 3}, 2) == {"b": 5}
