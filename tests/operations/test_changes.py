"""Move, resize, extend and give back, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlmp_spawner.errors import Changed, Invalid, NoCapacity, NotAllowed, NotFound, NotNow, OverLimit, TooLate
from mlmp_spawner.operations import admission, history
from mlmp_spawner.operations.admission import StartOptions
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import Changes, cancel, change, extend, get
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import LimitRules, Limits
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import HOUR, MINUTE, from_iso
from tests.invariant import violations
from tests.operations.conftest import NOW, admin, ann, ben


def booked(site: Site, actor: Actor = ann, **fields: object) -> Reservation:
    return book(site, BookingRequest(**({"profile": "gpu", "duration": HOUR} | fields)), actor=actor, now=NOW)  # type: ignore[arg-type]


def test_a_booking_moves_in_time_and_keeps_its_length(site: Site):
    row = booked(site, start=NOW + HOUR)
    moved = change(site, row.id, Changes(start=NOW + 3 * HOUR), actor=ann, now=NOW)
    assert (moved.start, moved.end) == (NOW + 3 * HOUR, NOW + 4 * HOUR)
    assert [(a.start, a.end) for a in moved.allocations] == [(moved.start, moved.end)]


def test_a_move_overlapping_its_own_old_place_fits(site: Site):
    row = booked(site, start=NOW + HOUR, units=4)
    assert change(site, row.id, Changes(start=NOW + HOUR + MINUTE), actor=ann, now=NOW).nodes == ("gpu-a",)


def test_a_booking_that_grows_where_it_is_may_move_others(site: Site):
    row = booked(site, start=NOW + HOUR, duration=10 * HOUR, units=2, node="gpu-a")
    change(site, row.id, Changes(node=""), actor=ann, now=NOW)
    others = booked(site, ben, start=NOW + HOUR, duration=10 * HOUR, units=2, node="gpu-a")
    change(site, others.id, Changes(node=""), actor=ben, now=NOW)
    shorter = Changes(start=NOW + HOUR, end=NOW + 2 * HOUR, units=4)
    assert change(site, row.id, shorter, actor=ann, now=NOW).nodes == ("gpu-a",)
    assert get(site, others.id).nodes == ("gpu-b",)


def test_a_refused_move_changes_nothing(site: Site):
    row = booked(site, start=NOW + HOUR, units=4)
    booked(site, ben, start=NOW + 4 * HOUR, units=4, node="gpu-a")
    before = get(site, row.id)
    with pytest.raises(NoCapacity) as refusal:
        change(site, row.id, Changes(start=NOW + 4 * HOUR), actor=ann, now=NOW)
    assert get(site, row.id) == before
    later = next(a["request"] for a in refusal.value.data["alternatives"] if a["kind"] == "later")
    again = Changes(start=from_iso(later["start"]), end=from_iso(later["end"]))
    assert change(site, row.id, again, actor=ann, now=NOW).start == NOW + 5 * HOUR


def test_units_and_node_change_before_the_start_only(site: Site):
    row = booked(site, start=NOW + HOUR)
    bigger = change(site, row.id, Changes(units=3, node="gpu-a"), actor=ann, now=NOW)
    assert (bigger.units, bigger.nodes, bigger.pinned) == (3, ("gpu-a",), True)
    for changes in (Changes(units=1), Changes(start=NOW + 2 * HOUR), Changes(node="gpu-b")):
        with pytest.raises(NotNow):
            change(site, row.id, changes, actor=ann, now=NOW + 90 * MINUTE)
    assert change(site, row.id, Changes(title="x"), actor=ann, now=NOW + 90 * MINUTE).title == "x"


def test_a_change_by_an_outdated_view_is_refused(site: Site):
    row = booked(site, start=NOW + HOUR)
    change(site, row.id, Changes(title="one"), actor=ann, now=NOW, if_match=row.version)
    with pytest.raises(Changed):
        change(site, row.id, Changes(title="two"), actor=ann, now=NOW, if_match=row.version)
    with pytest.raises(Changed):
        cancel(site, row.id, actor=ann, now=NOW, if_match=row.version)
    assert get(site, row.id).title == "one"


def test_others_change_nothing_and_an_admin_may(site: Site):
    row = booked(site, start=NOW + HOUR)
    for act in (lambda: cancel(site, row.id, actor=ben, now=NOW),
                lambda: extend(site, row.id, duration=HOUR, actor=ben, now=NOW),
                lambda: change(site, row.id, Changes(title="mine"), actor=ben, now=NOW)):  # fmt: skip
        with pytest.raises(NotAllowed):
            act()
    with pytest.raises(NotFound):
        cancel(site, "nosuchbooking", actor=ann, now=NOW)
    assert cancel(site, row.id, actor=admin, now=NOW).end_reason == "cancelled"


def test_extending_stays_on_the_node_and_says_how_far_it_goes(site: Site):
    row = booked(site, units=4)
    booked(site, ben, start=NOW + 3 * HOUR, units=4, node="gpu-a")
    with pytest.raises(NoCapacity) as refusal:
        extend(site, row.id, duration=3 * HOUR, actor=ann, now=NOW)
    assert from_iso(refusal.value.data["longest_end"]) == NOW + 3 * HOUR
    longer = extend(site, row.id, end=NOW + 3 * HOUR, actor=ann, now=NOW)
    assert longer.end == NOW + 3 * HOUR and [a.end for a in longer.allocations] == [longer.end]
    assert violations(site.engine) == []


def test_extending_moves_what_may_move(site: Site):
    row = booked(site, units=2)
    assert row.nodes == ("gpu-b",)
    later = booked(site, ben, start=NOW + HOUR, units=2)
    assert later.nodes == ("gpu-b",)
    extend(site, row.id, duration=HOUR, actor=ann, now=NOW)
    assert get(site, later.id).nodes == ("gpu-a",)


def test_extending_is_possible_until_the_stop_begins(site: Site):
    row = booked(site)
    admission.admit(site, actor=ann, server="", options=StartOptions(), now=NOW)
    stop_at = row.stop_at(site.stop_lead)
    with pytest.raises(TooLate):
        extend(site, row.id, duration=HOUR, actor=ann, now=stop_at)
    assert extend(site, row.id, duration=HOUR, actor=ann, now=stop_at - 1).end == row.end + HOUR
    with pytest.raises(TooLate):
        extend(site, row.id, duration=HOUR, actor=ann, now=row.end + HOUR)


@pytest.mark.parametrize("wrong", [{}, {"end": NOW + HOUR}, {"end": NOW}, {"end": NOW + 3 * HOUR, "duration": HOUR}])
def test_an_extension_makes_it_longer(site: Site, wrong: dict[str, int]):
    row = booked(site)
    with pytest.raises(Invalid):
        extend(site, row.id, actor=ann, now=NOW, **wrong)


def test_limits_hold_for_extensions(site: Site):
    rules = LimitRules(everybody=Limits(max_duration=2 * HOUR, extension=HOUR))
    limited = replace(site, catalog=site.catalog.model_copy(update={"limits": rules}))
    row = booked(limited)
    with pytest.raises(OverLimit):
        extend(limited, row.id, duration=90 * MINUTE, actor=ann, now=NOW)
    extend(limited, row.id, duration=HOUR, actor=ann, now=NOW)
    with pytest.raises(OverLimit):
        extend(limited, row.id, duration=MINUTE, actor=ann, now=NOW)


def test_cancelling_frees_all_of_it_and_releasing_the_rest(site: Site):
    future, running = booked(site, start=NOW + HOUR, units=4), booked(site, ben, units=2)
    gone = cancel(site, future.id, actor=ann, now=NOW)
    assert (gone.state(NOW), gone.end_reason, gone.allocations) == ("ended", "cancelled", ())
    released = cancel(site, running.id, actor=ben, now=NOW + MINUTE)
    assert (released.end, released.end_reason) == (NOW + MINUTE, "released")
    assert [(a.start, a.end) for a in released.allocations] == [(NOW, NOW + MINUTE)]
    assert booked(site, units=2, node="gpu-b", start=NOW + MINUTE).nodes == ("gpu-b",)


def test_giving_back_again_changes_nothing(site: Site):
    row = booked(site, start=NOW + HOUR)
    first = cancel(site, row.id, actor=ann, now=NOW)
    assert cancel(site, row.id, actor=ann, now=NOW + 1) == first
    over = booked(site)
    with pytest.raises(TooLate):
        cancel(site, over.id, actor=ann, now=over.end)


def test_bookings_that_come_to_overlap_get_servers_of_their_own(site: Site):
    first, second = booked(site), booked(site, start=NOW + 2 * HOUR)
    assert first.server == second.server == ""
    extend(site, first.id, duration=90 * MINUTE, actor=ann, now=NOW)
    assert get(site, second.id).server == second.id
    third = booked(site, start=NOW + 8 * HOUR)
    assert third.server == ""
    assert change(site, third.id, Changes(start=NOW + HOUR), actor=ann, now=NOW).server == third.id


def test_the_history_says_who_did_what_when(site: Site):
    row = booked(site, start=NOW + HOUR)
    change(site, row.id, Changes(title="x"), actor=ann, now=NOW + 1)
    cancel(site, row.id, actor=admin, now=NOW + 2)
    assert [(e.at - NOW, e.actor, e.action) for e in history.of(site.engine, row.id)] == [
        (0, "ann", "booked"), (1, "ann", "changed"), (2, "root", "cancelled"),
    ]  # fmt: skip
