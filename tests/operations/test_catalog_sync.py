"""A changed catalog drops no booking silently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mlmp_spawner.operations import catalog_sync, history
from mlmp_spawner.operations.admission import StartOptions, admit, started
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import Changes, change, get
from mlmp_spawner.operations.check import ToCheck, lost_places
from mlmp_spawner.operations.clock import Clock
from mlmp_spawner.operations.relocating import Lost
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import HOUR, MINUTE
from tests.invariant import violations
from tests.operations.conftest import NOW, ann, ben, catalog
from tests.operations.test_clock import RememberedServers


def booked(site: Site, actor: Actor = ann, **fields: object) -> Reservation:
    return book(site, BookingRequest(**({"profile": "gpu", "duration": HOUR} | fields)), actor=actor, now=NOW)  # type: ignore[arg-type]


def changed(site: Site, **counts: int) -> tuple[Site, list[Lost]]:
    new = replace(site, catalog=catalog(**counts))
    return new, catalog_sync.sync(new, now=NOW + MINUTE)


def test_an_unchanged_catalog_changes_nothing(site: Site):
    before = history.latest(site.engine)
    assert catalog_sync.sync(site, now=NOW) == []
    assert history.latest(site.engine) == before


def test_what_has_not_begun_moves_to_where_it_fits(site: Site):
    row = booked(site, units=2, start=NOW + HOUR)
    assert row.nodes == ("gpu-b",)
    site, lost = changed(site, gpu_a=4)
    assert lost == [Lost(row.id, "ann", "moved", "gpu-b")]
    assert get(site, row.id).nodes == ("gpu-a",) and violations(site.engine) == []


async def test_what_fits_nowhere_waits_with_its_reason_and_is_promoted_later(site: Site):
    row = booked(site, units=4, start=NOW + HOUR)
    smaller, lost = changed(site, gpu_a=3, gpu_b=2)
    assert [(one.reservation, one.outcome) for one in lost] == [(row.id, "waiting")]
    waiting = get(smaller, row.id)
    assert (waiting.state(NOW), waiting.waiting_reason, waiting.allocations) == ("waiting", "capacity_lost", ())
    again, _ = changed(site, gpu_a=4, gpu_b=2)
    await Clock(lambda: again, RememberedServers()).tick(NOW + 2 * MINUTE)
    assert get(again, row.id).nodes == ("gpu-a",) and get(again, row.id).start == row.start


def test_only_as_many_go_as_no_longer_fit_the_youngest_first(site: Site):
    older = booked(site, units=2, node="gpu-a", start=NOW + HOUR)
    younger = book(site, BookingRequest("gpu", start=NOW + HOUR, duration=HOUR, units=2, node="gpu-a"), actor=ben,
                   now=NOW + 1)  # fmt: skip
    elsewhen = booked(site, units=3, node="gpu-a", start=NOW + 5 * HOUR)
    site, lost = changed(site, gpu_a=3)
    assert [one.reservation for one in lost] == [younger.id]
    assert get(site, older.id).nodes == get(site, elsewhen.id).nodes == ("gpu-a",)


def test_what_runs_on_a_unit_that_is_gone_ends_and_what_runs_elsewhere_stays(site: Site):
    first, second = booked(site, units=2, node="gpu-a"), booked(site, ben, units=2, node="gpu-a")
    for actor, row in ((ann, first), (ben, second)):
        admit(site, actor=actor, server="", options=StartOptions(), now=NOW)
        started(site, row.id, now=NOW)
    whole = catalog(gpu_a=4, gpu_b=2)
    left = (
        whole.nodes["gpu-a"]
        .accelerators[0]
        .model_copy(update={"count": 2, "unit_ids": ("GPU-gpu-a-2", "GPU-gpu-a-3")})
    )
    node = whole.nodes["gpu-a"].model_copy(update={"accelerators": (left,)})
    site = replace(site, catalog=whole.model_copy(update={"nodes": whole.nodes | {"gpu-a": node}}))
    lost = catalog_sync.sync(site, now=NOW + MINUTE)
    assert lost == [Lost(first.id, "ann", "ended", "gpu-a")]
    assert get(site, first.id).end_reason == "capacity_lost" and get(site, second.id).state(NOW + MINUTE) == "active"


def test_a_node_that_leaves_takes_no_booking_with_it(site: Site):
    rows = [booked(site, units=1, node="gpu-b", start=NOW + n * HOUR) for n in range(1, 4)]
    site, lost = changed(site, gpu_a=4)
    assert {one.reservation for one in lost} == {row.id for row in rows}
    assert all(get(site, row.id).nodes == ("gpu-a",) for row in rows)


def test_what_waits_since_its_node_left_can_be_changed_like_anything_that_has_not_begun(site: Site):
    row = booked(site, units=1, duration=3 * HOUR)
    empty, _ = changed(site)
    assert get(empty, row.id).state(NOW + MINUTE) == "waiting"
    later = change(empty, row.id, Changes(start=NOW + HOUR, units=2), actor=ann, now=NOW + 2 * MINUTE)
    assert (later.state(NOW + 2 * MINUTE), later.start, later.units) == ("waiting", NOW + HOUR, 2)
    again, _ = changed(site, gpu_a=4)
    placed = change(again, row.id, Changes(units=3), actor=ann, now=NOW + 3 * MINUTE)
    assert placed.state(NOW + 3 * MINUTE) == "booked" and placed.nodes == ("gpu-a",)


def test_the_admin_is_told_which_bookings_wait_since_they_lost_their_place(site: Site, db_url: str, tmp_path: Path):
    what = ToCheck(data=tmp_path, catalog=tmp_path, db_url=db_url)
    row = booked(site, units=4, start=NOW + HOUR)
    assert list(lost_places(what)) == []
    changed(site, gpu_a=3)
    (finding,) = lost_places(what)
    assert row.id in finding.message and "'ann'" in finding.message and not finding.wrong
