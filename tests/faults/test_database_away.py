"""PostgreSQL is restarted, killed and away under load: nothing acknowledged is lost, all get a 503 meanwhile, no 500.

The load is bookings, changes, pages, the clock and the hub's own questions, all at once; the database is a real one
with its usual promises about what was committed.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import pytest
from sqlalchemy import insert, select

from mlmp_spawner.errors import MLMPError
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.admission import StartOptions, admit
from mlmp_spawner.operations.clock import Clock
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import reservation, users
from mlmp_spawner.store.transaction import Busy, Refused, transaction
from mlmp_spawner.units import HOUR, MINUTE, to_iso
from tests.databases import PostgreSQL, postgresql_programs
from tests.invariant import violations
from tests.operations.conftest import NOW, catalog
from tests.operations.test_clock import RememberedServers
from tests.web.harness import RunningApp

pytestmark = pytest.mark.faults

PEOPLE = ("ann", "ben", "eve", "root")
RECOVERS = 10.0
"""Seconds after the return of the database at which everything works again."""


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSQL]:
    """One that keeps what it promised, also when it is killed."""
    if postgresql_programs() is None:
        pytest.skip("no PostgreSQL here; on Debian and Ubuntu: apt-get install postgresql")
    server = PostgreSQL(durable=True)
    try:
        server.create_template()
        yield server
    finally:
        server.stop()


@pytest.fixture
def site(database: PostgreSQL) -> Iterator[Site]:
    engine = make_engine(database.create(), pool_size=10)
    with transaction(engine) as connection:
        connection.execute(insert(users), [{"id": n, "name": name} for n, name in enumerate(PEOPLE, 1)])
    made = Site(engine, catalog(gpu_a=4, gpu_b=2))
    catalog_sync.sync(made, now=NOW)
    yield made
    engine.dispose()


@dataclass
class Load:
    """Everybody at once, until the end; what they were answered."""

    app: RunningApp
    site: Site
    acknowledged: set[str] = field(default_factory=set)
    given_back: set[str] = field(default_factory=set)
    answers: Counter[int] = field(default_factory=Counter)
    bodies: list[httpx.Response] = field(default_factory=list)
    unforeseen: list[BaseException] = field(default_factory=list)
    ticks: int = 0
    last_good: dict[str, float] = field(default_factory=dict)
    end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        work: list[Callable[[], None]] = [self.look, self.tick, self.start]
        work += [lambda who=who: self.book(who) for who in ("ann", "ben", "eve")]  # type: ignore[misc]
        self.threads = [threading.Thread(target=self._guarded, args=(each,), daemon=True) for each in work]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end.set()
        for thread in self.threads:
            thread.join(60)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 -- shown at the end
            self.unforeseen.append(error)

    def book(self, who: str) -> None:
        """Books, moves and gives back, an hour each, somewhere in the next weeks."""
        chance = random.Random(who)
        with self.app.client(f"{who}-token") as client:
            while not self.end.is_set():
                start = NOW + chance.randrange(1, 600) * HOUR
                body = {"profile": "gpu", "start": to_iso(start), "duration": "1h"}
                answer = self.heard(client.post("reservations", json=body))
                if answer.status_code != 201:
                    continue
                one = answer.json()["id"]
                self.acknowledged.add(one)
                self.last_good["booking"] = time.monotonic()
                if chance.random() < 0.3:
                    self.heard(client.post(f"reservations/{one}/extend", json={"duration": "30m"}))
                if chance.random() < 0.2:
                    self.given_back.add(one)
                    self.heard(client.delete(f"reservations/{one}"))

    def look(self) -> None:
        """Looks at all that can be looked at."""
        paths = ["me", "reservations", "catalog", "availability?profile=gpu", "metrics", "health", "../../admin/audit",
                 "../../bookings", "../../book"]  # fmt: skip
        with self.app.client("admin-token") as client:
            while not self.end.is_set():
                for path in paths:
                    answer = self.heard(client.get(path))
                    if answer.status_code == 200:
                        self.last_good[path] = time.monotonic()

    def tick(self) -> None:
        """The clock, as the service runs it."""
        clock = Clock(lambda: self.site, RememberedServers())

        async def run() -> None:
            while not self.end.is_set():
                try:
                    await clock.tick(NOW + MINUTE)
                    self.ticks += 1
                    self.last_good["clock"] = time.monotonic()
                except (MLMPError, Busy, Refused):
                    await asyncio.sleep(0.1)

        asyncio.run(run())

    def start(self) -> None:
        """The hub's question, with an engine of its own: it is refused as people can read it, or answered."""
        engine = make_engine(self.site.engine.url)
        own = Site(engine, self.site.catalog)
        while not self.end.is_set():
            with suppress(MLMPError, Busy, Refused):
                admit(own, actor=Actor("root"), server="", options=StartOptions(profile="gpu"), now=NOW)
                self.last_good["start"] = time.monotonic()
            time.sleep(0.05)
        engine.dispose()

    def heard(self, answer: httpx.Response) -> httpx.Response:
        self.answers[answer.status_code] += 1
        if answer.status_code >= 500:
            self.bodies.append(answer)
        return answer


def restarted(database: PostgreSQL) -> None:
    database.stop(keep=True)
    database.start()


def killed(database: PostgreSQL) -> None:
    database.kill()
    database.start()


def away_for_a_while(database: PostgreSQL) -> None:
    database.stop(keep=True)
    time.sleep(4)
    database.start()


@pytest.mark.parametrize("fault", [restarted, killed, away_for_a_while])
def test_under_load(database: PostgreSQL, site: Site, fault: Callable[[PostgreSQL], None]) -> None:
    with RunningApp(site, NOW) as app, Load(app, site) as load:
        until(lambda: len(load.last_good) == 12 and len(load.acknowledged) > 10, load)
        for _ in range(2):
            fault(database)
            back = time.monotonic()
            until(lambda back=back: min(load.last_good.values()) > back, load)  # type: ignore[misc]
            time.sleep(0.5)  # so that there is load before the next one
    assert load.unforeseen == []
    assert 500 not in load.answers, [answer.text for answer in load.bodies if answer.status_code == 500][:3]
    refused = [answer for answer in load.bodies if answer.status_code == 503]
    assert refused, f"nobody noticed: {load.answers}"
    for answer in refused:
        if answer.request.url.path.endswith("/health"):
            assert answer.json()["database"] is False
        else:
            assert answer.headers["Retry-After"] == "2" and answer.json()["code"] == "unavailable"
    with site.engine.connect() as connection:
        kept = set(connection.execute(select(reservation.c.id)).scalars())
        whole = set(connection.execute(select(reservation.c.id).where(reservation.c.cancelled_at.is_(None))).scalars())
    assert load.acknowledged <= kept and load.acknowledged - load.given_back <= whole
    assert violations(site.engine) == []
    print(f"{fault.__name__}: {len(load.acknowledged)} bookings acknowledged and kept; answers {dict(load.answers)}")


def until(condition: Callable[[], object], load: Load) -> None:
    ends = time.monotonic() + RECOVERS
    while not condition():
        assert time.monotonic() < ends, f"not within {RECOVERS:g} s: {load.last_good}, {load.unforeseen}"
        time.sleep(0.05)
