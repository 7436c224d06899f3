"""What was used, step by step, and since when a server idles."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, select

from mlmp_spawner.activity import ServerUse, UnitUse
from mlmp_spawner.operations import sampling
from mlmp_spawner.operations.admission import StartOptions, admit, started
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import get
from mlmp_spawner.operations.claims import claim
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.sampling import STEP, Look, Sampler, thin
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.due import IdleWarn
from mlmp_spawner.store.tables import use
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE, SECOND
from tests.operations.conftest import NOW, ann

EVERY = 30 * SECOND
BEGIN = NOW - NOW % STEP + STEP


class House:
    """A running booking of two units, and looks at it."""

    def __init__(self, site: Site, *, units: int = 2) -> None:
        self.site = site
        self.sampler = Sampler(every=EVERY, idle_below=5)
        booked = book(site, BookingRequest("gpu", duration=4 * HOUR, units=units, node="gpu-a"), actor=ann, now=BEGIN)
        self.id = booked.id
        self.units = admit(site, actor=ann, server="", options=StartOptions(), now=BEGIN).unit_ids
        started(site, self.id, now=BEGIN)
        self.former: int | None = None

    def look(self, at: int, *rates: float | None, cpu: int | None = 0, memory: int = 1) -> sampling.BookingUse:
        told = {unit: UnitUse(rate) for unit, rate in zip(self.units, rates, strict=False)}
        servers = {self.id: ServerUse(None if self.former is None else cpu, memory)}
        (seen,) = self.sampler.take(self.site, Look(BEGIN + at, self.former, told, servers))
        self.former = BEGIN + at
        return seen

    def rows(self) -> list[tuple[int, int, int]]:
        """(step, watched seconds, busy seconds)."""
        with self.site.engine.connect() as connection:
            rows = connection.execute(select(use).order_by(use.c.at))
            return [((row.at - BEGIN) // STEP, row.watched // SECOND, row.busy // SECOND) for row in rows]

    @property
    def idle_since(self) -> int | None:
        since = get(self.site, self.id).idle_since
        return None if since is None else since - BEGIN


@pytest.fixture
def house(site: Site) -> House:
    return House(site)


def test_each_unit_counts_by_itself(house: House):
    house.look(0, 0, 0)
    house.look(EVERY, 90, 3)
    house.look(2 * EVERY, 90, 5.1)
    assert house.rows() == [(0, 2 * 2 * 30, 30 + 60)]


def test_a_look_is_spread_over_the_steps_that_it_reaches_over(house: House):
    house.look(STEP - 20 * SECOND, 0, 0)
    house.look(STEP + 10 * SECOND, 100, 100, cpu=3000)
    assert house.rows() == [(0, 40, 40), (1, 20, 20)]
    with house.site.engine.connect() as connection:
        assert [row.cpu for row in connection.execute(select(use).order_by(use.c.at))] == [2000, 1000]


def test_what_nobody_looked_at_is_not_counted_beyond_two_intervals(house: House):
    house.look(0, 0, 0)
    house.look(HOUR, 50, 50)
    assert sum(watched for _, watched, _ in house.rows()) == 2 * 60


def test_the_first_look_counts_nothing(house: House):
    house.look(0, 99, 99)
    assert house.rows() == []
    assert house.idle_since is None


def test_memory_is_the_most_of_a_step(house: House):
    for at, memory in ((0, 5), (EVERY, 7), (2 * EVERY, 3)):
        house.look(at, 0, 0, memory=memory)
    with house.site.engine.connect() as connection:
        assert connection.execute(select(use.c.memory)).scalar_one() == 7


def test_where_the_driver_tells_no_utilisation_cpu_time_decides(house: House):
    house.look(0, None, None)
    assert house.look(EVERY, None, None, cpu=900).busy == 0
    seen = house.look(2 * EVERY, None, None, cpu=1600)
    assert (seen.busy, seen.by_gpu, seen.cores) == (2, False, 0.053)
    assert house.look(3 * EVERY, 0, 0, cpu=30_000).busy == 0, "a GPU with a figure of its own is judged by that"


def test_idle_is_since_it_was_last_busy_and_only_when_nothing_at_all_is_done(house: House):
    house.look(0, 50, 0)
    house.look(EVERY, 0, 50)
    assert house.idle_since is None
    house.look(2 * EVERY, 0, 0)
    house.look(3 * EVERY, 0, 0)
    assert house.idle_since == EVERY
    house.look(4 * EVERY, 0, 50)
    assert house.idle_since is None


def test_a_server_that_never_did_anything_idles_since_it_was_up(site: Site):
    sampler = Sampler(every=EVERY, idle_below=5)
    sampler.take(site, Look(BEGIN - MINUTE))
    house = House(site)
    house.sampler, house.former = sampler, BEGIN - 10 * SECOND
    house.look(EVERY, 0, 0)
    assert house.idle_since == 0


def test_busy_again_takes_the_warning_back_and_no_form_that_is_open_becomes_invalid(house: House):
    house.look(0, 50, 50)
    house.look(EVERY, 0, 0)
    before = get(house.site, house.id)
    assert before.idle_since is not None
    assert claim(house.site, IdleWarn(before), BEGIN + 2 * HOUR)
    warned = get(house.site, house.id)
    house.look(2 * HOUR + EVERY, 80, 0)
    after = get(house.site, house.id)
    assert (after.idle_since, after.idle_warned_at) == (None, None)
    assert after.version == warned.version


def test_a_service_that_was_restarted_keeps_since_when_it_idles_and_accuses_nobody_anew(house: House):
    house.look(0, 50, 50)
    house.sampler, house.former = Sampler(every=EVERY, idle_below=5), None
    house.look(HOUR, 0, 0)
    assert house.idle_since is None
    house.look(HOUR + EVERY, 0, 0)
    assert house.idle_since == HOUR
    house.sampler, house.former = Sampler(every=EVERY, idle_below=5), None
    house.look(2 * HOUR, 0, 0)
    assert house.idle_since == HOUR


def test_a_server_that_is_not_seen_running_is_not_counted(house: House):
    house.look(0, 0, 0)
    assert house.sampler.take(house.site, Look(BEGIN + EVERY, BEGIN)) == []
    assert house.rows() == []


def test_nothing_is_counted_after_the_end_of_the_booking(house: House):
    house.look(4 * HOUR - 10 * SECOND, 50, 50)
    house.look(4 * HOUR + 20 * SECOND, 50, 50)
    assert sum(watched for _, watched, _ in house.rows()) == 2 * 10


def test_old_steps_become_hours_and_then_nothing(house: House):
    row = {"reservation": house.id, "node": "gpu-a", "watched": 10, "busy": 4, "cpu": 3}
    hours = BEGIN // HOUR * HOUR - 100 * DAY
    with transaction(house.site.engine) as connection:
        old = [row | {"at": hours + step * STEP, "memory": step} for step in range(30)]
        kept = [row | {"at": BEGIN - DAY + step * STEP, "memory": 1} for step in range(2)]
        older = [row | {"at": hours - 800 * DAY, "memory": 1}]
        connection.execute(insert(use), [*old, *kept, *older])
    for _ in range(2):
        thin(house.site, now=BEGIN, keep=90, forget=800)
        with house.site.engine.connect() as connection:
            found = connection.execute(select(use).order_by(use.c.at)).all()
        assert [((r.at - hours) // HOUR, r.watched, r.busy, r.cpu, r.memory) for r in found[:3]] == [
            (0, 120, 48, 36, 11),
            (1, 120, 48, 36, 23),
            (2, 60, 24, 18, 29),
        ]
        assert len(found) == 5
