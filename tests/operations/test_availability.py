"""What is free, and what one person is offered now."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlmp_spawner.errors import Invalid, NoCapacity, NotAllowed, OverLimit
from mlmp_spawner.operations import listing
from mlmp_spawner.operations.availability import availability, longest_end, offer
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import cancel, extend
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import LimitRules, Limits
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.units import DAY, HOUR, MINUTE
from tests.operations.conftest import NOW, ann, ben

DAY_ONE = Interval(NOW, NOW + DAY)


def with_limits(site: Site, **fields: object) -> Site:
    rules = LimitRules(everybody=Limits(**fields))  # type: ignore[arg-type]
    return replace(site, catalog=site.catalog.model_copy(update={"limits": rules}))


def booked(site: Site, actor: Actor = ann, **fields: object) -> Reservation:
    return book(site, BookingRequest(**({"profile": "gpu", "duration": HOUR} | fields)), actor=actor, now=NOW)  # type: ignore[arg-type]


def test_steps_say_how_many_units_are_free_when(site: Site):
    booked(site, units=3, node="gpu-a", start=NOW + HOUR)
    a, b = availability(site, profile="gpu", window=DAY_ONE, groups=frozenset(), now=NOW, units=2, duration=2 * HOUR)
    assert (a.node, a.capacity, b.node, b.capacity) == ("gpu-a", 4, "gpu-b", 2)
    assert [((s.start - NOW) // HOUR, s.free) for s in a.steps] == [(0, 4), (1, 1), (2, 4)]
    assert (a.first_free, b.first_free) == (NOW + 2 * HOUR, NOW)


def test_nothing_is_free_in_the_past(site: Site):
    window = Interval(NOW - DAY, NOW + DAY)
    first, *_ = availability(site, profile="gpu", window=window, groups=frozenset(), now=NOW, duration=HOUR)
    assert first.first_free == NOW


def test_wrong_names_and_wide_windows_are_refused(site: Site):
    for wrong in ({"profile": "tpu"}, {"node": "gpu-z"}, {"window": Interval(NOW, NOW + 400 * DAY)}):
        with pytest.raises(Invalid):
            availability(site, **({"profile": "gpu", "window": DAY_ONE, "groups": frozenset(), "now": NOW} | wrong))  # type: ignore[arg-type]


def test_a_profile_of_other_groups_is_not_shown(site: Site):
    closed = site.catalog.profiles["gpu"].model_copy(update={"groups": ("staff",)})
    site = replace(site, catalog=site.catalog.model_copy(update={"profiles": {"gpu": closed}}))
    assert offer(site, actor=ann, now=NOW).profiles == ()
    with pytest.raises(NotAllowed):
        availability(site, profile="gpu", window=DAY_ONE, groups=frozenset(), now=NOW)


def test_an_offer_says_what_can_be_had_now_and_until_when(site: Site):
    mine = booked(site, units=1, node="gpu-a")
    booked(site, ben, units=2, node="gpu-b", start=NOW + 5 * HOUR, duration=10 * HOUR)
    booked(site, ben, units=4, node="gpu-a", start=NOW + 6 * HOUR, duration=10 * HOUR)
    offered = offer(site, actor=ann, now=NOW)
    assert [row.id for row in offered.bookings] == [mine.id]
    (gpu,) = offered.profiles
    assert (gpu.free_now, gpu.total, gpu.largest, gpu.free_until) == (5, 6, 3, NOW + 6 * HOUR)
    assert [(c.length // HOUR, c.until_taken) for c in gpu.choices] == [(1, False), (4, False), (6, True)]


def test_where_nothing_is_free_an_offer_says_from_when(site: Site):
    booked(site, units=4, duration=3 * HOUR)
    booked(site, ben, units=2, duration=2 * HOUR)
    (gpu,) = offer(site, actor=ann, now=NOW).profiles
    assert (gpu.free_now, gpu.free_until, gpu.choices, gpu.first_free) == (0, None, (), NOW + 2 * HOUR)


@pytest.mark.parametrize(("hours", "offered"), [(9.5, [HOUR, 4 * HOUR]), (6.5, [HOUR]), (5.5, [])])
def test_only_what_breaks_no_limit_is_offered(site: Site, hours: float, offered: list[int]):
    limited = with_limits(site, hours_per_week=hours)
    book(limited, BookingRequest("gpu", start=NOW + DAY, duration=5 * HOUR), actor=ann, now=NOW)
    (found,) = offer(limited, actor=ann, now=NOW).profiles
    assert [choice.length for choice in found.choices if choice.length in (HOUR, 4 * HOUR)] == offered
    assert (found.refused is None) == bool(offered)
    if not offered:
        assert found.refused == "At most 5.5 hours in any 7 days: other bookings take 5 hours, this asks for 1 hour."
        with pytest.raises(OverLimit):
            book(limited, BookingRequest("gpu", duration=HOUR), actor=ann, now=NOW)


@given(hours=st.integers(60, 400), other=st.integers(0, 240), units=st.integers(1, 3))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_booking_can_be_extended_to_where_it_is_said_and_no_minute_further(
    site: Site, hours: int, other: int, units: int
):
    limited = with_limits(site, hours_per_week=hours / 10, units_at_once=3)
    who = Actor("ann")
    with contextlib.suppress(OverLimit):
        if other:
            book(limited, BookingRequest("gpu", start=NOW + DAY, duration=other * MINUTE), actor=who, now=NOW)
    try:
        mine = book(limited, BookingRequest("gpu", duration=HOUR, units=units), actor=who, now=NOW)
    except OverLimit:
        mine = None
    if mine is not None:
        most = longest_end(limited, mine, groups=frozenset(), now=NOW)
        if most > mine.end:
            extend(limited, mine.id, end=most, actor=who, now=NOW)
        with pytest.raises((OverLimit, NoCapacity)):
            extend(limited, mine.id, end=most + MINUTE, actor=who, now=NOW)
    for row in listing.listing(limited, now=NOW, owner="ann")[0]:
        if row.state(NOW) != "ended":
            cancel(limited, row.id, actor=who, now=NOW)
