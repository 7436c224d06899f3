"""What the timeline shows: bookings in rows, others' and one's own, what waits, what is free."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import insert

from mlmp_spawner.errors import Invalid
from mlmp_spawner.operations import booking, catalog_sync, changes, timeline
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.operations.timeline import Timeline
from mlmp_spawner.rules.catalog import Accelerator, Profile
from mlmp_spawner.rules.reservations import Interval, Reservation, free_steps
from mlmp_spawner.store import tables
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, HOUR
from tests.operations.conftest import NOW, ann, ben, catalog

TODAY = Interval(NOW, NOW + DAY)


def book(site: Site, who: Actor, start: float, hours: float, units: int = 1, node: str | None = None, *,
         waitlist: bool = False) -> Reservation:  # fmt: skip
    begin = NOW + round(start * HOUR)
    request = BookingRequest(
        "gpu", start=begin, end=begin + round(hours * HOUR), units=units, node=node, waitlist=waitlist
    )
    return booking.book(site, request, actor=who, now=NOW)


def shown(site: Site, window: Interval = TODAY, **more: object) -> Timeline:
    profiles: list[Profile] = list(site.catalog.profiles.values())
    return timeline.timeline(site, window, viewer="ann", profiles=profiles, **more)  # type: ignore[arg-type]


def test_every_booking_has_as_many_rows_as_units(site: Site):
    first = book(site, ann, 0, 2, 2, "gpu-a")
    second = book(site, ben, 1, 2, 2, "gpu-a")
    found = shown(site)
    assert {bar.booking.id: (bar.node, bar.rows) for bar in found.bars} == {
        first.id: ("gpu-a", (0, 1)),
        second.id: ("gpu-a", (2, 3)),
    }
    assert [(group.node, group.capacity, group.rows) for group in found.groups] == [("gpu-a", 4, 4), ("gpu-b", 2, 2)]


def test_a_booking_on_several_nodes_is_a_bar_on_each(site: Site):
    request = BookingRequest("gpu", start=NOW, end=NOW + HOUR, units=2, node_count=2)
    made = booking.book(site, request, actor=ann, now=NOW)
    assert {(bar.key, bar.node) for bar in shown(site).bars} == {
        (f"{made.id}.gpu-a", "gpu-a"),
        (f"{made.id}.gpu-b", "gpu-b"),
    }


def test_what_is_longer_than_one_row_of_the_database_is_one_bar(site: Site):
    made = book(site, ann, 0, 35 * 24)
    (bar,) = shown(site, Interval(NOW + 20 * DAY, NOW + 40 * DAY)).bars
    assert (bar.start, bar.end) == (made.start, made.end)


def test_only_what_overlaps_the_window_is_shown_and_what_was_cancelled_is_not(site: Site):
    book(site, ann, -0.0, 2)
    late = book(site, ann, 30, 2)
    gone = book(site, ann, 4, 2)
    changes.cancel(site, gone.id, actor=ann, now=NOW)
    assert late.id not in {bar.booking.id for bar in shown(site).bars}
    assert len(shown(site).bars) == 1
    assert not shown(site, Interval(NOW + 2 * HOUR, NOW + 3 * HOUR)).bars


def test_what_waits_is_shown_to_its_owner_alone(site: Site):
    book(site, ben, 0, 4, 4, "gpu-a")
    mine = book(site, ann, 1, 2, 4, waitlist=True)
    book(site, ben, 1, 2, 4, waitlist=True)
    (bar,) = shown(site).waiting
    assert (bar.booking.id, bar.node, bar.rows) == (mine.id, None, ())


def test_the_totals_say_how_many_are_free_when(site: Site):
    book(site, ann, 0, 2, 3, "gpu-a")
    book(site, ben, 1, 2, 2, "gpu-b")
    with transaction(site.engine) as connection:
        away = {"id": "outage01", "node": "gpu-b", "start": NOW + 5 * HOUR, "end": NOW + 6 * HOUR, "reason": "disks"}
        connection.execute(insert(tables.outage), away)
    found = shown(site)
    assert found.capacity == 6
    hours = [((step.start - NOW) / HOUR, step.free) for step in found.totals]
    assert hours == [(0, 3), (1, 1), (2, 4), (3, 6), (5, 4), (6, 6)]
    assert [one.reason for group in found.groups for one in group.outages] == ["disks"]


def test_lost_capacity_leaves_rows_for_what_lies_there(site: Site):
    book(site, ann, 0, 2, 4, "gpu-a")
    smaller = replace(site, catalog=catalog(gpu_a=3, gpu_b=2))
    with transaction(site.engine) as connection:
        its = tables.capacity.c.node == "gpu-a"
        connection.execute(tables.capacity.update().where(its).values(units=3))
    (group, _) = shown(smaller).groups
    assert (group.capacity, group.rows) == (3, 4)


def test_only_some_nodes_can_be_asked_for_and_the_totals_stay_whole(site: Site):
    book(site, ann, 0, 2, 4, "gpu-a")
    book(site, ben, 0, 2, 1, "gpu-b")
    some = shown(site, only={"gpu-b"})
    assert [bar.node for bar in some.bars] == ["gpu-b"]
    assert some.totals == shown(site).totals


def test_only_what_ones_profiles_need_is_shown(site: Site):
    book(site, ben, 0, 2)
    assert timeline.timeline(site, TODAY, viewer="ann", profiles=[]).groups == ()
    large = site.catalog.profiles["gpu"].model_copy(update={"units": 3})
    found = timeline.timeline(site, TODAY, viewer="ann", profiles=[large])
    assert [group.node for group in found.groups] == ["gpu-a"]
    assert shown(site, model="H100").groups == ()
    assert timeline.models(site, [large]) == ["A100"]


def test_devices_come_before_cores_and_like_beside_like(site: Site):
    slots = Accelerator(resource="mlmp.dev/slot", model="CPU core", count=8)
    nodes = {
        name: node.model_copy(update={"accelerators": (slots, *node.accelerators)})
        for name, node in site.catalog.nodes.items()
    }
    cpu = Profile(name="cpu", title="CPU", resource="mlmp.dev/slot")
    profiles = {"cpu": cpu, **site.catalog.profiles}
    both = replace(site, catalog=site.catalog.model_copy(update={"nodes": nodes, "profiles": profiles}))
    places = [(group.model, group.node) for group in shown(both).groups]
    assert places == [("A100", "gpu-a"), ("A100", "gpu-b"), ("CPU core", "gpu-a"), ("CPU core", "gpu-b")]


def test_a_window_that_is_too_wide_is_refused(site: Site):
    with pytest.raises(Invalid, match="wider than 92 days"):
        shown(site, Interval(NOW, NOW + 93 * DAY))


def test_free_and_taken_agree_with_what_may_be_booked(site: Site):
    for start in range(0, 12, 2):
        book(site, ann if start % 4 else ben, start, 3, 1 + start % 3)
    found = shown(site)
    for group in found.groups:
        bars = [(bar.start, bar.end, bar.units) for bar in found.bars if bar.node == group.node]
        assert group.steps == free_steps(group.capacity, bars, (), TODAY)
    catalog_sync.sync(site, now=NOW)
    assert shown(site) == found
