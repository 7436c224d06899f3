"""What holds of every decision of the queue, whoever waits and whatever is held; judged by other code than decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations_with_replacement

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules.fair_share import Shares
from mlmp_spawner.rules.job_queue import Decision, Running, Start, Waiting, decide
from mlmp_spawner.rules.job_room import MIN_RUN, Shape
from mlmp_spawner.rules.placement import Board, Taken
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.units import MINUTE

GPU = "nvidia.com/gpu"
NODES = ("a", "b", "c")
NOW = 1_000_000 * MINUTE
STEP = 5 * MINUTE
END = 48
"""Nothing is held after so many steps."""


@st.composite
def some_boards(draw: st.DrawFn) -> list[Board]:
    """Nodes with bookings, running jobs and outages on a grid of five minutes."""
    boards = []
    for node in NODES[: draw(st.integers(1, 3))]:
        board = Board(node, draw(st.integers(1, 4)))
        for n in range(draw(st.integers(0, 4))):
            taken = Taken(f"{node}{n}", draw(st.integers(1, 3)), draw(spans()))
            if board.room(taken.interval) >= taken.units:
                board = board.adding(taken)
        boards.append(replace(board, outages=tuple(draw(st.lists(spans(), max_size=1)))))
    return boards


@st.composite
def spans(draw: st.DrawFn) -> Interval:
    start = draw(st.integers(-2, END - 12))
    return Interval(NOW + start * STEP, NOW + (start + draw(st.integers(1, 12))) * STEP)


shapes = st.builds(
    Shape,
    st.just(GPU),
    st.sets(st.sampled_from(NODES), min_size=1).map(frozenset) | st.just(frozenset(NODES)),
    units=st.integers(1, 3),
    workers=st.sampled_from([1, 1, 1, 2, 3]),
    length=st.integers(1, 12).map(lambda n: n * STEP),
    grace=st.sampled_from([MINUTE, STEP]),
    preemptible=st.booleans(),
)


def some_jobs(shapes: st.SearchStrategy[Shape] = shapes, owners: str = "xyz", size: int = 8) -> st.SearchStrategy:
    """Jobs in the order in which they were queued."""
    one = st.tuples(shapes, st.sampled_from(owners), st.sampled_from(["", "red"]), st.integers(-1, 1), st.booleans())
    return st.lists(one, max_size=size).map(
        lambda rows: [
            Waiting(f"j{n}", owner, shape, group, priority, front, queued_at=n)
            for n, (shape, owner, group, priority, front) in enumerate(rows)
        ]
    )


def with_start(boards: Sequence[Board], one: Start, units: int) -> list[Board]:
    """The boards with a job on them that was started at :data:`NOW`."""
    window = Interval(NOW, one.kill_at)
    counts = Counter(one.nodes)
    return [
        board.adding(Taken(one.job, units * counts[board.node], window)) if board.node in counts else board
        for board in boards
    ]


def longest(boards: Sequence[Board], shape: Shape, start: int) -> int | None:
    """Till when a job that starts at ``start`` can have its units, looked for the plain way; None where it can't."""
    allowed = [board for board in boards if board.node in shape.nodes]
    best = None
    for chosen in combinations_with_replacement(allowed, shape.workers):
        counts = Counter(board.node for board in chosen)
        edges = {e for b in chosen for i in (*(t.interval for t in b.taken), *b.outages) for e in (i.start, i.end)}
        whole = start + shape.length + shape.grace
        for until in sorted({whole, *(e for e in edges if start < e < whole)}, reverse=True):
            if all(b.room(Interval(start, until)) >= shape.units * counts[b.node] for b in chosen):
                best = max(best or 0, until)
                break
    if best is None:
        return None
    least = min(shape.length, MIN_RUN) if shape.preemptible else shape.length
    return best if best - start >= least + shape.grace else None


@given(some_boards(), some_jobs(), st.integers(1, 3))
def test_what_starts_is_free_of_all_that_is_held_and_keeps_to_its_shape(
    boards: list[Board], waiting: list[Waiting], depth: int
):
    decision = decide(waiting, {GPU: boards}, Shares(), NOW, depth=depth)
    known = {one.id: one.shape for one in waiting}
    held = boards
    for one in decision.starts:
        shape = known[one.job]
        assert len(one.nodes) == shape.workers and shape.nodes.issuperset(one.nodes)
        assert one.kill_at - one.stop_at == shape.grace
        assert min(shape.length, MIN_RUN) <= one.stop_at - NOW <= shape.length
        assert shape.preemptible or one.stop_at - NOW == shape.length
        held = with_start(held, one, shape.units)
        assert all(b.room(Interval(NOW, one.kill_at)) >= 0 for b in held if b.node in one.nodes)


@given(some_boards(), some_jobs(), st.integers(1, 3))
def test_everybody_either_starts_or_is_told_why_not(boards: list[Board], waiting: list[Waiting], depth: int):
    decision = decide(waiting, {GPU: boards}, Shares(), NOW, depth=depth)
    names = [one.job for one in decision.starts]
    assert len(set(names)) == len(names)
    assert {*names}.isdisjoint(decision.outlook)
    assert {*names, *decision.outlook} == {one.id for one in waiting}
    assert all(one.start is None or one.start > NOW for one in decision.outlook.values())


