"""Jobs inside a booking of their owner: with what it has, from its start to its end, and charged to nobody."""

from __future__ import annotations

from sqlalchemy import select

from mlmp_spawner.operations.admission import StartOptions, admit, gone, started
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import cancel
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.job_queue import Waiting, sentence
from mlmp_spawner.rules.jobs import GRACE, Job
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.tables import job_usage, unit_in_use
from mlmp_spawner.units import HOUR, MINUTE
from tests.invariant import violations
from tests.operations.conftest import NOW, ann, eve
from tests.operations.jobs.queueing import Shop, submitted


def booked(site: Site, *, start: int = NOW, units: int = 2) -> Reservation:
    request = BookingRequest("gpu", start=start, duration=4 * HOUR, units=units, node="gpu-a")
    return book(site, request, actor=eve, now=NOW)


def held(site: Site) -> dict[str, str]:
    with site.engine.connect() as connection:
        return {row.unit: row.holder for row in connection.execute(select(unit_in_use))}


def said(shop: Shop, job: Job) -> str:
    """Why it waits, on a clock that strikes one at the beginning."""
    outlook = shop.queue.outlook(job.id)
    assert outlook is not None
    return sentence(outlook, Waiting.of(job, ["gpu-a"]).shape, "A100", lambda at: f"at {1 + (at - NOW) // HOUR}")


async def test_it_shares_the_units_of_the_bookings_server(site: Site):
    shop, booking = Shop(site), booked(site)
    server = admit(site, actor=eve, server="", options=StartOptions(booking.id), now=NOW)
    started(site, booking.id, now=NOW)
    job = await shop.run(inside=booking.id, units=2, length=HOUR)
    assert shop.order(job).places[0].units == server.unit_ids
    assert set(held(site).values()) == {booking.id} and shop.holding(job).parent == booking.id
    gone(site, booking.id, now=NOW + MINUTE)
    assert set(held(site)) == set(server.unit_ids), "the job still runs on them"
    shop.backend.end(shop.attempt(job).id)
    await shop.tick()
    assert shop.job(job).outcome == "succeeded" and held(site) == {}
    with site.engine.connect() as connection:
        assert connection.execute(select(job_usage)).all() == []


async def test_its_end_takes_nothing_from_the_bookings_server(site: Site):
    shop, booking = Shop(site), booked(site)
    server = admit(site, actor=eve, server="", options=StartOptions(booking.id), now=NOW)
    job = await shop.run(inside=booking.id, length=HOUR)
    shop.backend.end(shop.attempt(job).id)
    await shop.tick()
    assert shop.job(job).outcome == "succeeded" and set(held(site)) == set(server.unit_ids)


async def test_it_waits_for_the_start_of_the_booking_and_needs_no_turn(site: Site):
    shop, booking = Shop(site), booked(site, start=NOW + HOUR)
    job = submitted(site, inside=booking.id, length=HOUR)
    await shop.tick()
    assert shop.job(job).state() == "queued" and said(shop, job) == "Waits for its booking, which begins at 2."
    others = [await shop.run("ben", units=2, length=20 * HOUR, preemptible=False) for _ in range(2)]
    await shop.tick(NOW + HOUR)
    assert shop.job(job).state() == "starting" and all(shop.job(one).state() == "running" for one in others)
    assert violations(site.engine) == []


async def test_those_that_find_no_room_in_it_take_turns(site: Site):
    shop, booking = Shop(site), booked(site)
    first, second, third = [submitted(site, inside=booking.id, now=NOW + n, length=HOUR) for n in range(3)]
    await shop.tick()
    await shop.tick()
    assert [shop.job(one).state() for one in (first, second, third)] == ["running", "running", "queued"]
    assert said(shop, third).startswith("Waits for A100 of its booking: in use")
    assert shop.order(first).places[0].units != shop.order(second).places[0].units
    shop.backend.end(shop.attempt(first).id)
    await shop.tick()
    assert shop.job(third).state() == "starting"
    assert shop.order(third).places == shop.order(first).places and len(set(held(site))) == 2
    assert violations(site.engine) == []


async def test_it_ends_with_the_booking_and_is_not_queued_again(site: Site):
    shop, booking = Shop(site), booked(site)
    job = await shop.run(inside=booking.id, length=9 * HOUR, retries=5)
    assert shop.attempt(job).kill_at == booking.end and shop.attempt(job).stop_at == booking.end - GRACE
    await shop.tick(booking.end)
    assert (shop.job(job).outcome, shop.job(job).reason) == ("failed", "time_limit")


async def test_it_ends_when_the_booking_is_given_back(site: Site):
    shop, booking = Shop(site), booked(site)
    runs = await shop.run(inside=booking.id)
    waits = submitted(site, inside=booking.id, units=2)
    cancel(site, booking.id, actor=eve, now=NOW + HOUR)
    await shop.tick(NOW + HOUR)
    await shop.tick(NOW + HOUR + GRACE)
    assert (shop.job(waits).outcome, shop.job(waits).message) == (
        "failed", "The booking in which it was to run is over.",
    )  # fmt: skip
    assert shop.job(runs).outcome == "failed" and held(site) == {} and violations(site.engine) == []


async def test_who_waits_to_talk_with_a_server_ends_with_its_booking_and_does_not_start(site: Site):
    shop, booking = Shop(site), booked(site)
    for _ in range(2):  # all the rest
        book(site, BookingRequest("gpu", start=NOW, duration=6 * HOUR, units=2), actor=ann, now=NOW)
    manifest = {"name": "spark", "command": ["true"], "checkpoint": "c", "outputs": "o"}
    job, other = (submitted(site, manifest=one, units=2) for one in (manifest | {"server": booking.id}, manifest))
    await shop.tick(booking.end - 1)
    assert shop.job(job).state() == "queued"
    await shop.tick(booking.end)
    ended = shop.job(job)
    assert (ended.outcome, ended.reason, ended.attempts) == ("failed", "time_limit", ())
    assert ended.message == "The booking with whose server it was to talk is over."
    assert shop.job(other).attempts != (), "there would have been room"


async def test_who_talks_with_a_server_is_not_tried_again_after_its_booking(site: Site):
    shop, booking = Shop(site), booked(site)
    manifest = {"name": "spark", "command": ["true"], "checkpoint": "c", "outputs": "o", "server": booking.id}
    job = await shop.run(manifest=manifest, retries=3)
    shop.backend.end(shop.attempt(job).id, "exit_status", 1)
    cancel(site, booking.id, actor=eve, now=NOW + MINUTE)
    await shop.tick(NOW + 2 * MINUTE)
    assert (shop.job(job).outcome, shop.job(job).reason) == ("failed", "time_limit")
