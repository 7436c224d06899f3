"""What is due, and when: decided from facts and the time alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules.due import (
    Announce,
    Continue,
    IdleRelease,
    IdleWarn,
    NoShow,
    Offer,
    Stop,
    due,
    next_due,
)
from mlmp_spawner.rules.reservations import Allocation, Reservation, chain_end, continues
from mlmp_spawner.units import HOUR, MINUTE, SECOND

LEAD = 30 * SECOND


@dataclass(frozen=True)
class House:
    """The times of a house, in ms; what a test does not ask about never happens."""

    stop_lead: int = LEAD
    warn_before: tuple[int, ...] = (10 * MINUTE, 2 * MINUTE)
    announce_before: int | None = None
    offer_before: int | None = None
    idle_after: int | None = None
    idle_release: int | None = None


HOUSE = House()
LIVELY = House(announce_before=15 * MINUTE, offer_before=30 * MINUTE, idle_after=HOUR, idle_release=10 * MINUTE)


def booking(name: str, start: int, end: int, **facts: object) -> Reservation:
    place = Allocation(name, "gpu-1", "nvidia.com/gpu", 1, start, end)
    row = Reservation(id=name, owner="ann", profile="gpu", resource="nvidia.com/gpu", units=1, start=start, end=end)
    return replace(row, allocations=(place,), **facts)  # type: ignore[arg-type]


def kinds(now: int, *rows: Reservation, house: House = HOUSE) -> list[str]:
    return [type(action).__name__ for action in due(now, rows, house)]


def test_the_stop_begins_a_lead_before_the_end():
    row = booking("a", 0, HOUR, starting_at=0, started_at=0)
    assert kinds(HOUR - LEAD - 1, row) == ["Warn"]
    assert due(HOUR - LEAD, [row], HOUSE)[0] == Stop(row, first=True)


def test_the_lead_is_a_tenth_of_a_short_booking():
    row = booking("a", 0, MINUTE, starting_at=0, started_at=0)
    assert row.stop_at(LEAD) == MINUTE - 6 * SECOND


def test_a_stop_that_was_claimed_goes_on_until_the_server_is_gone():
    row = booking("a", 0, HOUR, starting_at=0, started_at=0, stopping_at=HOUR - LEAD)
    assert due(HOUR + MINUTE, [row], HOUSE) == [Stop(row, first=False)]
    assert due(HOUR + MINUTE, [replace(row, stopped_at=HOUR)], HOUSE) == []


def test_nothing_is_stopped_where_nothing_runs():
    assert kinds(HOUR - SECOND, booking("a", 0, HOUR, warned_at=HOUR - 2 * MINUTE)) == []


def test_the_owners_next_booking_carries_on_with_the_server():
    first = booking("a", 0, HOUR, starting_at=0, started_at=0)
    second = booking("b", HOUR, 2 * HOUR)
    assert kinds(HOUR - SECOND, first, second) == []
    assert due(HOUR, [first, second], HOUSE) == [Continue(first, second)]


def test_another_profile_image_number_of_units_or_owner_does_not_carry_on():
    first = booking("a", 0, HOUR, starting_at=0, started_at=0)
    second = booking("b", HOUR, 2 * HOUR)
    for other in ({"profile": "cpu"}, {"units": 2}, {"owner": "ben"}, {"server": "x"}, {"image": "lab"},
                  {"cancelled_at": 1}):  # fmt: skip
        assert not continues(first, replace(second, **other))  # type: ignore[arg-type]
    assert not continues(replace(first, stopping_at=1), second)


def test_a_booking_that_wishes_for_no_image_carries_on_with_any():
    first, second = booking("a", 0, HOUR, image="lab"), booking("b", HOUR, 2 * HOUR)
    assert continues(first, second)
    assert continues(first, replace(second, image="lab"))


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
    row = booking("a", 0, HOUR, no_show_grace=10 * MINUTE)
    assert due(10 * MINUTE - 1, [row], HOUSE) == []
    assert due(10 * MINUTE, [row], HOUSE) == [NoShow(row)]
    came = replace(row, starting_at=MINUTE, stopped_at=2 * MINUTE)
    assert due(10 * MINUTE, [came], HOUSE) == []
    assert due(10 * MINUTE, [replace(row, no_show_grace=None)], HOUSE) == [], "without a grace it is kept"


def test_a_start_is_announced_once_and_only_to_who_booked_earlier_than_that():
    row = booking("a", HOUR, 2 * HOUR)
    assert due(45 * MINUTE - 1, [row], LIVELY) == []
    assert due(45 * MINUTE, [row], LIVELY) == [Announce(row)]
    assert due(50 * MINUTE, [replace(row, announced_at=45 * MINUTE)], LIVELY) == []
    assert due(50 * MINUTE, [replace(row, created_at=45 * MINUTE + 1)], LIVELY) == []
    assert due(HOUR, [row], LIVELY) == [], "what has begun is not announced"
    assert due(50 * MINUTE, [row], House()) == []


def test_what_carries_on_with_a_running_server_is_not_announced():
    first = booking("a", 0, HOUR, starting_at=0, started_at=0)
    second = booking("b", HOUR, 2 * HOUR)
    assert Announce(second) not in due(50 * MINUTE, [first, second], LIVELY)
    assert Announce(second) in due(50 * MINUTE, [replace(first, stopped_at=1), second], LIVELY)


def test_more_time_is_offered_once_before_the_end_and_not_in_the_first_half():
    row = booking("a", 0, 2 * HOUR, starting_at=0, started_at=0)
    assert due(90 * MINUTE - 1, [row], LIVELY) == []
    assert due(90 * MINUTE, [row], LIVELY) == [Offer(row)]
    assert due(95 * MINUTE, [replace(row, offered_at=90 * MINUTE)], LIVELY) == []
    short = booking("a", 0, 20 * MINUTE)
    assert due(10 * MINUTE - 1, [short], LIVELY) == []
    assert Offer(short) in due(10 * MINUTE, [short], LIVELY)


def test_nothing_is_offered_to_who_goes_on_anyhow_or_is_being_stopped():
    row = booking("a", 0, 2 * HOUR, starting_at=0, started_at=0)
    assert Offer(row) not in due(100 * MINUTE, [row, booking("b", 2 * HOUR, 3 * HOUR)], LIVELY)
    stopping = replace(row, stopping_at=119 * MINUTE)
    assert Offer(stopping) not in due(119 * MINUTE, [stopping], LIVELY)


def test_an_idle_server_is_named_then_its_booking_given_back():
    row = booking("a", 0, 9 * HOUR, starting_at=0, started_at=0, idle_since=HOUR)
    assert due(2 * HOUR - 1, [row], LIVELY) == []
    assert due(2 * HOUR, [row], LIVELY) == [IdleWarn(row)]
    warned = replace(row, idle_warned_at=2 * HOUR)
    assert due(2 * HOUR + 10 * MINUTE - 1, [warned], LIVELY) == []
    assert due(2 * HOUR + 10 * MINUTE, [warned], LIVELY) == [IdleRelease(warned)]


def test_use_in_between_and_a_house_that_does_not_ask_keep_an_idle_booking():
    warned = booking("a", 0, 9 * HOUR, starting_at=0, started_at=0, idle_since=HOUR, idle_warned_at=2 * HOUR)
    assert due(5 * HOUR, [replace(warned, idle_since=None, idle_warned_at=None)], LIVELY) == []
    assert due(5 * HOUR, [warned], replace(LIVELY, idle_release=None)) == []
    assert due(5 * HOUR, [replace(warned, idle_warned_at=None)], replace(LIVELY, idle_after=None)) == []


def test_a_booking_without_a_server_is_not_idle_but_a_no_show():
    row = booking("a", 0, 9 * HOUR, idle_since=0, idle_warned_at=HOUR)
    assert due(5 * HOUR, [row], LIVELY) == []
    assert due(5 * HOUR, [replace(row, starting_at=0, stopped_at=1)], LIVELY) == []


def test_what_waits_asks_the_clock_for_nothing():
    row = replace(booking("a", 0, HOUR), allocations=(), waiting_reason="requested", no_show_grace=0)
    for now in (0, 30 * MINUTE, HOUR):
        assert due(now, [row], LIVELY) == []


OFTEN = st.none() | st.integers(0, 10 * HOUR)


@given(
    st.integers(0, 4 * HOUR),
    st.integers(SECOND, 3 * HOUR),
    st.integers(0, 8 * HOUR),
    st.fixed_dictionaries(
        {"starting_at": OFTEN, "idle_since": OFTEN, "idle_warned_at": OFTEN, "no_show_grace": OFTEN}
    ),
)
def test_nothing_becomes_due_between_now_and_the_next_due_instant(
    start: int, length: int, now: int, facts: dict[str, int | None]
):
    row = booking("a", start, start + length, **facts)
    following = next_due(now, [row], LIVELY) or now + 8 * HOUR
    before = {type(action) for action in due(now, [row], LIVELY)}
    for instant in (now + (following - now) // 2, following - 1):
        assert {type(action) for action in due(instant, [row], LIVELY)} <= before


@given(st.integers(0, 10 * HOUR))
def test_a_stopped_cancelled_or_released_booking_asks_for_nothing(now: int):
    for over in ({"cancelled_at": 0, "end_reason": "cancelled"}, {"end_reason": "released"}):
        row = booking("a", 0, HOUR, idle_since=0, idle_warned_at=0, no_show_grace=0, **over)
        assert due(now, [row], LIVELY) == []