@given(some_boards(), some_jobs(), st.integers(1, 3), st.randoms())
def test_in_which_order_the_rows_come_does_not_matter(boards: list[Board], waiting: list[Waiting], depth: int, chance):
    mixed = chance.sample(waiting, len(waiting))
    first = decide(waiting, {GPU: boards}, Shares(), NOW, depth=depth)
    assert decide(mixed, {GPU: boards[::-1]}, Shares(), NOW, depth=depth) == first


@given(some_boards(), shapes)
def test_one_that_waits_alone_starts_as_early_and_runs_as_long_as_can_be(boards: list[Board], shape: Shape):
    decision = decide([Waiting("j", "x", shape)], {GPU: boards}, Shares(), NOW)
    until = longest(boards, shape, NOW)
    if until is not None:
        (start,) = decision.starts
        assert start.kill_at == until
        return
    assert decision.starts == ()
    later = (NOW + n * STEP for n in range(END + 2))
    earliest = next((start for start in later if longest(boards, shape, start) is not None), None)
    assert decision.outlook["j"].start == earliest
    assert (earliest is None) == (decision.outlook["j"].why.code in ("gone", "too_large"))


@given(some_boards(), shapes)
def test_only_a_booking_or_an_outage_cuts_a_job_short(boards: list[Board], shape: Shape):
    for one in decide([Waiting("j", "x", shape)], {GPU: boards}, Shares(), NOW).starts:
        if one.stop_at < NOW + shape.length:
            longer = with_start(boards, replace(one, kill_at=one.kill_at + 1), shape.units)
            assert any(b.room(Interval(NOW, one.kill_at + 1)) < 0 for b in longer)


@given(some_boards(), some_jobs(owners="x"), shapes)
def test_who_comes_later_changes_nothing_for_those_before(boards: list[Board], waiting: list[Waiting], last: Shape):
    before = decide(waiting, {GPU: boards}, Shares(), NOW)
    late = Waiting("last", "x", last, group=waiting[0].group if waiting else "", priority=-2, queued_at=99)
    waiting = [replace(one, group=late.group) for one in waiting]
    before = decide(waiting, {GPU: boards}, Shares(), NOW)
    after = decide([*waiting, late], {GPU: boards}, Shares(), NOW)
    assert [one for one in after.starts if one.job != "last"] == list(before.starts)
    assert {name: one for name, one in after.outlook.items() if name != "last"} == before.outlook


@given(some_boards(), some_jobs(), st.dictionaries(st.sampled_from("xyz"), st.integers(0, 4)), st.data())
def test_nobody_takes_more_than_his_quota(
    boards: list[Board], waiting: list[Waiting], quotas: dict, data: st.DataObject
):
    ends = st.integers(1, 12).map(lambda n: NOW + n * STEP)
    running = data.draw(st.lists(st.builds(Running, st.sampled_from("xyz"), st.just(""), st.integers(1, 2), ends)))
    decision = decide(waiting, {GPU: boards}, Shares(), NOW, running=running, quotas=quotas)
    known = {one.id: one for one in waiting}
    used: Counter[str] = Counter()
    for one in running:
        used[one.owner] += one.units
    for start in decision.starts:
        one = known[start.job]
        used[one.owner] += one.units
        assert one.owner not in quotas or used[one.owner] <= quotas[one.owner]


plain = shapes.map(lambda shape: shape._replace(nodes=frozenset(NODES), workers=1, grace=STEP, preemptible=False))


@given(some_boards(), some_jobs(plain))
def test_nothing_stays_free_that_one_who_waits_could_have(boards: list[Board], waiting: list[Waiting]):
    decision = decide(waiting, {GPU: boards}, Shares(), NOW, depth=0)
    known = {one.id: one for one in waiting}
    for one in decision.starts:
        boards = with_start(boards, one, known[one.job].shape.units)
    assert all(longest(boards, known[name].shape, NOW) is None for name in decision.outlook)


def over_time(boards: Sequence[Board], waiting: Sequence[Waiting]) -> list[tuple[int, Decision]]:
    """The decisions of each five minutes, while every job that starts takes its whole time."""
    queue, held, found = list(waiting), list(boards), []
    for n in range(600):
        now = NOW + n * STEP
        decision = decide(queue, {GPU: held}, Shares(), now)
        found.append((now, decision))
        known = {one.id: one for one in queue}
        for one in decision.starts:
            counts, units = Counter(one.nodes), known[one.job].shape.units
            window = Interval(now, one.kill_at)
            held = [b.adding(Taken(one.job, units * counts[b.node], window)) if counts[b.node] else b for b in held]
        queue = [one for one in queue if one.id in decision.outlook]
        if all(one.start is None for one in decision.outlook.values()):
            return found
    raise AssertionError(f"these never started: {queue}")


@given(some_boards(), some_jobs(shapes.map(lambda shape: shape._replace(grace=STEP)), owners="x", size=5))
def test_everybody_who_can_starts_and_who_is_next_not_later_than_was_said(boards: list[Board], waiting: list[Waiting]):
    waiting = [replace(one, group="") for one in waiting]
    said: dict[str, int] = {}
    for now, decision in over_time(boards, waiting):
        left = [one for one in waiting if one.id in decision.outlook and decision.outlook[one.id].start is not None]
        for one in sorted(left, key=lambda one: one.order)[:1]:
            said.setdefault(one.id, decision.outlook[one.id].start or 0)
        for start in decision.starts:
            assert now <= said.get(start.job, now)
