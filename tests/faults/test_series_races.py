"""Many people book, change and cancel series at once: each is whole or not there, and nothing is booked twice."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from mlmp_spawner.errors import Conflict, MLMPError, NoCapacity, Unavailable
from mlmp_spawner.operations import series, series_changes
from mlmp_spawner.operations.changes import Changes
from mlmp_spawner.operations.requests import BookingRequest, Recurrence
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.recurrence import local, zone_of
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import series as series_store
from mlmp_spawner.store import tables
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import HOUR
from tests.invariant import violations
from tests.operations.conftest import NOW, ann, ben, eve, site

__all__ = ["site"]

pytestmark = pytest.mark.faults

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
ZONE = "Europe/Zurich"


def request(start: int, count: int, units: int, length: int = 3 * HOUR) -> BookingRequest:
    again = Recurrence(f"FREQ=DAILY;COUNT={count}", ZONE)
    return BookingRequest(profile="gpu", start=start, duration=length, units=units, recurrence=again)


def all_of(site: Site) -> dict[str, list[Reservation]]:
    """The bookings of every series, by its id."""
    with read(site.engine) as connection:
        ids = connection.execute(select(tables.series.c.id)).scalars().all()
        return {one: series_store.bookings(connection, one) for one in ids}


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_in_a_race_each_series_is_whole_or_not_there(site: Site, seed: int) -> None:
    chance = random.Random(seed)
    booked: dict[str, int] = {}
    failures: list[BaseException] = []
    lock = threading.Lock()

    def person(actor: Actor, own: random.Random) -> Callable[[], None]:
        def work() -> None:
            for _ in range(12):
                count = own.randint(2, 10)
                asked = request(NOW + own.randint(1, 12) * HOUR, count, own.randint(1, 4))
                try:
                    first = series.book_series(site, asked, actor=actor, now=NOW)
                    with lock:
                        booked[str(first.series)] = count
                    if own.random() < 0.4:
                        wanted = Changes(start=first.start + HOUR)
                        series_changes.change(site, first.id, wanted, which="all", actor=actor, now=NOW)
                    if own.random() < 0.3:
                        series_changes.cancel(site, first.id, which="all", actor=actor, now=NOW)
                        with lock:
                            booked[str(first.series)] = 0
                except (NoCapacity, Conflict, Unavailable):
                    continue
                except BaseException as error:  # noqa: BLE001 -- whatever it is, the test is to name it
                    failures.append(error)
                    return

        return work

    threads = [threading.Thread(target=person(actor, random.Random(chance.random()))) for actor in (ann, ben, eve) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and len(booked) > 5
    assert violations(site.engine) == []
    found = all_of(site)
    for one, rows in found.items():
        alive = [row for row in rows if row.state(NOW) != "ended"]
        assert len(alive) == booked[one], one
        assert all(row.allocations for row in alive)
        assert len({f"{local(row.start, zone_of(ZONE)):%H:%M}" for row in alive}) <= 1, "moved as one or not at all"
    assert set(booked) == set(found)


def apart_from_its_place(row: Reservation) -> Reservation:
    """Who makes room for others may move what has not begun to other nodes."""
    places = tuple(sorted((replace(one, node="") for one in row.allocations), key=lambda one: one.start))
    return replace(row, allocations=places, version=0)


@settings(max_examples=40 * ROUNDS, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_occurrence_is_lost_whatever_is_done_one_after_the_other(site: Site, data: st.DataObject) -> None:
    with transaction(site.engine) as connection:
        for table in (tables.allocation, tables.reservation, tables.series, tables.history):
            connection.execute(delete(table))
    now = NOW
    for _ in range(data.draw(st.integers(1, 8))):
        now += data.draw(st.integers(0, 20)) * HOUR
        rows = [row for one in all_of(site).values() for row in one]
        before = {row.id: row for row in rows}
        what = data.draw(st.sampled_from(["book", "book", "change", "cancel"]))
        chosen = data.draw(st.sampled_from(rows)) if rows else None
        which = data.draw(st.sampled_from(["this", "following", "all"]))
        done: series_changes.Done | None = None
        added = 0
        try:
            if what == "book" or chosen is None:
                count = data.draw(st.integers(1, 8))
                start = now + data.draw(st.integers(1, 60)) * HOUR
                series.book_series(site, request(start, count, data.draw(st.integers(1, 4))), actor=ann, now=now)
                added = count
            elif what == "change":
                wanted = Changes(start=chosen.start + data.draw(st.integers(-5, 5)) * HOUR)
                done = series_changes.change(site, chosen.id, wanted, which=which, actor=ann, now=now)
            else:
                done = series_changes.cancel(site, chosen.id, which=which, actor=ann, now=now)
        except MLMPError:
            added = 0
        after = {row.id: row for one in all_of(site).values() for row in one}
        touched = set(done.touched) if done else set()
        assert len(after) == len(before) + added
        assert all(apart_from_its_place(after[one]) == apart_from_its_place(before[one])
                   for one in set(before) - touched), "what was not named stays"  # fmt: skip
        begun = {one for one in touched if before[one].start <= now} if done and which != "this" else set()
        assert not begun, "what has begun is never touched"
        assert violations(site.engine) == []
