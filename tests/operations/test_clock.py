"""The clock: what is due is claimed, done and written down, and may be done twice."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import select, update

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.hub import HubClient
from mlmp_spawner.operations import history
from mlmp_spawner.operations.admission import StartOptions, admit, gone, started
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import Changes, cancel, change, extend, get
from mlmp_spawner.operations.clock import START_GRACE, Clock, RunningServer
from mlmp_spawner.operations.local_servers import LocalServers
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import LimitRules, Limits
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.tables import reservation, unit_in_use
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE
from tests.operations.conftest import NOW, ann, ben, eve


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


def write(site: Site, row: Reservation, **facts: int | None) -> Reservation:
    with transaction(site.engine) as connection:
        connection.execute(update(reservation).where(reservation.c.id == row.id).values(**facts))
    return get(site, row.id)


async def test_who_does_not_come_within_the_grace_of_the_booking_gives_it_back(site: Site):
    house = House(site)
    row = write(site, house.book(), no_show_grace=20 * MINUTE)
    await house.clock.tick(NOW + 20 * MINUTE - 1)
    assert get(site, row.id).state(NOW + 20 * MINUTE) == "active"
    await house.clock.tick(NOW + 20 * MINUTE)
    over = get(site, row.id)
    assert (over.end, over.end_reason, house.actions(row)[-1]) == (NOW + 20 * MINUTE, "no_show", "no_show")


async def test_a_start_is_announced_once_to_who_booked_early(site: Site):
    house = House(site)
    early, late = house.book(start=NOW + HOUR), house.book(ben, start=NOW + 10 * MINUTE)
    for minute in (0, 44, 45, 46, 59):
        await house.clock.tick(NOW + minute * MINUTE)
    (told,) = [e for e in history.of(site.engine, early.id) if e.action == "announced"]
    assert (told.at, told.details["start"], told.actor) == (NOW + 45 * MINUTE, early.start, "clock")
    assert "announced" not in house.actions(late)


async def test_a_booking_that_is_moved_is_announced_anew(site: Site):
    house = House(site)
    row = house.book(start=NOW + HOUR)
    await house.clock.tick(NOW + 50 * MINUTE)
    change(site, row.id, Changes(start=NOW + 5 * HOUR), actor=ann, now=NOW + 50 * MINUTE)
    await house.clock.tick(NOW + 4 * HOUR + 45 * MINUTE)
    assert house.actions(row).count("announced") == 2


async def offered(house: House, row: Reservation) -> int | None:
    await house.clock.tick(row.end - 25 * MINUTE)
    told = [e for e in history.of(house.site.engine, row.id) if e.action == "offered"]
    return told[-1].details["longest_end"] if told else None


async def test_more_time_is_offered_up_to_the_next_booking_once_and_anew_after_an_extension(site: Site):
    house = House(site)
    row = house.book(units=4)
    house.book(ben, units=4, start=row.end + 3 * HOUR)
    assert await offered(house, row) == row.end + 3 * HOUR
    await house.clock.tick(row.end - 20 * MINUTE)
    assert house.actions(row).count("offered") == 1
    longer = extend(site, row.id, duration=HOUR, actor=ann, now=row.end - 20 * MINUTE)
    assert await offered(house, longer) == row.end + 3 * HOUR
    assert house.actions(row).count("offered") == 2


async def test_nothing_is_offered_while_somebody_waits_for_the_units(site: Site):
    house = House(site)
    row = house.book(units=4)
    waiting = house.book(ben, units=4, start=row.start, duration=3 * HOUR, waitlist=True)
    assert waiting.state(NOW) == "waiting"
    assert await offered(house, row) is None
    cancel(site, waiting.id, actor=ben, now=row.end - 24 * MINUTE)
    await house.clock.tick(row.end - 23 * MINUTE)
    assert "offered" in house.actions(row), "when nobody waits any more"


async def test_who_waits_for_later_leaves_the_time_until_then(site: Site):
    house = House(site)
    row = house.book(units=4)
    house.book(ben, units=3, start=row.end + 5 * HOUR)
    waiting = house.book(eve, units=4, start=row.end + 2 * HOUR, duration=4 * HOUR, waitlist=True)
    assert waiting.state(NOW) == "waiting"
    assert await offered(house, row) == row.end + 2 * HOUR


async def test_no_more_is_offered_than_the_limits_of_the_owner_allow(site: Site):
    limited = Limits(max_duration=100 * MINUTE)
    house = House(replace(site, catalog=site.catalog.model_copy(update={"limits": LimitRules(everybody=limited)})))
    row = house.book()
    assert await offered(house, row) == row.start + 100 * MINUTE
    strict = LimitRules(everybody=Limits(extension=0))
    house = House(replace(site, catalog=site.catalog.model_copy(update={"limits": strict})))
    assert await offered(house, house.book(ben)) is None


async def test_an_idle_server_is_named_then_stopped_and_its_booking_given_back(site: Site):
    house = House(replace(site, idle_after=HOUR, idle_release=10 * MINUTE))
    house.book(duration=9 * HOUR)
    row = write(site, house.start(), idle_since=NOW + HOUR)
    await house.clock.tick(NOW + 2 * HOUR)
    (told,) = [e for e in history.of(site.engine, row.id) if e.action == "idle_warned"]
    assert told.details == {"idle_since": NOW + HOUR, "release_at": NOW + 2 * HOUR + 10 * MINUTE}
    assert house.servers.stopped == []
    at = NOW + 2 * HOUR + 10 * MINUTE
    await house.clock.tick(at)
    over = get(site, row.id)
    assert (over.end, over.end_reason, house.servers.stopped) == (at, "idle", [row.id])
    assert house.actions(row)[-2:] == ["idle", "stopping"]
    house.servers.alive.clear()
    await house.clock.tick(at + MINUTE)
    with site.engine.connect() as connection:
        assert connection.execute(select(unit_in_use)).all() == []


async def test_use_between_warning_and_release_keeps_the_booking(site: Site):
    house = House(replace(site, idle_after=HOUR, idle_release=10 * MINUTE))
    house.book(duration=9 * HOUR)
    row = write(site, house.start(), idle_since=NOW)
    await house.clock.tick(NOW + HOUR)
    write(site, row, idle_since=None, idle_warned_at=None)
    await house.clock.tick(NOW + 2 * HOUR)
    assert get(site, row.id).state(NOW + 2 * HOUR) == "active" and house.servers.stopped == []


async def test_while_nobody_looks_nobody_is_idle(site: Site):
    house = House(replace(site, idle_after=HOUR, idle_release=10 * MINUTE))
    house.book(duration=9 * HOUR)
    row = write(site, house.start(), idle_since=NOW, idle_warned_at=NOW + HOUR)
    house.clock.watched = lambda now: False  # the service was down, or its look hangs
    await house.clock.tick(NOW + 3 * HOUR)
    assert house.servers.stopped == [] and get(site, row.id).end == row.end
    house.clock.watched = lambda now: True
    await house.clock.tick(NOW + 4 * HOUR)
    assert house.servers.stopped == [row.id]


async def test_a_server_that_is_started_again_begins_anew_to_be_idle(site: Site):
    house = House(site)
    house.book(duration=9 * HOUR)
    write(site, house.start(), idle_since=NOW, idle_warned_at=NOW)
    again = house.start(now=NOW + MINUTE)
    assert (again.idle_since, again.idle_warned_at) == (None, None)


async def test_two_clocks_do_each_thing_once(site: Site):
    house = House(replace(site, idle_after=HOUR, idle_release=10 * MINUTE))
    house.book(duration=9 * HOUR)
    row = write(site, house.start(), idle_since=NOW, idle_warned_at=NOW + HOUR)
    later = house.book(ben, start=NOW + 2 * HOUR)
    others = [Clock(lambda: house.site, house.servers) for _ in range(3)]
    await asyncio.gather(*(clock.tick(NOW + 2 * HOUR - MINUTE) for clock in [house.clock, *others]))
    assert house.actions(row).count("idle") == house.actions(later).count("announced") == 1
