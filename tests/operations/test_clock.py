"""The clock: what is due is claimed, done and written down, and may be done twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.hub import HubClient
from mlmp_spawner.operations import history
from mlmp_spawner.operations.admission import StartOptions, admit, gone, started
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import cancel, extend, get
from mlmp_spawner.operations.clock import START_GRACE, Clock, RunningServer
from mlmp_spawner.operations.local_servers import LocalServers
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.tables import unit_in_use
from mlmp_spawner.units import HOUR, MINUTE
from tests.operations.conftest import NOW, ann, ben


@dataclass
class RememberedServers:
    """What runs, as the test says; what it was asked to do, for the test to see."""

    alive: dict[str, RunningServer] = field(default_factory=dict)
    deadlines: dict[str, Deadline] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)

    async def running(self) -> dict[str, RunningServer]:
        return dict(self.alive)

    async def publish(self, server_id: str, deadline: Deadline) -> bool:
        self.deadlines[server_id] = deadline
        return True

    async def stop(self, running: RunningServer, deadline: Deadline) -> None:
        self.stopped.append(running.server_id)

    async def forget(self, live: set[str]) -> None:
        self.deadlines = {key: value for key, value in self.deadlines.items() if key in live}


class House:
    """A site with a clock and servers, so that a test reads as a story."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.servers = RememberedServers()
        self.clock = Clock(lambda: site, self.servers)

    def book(self, actor: Actor = ann, **fields: object) -> Reservation:
        request = BookingRequest(**({"profile": "gpu", "duration": HOUR} | fields))  # type: ignore[arg-type]
        return book(self.site, request, actor=actor, now=NOW)

    def start(self, actor: Actor = ann, *, now: int = NOW) -> Reservation:
        row = admit(self.site, actor=actor, server="", options=StartOptions(), now=now).reservation
        started(self.site, row.id, now=now)
        self.servers.alive[row.id] = RunningServer(row.id, row.owner, row.server)
        return get(self.site, row.id)

    def actions(self, row: Reservation) -> list[str]:
        return [entry.action for entry in history.of(self.site.engine, row.id)]


async def test_a_server_is_stopped_a_lead_before_the_end_and_its_units_are_freed_when_it_is_gone(site: Site):
    house = House(site)
    house.book(units=2)
    row = house.start()
    await house.clock.tick(row.end - site.stop_lead - 1)
    assert house.servers.stopped == []
    await house.clock.tick(row.end - site.stop_lead)
    assert house.servers.stopped == [row.id] and get(site, row.id).server_state() == "stopping"
    house.servers.alive.clear()
    await house.clock.tick(row.end)
    assert get(site, row.id).server_state() == "none"
    with site.engine.connect() as connection:
        assert connection.execute(select(unit_in_use)).all() == []
    told = [action for action in house.actions(row) if action != "offered"]
    assert told == ["booked", "starting", "started", "warned", "stopping", "stopped"]


async def test_a_clock_killed_after_its_claim_stops_the_server_all_the_same(site: Site):
    house = House(site)
    house.book()
    row = house.start()
    await house.clock.tick(row.end - site.stop_lead)
    again = Clock(lambda: site, house.servers)
    await again.tick(row.end - site.stop_lead + 5)
    assert house.servers.stopped == [row.id, row.id]
    assert house.actions(row).count("stopping") == 1


async def test_a_server_stopped_past_the_hub_does_not_keep_its_units(site: Site):
    house = House(site)
    house.book()
    row = house.start()
    house.servers.alive.clear()
    await house.clock.tick(NOW + MINUTE)
    assert get(site, row.id).server_state() == "none" and get(site, row.id).state(NOW + MINUTE) == "active"


async def test_a_start_gets_time_until_its_process_is_seen(site: Site):
    house = House(site)
    house.book()
    row = admit(site, actor=ann, server="", options=StartOptions(), now=NOW).reservation
    await house.clock.tick(NOW + START_GRACE)
    assert get(site, row.id).server_state() == "starting"
    await house.clock.tick(NOW + START_GRACE + 1)
    assert get(site, row.id).server_state() == "none"


