"""The queue of jobs: who starts, who is planned, why others wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from mlmp_spawner.rules.fair_share import Shares
from mlmp_spawner.rules.job_queue import Decision, Outlook, Running, Start, Waiting, Why, decide, sentence
from mlmp_spawner.rules.job_room import MIN_RUN, Shape
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.rules.placement import Board, Taken
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.units import HOUR, MINUTE

GPU = "nvidia.com/gpu"
NODES = frozenset({"a", "b", "c"})
NOW = 1_000 * HOUR
SHAPE = Shape(GPU, NODES, units=1, workers=1, length=2 * HOUR, grace=MINUTE, preemptible=True)


def hours(start: float, end: float) -> Interval:
    """Hours from now on."""
    return Interval(NOW + round(start * HOUR), NOW + round(end * HOUR))


def board(node: str, capacity: int, *taken: tuple[int, float, float]) -> Board:
    """:param taken: units, from and till which hour from now."""
    rows = (Taken(f"{node}{n}", units, hours(start, end)) for n, (units, start, end) in enumerate(taken))
    return Board(node, capacity, tuple(rows))


def job(name: str, owner: str = "ann", **changes: object) -> Waiting:
    """A job for one unit and two hours unless told otherwise."""
    of_shape = {key: changes.pop(key) for key in SHAPE._fields if key in changes}
    return Waiting(name, owner, SHAPE._replace(**of_shape), **changes)  # type: ignore[arg-type]


def look(
    waiting: Sequence[Waiting],
    boards: Sequence[Board],
    *,
    shares: Shares | None = None,
    running: Sequence[Running] = (),
    quotas: dict[str, int] | None = None,
    depth: int = 100,
) -> Decision:
    return decide(waiting, {GPU: boards}, shares or Shares(), NOW, running=running, quotas=quotas, depth=depth)


def started(decision: Decision) -> list[str]:
    return [one.job for one in decision.starts]


def test_nothing_waits_and_nothing_starts():
    assert look([], [board("a", 1)]) == Decision((), {})


def test_a_job_starts_where_least_is_left_over():
    decision = look([job("j")], [board("a", 8), board("b", 2), board("c", 4)])
    assert decision == Decision((Start("j", ("b",), NOW + 2 * HOUR, NOW + 2 * HOUR + MINUTE),), {})


def test_it_goes_where_it_can_run_longest_even_if_more_is_left_over_there():
    decision = look([job("j")], [board("a", 8), board("b", 1, (1, 1.5, 4))])
    assert decision.starts[0].nodes == ("a",)


def test_a_preemptible_job_starts_into_a_gap_and_ends_as_the_booking_begins():
    decision = look([job("j", grace=5 * MINUTE)], [board("a", 1, (1, 1, 4))])
    assert decision.starts == (Start("j", ("a",), NOW + 55 * MINUTE, NOW + HOUR),)


def test_a_gap_that_is_too_short_to_get_anywhere_stays_empty():
    length = (MIN_RUN + MINUTE) / HOUR
    assert started(look([job("j")], [board("a", 1, (1, length, 4))])) == ["j"]
    decision = look([job("j")], [board("a", 1, (1, length - 1e-6, 4))])
    assert decision == Decision((), {"j": Outlook(NOW + 4 * HOUR, Why("booked"))})


def test_a_job_shorter_than_the_shortest_gap_needs_its_own_length_only():
    boards = [board("a", 1, (1, 4 / 60, 4))]
    assert started(look([job("j", length=3 * MINUTE)], boards)) == ["j"]
    assert started(look([job("j", length=4 * MINUTE)], boards)) == []


def test_a_job_that_steps_aside_for_nobody_waits_until_its_whole_time_is_free():
    decision = look([job("j", preemptible=False)], [board("a", 1, (1, 1, 4), (1, 6, 7))])
    assert decision == Decision((), {"j": Outlook(NOW + 7 * HOUR, Why("booked"))})


def test_a_job_that_steps_aside_for_nobody_needs_its_grace_as_well():
    fixed = job("j", preemptible=False)
    assert started(look([fixed], [board("a", 1, (1, 2 + 1 / 60, 4))])) == ["j"]
    assert started(look([fixed], [board("a", 1, (1, 2, 4))])) == []


def test_an_outage_is_as_good_as_a_booking():
    away = replace(board("a", 4), outages=(hours(1, 3),))
    assert look([job("j")], [away]).starts == (Start("j", ("a",), NOW + 59 * MINUTE, NOW + HOUR),)
    gone = replace(board("a", 4), outages=(hours(-1, 3),))
    assert look([job("j")], [gone]).outlook == {"j": Outlook(NOW + 3 * HOUR, Why("in_use"))}


def test_workers_stay_together_where_they_can():
    boards = [board("a", 3), board("b", 4), board("c", 8, (1, 0, 9))]
    assert look([job("j", workers=4)], boards).starts[0].nodes == ("b",) * 4


def test_workers_are_spread_over_as_few_nodes_as_can_be():
    boards = [board("a", 1), board("b", 2), board("c", 4)]
    assert look([job("j", workers=6)], boards).starts[0].nodes == ("b", "b", "c", "c", "c", "c")
    assert look([job("j", workers=3)], [board("a", 2), board("b", 2)]).starts[0].nodes == ("a", "a", "b")


def test_workers_start_together_or_not_at_all():
    boards = [board("a", 2), board("b", 2, (1, 0, 1))]
    decision = look([job("j", units=2, workers=2)], boards)
    assert decision == Decision((), {"j": Outlook(NOW + HOUR, Why("in_use"))})


def test_all_workers_end_when_the_first_booking_of_them_begins():
    boards = [board("a", 1, (1, 1, 4)), board("b", 1)]
    decision = look([job("j", workers=2)], boards)
    assert decision.starts == (Start("j", ("a", "b"), NOW + 59 * MINUTE, NOW + HOUR),)


def test_a_job_goes_only_where_its_profile_fits():
    assert look([job("j", nodes=frozenset("b"))], [board("a", 1), board("b", 8)]).starts[0].nodes == ("b",)


def test_who_used_least_goes_first():
    waiting = [job("j", "ann", queued_at=1), job("k", "bob", queued_at=2)]
    assert started(look(waiting, [board("a", 1)], shares=Shares(users={"ann": 1.0}))) == ["k"]


def test_within_an_owner_who_was_sent_away_goes_first_then_priority_then_the_oldest():
    waiting = [
        job("late", queued_at=9),
        job("early", queued_at=1),
        job("high", priority=1, queued_at=9),
        job("front", front=True, priority=-1, queued_at=9),
    ]
    assert started(look(waiting, [board("a", 4)])) == ["front", "high", "early", "late"]


def test_what_starts_counts_at_once_so_that_three_groups_share_evenly():
    # Who asked first has all of them first in line, which gets nobody more.
    waiting = [job(f"{group}{n}", group, group=group, queued_at=ord(group)) for group in "xyz" for n in range(9)]
    names = started(look(waiting, [board("a", 6)]))
    assert sorted(name[0] for name in names) == ["x", "x", "y", "y", "z", "z"]


def test_what_runs_counts_with_what_it_may_still_use():
    waiting = [job("j", "ann", queued_at=1), job("k", "bob", queued_at=2)]
    running = [Running("ann", "", 1, NOW + 9 * HOUR)]
    assert started(look(waiting, [board("a", 2, (1, 0, 9))], running=running)) == ["k"]


def test_a_short_job_goes_before_a_large_one_that_it_does_not_delay():
    waiting = [job("large", units=2), job("short", "bob", length=30 * MINUTE, queued_at=1)]
    decision = look(waiting, [board("a", 2, (1, 0, 1))])
    assert started(decision) == ["short"]
    assert decision.outlook == {"large": Outlook(NOW + HOUR, Why("in_use"))}


def test_a_long_job_does_not_go_before_a_large_one_that_it_would_delay():
    waiting = [job("large", units=2), job("long", "bob", queued_at=1)]
    decision = look(waiting, [board("a", 2, (1, 0, 1))])
    assert started(decision) == []
    assert decision.outlook["long"] == Outlook(NOW + 3 * HOUR + MINUTE, Why("behind", others=1))


def test_nobody_is_started_to_be_sent_away_for_another_job():
    waiting = [job("large", units=2), job("long", "bob", length=9 * HOUR, queued_at=1)]
    decision = look(waiting, [board("a", 2, (1, 0, 8))])
    assert started(decision) == []


def test_who_waits_for_what_has_just_started_is_told_that_it_is_in_use():
    decision = look([job("j", queued_at=1), job("k", queued_at=2)], [board("a", 1)])
    assert decision.outlook == {"k": Outlook(NOW + 2 * HOUR + MINUTE, Why("in_use"))}


def test_jobs_that_are_alike_are_planned_together_where_there_is_room():
    waiting = [job(name, queued_at=n) for n, name in enumerate("jkl")]
    decision = look(waiting, [board("a", 2, (2, 0, 1))])
    assert [one.start for one in decision.outlook.values()] == [NOW + HOUR, NOW + HOUR, NOW + 3 * HOUR + MINUTE]


def test_a_shorter_job_starts_where_a_longer_one_does_not_fit():
    waiting = [
        job("long", preemptible=False, queued_at=1),
        job("short", preemptible=False, length=HOUR // 2, queued_at=2),
    ]
    shares = Shares()
    for depth in (0, 9):
        assert started(look(waiting, [board("a", 1, (1, 1, 4))], shares=shares, depth=depth)) == ["short"]


def test_those_far_behind_start_where_they_can_and_are_told_how_many_go_first():
    waiting = [job(f"w{n}", "ann", units=2, queued_at=n) for n in range(5)]
    waiting += [job("k", "bob", units=2, queued_at=7), job("short", "bob", length=30 * MINUTE, queued_at=8)]
    shares = Shares(users={"bob": 1e12})
    decision = look(waiting, [board("a", 2, (1, 0, 1))], shares=shares, depth=2)
    assert started(decision) == ["short"]
    assert [one.start is None for one in decision.outlook.values()] == [False, False, True, True, True, True]
    assert decision.outlook["k"] == Outlook(None, Why("behind", others=5))
    assert decision.outlook["w4"] == Outlook(None, Why("behind", own=4))


def test_a_quota_holds_over_what_runs_and_what_starts():
    waiting = [job(name, queued_at=n) for n, name in enumerate("jkl")]
    running = [Running("ann", "", 1, NOW + HOUR)]
    decision = look(waiting, [board("a", 8, (1, 0, 1))], running=running, quotas={"ann": 2})
    assert started(decision) == ["j"]
    assert decision.outlook["k"] == Outlook(NOW + HOUR, Why("quota", quota=2))
    assert decision.outlook["l"] == Outlook(NOW + 2 * HOUR + MINUTE, Why("quota", quota=2))


def test_a_quota_of_one_person_is_in_nobody_elses_way():
    waiting = [job("j", queued_at=1), job("k", queued_at=2), job("m", "bob", queued_at=3)]
    assert started(look(waiting, [board("a", 2)], quotas={"ann": 1})) == ["j", "m"]


def test_who_waits_for_a_quota_longer_than_for_room_keeps_nobody_who_is_alike_from_the_room():
    waiting = [job("j", queued_at=1), job("k", "bob", queued_at=2)]
    running = [Running("ann", "", 1, NOW + 5 * HOUR)]
    decision = look(
        waiting, [board("a", 1, (1, 0, 1))], running=running, quotas={"ann": 1}, shares=Shares(users={"bob": 1e9})
    )
    assert [one.start for one in decision.outlook.values()] == [NOW + 5 * HOUR, NOW + HOUR]


def test_a_large_job_of_a_person_is_not_starved_by_the_small_ones_behind_it():
    waiting = [
        job("large", units=2, queued_at=1),
        job("long", queued_at=2),
        job("short", queued_at=3, length=HOUR // 2),
    ]
    running = [Running("ann", "", 1, NOW + HOUR)]
    decision = look(waiting, [board("a", 8, (1, 0, 1))], running=running, quotas={"ann": 2})
    assert started(decision) == ["short"]
    assert decision.outlook["large"].start == NOW + HOUR


def test_a_quota_counts_over_all_resources():
    waiting = [job("j", queued_at=1), job("k", resource="slots", queued_at=2)]
    decision = decide(waiting, {GPU: [board("a", 1)], "slots": [board("a", 1)]}, Shares(), NOW, quotas={"ann": 1})
    assert started(decision) == ["j"]
    assert decision.outlook["k"] == Outlook(NOW + 2 * HOUR + MINUTE, Why("quota", quota=1))


@pytest.mark.parametrize(
    ("changes", "quotas", "code"),
    [
        ({"nodes": frozenset()}, {}, "gone"),
        ({"nodes": frozenset({"z"})}, {}, "gone"),
        ({"resource": "none"}, {}, "gone"),
        ({"units": 9}, {}, "too_large"),
        ({"units": 3, "workers": 4}, {}, "too_large"),
        ({"units": 3}, {"ann": 2}, "over_quota"),
    ],
)
def test_a_job_that_can_never_start_is_told_so_and_is_in_nobodys_way(changes: dict, quotas: dict, code: str):
    decision = look([job("j", **changes), job("k", "bob")], [board("a", 8)], quotas=quotas)
    assert started(decision) == ["k"]
    assert decision.outlook["j"] == Outlook(None, Why(code, quota=quotas.get("ann")))  # type: ignore[arg-type]


def test_what_the_caller_gave_is_not_changed():
    shares = Shares(users={"ann": 1.0})
    look([job("j"), job("k", units=9)], [board("a", 1)], shares=shares)
    assert shares == Shares(users={"ann": 1.0})


def test_the_queue_sees_of_a_job_what_decides():
    row = Job("j", "ann", "name", "p", GPU, 2, 3, HOUR, {}, group="red", priority=1, queued_at=5, front=True)
    shape = Shape(GPU, frozenset("a"), 2, 3, HOUR, MINUTE, preemptible=True)
    assert Waiting.of(row, ["a"]) == Waiting("j", "ann", shape, "red", 1, front=True, queued_at=5)


@pytest.mark.parametrize(
    ("outlook", "said"),
    [
        (Outlook(3, Why("in_use")), "Waits for 2 × A100: in use or booked until @3."),
        (Outlook(None, Why("in_use")), "Waits for 2 × A100: in use or booked."),
        (Outlook(3, Why("booked")), "Waits for 2 × A100 for 2 h: free now, but booked too soon; it fits from @3."),
        (Outlook(None, Why("booked")), "Waits for 2 × A100 for 2 h: free now, but booked too soon."),
        (Outlook(3, Why("inside")), "Waits for its booking, which begins @3."),
        (
            Outlook(None, Why("inside")),
            "Waits for 2 × A100 of its booking: in use, or its time there is too short by now.",
        ),
        (Outlook(3, Why("behind", 3)), "3 jobs of others go first: who used less lately has the next turn."),
        (Outlook(3, Why("behind", 1)), "1 job of others goes first: who used less lately has the next turn."),
        (
            Outlook(3, Why("behind", 1, 2)),
            "1 job of others and 2 of the same owner go first: who used less lately has the next turn.",
        ),
        (Outlook(None, Why("behind", 0, 2)), "2 jobs of the same owner go first."),
        (Outlook(None, Why("behind", 0, 1)), "1 job of the same owner goes first."),
        (
            Outlook(3, Why("quota", quota=4)),
            "The jobs of one person may take 4 units at once: it waits for others of the same owner.",
        ),
        (Outlook(None, Why("over_quota", quota=1)), "It wants 2 units; the jobs of one person may take 1 at once."),
        (Outlook(3, Why("turn")), "It could start now: the queue of the cluster decides whose turn it is."),
        (Outlook(None, Why("refused", said="no room.")), "It can't start as it is, and is tried again: no room."),
        (Outlook(None, Why("too_large")), "It wants 2 × A100: no machines here have as many."),
        (
            Outlook(None, Why("gone")),
            "No machine here fits its profile any more: cancel it, and submit it with another profile.",
        ),
    ],
)
def test_why_it_waits_is_said_in_a_sentence(outlook: Outlook, said: str):
    assert sentence(outlook, SHAPE._replace(units=2), "A100", lambda ms: f"@{ms}") == said


def test_several_workers_are_named():
    shape = SHAPE._replace(workers=4)
    words = sentence(Outlook(None, Why("in_use")), shape, "A100", str)
    assert words == "Waits for A100 for each of 4 workers: in use or booked."
