"""What was booked and used, against a model that looks at every five minutes by itself."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert

from mlmp_spawner.errors import Invalid
from mlmp_spawner.operations import usage as operation
from mlmp_spawner.operations.admission import StartOptions, admit
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import cancel
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.sampling import STEP
from mlmp_spawner.operations.site import Site
from mlmp_spawner.operations.usage import Spent, share_of_last, usage
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.store.tables import allocation, capacity, outage, reservation, use
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE, from_iso
from tests.operations.conftest import GPU, NOW, ann, ben

ZURICH = ZoneInfo("Europe/Zurich")
MONDAY = from_iso("2026-10-19T00:00:00+02:00")  # the week in which clocks go back
GROUPS = {"ann": {"lab", "team"}, "ben": {"lab"}}


@dataclass(frozen=True)
class Booked:
    """A booking; times in steps from Monday. ``watched`` and ``busy``: the first so many steps of it."""

    owner: str
    node: str
    profile: str
    units: int
    start: int
    length: int
    watched: int
    busy: int


bookings = st.builds(
    Booked,
    st.sampled_from(["ann", "ben", "eve"]),
    st.sampled_from(["gpu-a", "gpu-b"]),
    st.sampled_from(["gpu", "small"]),
    st.integers(1, 4),
    st.integers(-600, 2200),
    st.integers(1, 700),
    st.integers(0, 700),
    st.integers(0, 700),
)
windows = st.tuples(st.integers(-300, 2100), st.integers(1, 2100))


def write(site: Site, rows: list[Booked]) -> None:
    with transaction(site.engine) as connection:
        connection.execute(delete(reservation))
        connection.execute(capacity.update().values(units=10_000))
        for number, row in enumerate(rows):
            name, start = f"booking{number}", MONDAY + row.start * STEP
            place = {"start": start, "end": start + row.length * STEP, "resource": GPU, "units": row.units}
            facts = {"pinned": False, "preemptible": False, "created_at": 0, "profile": row.profile}
            owner = {"owner": row.owner, "owner_id": ["ann", "ben", "eve"].index(row.owner) + 1}
            connection.execute(insert(reservation).values(id=name, **owner, **facts, **place))
            connection.execute(insert(allocation).values(reservation=name, node=row.node, **place))
            steps = [
                {
                    "reservation": name, "at": start + step * STEP, "node": row.node, "watched": row.units * STEP,
                    "busy": row.units * STEP if step < row.busy else 0, "cpu": 0, "memory": 0,
                }
                for step in range(min(row.watched, row.length))
            ]  # fmt: skip
            if steps:
                connection.execute(insert(use), steps)


def model(rows: list[Booked], first: int, last: int) -> Spent:
    total = Spent()
    for row in rows:
        for step in range(max(first, row.start), min(last, row.start + row.length)):
            seen = step - row.start < row.watched
            busy = seen and step - row.start < row.busy
            unit = row.units * STEP
            total += Spent(unit, unit if busy else 0, unit if seen and not busy else 0)
    return total


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(bookings, max_size=8), window=windows)
def test_it_is_what_looking_at_each_step_gives(site: Site, rows: list[Booked], window: tuple[int, int]):
    write(site, rows)
    first, last = window[0], window[0] + window[1]
    span = Interval(MONDAY + first * STEP, MONDAY + last * STEP)
    keys = {
        "user": lambda row: [row.owner],
        "node": lambda row: [row.node],
        "profile": lambda row: [row.profile],
        "group": lambda row: GROUPS.get(row.owner, {operation.NO_GROUP}),
    }
    for by, key in keys.items():
        found = usage(site, span, by=by, zone=ZURICH, now=span.end, groups=GROUPS)  # type: ignore[arg-type]
        expected = {}
        for name in {name for row in rows for name in key(row)}:
            spent = model([row for row in rows if name in key(row)], first, last)
            if spent != Spent():
                expected[name] = spent
        assert dict(found.rows) == expected
        assert found.total == found.house == model(rows, first, last)
        for day in found.days:
            begin, end = (day.start - MONDAY) // STEP, (day.end - MONDAY) // STEP
            assert day.spent == model(rows, begin, end)
        assert [day.start for day in found.days[1:]] == [day.end for day in found.days[:-1]]
    mine = usage(site, span, by="user", zone=ZURICH, now=span.end, owner="ann")
    assert mine.total == model([row for row in rows if row.owner == "ann"], first, last)
    assert mine.house == model(rows, first, last)


def test_the_day_on_which_clocks_go_back_has_25_hours(site: Site):
    found = usage(site, Interval(MONDAY, MONDAY + 7 * DAY + HOUR), by="user", zone=ZURICH, now=NOW)
    assert [(day.end - day.start) // HOUR for day in found.days] == [24] * 6 + [25]


def test_a_window_that_cuts_bookings_at_odd_moments_counts_to_the_millisecond(site: Site):
    write(site, [Booked("ann", "gpu-a", "gpu", 3, 0, 100, 0, 0)])
    span = Interval(MONDAY + 1234, MONDAY + 4 * HOUR + 567)
    found = usage(site, span, by="node", zone=ZURICH, now=NOW)
    assert found.total.booked == 3 * span.length == sum(day.spent.booked for day in found.days)


def test_what_is_to_come_is_not_counted(site: Site):
    book(site, BookingRequest("gpu", duration=4 * HOUR, units=2), actor=ann, now=NOW)
    found = usage(site, Interval(NOW - HOUR, NOW + DAY), by="user", zone=ZURICH, now=NOW + HOUR)
    assert dict(found.rows) == {"ann": Spent(2 * HOUR)}
    assert found.window == Interval(NOW - HOUR, NOW + HOUR)
    assert found.capacity == 6 * 2 * HOUR
    assert usage(site, Interval(NOW + DAY, NOW + 2 * DAY), by="user", zone=ZURICH, now=NOW).window is None


def test_what_was_given_back_counts_until_then_and_what_was_cancelled_not_at_all(site: Site):
    released = book(site, BookingRequest("gpu", duration=4 * HOUR), actor=ann, now=NOW)
    cancelled = book(site, BookingRequest("gpu", start=NOW + 2 * HOUR, duration=HOUR), actor=ben, now=NOW)
    cancel(site, released.id, actor=ann, now=NOW + HOUR)
    cancel(site, cancelled.id, actor=ben, now=NOW + HOUR)
    found = usage(site, Interval(NOW, NOW + DAY), by="user", zone=ZURICH, now=NOW + DAY)
    assert dict(found.rows) == {"ann": Spent(HOUR)}


def test_a_namesake_of_a_deleted_user_sees_nothing_of_theirs(site: Site):
    write(site, [Booked("ann", "gpu-a", "gpu", 1, 0, 12, 6, 3)])
    with transaction(site.engine) as connection:
        connection.execute(reservation.update().values(owner_id=None))
    span = Interval(MONDAY, MONDAY + DAY)
    assert usage(site, span, by="user", zone=ZURICH, now=NOW, owner="ann").total == Spent()
    assert dict(usage(site, span, by="user", zone=ZURICH, now=NOW).rows) == {
        "ann": Spent(HOUR, 15 * MINUTE, 15 * MINUTE)
    }


def test_of_the_capacity_outages_are_taken_once_each(site: Site):
    with transaction(site.engine) as connection:
        rows = [("o1", 1, 4), ("o2", 2, 3), ("o3", 3, 6), ("o4", 23, 40)]
        connection.execute(
            insert(outage),
            [{"id": i, "node": "gpu-a", "start": NOW + a * HOUR, "end": NOW + b * HOUR} for i, a, b in rows],
        )
    found = usage(site, Interval(NOW, NOW + DAY), by="user", zone=ZURICH, now=NOW + DAY)
    assert found.capacity == 6 * DAY - 4 * (5 + 1) * HOUR


def test_too_long_a_window_and_an_unknown_resource_are_refused(site: Site):
    with pytest.raises(Invalid, match="400 days"):
        usage(site, Interval(NOW, NOW + 401 * DAY), by="user", zone=ZURICH, now=NOW)
    with pytest.raises(Invalid, match=GPU):
        usage(site, Interval(NOW, NOW + DAY), by="user", zone=ZURICH, now=NOW, resource="gpu")


def test_how_busy_the_last_hour_was(site: Site):
    mine = book(site, BookingRequest("gpu", duration=4 * HOUR), actor=ann, now=NOW)
    admit(site, actor=ann, server="", options=StartOptions(), now=NOW)
    step = {"reservation": mine.id, "node": "gpu-a", "cpu": 0, "memory": 0, "watched": STEP}
    with transaction(site.engine) as connection:
        begin = NOW - NOW % STEP
        rows = [step | {"at": begin + n * STEP, "busy": STEP if n >= 3 else 0} for n in range(13)]
        connection.execute(insert(use), rows)
    assert share_of_last(site, [mine.id, "other"], now=begin + 13 * STEP, span=HOUR) == {mine.id: 10 / 12}
