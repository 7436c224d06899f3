"""Nobody's booking is lost, the order of the waitlist is kept, nothing is promoted into a conflict.

The machine of :mod:`tests.operations.test_invariant`, with all that gives and takes places besides: limits, no-shows,
idle servers that are given back, maintenance, drain. Who may go first is judged by code that knows nothing of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, invariant, multiple, rule
from sqlalchemy import select, text, update

from mlmp_spawner.errors import MLMPError
from mlmp_spawner.operations import history, listing, waitlist
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import get
from mlmp_spawner.operations.outages import Wanted, set_outages
from mlmp_spawner.operations.outages import get as outages_of
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor
from mlmp_spawner.rules.catalog import Catalog, LimitRules, Limits
from mlmp_spawner.rules.due import is_live
from mlmp_spawner.rules.reservations import Interval, Reservation, State
from mlmp_spawner.store.tables import allocation, reservation
from mlmp_spawner.store.tables import history as lines
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE
from tests.operations.conftest import catalog
from tests.operations.test_invariant import PEOPLE, ROUNDS, Sharing, machine_on, run

ADMIN = Actor("root", admin=True)
AT_ONCE = 5
"""Units that one person may have at once, of the six that there are."""
ENDS = {"released", "cancelled", "no_show", "idle", "capacity_lost"}
STATES: tuple[State, ...] = ("waiting", "booked", "active", "ended")


class Everything(Sharing):
    """Three people with limits, an admin who takes nodes away, and servers that do nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.site = replace(self.site, idle_after=20 * MINUTE, idle_release=10 * MINUTE)
        self.acknowledged: dict[str, Reservation] = {}

    def catalog(self, **counts: int) -> Catalog:
        everybody = Limits(units_at_once=AT_ONCE, no_show_grace=45 * MINUTE)
        return catalog(**counts).model_copy(update={"limits": LimitRules(everybody=everybody)})

    # -- what happens besides ------------------------------------------------------------------------------------

    @rule(
        target=Sharing.ids,
        asked=st.lists(
            st.tuples(st.sampled_from(PEOPLE), st.integers(0, 3), st.integers(1, 3), st.integers(1, 4)),
            min_size=2,
            max_size=6,
        ),
    )
    def crowd(self, asked: list[tuple[str, int, int, int]]) -> MultipleResults[str]:
        """Many want the same few hours, and wait if they must."""
        return multiple(*(self.book_or_wait(*one) for one in asked))

    def book_or_wait(self, who: str, start: int, length: int, units: int) -> str:
        asked = BookingRequest(
            "gpu", start=self.now + start * HOUR, duration=length * HOUR, units=units, waitlist=True
        )
        try:
            return book(self.site, asked, actor=Actor(who), now=self.now).id
        except MLMPError:  # over a limit, or there is no node
            return ""

    @rule(counts=st.sampled_from([(4, 2), (4, 2), (4, 2), (3, 2), (4, 1), (4, 0), (0, 2), (0, 0)]))
    def capacity_changes(self, counts: tuple[int, int]) -> None:
        self.change_capacity(*counts)

    @rule(
        node=st.sampled_from(["gpu-a", "gpu-b"]),
        start=st.integers(0, 8),
        length=st.integers(1, 6),
        bookings=st.sampled_from(["move", "move", "keep"]),
        more=st.booleans(),
    )
    def maintain(self, node: str, start: int, length: int, bookings: str, more: bool) -> None:
        planned = [Wanted(o.start, o.end, o.reason) for o in self.outages(node)] if more else []
        begin = self.now + start * HOUR
        self.put(node, [*planned, Wanted(begin, begin + length * HOUR, "driver")], bookings)

    @rule(node=st.sampled_from(["gpu-a", "gpu-b"]), away=st.booleans())
    def drain(self, node: str, away: bool) -> None:
        self.put(node, [Wanted(reason="fan")] if away else [], "move")

    def put(self, node: str, wanted: list[Wanted], bookings: str) -> None:
        if node not in self.site.catalog.nodes:
            return
        before = {row_id: get(self.site, row_id) for row_id in self.known()}
        options = {"actor": ADMIN, "now": self.now, "bookings": bookings}
        dry = set_outages(self.site, node, wanted, dry_run=True, **options)  # type: ignore[arg-type]
        assert {row_id: get(self.site, row_id) for row_id in before} == before, "a dry run changes nothing"
        done = set_outages(self.site, node, wanted, **options)  # type: ignore[arg-type]
        assert [(h.reservation, h.outcome) for h in done.hits] == [(h.reservation, h.outcome) for h in dry.hits]
        became = {hit.reservation.id: hit.outcome for hit in done.hits}
        for row_id, old in before.items():
            new = get(self.site, row_id)
            assert (new.owner, new.start, new.end, new.units) == (old.owner, old.start, old.end, old.units)
            if new.allocations != old.allocations:
                assert became[row_id] in ("moved", "waiting") and old.state(self.now) == "booked"
            elif row_id in became:
                assert became[row_id] == "kept"
        if bookings == "move":
            self.nothing_to_come_lies_in(node)

    def nothing_to_come_lies_in(self, node: str) -> None:
        for outage in self.outages(node):
            for row_id in self.known():
                row = get(self.site, row_id)
                there = [
                    a for a in row.allocations if a.node == node and a.start < outage.end and a.end > outage.start
                ]
                assert not there or row.start <= self.now

    def outages(self, node: str):  # type: ignore[no-untyped-def]
        return outages_of(self.site, node, now=self.now).outages if node in self.site.catalog.nodes else ()

    @rule(which=Sharing.ids, busy=st.booleans())
    def is_looked_at(self, which: str, busy: bool) -> None:
        """What whoever samples the use of servers writes."""
        if not which or not is_live(row := get(self.site, which)):
            return
        facts = {"idle_since": None, "idle_warned_at": None} if busy else {"idle_since": row.idle_since or self.now}
        with transaction(self.engine) as connection:
            connection.execute(update(reservation).where(reservation.c.id == which).values(**facts))

    # -- what is never to happen ---------------------------------------------------------------------------------

    def tick(self) -> None:
        order = list(waitlist.places(self.site, now=self.now))
        before = {row_id: get(self.site, row_id) for row_id in order}
        newest = history.latest(self.engine)
        asyncio.run(self.clock.tick(self.now))
        assert self.clock.failures == 0
        promoted = [row_id for row_id in order if get(self.site, row_id).state(self.now) != "waiting"]
        assert set(promoted) == set(self.acted("promoted", newest)), "who leaves the waitlist is told"
        for row_id in promoted:
            old, new = before[row_id], get(self.site, row_id)
            assert (new.start, new.end, new.units) == (max(old.start, self.now), old.end, old.units)
            self.has_a_server_of_its_own(new)
            assert self.at_once(new.owner, new.interval) <= AT_ONCE
        if self.acted("moved", newest):
            return  # places were exchanged: who would have fitted before can't be told from after
        for row_id in promoted:
            for earlier in order[: order.index(row_id)]:
                if earlier not in promoted:
                    assert not self.would_fit(before[earlier], instead_of=row_id), "overtaken"
        for row_id in order:
            if row_id not in promoted:
                assert not self.would_fit(before[row_id], instead_of=""), "left waiting beside free units"

    def acted(self, action: str, since: int) -> list[str]:
        with self.engine.connect() as connection:
            query = select(lines.c.reservation).where(lines.c.id > since, lines.c.action == action)
            return list(connection.execute(query).scalars())

    def has_a_server_of_its_own(self, row: Reservation) -> None:
        others = [get(self.site, row_id) for row_id in self.known()]
        assert not [
            other.id for other in others
            if other.id != row.id and other.owner == row.owner and other.server == row.server
            and other.state(self.now) in ("booked", "active") and other.interval.overlaps(row.interval)
        ]  # fmt: skip

    def at_once(self, owner: str, window: Interval, without: str = "") -> int:
        """The most units that somebody has at any moment of a window, counted moment by moment."""
        with self.engine.connect() as connection:
            rows = connection.execute(
                text('SELECT a.start, a."end", a.units FROM mlmp_allocation a JOIN mlmp_reservation r '
                     "ON r.id = a.reservation WHERE r.owner = :owner AND r.id <> :without"),
                {"owner": owner, "without": without},
            ).all()  # fmt: skip
        moments = {window.start, *(start for start, _, _ in rows if window.start <= start < window.end)}
        return max(sum(units for start, end, units in rows if start <= at < end) for at in moments)

    def would_fit(self, row: Reservation, *, instead_of: str) -> bool:
        """Whether a booking that waited would fit as things are, with another one's place free."""
        window = Interval(max(row.start, self.now), row.end)
        without = instead_of if instead_of and get(self.site, instead_of).owner == row.owner else ""
        if self.at_once(row.owner, window, without) + row.units * row.node_count > AT_ONCE:
            return False
        fitting = 0
        only = row.wanted_node if row.waiting_reason == "requested" else None
        for node, capacity in ((name, node.accelerators[0].count) for name, node in self.site.catalog.nodes.items()):
            if only not in (None, node):
                continue
            if any(o.start < window.end and o.end > window.start for o in self.outages(node)):
                continue
            with self.engine.connect() as connection:
                a = allocation.c
                rows = connection.execute(
                    select(a.start, a.end, a.units).where(a.node == node, a.reservation != instead_of)
                ).all()
            moments = {window.start, *(one.start for one in rows if window.start <= one.start < window.end)}
            most = max(sum(one.units for one in rows if one.start <= at < one.end) for at in moments)
            fitting += most + row.units <= capacity
        return fitting >= row.node_count

    @invariant()
    def no_booking_is_lost(self) -> None:
        """Each that was ever acknowledged is in one state, and what ended before its time says why."""
        known = self.known()
        assert set(self.acknowledged) <= set(known)
        listed = [row.id for state in STATES for row in self.listed(state)]
        assert sorted(listed) == sorted(known)
        for row_id in known:
            row = get(self.site, row_id)
            self.acknowledged[row_id] = row
            if row.state(self.now) == "ended" and (row.cancelled_at is not None or row.end_reason is not None):
                assert row.end_reason in ENDS | {"continued"}
                actions = [entry.action for entry in history.of(self.engine, row_id)]
                assert row.end_reason == "continued" or row.end_reason in actions

    def listed(self, state: State) -> list[Reservation]:
        found: list[Reservation] = []
        cursor: str | None = None
        while True:
            rows, cursor = listing.listing(self.site, now=self.now, state=state, limit=200, cursor=cursor)
            found += rows
            if cursor is None:
                return found

    @invariant()
    def everybodys_first_request_stands_before_anybodys_second(self) -> None:
        order = [get(self.site, row_id) for row_id in waitlist.places(self.site, now=self.now)]
        reasons = [row.waiting_reason for row in order]
        assert reasons == sorted(reasons), "capacity_lost, then requested"
        asked = [row.owner for row in order if row.waiting_reason == "requested"]
        rounds = [asked[:at].count(owner) for at, owner in enumerate(asked)]
        assert rounds == sorted(rounds)


@pytest.fixture(params=["sqlite", "postgresql"])
def machine(request: pytest.FixtureRequest) -> Iterator[type[Sharing]]:
    with machine_on(request.param, request, Everything) as made:
        yield made


def test_no_booking_is_lost_the_order_is_kept_and_nothing_is_promoted_into_a_conflict(machine: type[Sharing]):
    run(machine, rounds=max(1, ROUNDS // 3))


@pytest.mark.faults
def test_no_booking_is_lost_the_order_is_kept_and_nothing_is_promoted_into_a_conflict_for_long(machine: type[Sharing]):
    run(machine, rounds=2 * ROUNDS)  # more by PROPERTY_ROUNDS: on PostgreSQL each takes seconds
