"""Maintenance and drain: a node takes no bookings for a time, and what it has is lost by nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlmp_spawner import units
from mlmp_spawner.errors import Changed, Invalid, MLMPError, NoCapacity, NotAllowed, NotFound
from mlmp_spawner.operations import check, history
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import Changes, change, extend, get
from mlmp_spawner.operations.check import ToCheck
from mlmp_spawner.operations.clock import Clock
from mlmp_spawner.operations.outages import NO_END, Report, Wanted, set_outages
from mlmp_spawner.operations.outages import get as outages_of
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import DAY, HOUR, MINUTE
from tests.invariant import violations
from tests.operations.conftest import NOW, admin, ann, ben
from tests.operations.test_clock import RememberedServers


def booked(site: Site, actor: Actor = ann, at: int = NOW, **fields: object) -> Reservation:
    request = BookingRequest(**({"profile": "gpu", "duration": HOUR} | fields))  # type: ignore[arg-type]
    return book(site, request, actor=actor, now=at)


def away(site: Site, *wanted: Wanted, node: str = "gpu-a", now: int = NOW, **options: object) -> Report:
    return set_outages(site, node, wanted, actor=admin, now=now, **options)  # type: ignore[arg-type]


def outcomes(report: Report) -> dict[str, str]:
    return {hit.reservation.id: hit.outcome for hit in report.hits}


def actions(site: Site, row: Reservation) -> list[str]:
    return [entry.action for entry in history.of(site.engine, row.id)]


def test_nothing_is_booked_into_an_outage_and_nothing_extended_or_moved_into_it(site: Site):
    row = booked(site, units=3)
    away(site, Wanted(NOW + 2 * HOUR, NOW + 4 * HOUR, "new driver"))
    for attempt in (
        lambda: booked(site, ben, units=3, start=NOW + HOUR, duration=2 * HOUR),
        lambda: extend(site, row.id, duration=2 * HOUR, actor=ann, now=NOW),
        lambda: change(site, row.id, Changes(end=NOW + 3 * HOUR), actor=ann, now=NOW),
    ):
        with pytest.raises(MLMPError):
            attempt()
    assert booked(site, ben, units=3, start=NOW + 4 * HOUR).nodes == ("gpu-a",), "it may begin as the outage ends"


def test_what_has_not_begun_is_moved_or_waits_and_what_has_begun_goes_on_and_is_told(site: Site):
    runs = booked(site, units=1, node="gpu-a", duration=5 * HOUR)
    first = booked(site, units=2, node="gpu-a", start=NOW + HOUR)
    second = booked(site, ben, NOW + 1, units=1, node="gpu-a", start=NOW + HOUR)
    report = away(site, Wanted(NOW + 30 * MINUTE, NOW + 3 * HOUR, "new driver"), now=NOW + 1)
    assert outcomes(report) == {runs.id: "kept", first.id: "moved", second.id: "waiting"}
    assert get(site, runs.id).allocations == runs.allocations
    assert get(site, first.id).nodes == ("gpu-b",)
    waiting = get(site, second.id)
    assert (waiting.state(NOW), waiting.waiting_reason) == ("waiting", "capacity_lost")
    (told,) = [entry for entry in history.of(site.engine, runs.id) if entry.action == "maintenance"]
    assert told.details == {
        "node": "gpu-a", "start": NOW + 30 * MINUTE, "end": NOW + 3 * HOUR, "reason": "new driver"
    }  # fmt: skip
    assert violations(site.engine) == []


def test_the_older_booking_gets_the_place_that_is_left(site: Site):
    older = booked(site, units=2, node="gpu-a", start=NOW + HOUR)
    younger = booked(site, ben, NOW + 1, units=2, node="gpu-a", start=NOW + HOUR)
    report = away(site, Wanted(NOW + HOUR, NOW + 2 * HOUR), now=NOW + 1)
    assert outcomes(report) == {older.id: "moved", younger.id: "waiting"}


def test_bookings_may_be_kept_and_moved_later(site: Site):
    row = booked(site, units=2, node="gpu-a", start=NOW + HOUR)
    window = Wanted(NOW + HOUR, NOW + 2 * HOUR)
    assert outcomes(away(site, window, bookings="keep")) == {row.id: "kept"}
    assert get(site, row.id).nodes == ("gpu-a",)
    assert outcomes(away(site, window, bookings="keep")) == {row.id: "kept"}
    assert actions(site, row).count("maintenance") == 1, "told once"
    assert outcomes(away(site, window)) == {row.id: "moved"}
    assert get(site, row.id).nodes == ("gpu-b",)


def test_a_dry_run_says_the_same_and_changes_nothing(site: Site):
    booked(site, units=1, node="gpu-a", duration=5 * HOUR)
    booked(site, units=2, node="gpu-a", start=NOW + HOUR)
    booked(site, ben, NOW + 1, units=1, node="gpu-a", start=NOW + HOUR)
    before = history.latest(site.engine)
    dry = away(site, Wanted(end=NOW + 3 * HOUR), dry_run=True)
    assert outages_of(site, "gpu-a", now=NOW).outages == () and history.latest(site.engine) == before
    assert outcomes(away(site, Wanted(end=NOW + 3 * HOUR))) == outcomes(dry)


async def test_an_outage_that_is_taken_back_lets_waiting_bookings_in(site: Site):
    row = booked(site, units=4, start=NOW + HOUR)
    away(site, Wanted(NOW, NOW + 3 * HOUR))
    assert get(site, row.id).state(NOW) == "waiting"
    clock = Clock(lambda: site, RememberedServers())
    await clock.tick(NOW + 1)
    assert get(site, row.id).state(NOW) == "waiting"
    away(site, now=NOW + 2)
    await clock.tick(NOW + 3)
    again = get(site, row.id)
    assert (again.start, again.end, again.nodes) == (row.start, row.end, ("gpu-a",))


def test_a_drain_lasts_until_it_is_ended_and_what_was_of_it_stays(site: Site):
    (drained,) = away(site, Wanted(reason="broken fan")).outages
    assert (drained.start, drained.end) == (NOW, NO_END)
    with pytest.raises(MLMPError):
        booked(site, units=4, start=NOW + 300 * DAY)
    assert away(site, Wanted(NOW, None, "broken fan"), now=NOW + HOUR).outages == (drained,), "still the same one"
    assert away(site, now=NOW + 2 * HOUR).outages == ()
    (past,) = outages_of(site, "gpu-a", now=NOW).outages
    assert (past.start, past.end) == (NOW, NOW + 2 * HOUR)


def test_the_past_is_not_rewritten(site: Site):
    away(site, Wanted(NOW, NOW + HOUR))
    with pytest.raises(Invalid):
        away(site, Wanted(NOW - HOUR, NOW + HOUR), now=NOW)
    (longer,) = away(site, Wanted(NOW, NOW + 2 * HOUR), now=NOW + MINUTE).outages
    assert (longer.start, longer.end) == (NOW, NOW + 2 * HOUR)
    assert away(site, Wanted(NOW, NOW + 2 * HOUR), now=NOW + 3 * HOUR).outages == ()
    assert outages_of(site, "gpu-a", now=NOW).outages == (longer,), "what is over stays, whatever is asked for"


def test_what_is_asked_for_is_checked(site: Site):
    with pytest.raises(NotFound, match="gpu-a, gpu-b"):
        away(site, node="gpu-x")
    with pytest.raises(NotAllowed):
        set_outages(site, "gpu-a", [], actor=ann, now=NOW)
    with pytest.raises(Invalid):
        away(site, Wanted(NOW + HOUR, NOW + HOUR))
    seen = outages_of(site, "gpu-a", now=NOW).version
    away(site, Wanted(NOW, NOW + HOUR), if_match=seen)
    with pytest.raises(Changed):
        away(site, if_match=seen)


def test_the_admin_is_told_which_nodes_are_away_and_how_many_wait(db_url: str, site: Site, tmp_path: Path):
    what = ToCheck(data=tmp_path, catalog=tmp_path, db_url=db_url)
    assert list(check.away(what)) == []
    now = units.now()
    away(site, Wanted(reason="fan"), node="gpu-b", now=now)
    for _ in range(2):
        book(site, BookingRequest("gpu", duration=HOUR, units=4, waitlist=True), actor=ann, now=now)
    node, waiting = check.away(what)
    assert "'gpu-b'" in node.message and "'fan'" in node.message and not node.wrong
    assert waiting.message.startswith("1 wait")


def test_an_outage_behind_all_that_could_be_moved_is_seen_too(site: Site):
    booked(site, units=4, node="gpu-a", start=NOW + HOUR)
    away(site, Wanted(NOW, NOW + 9 * HOUR), node="gpu-b")
    movable = booked(site, ben, units=1, start=NOW + 3 * HOUR)
    assert movable.nodes == ("gpu-a",)
    away(site, Wanted(NOW + 5 * HOUR, NOW + 6 * HOUR))
    with pytest.raises(NoCapacity):
        booked(site, units=1, start=NOW + 3 * HOUR, duration=4 * HOUR)
