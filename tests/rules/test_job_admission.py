"""What Kueue is told: by examples, and by what holds whatever it does; judged by other code than decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations_with_replacement

from hypothesis import assume, given
from hypothesis import strategies as st

from mlmp_spawner.rules.job_admission import Admission, Asking, Going, decide
from mlmp_spawner.rules.job_queue import Start
from mlmp_spawner.rules.job_room import MIN_RUN, Shape
from mlmp_spawner.rules.placement import Board, Taken
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.units import HOUR, MINUTE
from tests.rules.test_job_queue_properties import GPU, NODES, NOW, STEP, shapes, some_boards

GRACE = MINUTE
AB = frozenset({"a", "b"})


def shape(**changes: object) -> Shape:
    """A preemptible job of one worker with two units for two hours."""
    known: dict[str, object] = {
        "resource": GPU, "nodes": AB, "units": 2, "workers": 1, "length": 2 * HOUR, "grace": GRACE,
        "preemptible": True,
    }  # fmt: skip
    return Shape(**{**known, **changes})  # type: ignore[arg-type]


def booked(node: str, capacity: int, *rows: tuple[int, int, int]) -> Board:
    """A node with bookings: ``(start, end, units)``, from now on."""
    taken = (
        Taken(f"{node}{n}", units, Interval(NOW + start, NOW + end)) for n, (start, end, units) in enumerate(rows)
    )
    return Board(node, capacity, tuple(taken))


# -- by examples --------------------------------------------------------------------------------------------------


def test_what_is_free_may_be_given_away_and_who_fits_may_ask():
    boards = [booked("a", 4, (0, HOUR, 3)), booked("b", 4)]
    assert decide([Asking("j", shape(), held=True)], [], boards, NOW) == Admission({"a": 1, "b": 4}, wake=("j",))


def test_whom_the_queue_gave_a_node_starts_there_until_the_next_booking():
    boards = [booked("a", 4, (HOUR, 2 * HOUR, 4)), booked("b", 4)]
    found = decide([Asking("j", shape(), ("a",))], [], boards, NOW)
    assert found.start == (Start("j", ("a",), NOW + HOUR - GRACE, NOW + HOUR),) and found.hold == ()
    assert found.quotas["a"] == 2, "it is counted there"


def test_a_job_that_must_not_be_ended_is_held_while_a_booking_comes_before_its_end():
    boards = [booked("a", 4, (HOUR, 2 * HOUR, 4))]
    found = decide([Asking("j", shape(preemptible=False), ("a",))], [], boards, NOW)
    assert found == Admission({"a": 0}, hold=("j",))


def test_one_in_the_wrong_place_is_held_and_by_the_next_decision_only_the_right_one_has_quota():
    boards = [booked("a", 2, (HOUR, 2 * HOUR, 2)), booked("b", 2)]
    wants = Asking("j", shape(preemptible=False), ("a",))
    first = decide([wants], [], boards, NOW)
    assert first.hold == ("j",) and first.start == ()
    assert decide([replace(wants, nodes=None, held=True)], [], boards, NOW) == Admission(
        {"a": 0, "b": 2}, wake=("j",), fixed={"b": 2}
    )


def test_shorter_jobs_have_the_gaps_once_the_longer_have_their_places():
    boards = [booked("a", 2, (HOUR, 2 * HOUR, 2)), booked("b", 2)]
    long, short = Asking("l", shape(preemptible=False), order=(1, "l")), Asking("s", shape(length=MINUTE))
    assert decide([long, short], [], boards, NOW).quotas == {"a": 0, "b": 2}
    found = decide([replace(long, nodes=("b",)), short], [], boards, NOW)
    assert [one.job for one in found.start] == ["l"] and found.quotas == {"a": 2, "b": 2}


def test_nobody_may_ask_where_nobody_could_start():
    boards = [booked("a", 4, (MIN_RUN, HOUR, 3))]
    assert decide([Asking("j", shape())], [], boards, NOW) == Admission({"a": 0}, hold=("j",))


def test_a_job_is_called_back_when_its_time_is_over_and_nothing_of_it_is_counted_any_more():
    boards = [booked("a", 4, (0, GRACE, 2), (GRACE, HOUR, 4))]
    going = Going("j", ("a",), 2, stop_at=NOW)
    assert decide([], [going], boards, NOW) == Admission({"a": 0}, recall=("j",))
    assert decide([], [replace(going, stop_at=NOW + 1)], boards, NOW) == Admission({"a": 2})
    assert decide([], [replace(going, counted=False)], boards, NOW) == Admission({"a": 0}), "it is told once"


def test_while_one_writes_its_checkpoint_its_units_are_nobodys():
    boards = [booked("a", 2, (0, GRACE, 2))]
    going = Going("j", ("a",), 2, stop_at=NOW - 1, counted=False)
    assert decide([Asking("k", shape(), held=True)], [going], boards, NOW) == Admission({"a": 0})


def test_units_are_kept_for_one_that_waits_for_many():
    boards = [booked("a", 4, (0, HOUR, 2))]
    large, small = Asking("l", shape(units=4), order=(0, "l")), Asking("s", shape(), order=(1, "s"))
    assert decide([large, small], [], boards, NOW).hold == ("l", "s")
    brief = replace(small, shape=shape(length=HOUR - GRACE))
    assert decide([large, brief], [], boards, NOW).hold == ("l",), "it is over by then"
    assert decide([large, small], [], boards, NOW, depth=0).hold == ("l",)


def test_workers_start_on_all_their_nodes_or_on_none():
    boards = [booked("a", 2, (HOUR, 2 * HOUR, 2)), booked("b", 2)]
    both = Asking("j", shape(workers=2), ("a", "b"))
    found = decide([both], [], boards, NOW)
    assert found.start == (Start("j", ("a", "b"), NOW + HOUR - GRACE, NOW + HOUR),)
    assert decide([replace(both, nodes=("a", "a"))], [], boards, NOW).start == ()
    assert decide([replace(both, nodes=("a",))], [], boards, NOW).hold == ("j",), "one worker is missing"
    assert decide([replace(both, nodes=("a", "gone"))], [], boards, NOW).hold == ("j",)


# -- whatever it does ---------------------------------------------------------------------------------------------

some_asking = st.lists(st.tuples(shapes, st.booleans()), max_size=6).map(
    lambda rows: [Asking(f"j{n}", one, held=held, order=(n, "")) for n, (one, held) in enumerate(rows)]
)


def held_at(board: Board, instant: int) -> int:
    """How many units somebody holds, counted one by one."""
    if any(outage.start <= instant < outage.end for outage in board.outages):
        return board.capacity
    return sum(t.units for t in board.taken if t.interval.start <= instant < t.interval.end)


def may_ask(asking: Sequence[Asking], found: Admission) -> list[Asking]:
    """Those that are not held after it."""
    begun = {one.job for one in found.start}
    return [
        replace(one, held=False)
        for one in asking
        if one.id not in {*begun, *found.hold} and (not one.held or one.id in found.wake)
    ]


def ways(one: Asking, quotas: dict[str, int]) -> list[tuple[str, ...]]:
    """Every way in which a queue that knows nothing but quotas may give it nodes."""
    nodes = sorted(node for node in one.shape.nodes if node in quotas)
    return [
        chosen
        for chosen in combinations_with_replacement(nodes, one.shape.workers)
        if all(count * one.shape.units <= quotas[node] for node, count in Counter(chosen).items())
    ]


@given(some_asking, some_boards())
def test_whatever_is_given_away_within_the_quotas_starts(asking: list[Asking], boards: list[Board]):
    found = decide(asking, [], boards, NOW)
    for one in may_ask(asking, found):
        for nodes in ways(one, dict(found.quotas)):
            again = decide([replace(one, nodes=nodes)], [], boards, NOW)
            assert [start.job for start in again.start] == [one.id] and again.hold == ()


@given(some_asking, some_boards(), st.data())
def test_so_do_several_that_get_it_together(asking: list[Asking], boards: list[Board], data: st.DataObject):
    found = decide(asking, [], boards, NOW)
    left, given_away = dict(found.quotas), []
    for one in data.draw(st.permutations(may_ask(asking, found))):
        chosen = data.draw(st.sampled_from([None, *ways(one, left)]))
        if chosen is not None:
            left = {node: units - chosen.count(node) * one.shape.units for node, units in left.items()}
            given_away.append(replace(one, nodes=chosen))
    again = decide(given_away, [], boards, NOW)
    assert {start.job for start in again.start} == {one.id for one in given_away} and again.hold == ()


@given(some_asking, some_boards())
def test_who_may_ask_has_somewhere_to_go(asking: list[Asking], boards: list[Board]):
    found = decide(asking, [], boards, NOW)
    able = may_ask(asking, found)
    longest = [one for one in able if one.shape.least == max(other.shape.least for other in able)]
    assert all(ways(one, dict(found.quotas)) for one in longest)


@given(some_asking, some_boards(), st.data())
def test_what_starts_has_its_units_to_its_end_and_long_enough(
    asking: list[Asking], boards: list[Board], data: st.DataObject
):
    nodes = st.sampled_from([board.node for board in boards] + ["gone"])
    reserved = [
        replace(one, nodes=data.draw(st.lists(nodes, min_size=1, max_size=one.shape.workers).map(tuple)))
        for one in asking
    ]
    found = decide(reserved, [], boards, NOW)
    by_id = {one.id: one.shape for one in reserved}
    assert {start.job for start in found.start} | set(found.hold) | {one.id for one in asking if one.held} == set(
        by_id
    )
    instants = (
        {NOW} | {t.interval.start for b in boards for t in b.taken} | {o.start for b in boards for o in b.outages}
    )
    for board in boards:
        for instant in (at for at in instants if at >= NOW):
            more = sum(
                by_id[start.job].units * start.nodes.count(board.node)
                for start in found.start
                if NOW <= instant < start.kill_at
            )
            if more:
                assert held_at(board, instant) + more <= board.capacity
    for start in found.start:
        wanted = by_id[start.job]
        assert start.kill_at - start.stop_at == wanted.grace and set(start.nodes) <= wanted.nodes
        ran = start.stop_at - NOW
        assert ran == wanted.length or (wanted.preemptible and min(wanted.length, MIN_RUN) <= ran < wanted.length)


@given(some_boards(), st.lists(st.tuples(st.sampled_from(NODES), st.integers(1, 2), st.integers(-1, 4)), max_size=4))
def test_quotas_are_never_more_than_what_runs_and_is_free(boards: list[Board], rows: list[tuple[str, int, int]]):
    state = {board.node: board for board in boards}
    going = []
    for n, (node, units, steps) in enumerate(rows):
        window = Interval(NOW - STEP, NOW + steps * STEP + GRACE)
        assume(node in state and state[node].room(window) >= units)
        state[node] = state[node].adding(Taken(f"g{n}", units, window))
        going.append(Going(f"g{n}", (node,), units, stop_at=NOW + steps * STEP))
    wants = [Asking("j", shape(nodes=frozenset(NODES), units=1, length=STEP), held=True)]
    found = decide(wants, going, list(state.values()), NOW)
    for node, board in state.items():
        runs = sum(one.units for one in going if one.nodes == (node,) and one.stop_at > NOW)
        assert runs <= found.quotas[node] <= runs + max(0, board.capacity - held_at(board, NOW))
    assert set(found.recall) == {one.id for one in going if one.stop_at <= NOW}


# -- who has a right to its units, and who may not take more -------------------------------------------------------


def full(kill_at: int) -> Board:
    return Board("a", 2, (Taken("r", 2, Interval(NOW, kill_at)),))


def test_who_has_a_right_to_units_asks_though_others_use_them_that_yield():
    going = Going("r-1", ("a",), 2, NOW + HOUR, reservation="r", yields=True)
    wants = Asking("j", shape(), held=True)
    assert decide([wants], [going], [full(NOW + HOUR)], NOW).wake == ()
    assert decide([replace(wants, first=True)], [going], [full(NOW + HOUR)], NOW).wake == ("j",)
    kept = replace(going, yields=False)
    assert decide([replace(wants, first=True)], [kept], [full(NOW + HOUR)], NOW).wake == (), "nobody leaves for it"


def test_who_was_given_the_units_of_one_that_was_sent_away_keeps_them_until_that_one_has_ended():
    gone = Going("r-1", (), 2, NOW, counted=False, reservation="r", yields=True)
    wants = Asking("j", shape(), ("a",), first=True)
    found = decide([wants], [gone], [full(NOW + GRACE)], NOW)
    assert (found.wait, found.start, found.hold) == (("j",), (), ())
    assert found.quotas == {"a": 2}, "it is counted"
    after = decide([wants], [], [booked("a", 2)], NOW + GRACE)
    assert [one.job for one in after.start] == ["j"]
    assert decide([replace(wants, first=False)], [gone], [full(NOW + GRACE)], NOW).hold == ("j",)


def test_units_that_the_other_queue_has_taken_back_for_somebody_stay_in_its_quota_until_they_are_free():
    gone = Going("r-1", ("a",), 2, NOW, counted=False, reservation="r", yields=True, ceded=True)
    wants = Asking("j", shape(), first=True)
    assert decide([wants], [gone], [full(NOW + GRACE)], NOW).quotas == {"a": 2}, "or it would send another away"
    assert decide([replace(wants, nodes=("a",))], [gone], [full(NOW + GRACE)], NOW).quotas == {"a": 2}, "once"


def test_two_do_not_wait_for_the_same_units():
    gone = Going("r-1", (), 2, NOW, counted=False, reservation="r")
    wants = [Asking(name, shape(), ("a",), first=True, order=(0, name)) for name in "jk"]
    found = decide(wants, [gone], [full(NOW + GRACE)], NOW)
    assert (found.wait, found.hold) == (("j",), ("k",))


def test_what_was_sent_away_does_not_come_back_before_the_one_for_which_it_left():
    gone = Going("r-1", (), 2, NOW, counted=False, reservation="r", yields=True)
    first = Asking("j", shape(), held=True, first=True, order=(0, "j"))
    again = Asking("r-2", shape(), held=True, order=(1, "r-2"))
    assert decide([first, again], [gone], [full(NOW + GRACE)], NOW).wake == ("j",)
    assert decide([first, again], [], [booked("a", 2)], NOW + GRACE).wake == ("j",)


def test_an_owner_gets_no_more_than_his_limit_however_much_the_other_queue_gives():
    boards = [booked("a", 4)]
    asks = [Asking(name, shape(units=1), ("a",), owner="eve", order=(0, name)) for name in "jkl"]
    found = decide(asks, [], boards, NOW, left={"eve": 2})
    assert [one.job for one in found.start] == ["j", "k"] and found.hold == ("l",)
    waits = [Asking("m", shape(units=1), held=True, owner="eve"), Asking("n", shape(units=1), held=True, owner="ann")]
    assert decide(waits, [], boards, NOW, left={"eve": 0}).wake == ("n",)


def test_what_is_not_preemptible_is_told_apart_with_where_it_fits():
    wants = [Asking("j", shape(preemptible=False)), Asking("k", shape(preemptible=False), order=(1, "k"))]
    assert decide(wants, [], [booked("a", 2)], NOW).fixed == {"a": 2}, "one after the other"
