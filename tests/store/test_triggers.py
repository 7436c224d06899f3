"""What the database itself refuses, whoever writes: the specification of the triggers, on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from mlmp_spawner.rules.reservations import LONGEST
from mlmp_spawner.store.transaction import Refused, transaction
from tests.invariant import violations
from tests.store import rows
from tests.store.rows import GPU, INSERT, allocate, book, change, node, outage, refusal, reservation, run, write

on_sqlite = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)
"""SQLite has a syntax, and a laxness about types, of its own."""


class TestCapacity:
    def test_all_units_can_be_taken_and_not_one_more(self, engine: Engine) -> None:
        node(engine, units=4)
        book(engine, 0, 100, 3)
        book(engine, 0, 100, 1)
        with pytest.raises(Refused) as refused:
            book(engine, 0, 100, 1)
        assert refused.value.reason == "capacity"
        assert violations(engine) == []

    def test_the_refused_reservation_is_not_there_either(self, engine: Engine) -> None:
        node(engine, units=1)
        with pytest.raises(Refused):
            book(engine, 0, 10, 2)
        with engine.connect() as connection:
            assert run(connection, "SELECT count(*) FROM mlmp_reservation").scalar() == 0

    def test_touching_intervals_never_conflict(self, engine: Engine) -> None:
        node(engine, units=1)
        book(engine, 10, 20)
        book(engine, 0, 10)
        book(engine, 20, 30)
        assert len(rows.rows(engine)) == 3

    @pytest.mark.parametrize(("start", "end"), [(10, 20), (9, 11), (19, 21), (12, 13), (0, 30), (10, 11), (19, 20)])
    def test_overlapping_by_one_instant_is_a_conflict(self, engine: Engine, start: int, end: int) -> None:
        node(engine, units=1)
        book(engine, 10, 20)
        with pytest.raises(Refused):
            book(engine, start, end)

    def test_the_peak_counts_not_the_sum(self, engine: Engine) -> None:
        node(engine, units=3)
        book(engine, 0, 10, 2)
        book(engine, 10, 20, 2)
        book(engine, 20, 30, 2)
        book(engine, 0, 30, 1)
        with pytest.raises(Refused):
            book(engine, 9, 11, 1)

    def test_a_peak_that_begins_in_the_middle_is_seen(self, engine: Engine) -> None:
        node(engine, units=3)
        book(engine, 10, 12, 1)
        book(engine, 11, 13, 1)
        with pytest.raises(Refused):
            book(engine, 0, 30, 2)
        book(engine, 0, 11, 2)

    def test_what_ends_makes_room_for_what_begins_up_to_the_last_instant(self, engine: Engine) -> None:
        node(engine, units=2)
        book(engine, 0, 9, 1)
        book(engine, 9, 10, 1)
        book(engine, 0, 10, 1)
        assert violations(engine) == []

    def test_nodes_and_resources_are_counted_apart(self, engine: Engine) -> None:
        node(engine, "n1", 1)
        node(engine, "n2", 1)
        node(engine, "n1", 1, resource="mlmp.dev/slot")
        for where in ({"node": "n1"}, {"node": "n2"}, {"node": "n1", "resource": "mlmp.dev/slot"}):
            book(engine, 0, 10, **where)
            with pytest.raises(Refused):
                book(engine, 0, 10, **where)

    def test_an_unknown_node_has_nothing(self, engine: Engine) -> None:
        with pytest.raises(Refused) as refused:
            book(engine, 0, 10, node="nowhere")
        assert refused.value.reason == "capacity"

    def test_several_rows_of_one_statement_see_each_other(self, engine: Engine) -> None:
        node(engine, units=2)
        with transaction(engine) as connection:
            reservation(connection, "several00")
        many = INSERT + ", (:reservation, :root, :node, :resource, :units, :start, :end)"
        values = {"reservation": "several00", "root": None, "node": "n1", "resource": GPU, "start": 0, "end": 10}
        assert refusal(engine, many, units=2, **values) == "capacity"
        assert refusal(engine, many, units=1, **values) is None

    def test_postgresql_says_where(self, engine: Engine) -> None:
        with pytest.raises(Refused) as refused:
            book(engine, 0, 10, node="n7")
        expected = ("n7", GPU) if engine.dialect.name == "postgresql" else (None, None)
        assert (refused.value.node, refused.value.resource) == expected


class TestOnlyTheIncreaseCounts:
    """Capacity may be lost under bookings; whoever takes less, or the same, always may."""

    @pytest.fixture
    def lost(self, engine: Engine) -> str:
        """A booking of 3 units on a node that has only 1 left."""
        node(engine, "n1", 4)
        node(engine, "n2", 4)
        booked = book(engine, 10, 20, 3)
        write(engine, "UPDATE mlmp_capacity SET units = 1 WHERE node = 'n1'")
        return booked

    def test_capacity_may_be_lowered_under_bookings(self, engine: Engine, lost: str) -> None:
        assert [v.taken for v in violations(engine)] == [3]

    def test_shortening_passes(self, engine: Engine, lost: str) -> None:
        assert change(engine, lost, end=19) is None
        assert change(engine, lost, start=11) is None
        assert change(engine, lost, start=12, end=13) is None

    def test_taking_fewer_units_passes(self, engine: Engine, lost: str) -> None:
        assert change(engine, lost, units=2) is None

    def test_the_same_again_passes(self, engine: Engine, lost: str) -> None:
        assert change(engine, lost, units=3, start=10, end=20) is None

    def test_deleting_and_moving_away_pass(self, engine: Engine, lost: str) -> None:
        assert change(engine, lost, node="n2") is None
        write(engine, "DELETE FROM mlmp_allocation")

    def test_moving_back_does_not(self, engine: Engine, lost: str) -> None:
        assert change(engine, lost, node="n2") is None
        assert change(engine, lost, node="n1") == "capacity"

    def test_longer_does_not(self, engine: Engine, lost: str) -> None:
        assert change(engine, lost, end=21) == "capacity"
        assert change(engine, lost, start=9) == "capacity"
        assert change(engine, lost, start=9, end=21) == "capacity"
        assert change(engine, lost, start=15, end=25) == "capacity"
        assert change(engine, lost, start=30, end=40) == "capacity"

    def test_more_units_do_not(self, engine: Engine, lost: str) -> None:
        assert change(engine, lost, units=4) == "capacity"
        assert change(engine, lost, units=4, start=11, end=12) == "capacity"

    def test_fewer_units_for_longer_pass_where_what_is_added_fits(self, engine: Engine, lost: str) -> None:
        other = book(engine, 0, 9, 1)
        assert change(engine, lost, units=1, start=9, end=25) is None
        assert change(engine, lost, start=8) == "capacity"
        assert change(engine, other, end=8) is None
        assert change(engine, lost, start=8) is None

    def test_longer_is_checked_only_where_it_is_longer(self, engine: Engine) -> None:
        node(engine, units=2)
        mine = book(engine, 10, 20, 1)
        book(engine, 10, 20, 1)
        write(engine, "UPDATE mlmp_capacity SET units = 1")
        assert change(engine, mine, start=5, end=25) is None

    def test_a_node_that_left_keeps_its_bookings_and_takes_no_new_ones(self, engine: Engine, lost: str) -> None:
        write(engine, "DELETE FROM mlmp_capacity WHERE node = 'n1'")
        assert change(engine, lost, end=15) is None
        assert change(engine, lost, end=16) == "capacity"
        with pytest.raises(Refused):
            book(engine, 50, 60)
        assert change(engine, lost, node="n2") is None


class TestMoves:
    def test_to_another_node_where_there_is_room(self, engine: Engine) -> None:
        node(engine, "n1", 1)
        node(engine, "n2", 1)
        booked = book(engine, 0, 10)
        assert change(engine, booked, node="n2") is None
        book(engine, 0, 10, node="n1")
        assert change(engine, booked, node="n1") == "capacity"

    def test_to_another_time(self, engine: Engine) -> None:
        node(engine, units=1)
        booked = book(engine, 0, 10)
        book(engine, 20, 30)
        assert change(engine, booked, start=5, end=15) is None
        assert change(engine, booked, start=10, end=20) is None
        assert change(engine, booked, start=15, end=25) == "capacity"
        assert change(engine, booked, start=30, end=40) is None

    def test_two_change_places_by_deleting_both_first(self, engine: Engine) -> None:
        node(engine, "n1", 1)
        node(engine, "n2", 1)
        first, second = book(engine, 0, 10, node="n1"), book(engine, 0, 10, node="n2")
        with transaction(engine) as connection:
            run(connection, "DELETE FROM mlmp_allocation")
            allocate(connection, 0, 10, of=first, node="n2")
            allocate(connection, 0, 10, of=second, node="n1")
        assert violations(engine) == []


class TestOutages:
    def test_a_booking_into_an_outage_is_refused(self, engine: Engine) -> None:
        node(engine)
        outage(engine, 10, 20)
        with pytest.raises(Refused) as refused:
            book(engine, 19, 30)
        assert refused.value.reason == "outage"
        book(engine, 0, 10)
        book(engine, 20, 30)

    def test_an_outage_of_another_node_does_not_matter(self, engine: Engine) -> None:
        node(engine)
        outage(engine, 0, 100, node="n2")
        book(engine, 0, 10)

    def test_an_outage_over_bookings_is_allowed(self, engine: Engine) -> None:
        node(engine)
        booked = book(engine, 0, 100)
        outage(engine, 10, 20)
        write(engine, 'UPDATE mlmp_outage SET "end" = 50')
        assert change(engine, booked, end=90) is None
        assert change(engine, booked, end=30) is None

    def test_no_write_extends_into_one(self, engine: Engine) -> None:
        node(engine, units=4)
        booked = book(engine, 10, 20)
        outage(engine, 25, 30)
        outage(engine, 0, 5, name="o2")
        assert change(engine, booked, end=25) is None
        assert change(engine, booked, start=5) is None
        assert change(engine, booked, end=26) == "outage"
        assert change(engine, booked, start=4) == "outage"
        assert change(engine, booked, start=4, end=26) == "outage"

    def test_one_within_what_was_booked_before_does_not_hinder_more_time_around_it(self, engine: Engine) -> None:
        node(engine, units=4)
        booked = book(engine, 10, 20)
        outage(engine, 10, 20)
        assert change(engine, booked, end=25) is None
        assert change(engine, booked, start=5) is None

    def test_what_an_outage_came_over_takes_no_more_units_there(self, engine: Engine) -> None:
        node(engine, units=4)
        booked = book(engine, 10, 20)
        outage(engine, 15, 30)
        assert change(engine, booked, units=2) == "outage"
        assert change(engine, booked, end=21) == "outage"
        assert change(engine, booked, start=9) is None

    def test_a_plan_made_before_an_outage_is_seen_to_be_old(self, engine: Engine) -> None:
        node(engine)
        outage(engine, 0, 10)
        assert _version(engine) == 1
        write(engine, 'UPDATE mlmp_outage SET "end" = 20')
        assert _version(engine) == 2


class TestWhatNeverChanges:
    def test_root_reservation_and_id(self, engine: Engine) -> None:
        node(engine)
        root = book(engine, 0, 10, 2)
        child = book(engine, 0, 10, 1, root=root)
        other = book(engine, 0, 10, 1)
        assert change(engine, child, root=None) == "immutable"
        assert change(engine, child, root=other) == "immutable"
        assert change(engine, other, root=root) == "immutable"
        assert change(engine, child, reservation=other) == "immutable"
        assert change(engine, child, id=4711) == "immutable"
        assert change(engine, child, root=root, reservation=child) is None

    def test_no_row_is_longer_than_32_days(self, engine: Engine) -> None:
        node(engine)
        book(engine, 0, LONGEST)
        with pytest.raises(Exception, match=r"(?i)check"):
            book(engine, 0, LONGEST + 1)

    def test_the_longest_row_is_found_from_its_last_instant(self, engine: Engine) -> None:
        node(engine, units=1)
        book(engine, 0, LONGEST)
        with pytest.raises(Refused):
            book(engine, LONGEST - 1, LONGEST)
        book(engine, LONGEST, LONGEST + 1)

    @pytest.mark.parametrize(("start", "end", "units"), [(10, 10, 1), (10, 9, 1), (0, 10, 0), (0, 10, -1)])
    def test_no_empty_interval_and_no_units_below_one(self, engine: Engine, start: int, end: int, units: int) -> None:
        node(engine)
        with pytest.raises(Exception, match=r"(?i)check"):
            book(engine, start, end, units)


class TestAnyConnection:
    """Nothing of MLMP runs in the writer's process: the hub's session and a shell are bound as well."""

    def test_a_bare_driver_is_refused(self, engine: Engine, db_url: str) -> None:
        node(engine, units=1)
        book(engine, 0, 10)
        with transaction(engine) as connection:
            reservation(connection, "bare00000")
        sql = f"""INSERT INTO mlmp_allocation (reservation, node, resource, units, start, "end")
            VALUES ('bare00000', 'n1', '{GPU}', 1, 5, 6)"""
        if engine.dialect.name == "sqlite":
            bare: Any = closing(sqlite3.connect(db_url.removeprefix("sqlite:///")))
            refusing = pytest.raises(sqlite3.IntegrityError, match=r"^mlmp:capacity:")
        else:
            bare = psycopg.connect(db_url.replace("+psycopg", ""))
            refusing = pytest.raises(psycopg.errors.CheckViolation, match=rf"^mlmp:capacity:n1:{GPU}")
        with bare as connection, refusing:
            connection.execute(sql)
        assert violations(engine) == []

    @on_sqlite
    @pytest.mark.parametrize("how", ["OR IGNORE", "OR REPLACE", "OR FAIL", "OR ROLLBACK", "OR ABORT"])
    def test_no_conflict_clause_of_sqlite_gets_around_it(self, engine: Engine, how: str) -> None:
        node(engine, units=1)
        book(engine, 0, 10)
        with transaction(engine) as connection:
            reservation(connection, "clause000")
        values = {"reservation": "clause000", "root": None, "node": "n1", "resource": GPU}
        sql = INSERT.replace("INSERT", f"INSERT {how}")
        assert refusal(engine, sql, units=1, start=0, end=10, **values) == "capacity"
        assert refusal(engine, f"UPDATE {how} mlmp_allocation SET units = 2") == "capacity"
        assert violations(engine) == []

    @on_sqlite
    def test_no_replacement_takes_a_root_from_under_its_children(self, engine: Engine) -> None:
        node(engine)
        root = book(engine, 0, 100, 2)
        book(engine, 0, 100, 2, root=root)
        sql = 'INSERT OR REPLACE INTO mlmp_allocation SELECT id, reservation, root, node, resource, 1, start, "end" '
        assert refusal(engine, sql + "FROM mlmp_allocation WHERE root IS NULL") == "immutable"

    @on_sqlite
    @pytest.mark.parametrize(("column", "value"), [("units", "many"), ("end", "late"), ("start", 0.5)])
    def test_sqlite_takes_whole_numbers_only(self, engine: Engine, column: str, value: object) -> None:
        node(engine)
        booked = book(engine, 0, 10)
        assert change(engine, booked, **{column: value}) in ("type", "capacity")
        assert refusal(engine, "UPDATE mlmp_capacity SET units = 'all'") == "type"
        values = {"reservation": booked, "root": None, "node": "n1", "resource": GPU}
        values |= {"units": 1, "start": 0, "end": 10, column: value}
        assert refusal(engine, INSERT, **values) in ("type", "capacity")

    def test_upsert_is_refused(self, engine: Engine) -> None:
        node(engine, units=2)
        booked = book(engine, 0, 10)
        with engine.connect() as connection:
            row_id = run(connection, "SELECT id FROM mlmp_allocation").scalar()
        sql = """INSERT INTO mlmp_allocation (id, reservation, node, resource, units, start, "end")
            VALUES (:id, :of, 'n1', :resource, 1, 0, 10) ON CONFLICT (id) DO UPDATE SET units = 3"""
        assert refusal(engine, sql, id=row_id, of=booked, resource=GPU) in ("capacity", "immutable")
        assert rows.rows(engine) == [(booked, "n1", 1, 0, 10)]


class TestVersions:
    """The version of a capacity row tells whether a plan that was made before still holds."""

    def test_every_write_to_an_allocation_raises_it(self, engine: Engine) -> None:
        node(engine)
        seen = [_version(engine)]
        booked = book(engine, 0, 10)
        seen.append(_version(engine))
        change(engine, booked, end=5)
        seen.append(_version(engine))
        write(engine, "DELETE FROM mlmp_allocation")
        seen.append(_version(engine))
        write(engine, "UPDATE mlmp_capacity SET units = 2")
        seen.append(_version(engine))
        assert seen == sorted(set(seen))

    def test_a_move_raises_both(self, engine: Engine) -> None:
        node(engine, "n1")
        node(engine, "n2")
        booked = book(engine, 0, 10)
        before = _version(engine, "n1"), _version(engine, "n2")
        change(engine, booked, node="n2")
        assert (_version(engine, "n1"), _version(engine, "n2")) == (before[0] + 1, before[1] + 1)


def _version(engine: Engine, name: str = "n1") -> int:
    with engine.connect() as connection:
        return run(connection, "SELECT version FROM mlmp_capacity WHERE node = :node", node=name).scalar()