async def test_ones_own_next_booking_takes_over_without_a_restart(site: Site):
    house = House(site)
    house.book(units=2)
    first = house.start()
    second = house.book(units=2, start=first.end)
    await house.clock.tick(first.end - 1)
    assert house.servers.stopped == [] and house.servers.deadlines[first.id].end == second.end
    await house.clock.tick(first.end)
    now_second = get(site, second.id)
    assert now_second.server_state() == "running" and now_second.server_id == first.id
    with site.engine.connect() as connection:
        assert {r.holder for r in connection.execute(select(unit_in_use))} == {second.id}
    await house.clock.tick(second.end - site.stop_lead)
    assert house.servers.stopped == [first.id]
    house.servers.alive.clear()
    gone(site, first.id, now=second.end - 1)
    assert get(site, second.id).server_state() == "none"


async def test_an_extension_is_published_before_it_is_answered(site: Site):
    house = House(site)
    house.book()
    row = house.start()
    await house.clock.published(extend(site, row.id, duration=HOUR, actor=ann, now=NOW))
    assert house.servers.deadlines[row.id].end == row.end + HOUR
    await house.clock.tick(row.end)
    assert house.servers.stopped == []


async def test_a_deadline_that_was_not_published_in_time_is_made_good(site: Site):
    house = House(site)
    house.book()
    row = house.start()
    extend(site, row.id, duration=HOUR, actor=ann, now=NOW)
    await house.clock.tick(NOW + 5)
    assert house.servers.deadlines[row.id].end == row.end + HOUR


async def test_releasing_stops_the_server(site: Site):
    house = House(site)
    house.book()
    row = house.start()
    await house.clock.published(cancel(site, row.id, actor=ann, now=NOW + MINUTE))
    assert house.servers.deadlines[row.id].stop_at == NOW + MINUTE
    await house.clock.tick(NOW + MINUTE)
    assert house.servers.stopped == [row.id]


async def test_the_owner_is_warned_twice(site: Site):
    house = House(site)
    row = house.book()
    for now in range(NOW, row.end, MINUTE):
        await house.clock.tick(now)
    assert house.actions(row).count("warned") == 2


async def test_what_runs_without_any_booking_is_stopped(site: Site):
    house = House(site)
    house.servers.alive["stray1234567"] = RunningServer("stray1234567", "ann", "")
    await house.clock.tick(NOW)
    assert house.servers.stopped == ["stray1234567"]


async def test_whoever_waits_longest_is_promoted_first(site: Site):
    house = House(site)
    taken = house.book(units=4)
    first, second = (house.book(ben, units=4, waitlist=True) for _ in range(2))
    await house.clock.tick(NOW + 1)
    assert get(site, first.id).state(NOW + 1) == "waiting"
    cancel(site, taken.id, actor=ann, now=NOW + 2)
    await house.clock.tick(NOW + 3)
    promoted = get(site, first.id)
    assert promoted.state(NOW + 3) == "active" and promoted.nodes == ("gpu-a",) and promoted.start == NOW + 3
    assert get(site, second.id).state(NOW + 3) == "waiting"


async def test_it_comes_again_when_the_next_thing_is_due(site: Site):
    house = House(site)
    house.book()
    row = house.start()
    stop_at = row.end - site.stop_lead
    assert await house.clock.tick(stop_at - 100) == stop_at
    assert await house.clock.tick(NOW) == NOW + house.clock.interval


async def test_an_extension_that_the_enforcer_could_not_know_in_time_says_so(site: Site, tmp_path: Path):
    (tmp_path / "deadlines").mkdir()
    hub = HubClient("http://127.0.0.1:9/hub/api", "nobody")
    servers = LocalServers(tmp_path, hub)
    late, early = units.now() - MINUTE, units.now() + MINUTE
    assert await servers.publish("one", Deadline(late, late + 10))
    assert not await servers.publish("one", Deadline(early, early + 10))
    assert await servers.publish("one", Deadline(early + 1, early + 10))
    await hub.close()
