"""What is due, and when: decided from facts and the time alone."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules.due import Continue, NoShow, Promote, Stop, Warn, due, next_due
from mlmp_spawner.rules.reservations import Allocation, Reservation, chain_end, continues
from mlmp_spawner.units import HOUR, MINUTE, SECOND

LEAD = 30 * SECOND


def booking(name: str, start: int, end: int, **facts: object) -> Reservation:
    place = Allocation(name, "gpu-1", "nvidia.com/gpu", 1, start, end)
    row = Reservation(id=name, owner="ann", profile="gpu", resource="nvidia.com/gpu", units=1, start=start, end=end)
    return replace(row, allocations=(place,), **facts)  # type: ignore[arg-type]


def kinds(now: int, *rows: Reservation) -> list[str]:
    return [type(action).__name__ for action in due(now, rows, stop_lead=LEAD)]


def test_the_stop_begins_a_lead_before_the_end():
    row = booking("a", 0, HOUR, starting_at=0, started_at=0)
    assert kinds(HOUR - LEAD - 1, row) == ["Warn"]
    assert due(HOUR - LEAD, [row], stop_lead=LEAD)[0] == Stop(row, first=True)


def test_the_lead_is_a_tenth_of_a_short_booking():
    row = booking("a", 0, MINUTE, starting_at=0, started_at=0)
    assert row.stop_at(LEAD) == MINUTE - 6 * SECOND


def test_a_stop_that_was_claimed_goes_on_until_the_server_is_gone():
    row = booking("a", 0, HOUR, starting_at=0, started_at=0, stopping_at=HOUR - LEAD)
    assert due(HOUR + MINUTE, [row], stop_lead=LEAD) == [Stop(row, first=False)]
    assert due(HOUR + MINUTE, [replace(row, stopped_at=HOUR)], stop_lead=LEAD) == []


def test_nothing_is_stopped_where_nothing_runs():
    assert kinds(HOUR - SECOND, booking("a", 0, HOUR, warned_at=HOUR - 2 * MINUTE)) == []


def test_the_owners_next_booking_carries_on_with_the_server():
    first = booking("a", 0, HOUR, starting_at=0, started_at=0)
    second = booking("b", HOUR, 2 * HOUR)
    assert kinds(HOUR - SECOND, first, second) == []
    assert due(HOUR, [first, second], stop_lead=LEAD) == [Continue(first, second)]


def test_another_profile_number_of_units_or_owner_does_not_carry_on():
    first = booking("a", 0, HOUR, starting_at=0, started_at=0)
    second = booking("b", HOUR, 2 * HOUR)
    for other in ({"profile": "cpu"}, {"units": 2}, {"owner": "ben"}, {"server": "x"}, {"cancelled_at": 1}):
        assert not continues(first, replace(second, **other))  # type: ignore[arg-type]
    assert not continues(replace(first, stopping_at=1), second)


def test_a_chain_ends_with_its_last_link():
    rows = [booking(name, at * HOUR, (at + 1) * HOUR) for at, name in enumerate("abcd")]
    assert chain_end(rows[0], rows).id == "d"
    assert chain_end(rows[0], [rows[0], rows[1], rows[3]]).id == "b"


def test_each_warning_is_given_once_and_again_after_an_extension():
    row = booking("a", 0, HOUR)
    assert kinds(50 * MINUTE - 1, row) == []
    assert kinds(50 * MINUTE, row) == ["Warn"]
    warned = replace(row, warned_at=50 * MINUTE)
    assert kinds(57 * MINUTE, warned) == []
    assert kinds(58 * MINUTE, warned) == ["Warn"]
    assert kinds(110 * MINUTE, replace(booking("a", 0, 2 * HOUR), warned_at=58 * MINUTE)) == ["Warn"]


def test_no_warning_precedes_the_start():
    assert kinds(MINUTE, booking("a", 0, 5 * MINUTE)) == []
    assert kinds(3 * MINUTE, booking("a", 0, 5 * MINUTE)) == ["Warn"]


def test_nobody_came():
    row = booking("a", 0, HOUR)
    grace = {"a": 10 * MINUTE}
    assert due(9 * MINUTE, [row], stop_lead=LEAD, no_show_grace=grace) == []
    assert due(10 * MINUTE, [row], stop_lead=LEAD, no_show_grace=grace) == [NoShow(row)]
    came = replace(row, starting_at=MINUTE, stopped_at=2 * MINUTE)
    assert due(10 * MINUTE, [came], stop_lead=LEAD, no_show_grace=grace) == []


def test_what_waits_is_tried_again():
    row = replace(booking("a", 0, HOUR), allocations=(), waiting_reason="requested")
    assert due(0, [row], stop_lead=LEAD) == [Promote(row)]
    assert due(HOUR, [row], stop_lead=LEAD) == []


@given(st.integers(0, 4 * HOUR), st.integers(SECOND, 3 * HOUR), st.integers(0, 8 * HOUR), st.booleans())
def test_nothing_becomes_due_between_now_and_the_next_due_instant(start: int, length: int, now: int, runs: bool):
    facts = {"starting_at": start, "started_at": start} if runs else {}
    row = booking("a", start, start + length, **facts)
    following = next_due(now, [row], stop_lead=LEAD) or now + 8 * HOUR
    before = {type(action) for action in due(now, [row], stop_lead=LEAD)}
    for instant in (now + (following - now) // 2, following - 1):
        assert {type(action) for action in due(instant, [row], stop_lead=LEAD)} <= before


@given(st.integers(0, 10 * HOUR))
def test_a_stopped_cancelled_or_released_booking_asks_for_nothing(now: int):
    for over in ({"cancelled_at": 0, "end_reason": "cancelled"}, {"end_reason": "released"}):
        row = booking("a", 0, HOUR, **over)
        assert not {Warn, NoShow, Promote, Stop} & {type(a) for a in due(now, [row], stop_lead=LEAD)}
