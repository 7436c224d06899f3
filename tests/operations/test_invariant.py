"""The invariant under everything at once: no write raises what is taken above what there is.

A state machine books, moves, resizes, extends, cancels, starts and stops, lets time pass and takes capacity away and
gives it back; after each step the rows are recounted by code that knows nothing of ours.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from sqlalchemy import insert, select

from mlmp_spawner.errors import MLMPError, NoCapacity
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.admission import StartOptions, WaitingForUnits, admit, started
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import Changes, cancel, change, extend, get
from mlmp_spawner.operations.clock import Clock, RunningServer
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import Catalog
from mlmp_spawner.rules.due import is_live
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import reservation, unit_in_use, users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE, from_iso, parse_duration
from tests.databases import PostgreSQL, sqlite_copy
from tests.invariant import violations
from tests.operations.conftest import GPU, NOW, catalog
from tests.operations.test_clock import RememberedServers

PEOPLE = ("ann", "ben", "eve")
# Shrinking takes minutes: `HYPOTHESIS_SHRINK=1` where a failure is to be understood.
PHASES = [p for p in Phase if p is not Phase.shrink or os.environ.get("HYPOTHESIS_SHRINK")]
ROUNDS = int(os.environ.get("PROPERTY_ROUNDS", "12"))


class Sharing(RuleBasedStateMachine):
    """Three people share two nodes with four and two units."""

    ids = Bundle("ids")
    fresh_database: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.engine = make_engine(self.fresh_database())
        with transaction(self.engine) as connection:
            connection.execute(insert(users), [{"id": n, "name": name} for n, name in enumerate(PEOPLE, 1)])
        self.now = NOW
        self.counts = {"gpu_a": 4, "gpu_b": 2}
        self.site = Site(self.engine, self.catalog(**self.counts))
        catalog_sync.sync(self.site, now=self.now)
        self.servers = RememberedServers()
        self.clock = Clock(lambda: self.site, self.servers)
        self.excess: list[str] = []

    def catalog(self, **counts: int) -> Catalog:
        return catalog(**counts)

    def tick(self) -> None:
        asyncio.run(self.clock.tick(self.now))

    def teardown(self) -> None:
        self.engine.dispose()

    @rule(
        target=ids,
        who=st.sampled_from(PEOPLE),
        start=st.integers(0, 12),
        length=st.integers(1, 8),
        units=st.integers(1, 4),
        count=st.sampled_from([1, 1, 1, 2]),
        node=st.sampled_from([None, None, "gpu-a", "gpu-b"]),
        wait=st.booleans(),
    )
    def book(self, who: str, start: int, length: int, units: int, count: int, node: str | None, wait: bool) -> str:
        request = BookingRequest("gpu", start=self.now + start * HOUR, duration=length * HOUR, units=units,
                                 node=node, node_count=1 if node else count, waitlist=wait)  # fmt: skip
        try:
            return book(self.site, request, actor=Actor(who), now=self.now).id
        except NoCapacity as refusal:
            return self.take_an_alternative(who, refusal)
        except MLMPError:
            return ""

    def take_an_alternative(self, who: str, refusal: NoCapacity) -> str:
        offered = refusal.data["alternatives"]
        if not offered:
            return ""
        fields = dict(offered[0]["request"])
        for name in {"start", "end"} & set(fields):
            fields[name] = from_iso(fields[name])
        if "duration" in fields:
            fields["duration"] = parse_duration(fields["duration"])
        # Whatever is offered fits: a refusal here would be a dead end.
        return book(self.site, BookingRequest(**fields), actor=Actor(who), now=self.now).id

    @rule(which=ids, start=st.integers(-2, 12), length=st.integers(1, 8), units=st.integers(1, 4))
    def move(self, which: str, start: int, length: int, units: int) -> None:
        begin = self.now + start * HOUR
        changes = Changes(start=begin, end=begin + length * HOUR, units=units)
        self.try_to(which, lambda row, actor: change(self.site, which, changes, actor=actor, now=self.now))

    @rule(which=ids, minutes=st.integers(1, 300))
    def extend(self, which: str, minutes: int) -> None:
        self.try_to(which, lambda row, actor: extend(
            self.site, which, duration=minutes * MINUTE, actor=actor, now=self.now))  # fmt: skip

    @rule(which=consumes(ids))
    def give_back(self, which: str) -> None:
        self.try_to(which, lambda row, actor: cancel(self.site, which, actor=actor, now=self.now))

    @rule(which=ids)
    def start(self, which: str) -> None:
        def admitted(row, actor):  # type: ignore[no-untyped-def]
            admission = admit(self.site, actor=actor, server=row.server, options=StartOptions(which), now=self.now)
            known = self.site.catalog.unit_ids(admission.node, GPU)
            assert len(admission.unit_ids) == (admission.reservation.units if known else 0)
            started(self.site, admission.reservation.id, now=self.now)
            now = get(self.site, admission.reservation.id)
            self.servers.alive[now.server_id] = RunningServer(now.server_id, now.owner, now.server)

        self.try_to(which, admitted)

    def try_to(self, which, act) -> None:  # type: ignore[no-untyped-def]
        if not which:
            return
        before = get(self.site, which)
        try:
            act(before, Actor(before.owner))
        except WaitingForUnits:
            pass
        except MLMPError:
            assert get(self.site, which) == before, "a refusal changes nothing"

    @rule(minutes=st.integers(1, 240))
    def time_passes(self, minutes: int) -> None:
        self.now += minutes * MINUTE
        self.servers.stopped.clear()
        self.tick()
        for server_id in self.servers.stopped:
            self.servers.alive.pop(server_id, None)
        self.tick()

    @rule(a=st.integers(0, 4), b=st.integers(0, 2))
    def capacity_changes(self, a: int, b: int) -> None:
        self.change_capacity(a, b)

    def change_capacity(self, a: int, b: int) -> None:
        counts = {name: count for name, count in (("gpu_a", a), ("gpu_b", b)) if count}
        before = {row: get(self.site, row) for row in self.known()}
        self.site = replace(self.site, catalog=self.catalog(**counts))
        lost = {one.reservation: one.outcome for one in catalog_sync.sync(self.site, now=self.now)}
        for row_id, old in before.items():
            new = get(self.site, row_id)
            if old.allocations and new.nodes != old.nodes:
                assert row_id in lost, "what changes is listed"
            if lost.get(row_id) == "waiting":
                assert new.waiting_reason == "capacity_lost"

    def known(self) -> list[str]:
        with self.engine.connect() as connection:
            return [row.id for row in connection.execute(select(reservation.c.id))]

    @invariant()
    def nothing_is_booked_twice(self) -> None:
        # Capacity that was lost does not rewrite what was: only what is to come counts.
        assert violations(self.engine, since=self.now) == []

    @invariant()
    def a_booking_has_a_place_or_waits(self) -> None:
        for row_id in self.known():
            row = get(self.site, row_id)
            if row.state(self.now) in ("booked", "active"):
                assert len(row.nodes) == row.node_count
                assert {a.units for a in row.allocations} == {row.units}
                for node in row.nodes:
                    parts = sorted((a.start, a.end) for a in row.allocations if a.node == node)
                    assert row.start <= parts[0][0] <= max(row.start, self.now)
                    assert parts[-1][1] == row.end
            if row.state(self.now) == "waiting":
                assert row.allocations == ()

    @invariant()
    def units_in_use_belong_to_what_may_run(self) -> None:
        with self.engine.connect() as connection:
            holders = {row.holder for row in connection.execute(select(unit_in_use))}
        assert all(is_live(get(self.site, holder)) for holder in holders)


def run(machine: type[Sharing], rounds: int = ROUNDS) -> None:
    quick = settings(
        max_examples=rounds,
        stateful_step_count=30,
        deadline=None,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=quick)


@contextmanager
def machine_on(backend: str, request: pytest.FixtureRequest, base: type[Sharing]) -> Iterator[type[Sharing]]:
    """The machine with a fresh database for each of its runs."""
    made: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        if backend == "sqlite":
            template: Path = request.getfixturevalue("sqlite_file")

            def fresh(_: Sharing) -> str:
                made.append("")
                return sqlite_copy(template, Path(folder) / f"{len(made)}.sqlite")

        else:
            server: PostgreSQL = request.getfixturevalue("postgresql")

            def fresh(_: Sharing) -> str:
                made.append(server.create())
                return made[-1]

        yield type("SharingOn", (base,), {"fresh_database": fresh})
        if backend == "postgresql":
            for url in made:
                server.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def machine(request: pytest.FixtureRequest) -> Iterator[type[Sharing]]:
    with machine_on(request.param, request, Sharing) as made:
        yield made


def test_no_write_raises_what_is_taken_above_what_there_is(machine: type[Sharing]):
    run(machine)


@pytest.mark.faults
def test_no_write_raises_what_is_taken_above_what_there_is_for_long(machine: type[Sharing]):
    run(machine, rounds=4 * ROUNDS)
