"""Which servers of a class are started next, and in which somebody is."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules import class_servers as rules
from mlmp_spawner.rules.class_servers import Try, Visits
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import HOUR, MINUTE, SECOND

NOW = 1_000_000_000
SEAT = Reservation("seat", "s", "gpu", "gpu", 1, NOW - 10 * MINUTE, NOW + HOUR, parent="class")

FACTS = st.sampled_from([
    {}, {"starting_at": NOW - 1}, {"starting_at": NOW - 2, "started_at": NOW - 1},
    {"starting_at": NOW - 3, "stopped_at": NOW - 1}, {"starting_at": NOW - 3, "started_at": NOW - 2,
                                                     "stopped_at": NOW - 1},
    {"end_reason": "released", "end": NOW - 1}, {"cancelled_at": NOW - 1},
])  # fmt: skip
TRIES = st.none() | st.builds(Try, st.integers(1, 9), st.integers(NOW - HOUR, NOW))


@given(st.lists(st.tuples(FACTS, TRIES, st.booleans()), max_size=12), st.integers(1, 4))
def test_never_more_are_starting_than_the_machine_bears_and_nothing_that_can_start_is_left_waiting(parts, at_once):
    seats = [replace(SEAT, id=f"seat{n}", owner=f"s{n}", **facts) for n, (facts, _, _) in enumerate(parts)]
    tried = {f"seat{n}": one for n, (_, one, _) in enumerate(parts) if one}
    asking = {f"seat{n}" for n, (_, _, asked) in enumerate(parts) if asked}
    starting = {seat.id for seat in seats if seat.server_state() == "starting"} | asking
    chosen = rules.next_starts(NOW, seats, tried, asking, at_once)
    assert len(chosen) <= max(0, at_once - len(starting))
    for seat in chosen:
        assert seat.state(NOW) == "active" and seat.started_at is None and seat.id not in starting
        assert seat.id not in tried or tried[seat.id].again_at <= NOW
    left = [seat for seat in seats if seat.state(NOW) == "active" and rules.is_to_start(seat)
            and seat.id not in starting and (seat.id not in tried or tried[seat.id].again_at <= NOW)]  # fmt: skip
    assert len(chosen) == min(len(left), max(0, at_once - len(starting)))


def test_one_that_fails_waits_longer_each_time_and_those_not_tried_come_first():
    assert [Try(n, NOW).again_at - NOW for n in (1, 2, 3, 9)] == [15 * SECOND, 30 * SECOND, MINUTE, 4 * MINUTE]
    seats = [replace(SEAT, id="a"), replace(SEAT, id="b")]
    assert [one.id for one in rules.next_starts(NOW, seats, {"a": Try(1, NOW - HOUR)}, (), 1)] == ["b"]


def test_starts_that_hang_do_not_hold_up_the_others():
    hang = [replace(SEAT, id=f"h{n}", starting_at=NOW - 2 * MINUTE) for n in range(3)]
    fresh = replace(SEAT, id="fresh", starting_at=NOW - SECOND)
    assert [one.id for one in rules.next_starts(NOW, [*hang, fresh, SEAT], {}, (), 2)] == ["seat"]
    assert rules.next_starts(NOW, [*hang, fresh, SEAT], {}, (), 1) == []


def test_nothing_is_started_shortly_before_the_end():
    assert rules.next_starts(NOW, [replace(SEAT, end=NOW + 5 * MINUTE)], {}, (), 5) == []


def test_somebody_is_there_when_more_came_through_than_the_start():
    up = replace(SEAT, starting_at=NOW - 8 * MINUTE, started_at=NOW - 7 * MINUTE)
    made = up.started_at + 30 * SECOND  # when the proxy made its way
    assert not rules.came(up, None)
    assert not rules.came(up, Visits(NOW - 6 * MINUTE, made, made))
    assert rules.came(up, Visits(NOW - 6 * MINUTE, made, made + SECOND))
    assert rules.came(up, Visits(NOW, NOW - MINUTE, NOW - MINUTE)), "seen first when somebody was there long since"
    assert not rules.came(replace(up, start=NOW), Visits(NOW - HOUR, NOW - HOUR, NOW - MINUTE)), "before the class"
    assert not rules.came(SEAT, Visits(NOW - HOUR, NOW - HOUR, NOW))


def test_it_is_said_of_nobody_that_they_are_not_there_before_it_can_be_known():
    up = replace(SEAT, starting_at=NOW - 8 * MINUTE, started_at=NOW - 7 * MINUTE)
    made = up.started_at
    assert not rules.can_tell(NOW, [up], {up.id: Visits(NOW - 30 * SECOND, made, made)})
    assert rules.can_tell(NOW, [up], {up.id: Visits(NOW - MINUTE, made, made)})
    assert rules.can_tell(NOW, [up], {}), "the proxy knows no way to it"
    assert not rules.can_tell(NOW, [replace(up, started_at=NOW - 3 * MINUTE)], {})
    assert rules.can_tell(NOW, [SEAT], {})
    assert rules.in_use(NOW, replace(SEAT, starting_at=NOW - MINUTE), None), "somebody is just starting it"
    assert not rules.in_use(NOW, SEAT, None)


def test_a_look_keeps_the_first_and_the_last():
    one = rules.seen(5, None, 3)
    assert rules.seen(9, rules.seen(7, one, 6), 4) == Visits(5, 3, 6)
