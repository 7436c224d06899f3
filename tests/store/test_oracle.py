"""The triggers against a model that looks at every single instant: any sequence of writes, the same verdict."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from mlmp_spawner.store.transaction import transaction
from tests.invariant import violations
from tests.store.rows import GPU, INSERT, refusal, reservation, run

HORIZON = 9
NODES = ("n1", "n2")


@dataclass(frozen=True)
class Row:
    reservation: str
    root: str | None
    node: str
    units: int
    start: int
    end: int

    def takes(self, node: str, at: int) -> int:
        return self.units if self.node == node and self.start <= at < self.end else 0


@dataclass
class Model:
    """What is in the database, and what it must refuse."""

    rows: dict[str, Row] = field(default_factory=dict)
    capacity: dict[str, int] = field(default_factory=dict)
    outages: list[tuple[str, int, int]] = field(default_factory=list)

    def reasons(self, old: Row | None, new: Row | None) -> set[str]:
        """Why replacing ``old`` by ``new`` must be refused; nothing: it must pass."""
        after = [row for row in self.rows.values() if row != old] + ([new] if new else [])
        found: set[str] = set()
        if old and old.root is None:
            for at in range(old.start, old.end):
                before = old.takes(old.node, at)
                if (new.takes(old.node, at) if new else 0) < before and _beyond(after, old.reservation, old.node, at):
                    found.add("root")
        if new is None:
            return found
        more = [at for at in range(new.start, new.end) if new.units > (old.takes(new.node, at) if old else 0)]
        for at in more:
            if new.root is not None:
                if new.node not in self.capacity:
                    found.add("capacity")
                if _beyond(after, new.root, new.node, at):
                    found.add("root")
                continue
            if any(node == new.node and start <= at < end for node, start, end in self.outages):
                found.add("outage")
            taken = sum(row.takes(new.node, at) for row in after if row.root is None)
            if taken > self.capacity.get(new.node, 0):
                found.add("capacity")
        return found


def _beyond(rows: list[Row], root: str, node: str, at: int) -> bool:
    granted = sum(row.takes(node, at) for row in rows if row.reservation == root and row.root is None)
    return sum(row.takes(node, at) for row in rows if row.root == root) > granted


intervals = st.tuples(st.integers(0, HORIZON - 1), st.integers(1, HORIZON)).map(
    lambda pair: (pair[0], min(HORIZON, pair[0] + pair[1]))
)
places = st.tuples(st.sampled_from(NODES), st.integers(1, 3), intervals)
indexes = st.integers(0, 100)
steps = st.one_of(
    st.tuples(st.just("insert"), places),
    st.tuples(st.just("insert"), places),
    st.tuples(st.just("child"), indexes, places),
    st.tuples(st.just("update"), indexes, places, st.sets(st.sampled_from(["node", "units", "start", "end"]))),
    st.tuples(st.just("delete"), indexes),
    st.tuples(st.just("capacity"), st.sampled_from(NODES), st.one_of(st.none(), st.integers(0, 5))),
    st.tuples(st.just("outage"), st.sampled_from(NODES), intervals),
    st.tuples(st.just("no outage"), indexes),
)
capacities = st.fixed_dictionaries({node: st.integers(1, 5) for node in NODES})

UPDATE = """UPDATE mlmp_allocation SET node = :node, units = :units, start = :start, "end" = :end
WHERE reservation = :reservation"""


class Run:
    """Applies steps to the database and to the model, and compares the verdicts."""

    def __init__(self, engine: Engine, capacity: dict[str, int]) -> None:
        self.engine = engine
        self.model = Model(capacity=dict(capacity))
        self.lost = False
        with transaction(engine) as connection:
            run(connection, "DELETE FROM mlmp_allocation WHERE root IS NOT NULL")
            for table in ("allocation", "reservation", "outage", "capacity"):
                run(connection, f"DELETE FROM mlmp_{table}")
            for node, units in capacity.items():
                self._set_capacity(connection, node, units)

    def step(self, step: tuple) -> None:
        kind, *arguments = step
        getattr(self, "_" + kind.replace(" ", "_"))(*arguments)

    def _compare(self, sql: str, old: Row | None, new: Row | None) -> None:
        row = new or old
        values = {"reservation": row.reservation, "node": row.node, "units": row.units, "start": row.start,
                  "end": row.end, "root": row.root, "resource": GPU}  # fmt: skip
        expected = self.model.reasons(old, new)
        got = refusal(self.engine, sql, **{key: value for key, value in values.items() if f":{key}" in sql})
        assert (got in expected) if expected else (got is None), (old, new, expected, got)
        if got is None:
            self.model.rows.pop(row.reservation, None)
            if new:
                self.model.rows[new.reservation] = new

    def _pick(self, index: int, *, roots: bool = False) -> Row | None:
        rows = [row for row in self.model.rows.values() if not roots or row.root is None]
        return rows[index % len(rows)] if rows else None

    def _new(self, place: tuple, root: str | None) -> None:
        node, units, (start, end) = place
        with transaction(self.engine) as connection:
            name = reservation(connection)
        self._compare(INSERT, None, Row(name, root, node, units, start, end))

    def _insert(self, place: tuple) -> None:
        self._new(place, None)

    def _child(self, index: int, place: tuple) -> None:
        if root := self._pick(index, roots=True):
            # Mostly within the root, where it is interesting.
            node, units, (start, end) = place
            if index % 4:
                node, start = root.node, min(max(start, root.start), root.end - 1)
                end = max(start + 1, min(end, root.end))
            self._new((node, units, (start, end)), root.reservation)

    def _update(self, index: int, place: tuple, columns: set[str]) -> None:
        if old := self._pick(index):
            node, units, (start, end) = place
            values = {"node": node, "units": units, "start": start, "end": end}
            new = replace(old, **{column: values[column] for column in columns})
            if new.start < new.end:
                self._compare(UPDATE, old, new)

    def _delete(self, index: int) -> None:
        if old := self._pick(index):
            self._compare("DELETE FROM mlmp_allocation WHERE reservation = :reservation", old, None)

    def _set_capacity(self, connection, node: str, units: int | None) -> None:
        run(connection, "DELETE FROM mlmp_capacity WHERE node = :node", node=node)
        if units is not None:
            sql = "INSERT INTO mlmp_capacity (node, resource, units) VALUES (:node, :resource, :units)"
            run(connection, sql, node=node, resource=GPU, units=units)

    def _capacity(self, node: str, units: int | None) -> None:
        self.lost = self.lost or (units or 0) < self.model.capacity.get(node, 0)
        with transaction(self.engine) as connection:
            self._set_capacity(connection, node, units)
        self.model.capacity.pop(node, None)
        if units is not None:
            self.model.capacity[node] = units

    def _outage(self, node: str, interval: tuple[int, int]) -> None:
        outage = (node, *interval)
        if outage in self.model.outages:
            return
        sql = 'INSERT INTO mlmp_outage (id, node, start, "end") VALUES (:id, :node, :start, :end)'
        values = {"id": str(outage), "node": node, "start": interval[0], "end": interval[1]}
        assert refusal(self.engine, sql, **values) is None
        self.model.outages.append(outage)

    def _no_outage(self, index: int) -> None:
        if self.model.outages:
            outage = self.model.outages.pop(index % len(self.model.outages))
            assert refusal(self.engine, "DELETE FROM mlmp_outage WHERE id = :id", id=str(outage)) is None


def _check(engine: Engine, capacity: dict[str, int], sequence: list[tuple]) -> None:
    checked = Run(engine, capacity)
    for step in sequence:
        checked.step(step)
    found = violations(engine)
    assert checked.lost or not found
    assert not any(violation.of for violation in found)


quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@settings(quick, max_examples=150)
@given(capacity=capacities, sequence=st.lists(steps, min_size=5, max_size=25))
def test_every_verdict_is_that_of_the_model(engine: Engine, capacity: dict, sequence: list) -> None:
    _check(engine, capacity, sequence)


@pytest.mark.faults
@settings(quick, max_examples=10 * int(os.environ.get("FAULT_ROUNDS", "40")))
@given(capacity=capacities, sequence=st.lists(steps, min_size=10, max_size=60))
def test_every_verdict_is_that_of_the_model_at_length(engine: Engine, capacity: dict, sequence: list) -> None:
    _check(engine, capacity, sequence)
