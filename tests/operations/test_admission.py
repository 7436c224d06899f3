"""Admit a server: only under a booking, on units of its own."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from mlmp_spawner.errors import Conflict, Invalid, NoCapacity, NotFound, NotNow, TooLate
from mlmp_spawner.operations.admission import StartOptions, WaitingForUnits, admit, ended, gone, started
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import cancel, get
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.tables import unit_in_use
from mlmp_spawner.units import HOUR, MINUTE
from tests.operations.conftest import NOW, ann, ben, eve

NOTHING = StartOptions()


def booked(site: Site, actor: Actor = ann, **fields: object) -> Reservation:
    return book(site, BookingRequest(**({"profile": "gpu", "duration": HOUR} | fields)), actor=actor, now=NOW)  # type: ignore[arg-type]


def units_in_use(site: Site) -> dict[str, str]:
    with site.engine.connect() as connection:
        return {row.unit: row.holder for row in connection.execute(select(unit_in_use))}


def test_a_booking_starts_on_units_of_its_own(site: Site):
    mine, other = booked(site, units=2, node="gpu-a"), booked(site, ben, units=2, node="gpu-a")
    admission = admit(site, actor=ann, server="", options=StartOptions(reservation=mine.id), now=NOW)
    second = admit(site, actor=ben, server="", options=StartOptions(reservation=other.id), now=NOW)
    assert admission.unit_ids == ("GPU-gpu-a-0", "GPU-gpu-a-1") and second.unit_ids == ("GPU-gpu-a-2", "GPU-gpu-a-3")
    assert admission.reservation.server_state() == "starting"
    assert (admission.deadline.stop_at, admission.deadline.end) == (mine.end - site.stop_lead, mine.end)
    started(site, mine.id, now=NOW + 1)
    assert get(site, mine.id).server_state() == "running"


def test_starting_again_takes_the_same_units(site: Site):
    mine = booked(site, units=2, node="gpu-a")
    first = admit(site, actor=ann, server="", options=NOTHING, now=NOW)
    again = admit(site, actor=ann, server="", options=NOTHING, now=NOW + 1)
    assert again.unit_ids == first.unit_ids
    gone(site, mine.id, now=NOW + 2)
    assert units_in_use(site) == {} and get(site, mine.id).server_state() == "none"
    assert get(site, mine.id).state(NOW + 2) == "active"


def test_a_walk_up_books_from_now_and_is_cut_to_what_is_free(site: Site):
    booked(site, ben, start=NOW + 2 * HOUR, units=4, node="gpu-a")
    booked(site, ben, start=NOW + HOUR, units=2, node="gpu-b")
    options = StartOptions(profile="gpu", units=2, duration=4 * HOUR)
    admission = admit(site, actor=ann, server="", options=options, now=NOW)
    assert admission.reservation.interval.length == 2 * HOUR and admission.node == "gpu-a"


def test_a_walk_up_without_room_is_refused_with_alternatives(site: Site):
    booked(site, ben, units=4, node="gpu-a")
    with pytest.raises(NoCapacity) as refusal:
        admit(site, actor=ann, server="", options=StartOptions(profile="gpu", units=3), now=NOW)
    assert {a["kind"] for a in refusal.value.data["alternatives"]} >= {"later", "smaller"}


def test_ones_own_booking_wins_over_remembered_options(site: Site):
    mine = booked(site)
    for options in (StartOptions(profile="gpu", units=4), StartOptions(reservation="longago12345")):
        assert admit(site, actor=ann, server="", options=options, now=NOW).reservation.id == mine.id


def test_a_remembered_booking_that_is_over_is_ignored(site: Site):
    over = booked(site)
    cancel(site, over.id, actor=ann, now=NOW + MINUTE)
    with pytest.raises(TooLate):
        admit(site, actor=ann, server="", options=StartOptions(reservation=over.id), now=NOW + MINUTE)
    walk_up = StartOptions(reservation=over.id, profile="gpu")
    assert admit(site, actor=ann, server="", options=walk_up, now=NOW + MINUTE).reservation.id != over.id


def test_nobody_starts_without_a_booking_of_their_own(site: Site):
    theirs = booked(site, ben)
    with pytest.raises(NotFound):
        admit(site, actor=eve, server="", options=StartOptions(reservation=theirs.id), now=NOW)
    with pytest.raises(Invalid):
        admit(site, actor=eve, server="", options=NOTHING, now=NOW)
    assert units_in_use(site) == {}


def test_a_booking_starts_neither_before_its_time_nor_in_its_last_moments(site: Site):
    later = booked(site, start=NOW + HOUR)
    with pytest.raises(NotNow):
        admit(site, actor=ann, server="", options=StartOptions(reservation=later.id), now=NOW)
    with pytest.raises(TooLate):
        admit(site, actor=ann, server="", options=NOTHING, now=later.end - site.stop_lead)


def test_a_booking_is_for_its_own_server(site: Site):
    booked(site)
    second = booked(site)
    with pytest.raises(Conflict):
        admit(site, actor=ann, server="elsewhere", options=StartOptions(reservation=second.id), now=NOW)
    assert admit(site, actor=ann, server=second.server, options=NOTHING, now=NOW).reservation.id == second.id


def test_a_start_waits_for_the_former_server_to_be_seen_gone(site: Site):
    former = booked(site, ben, units=4)
    admit(site, actor=ben, server="", options=NOTHING, now=NOW)
    booked(site, units=4, start=former.end)
    with pytest.raises(WaitingForUnits, match="ben's server"):
        admit(site, actor=ann, server="", options=NOTHING, now=former.end)
    gone(site, former.id, now=former.end + 1)
    assert len(admit(site, actor=ann, server="", options=NOTHING, now=former.end + 2).unit_ids) == 4


def test_the_deadline_is_that_of_the_whole_chain(site: Site):
    first = booked(site)
    second = booked(site, start=first.end)
    admission = admit(site, actor=ann, server="", options=NOTHING, now=NOW)
    assert admission.deadline.end == second.end


def test_a_server_is_ended_when_no_booking_allows_it(site: Site):
    mine = booked(site)
    assert not ended(site, owner="ann", server="", now=NOW)
    assert ended(site, owner="ann", server="x", now=NOW) and ended(site, owner="ben", server="", now=NOW)
    assert ended(site, owner="ann", server="", now=mine.end)
