"""What the database itself refuses of bookings that draw on another: seats of a class, jobs within a booking."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from mlmp_spawner.rules.reservations import LONGEST
from mlmp_spawner.store.transaction import Refused, transaction
from tests.invariant import violations
from tests.store.rows import allocate, book, change, node, refusal, run, write

on_sqlite = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)
"""SQLite has a syntax, and a laxness about types, of its own."""


class TestChildren:
    """A child (a seat of a class, a job inside a booking) draws on its root's allocation, not on the node."""

    def test_within_its_root_a_child_costs_the_node_nothing(self, engine: Engine) -> None:
        node(engine, units=4)
        root = book(engine, 0, 100, 4)
        book(engine, 10, 20, 3, root=root)
        book(engine, 10, 20, 1, root=root)
        book(engine, 20, 100, 4, root=root)
        assert violations(engine) == []

    @pytest.mark.parametrize(
        ("start", "end", "units", "where"),
        [(10, 20, 3, "n1"), (0, 11, 1, "n1"), (19, 21, 1, "n1"), (30, 40, 1, "n1"), (10, 20, 1, "n2")],
        ids=["more units", "earlier", "later", "elsewhen", "another node"],
    )
    def test_never_beyond_it(self, engine: Engine, start: int, end: int, units: int, where: str) -> None:
        node(engine, "n1", 4)
        node(engine, "n2", 4)
        root = book(engine, 10, 20, 2)
        with pytest.raises(Refused) as refused:
            book(engine, start, end, units, node=where, root=root)
        assert refused.value.reason == "root"

    def test_children_together_stay_within_it(self, engine: Engine) -> None:
        node(engine, units=4)
        root = book(engine, 0, 100, 2)
        first = book(engine, 0, 60, 1, root=root)
        second = book(engine, 50, 100, 1, root=root)
        assert change(engine, first, units=2) == "root"
        with pytest.raises(Refused):
            book(engine, 55, 56, 1, root=root)
        assert change(engine, second, start=60) is None
        book(engine, 0, 100, 1, root=root)

    def test_a_child_has_no_children(self, engine: Engine) -> None:
        node(engine)
        root = book(engine, 0, 100, 2)
        child = book(engine, 0, 100, 1, root=root)
        with pytest.raises(Refused):
            book(engine, 0, 100, 1, root=child)

    def test_a_root_of_several_touching_rows_is_one(self, engine: Engine) -> None:
        node(engine)
        with transaction(engine) as connection:
            root = allocate(connection, 0, LONGEST, 2)
            allocate(connection, LONGEST, LONGEST + 100, 2, of=root)
        book(engine, LONGEST - 50, LONGEST + 50, 2, root=root)
        assert violations(engine) == []

    def test_shrinking_a_root_below_its_children_is_refused(self, engine: Engine) -> None:
        node(engine, "n1", 4)
        node(engine, "n2", 4)
        root = book(engine, 0, 100, 3)
        book(engine, 10, 90, 2, root=root)
        assert change(engine, root, units=2) is None
        assert change(engine, root, start=10, end=90) is None
        assert change(engine, root, units=1) == "root"
        assert change(engine, root, end=89) == "root"
        assert change(engine, root, start=11) == "root"
        assert change(engine, root, node="n2") == "root"
        assert refusal(engine, "DELETE FROM mlmp_allocation WHERE reservation = :root", root=root) == "root"
        assert refusal(engine, "DELETE FROM mlmp_reservation WHERE id = :root", root=root) == "root"

    def test_children_first_then_the_root(self, engine: Engine) -> None:
        node(engine)
        root = book(engine, 0, 100, 2)
        child = book(engine, 10, 90, 2, root=root)
        with transaction(engine) as connection:
            run(connection, 'UPDATE mlmp_allocation SET "end" = 50 WHERE reservation = :id', id=child)
            run(connection, 'UPDATE mlmp_allocation SET "end" = 50 WHERE reservation = :id', id=root)
        with transaction(engine) as connection:
            run(connection, "DELETE FROM mlmp_allocation WHERE reservation = :id", id=child)
            run(connection, "DELETE FROM mlmp_allocation WHERE reservation = :id", id=root)

    def test_on_a_node_that_left_they_are_shortened_not_added(self, engine: Engine) -> None:
        node(engine)
        root = book(engine, 0, 100, 2)
        child = book(engine, 10, 20, 1, root=root)
        write(engine, "DELETE FROM mlmp_capacity")
        assert change(engine, child, end=15) is None
        assert change(engine, child, end=16) == "capacity"
        with pytest.raises(Refused):
            book(engine, 0, 10, root=root)
