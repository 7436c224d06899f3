"""The fair order: who lost a place first, then everybody's first request before anybody's second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.rules.waitlist import fair_order
from mlmp_spawner.units import HOUR


def waiting(name: str, owner: str, position: int, reason: str = "requested", created_at: int = 0) -> Reservation:
    return Reservation(id=name, owner=owner, profile="gpu", resource="gpu", units=1, start=0, end=HOUR,
                       created_at=created_at, waitlist_position=position, waiting_reason=reason)  # fmt: skip


def order(*rows: Reservation) -> str:
    return "".join(row.id for row in fair_order(rows))


def test_everybodys_first_request_comes_before_anybodys_second():
    rows = [waiting(name, "ann", n) for n, name in enumerate("abc", 1)]
    assert order(*rows, waiting("x", "ben", 4), waiting("y", "ben", 5), waiting("z", "eve", 6)) == "axzbyc"


def test_within_a_round_who_has_waited_longest_comes_first():
    assert order(waiting("a", "ann", 3), waiting("b", "ben", 1), waiting("c", "eve", 2)) == "bca"


def test_who_lost_a_place_comes_before_all_who_ask_for_one_the_oldest_booking_first():
    lost = [waiting("p", "ann", 8, "capacity_lost", 20), waiting("q", "ann", 9, "capacity_lost", 10)]
    assert order(waiting("a", "ann", 1), *lost, waiting("b", "ben", 2)) == "qpab"


rows = st.lists(
    st.tuples(st.sampled_from(["ann", "ben", "eve"]), st.sampled_from(["requested", "capacity_lost"])), max_size=12
).map(lambda given: [waiting(f"{n:02}", who, n, why, n) for n, (who, why) in enumerate(given, 1)])


@given(rows, st.randoms())
def test_the_order_is_one_of_all_and_does_not_depend_on_how_they_were_read(given: list[Reservation], random):
    found = fair_order(given)
    assert sorted(row.id for row in found) == [row.id for row in given]
    random.shuffle(given)
    assert fair_order(given) == found


@given(rows)
def test_nobody_is_ever_more_than_one_request_ahead_of_who_waits_too(given: list[Reservation]):
    asked = [row for row in fair_order(given) if row.waiting_reason == "requested"]
    for upto in range(len(asked)):
        had = [row.owner for row in asked[:upto]]
        for owner in {row.owner for row in asked[upto:]}:
            assert all(had.count(other) <= had.count(owner) + 1 for other in set(had))
