"""Placement: best fit, bounded repacking, alternatives that work."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules.placement import DEPTH, Board, Taken, Wanted, alternatives, earliest, place
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.units import HOUR, MINUTE

DAY_ONE = Interval(0, 24 * HOUR)


def hours(start: float, end: float) -> Interval:
    return Interval(round(start * HOUR), round(end * HOUR))


def test_it_goes_where_least_is_left_over():
    boards = [Board("large", 8), Board("small", 2), Board("middle", 4)]
    plan = place(boards, Wanted(2, hours(0, 4)))
    assert plan is not None and plan.nodes == ("small",) and plan.moves == ()


def test_touching_bookings_do_not_stand_in_each_others_way():
    board = Board("a", 1, (Taken("x", 1, hours(0, 4)), Taken("y", 1, hours(8, 9))))
    assert place([board], Wanted(1, hours(4, 8))) is not None
    assert place([board], Wanted(1, hours(4, 8.5))) is None


def test_several_nodes_are_all_or_nothing():
    boards = [Board("a", 4), Board("b", 4, (Taken("x", 1, hours(0, 1)),))]
    plan = place(boards, Wanted(3, hours(0, 4), node_count=2))
    assert plan is not None and plan.nodes == ("a", "b")
    assert place(boards, Wanted(4, hours(0, 4), node_count=2)) is None


def test_a_node_that_is_away_takes_nothing():
    assert place([Board("a", 4, outages=(hours(2, 3),))], Wanted(1, hours(0, 4))) is None


def test_what_may_move_makes_room():
    movable = Taken("x", 2, hours(1, 3), frozenset({"a", "b"}))
    boards = [Board("a", 4, (movable,)), Board("b", 2)]
    plan = place(boards, Wanted(4, hours(0, 4)))
    assert plan is not None and plan.nodes == ("a",)
    assert [(m.reservation, m.source, m.target) for m in plan.moves] == [("x", "a", "b")]


def test_what_may_not_move_stays():
    boards = [Board("a", 4, (Taken("x", 2, hours(1, 3)),)), Board("b", 2)]
    assert place(boards, Wanted(4, hours(0, 4))) is None


def test_a_chain_of_moves_is_found_within_the_bound():
    anywhere = frozenset("abc")
    boards = [
        Board("a", 4, (Taken("x", 3, hours(0, 4), anywhere),)),
        Board("b", 3, (Taken("y", 2, hours(0, 4), anywhere),)),
        Board("c", 2),
    ]
    plan = place(boards, Wanted(4, hours(0, 4)))
    assert plan is not None and plan.nodes == ("a",)
    assert {(m.reservation, m.target) for m in plan.moves} == {("x", "b"), ("y", "c")}


def test_alternatives_name_one_of_each_kind():
    boards = [Board("a", 4, (Taken("x", 3, hours(2, 6)),)), Board("b", 4)]
    found = alternatives(boards, Wanted(2, hours(0, 4)), horizon=48 * HOUR, shortest=10 * MINUTE, node="a")
    assert {a.kind: (a.interval, a.units, a.node) for a in found} == {
        "later": (hours(6, 10), 2, "a"),
        "node": (hours(0, 4), 2, "b"),
        "shorter": (hours(0, 2), 2, "a"),
        "smaller": (hours(0, 4), 1, "a"),
    }


def test_nothing_shorter_than_the_shortest_is_offered():
    boards = [Board("a", 1, (Taken("x", 1, Interval(5 * MINUTE, 8 * HOUR)),))]
    found = alternatives(boards, Wanted(1, hours(0, 4)), horizon=HOUR, shortest=10 * MINUTE)
    assert found == []


NODES = ("a", "b", "c")


@st.composite
def some_boards(draw: st.DrawFn) -> list[Board]:
    boards = []
    for node in NODES:
        board = Board(node, draw(st.integers(1, 6)))
        for number in range(draw(st.integers(0, 4))):
            start = draw(st.integers(0, 10))
            interval = hours(start, start + draw(st.integers(1, 6)))
            may_use = frozenset(NODES) if draw(st.booleans()) else frozenset()
            taken = Taken(f"{node}{number}", draw(st.integers(1, 4)), interval, may_use)
            if board.room(interval) >= taken.units:
                board = board.adding(taken)
        boards.append(board)
    return boards


@st.composite
def wanted(draw: st.DrawFn) -> Wanted:
    start = draw(st.integers(0, 10))
    interval = hours(start, start + draw(st.integers(1, 6)))
    return Wanted(draw(st.integers(1, 6)), interval, draw(st.integers(1, 2)))


@given(some_boards(), wanted())
def test_a_plan_carried_out_never_goes_above_a_capacity(boards: list[Board], ask: Wanted):
    plan = place(boards, ask)
    if plan is None:
        return
    state = {b.node: b for b in boards}
    for move in plan.moves:
        taken = next(t for t in state[move.source].taken if t.reservation == move.reservation)
        assert move.target in taken.may_use
        state[move.source] = state[move.source].without(move.reservation)
        state[move.target] = state[move.target].adding(taken)
    for node in plan.nodes:
        state[node] = state[node].adding(Taken("new", ask.units, ask.interval))
    assert len(set(plan.nodes)) == ask.node_count
    assert len({m.reservation for m in plan.moves}) == len(plan.moves) <= DEPTH
    assert all(board.room(Interval(0, 24 * HOUR)) >= 0 for board in state.values())


@given(some_boards(), wanted())
def test_alternatives_fit_as_they_are(boards: list[Board], ask: Wanted):
    for found in alternatives(boards, ask, horizon=48 * HOUR, shortest=MINUTE):
        again = Wanted(found.units, found.interval, ask.node_count, frozenset([found.node]) if found.node else None)
        assert place(boards, again, repack=False) is not None


@given(some_boards(), wanted())
def test_earliest_is_the_first_start_that_fits(boards: list[Board], ask: Wanted):
    first = earliest(boards, ask, horizon=24 * HOUR)
    possible = [
        start
        for start in range(ask.interval.start, 24 * HOUR + 1, HOUR)
        if place(boards, Wanted(ask.units, ask.interval.at(start), ask.node_count), repack=False)
    ]
    assert first == min(possible, default=None)
