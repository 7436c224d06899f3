"""Placement where jobs run: a booking is never refused for a preemptible one, and no other is touched."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules.placement import Board, Plan, Taken, Wanted, Yield, alternatives, earliest, longest_from, place
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.units import DAY, HOUR, MINUTE

NODES = ("a", "b", "c")
ALWAYS = Interval(0, 40 * HOUR)


def hours(start: float, end: float) -> Interval:
    return Interval(round(start * HOUR), round(end * HOUR))


def job(name: str, units: int, end: float = 8, start: float = 0) -> Taken:
    return Taken(name, units, hours(start, end), yields=True)


def test_a_node_that_is_free_is_taken_before_any_job_yields():
    boards = [Board("a", 2, (job("j", 1),)), Board("b", 8)]
    assert place(boards, Wanted(2, hours(1, 2))) == Plan(("b",))


def test_the_node_is_chosen_where_jobs_lose_least():
    boards = [Board("a", 4, (job("long", 2, end=20),)), Board("b", 4, (job("short", 2, end=3),))]
    assert place(boards, Wanted(4, hours(2, 4))) == Plan(("b",), yields=(Yield("short", 2 * HOUR),))


def test_the_youngest_job_yields_and_the_others_stay():
    taken = (job("old", 1), job("young", 1, start=0.5), job("middle", 1, start=0.2))
    plan = place([Board("a", 4, taken)], Wanted(2, hours(1, 2)))
    assert plan == Plan(("a",), yields=(Yield("young", HOUR),))


def test_jobs_yield_before_a_booking_is_moved():
    movable = Taken("x", 2, hours(1, 3), frozenset({"a", "b"}))
    boards = [Board("a", 4, (movable, job("j", 2))), Board("b", 2)]
    assert place(boards, Wanted(2, hours(1, 3), nodes=frozenset({"a"}))) == Plan(("a",), yields=(Yield("j", HOUR),))


def test_what_is_moved_makes_jobs_yield_where_it_goes():
    movable = Taken("x", 2, hours(2, 3), frozenset({"a", "b"}))
    boards = [Board("a", 4, (movable,)), Board("b", 2, (job("j", 2),))]
    plan = place(boards, Wanted(4, hours(1, 3)))
    assert plan is not None and plan.nodes == ("a",) and plan.moves[0].target == "b"
    assert plan.yields == (Yield("j", 2 * HOUR),)


def test_what_could_be_had_instead_counts_the_units_of_jobs_as_free():
    boards = [Board("a", 4, (job("j", 4), Taken("x", 2, hours(2, 30))))]
    ask = Wanted(4, hours(0, 4))
    assert earliest(boards, Wanted(2, hours(0, 4)), horizon=DAY) == 0
    assert longest_from(boards, ask) == 2 * HOUR
    assert {a.kind for a in alternatives(boards, ask, horizon=40 * HOUR, shortest=MINUTE)} == {
        "later", "shorter", "smaller",
    }  # fmt: skip


@st.composite
def some_boards(draw: st.DrawFn) -> list[Board]:
    """Jobs began at most two hours ago, one of them on several nodes; the rest is booked."""
    boards = [Board(node, draw(st.integers(1, 6))) for node in NODES]
    for number in range(draw(st.integers(0, 8))):
        yields = draw(st.booleans())
        start = draw(st.sampled_from([0, 1, 2])) if yields else draw(st.integers(0, 10))
        interval = hours(start, start + draw(st.integers(1, 9)))
        may_use = frozenset(NODES) if not yields and draw(st.booleans()) else frozenset()
        name = "both" if yields and draw(st.booleans()) else f"r{number}"
        taken = Taken(name, draw(st.integers(1, 4)), interval, may_use, yields)
        at = draw(st.integers(0, 2))
        if boards[at].room(interval) >= taken.units and all(t.reservation != name for t in boards[at].taken):
            boards[at] = boards[at].adding(taken)
    return boards


@st.composite
def wanted(draw: st.DrawFn) -> Wanted:
    start = draw(st.integers(2, 10))
    interval = hours(start, start + draw(st.integers(1, 6)))
    return Wanted(draw(st.integers(1, 6)), interval, draw(st.integers(1, 2)))


@given(some_boards(), wanted(), st.booleans())
def test_a_booking_is_refused_only_where_it_would_be_without_any_job(boards: list[Board], ask: Wanted, repack: bool):
    without = place([b.for_bookings() for b in boards], ask, repack=repack)
    assert (place(boards, ask, repack=repack) is None) == (without is None)


@given(some_boards(), wanted())
def test_a_plan_carried_out_fits_and_only_jobs_that_yield_were_cut(boards: list[Board], ask: Wanted):
    plan = place(boards, ask)
    if plan is None:
        return
    ends = {one.reservation: one.at for one in plan.yields}
    preemptible = {t.reservation for b in boards for t in b.taken if t.yields}
    assert ends.keys() <= preemptible
    assert all(at >= 2 * HOUR for at in ends.values()), "nothing is cut before a booking begins"
    state = {b.node: replace(b, taken=tuple(cut for t in b.taken for cut in shortened(t, ends))) for b in boards}
    for move in plan.moves:
        taken = next(t for t in state[move.source].taken if t.reservation == move.reservation)
        state[move.source] = state[move.source].without(move.reservation)
        state[move.target] = state[move.target].adding(taken)
    for node in plan.nodes:
        state[node] = state[node].adding(Taken("new", ask.units, ask.interval))
    assert all(board.room(ALWAYS) >= 0 for board in state.values())


def shortened(taken: Taken, ends: dict[str, int]) -> list[Taken]:
    end = min(ends.get(taken.reservation, taken.interval.end), taken.interval.end)
    return [replace(taken, interval=Interval(taken.interval.start, end))] if end > taken.interval.start else []


@given(some_boards(), wanted())
def test_no_job_yields_where_there_is_room_without(boards: list[Board], ask: Wanted):
    fits = place(
        [replace(b, taken=tuple(replace(t, yields=False) for t in b.taken)) for b in boards], ask, repack=False
    )
    if fits is not None:
        assert place(boards, ask) == fits
