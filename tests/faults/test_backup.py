"""A backup that is taken while people book and cancel is one instant of the calendar, and comes back as it was."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text
from sqlalchemy.engine import make_url

from mlmp_spawner.errors import MLMPError, NoCapacity
from mlmp_spawner.operations import booking, catalog_sync, changes
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import Busy, Refused, transaction
from mlmp_spawner.units import HOUR
from tests.databases import PostgreSQL, postgresql_programs, prepare
from tests.invariant import violations
from tests.operations.conftest import NOW, catalog

pytestmark = pytest.mark.faults

PEOPLE = ("ann", "ben", "eve", "kim")
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "5"))


@dataclass
class Acknowledged:
    """What somebody was told: ``booked`` and ``cancelled`` are ids, in the order of the answers."""

    booked: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)


@dataclass
class Writers:
    """People who book and cancel all the time, and what each was told."""

    told: dict[str, Acknowledged] = field(default_factory=lambda: {name: Acknowledged() for name in PEOPLE})

    def so_far(self) -> dict[str, tuple[int, int]]:
        """How many answers each has had by now."""
        return {name: (len(told.booked), len(told.cancelled)) for name, told in self.told.items()}


@contextmanager
def writing(site: Site) -> Iterator[Writers]:
    """Everybody writes until the end of the block."""
    end, writers = threading.Event(), Writers()
    failures: list[Exception] = []

    def write(name: str) -> None:
        chance = random.Random(name)
        try:
            while not end.is_set():
                _one(site, name, writers.told[name], chance)
        except Exception as error:  # noqa: BLE001 -- told in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=write, args=(name,), daemon=True) for name in PEOPLE]
    for thread in threads:
        thread.start()
    try:
        yield writers
    finally:
        end.set()
        for thread in threads:
            thread.join(60)
    assert failures == []


def _one(site: Site, name: str, told: Acknowledged, chance: random.Random) -> None:
    actor = Actor(name)
    mine = [id for id in told.booked if id not in set(told.cancelled)]
    try:
        if mine and chance.random() < 0.4:
            id = chance.choice(mine)
            changes.cancel(site, id, actor=actor, now=NOW)
            told.cancelled.append(id)
        else:
            start = NOW + chance.randrange(1, 400) * HOUR
            asked = BookingRequest(profile="gpu", start=start, end=start + HOUR, units=chance.randint(1, 2))
            told.booked.append(booking.book(site, asked, actor=actor, now=NOW).id)
    except (MLMPError, Busy):
        pass  # full, or busy: nothing was promised


def state(engine: Engine) -> dict[str, Any]:
    """What is booked: every booking that holds, with what it takes."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT r.id, r.owner, r.start, r.end, a.node, a.units FROM mlmp_reservation r "
                "LEFT JOIN mlmp_allocation a ON a.reservation = r.id WHERE r.cancelled_at IS NULL ORDER BY r.id, a.id"
            )
        )
        return {row.id: tuple(row) for row in rows}


def replayed(engine: Engine, upto: int) -> set[str]:
    """The bookings that hold after the first ``upto`` lines of the history."""
    held: set[str] = set()
    with engine.connect() as connection:
        lines = connection.execute(
            text("SELECT action, reservation FROM mlmp_history WHERE id <= :upto ORDER BY id"), {"upto": upto}
        ).all()
    for action, reservation in lines:
        if action == "booked":
            held.add(reservation)
        elif action == "cancelled":
            held.discard(reservation)
    return held


def same_as_the_first_lines(copy: Engine, original: Engine, before: dict[str, tuple[int, int]], w: Writers) -> None:
    """The copy is the original after the first lines of its history, and has all that was answered before it."""
    with copy.connect() as connection:
        last = connection.execute(text("SELECT max(id) FROM mlmp_history")).scalar_one()
    with original.connect() as connection:
        newest = connection.execute(text("SELECT max(id) FROM mlmp_history")).scalar_one()
    assert 0 < last < newest, "the backup was not taken while people wrote"
    held = state(copy)
    assert set(held) == replayed(copy, last) == replayed(original, last)
    assert violations(copy) == []
    for name, (booked, cancelled) in before.items():
        gone = set(w.told[name].cancelled)
        assert set(w.told[name].booked[:booked]) - gone <= set(held)
        assert not set(w.told[name].cancelled[:cancelled]) & set(held)


def site_on(url: str) -> Site:
    prepare(url)
    made = Site(make_engine(url), catalog(gpu_a=4, gpu_b=2))
    with transaction(made.engine) as connection:
        connection.execute(insert(users), [{"id": n, "name": name} for n, name in enumerate(PEOPLE, 1)])
    catalog_sync.sync(made, now=NOW)
    return made


def mlmp(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("mlmp"), "db", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_backup_under_load_is_one_instant_and_comes_back_identical(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    site = site_on(f"sqlite:///{here / 'mlmp.sqlite'}")
    with writing(site) as writers:
        for number in range(ROUNDS):
            enough = 40 * (number + 1)
            while sum(booked for booked, _ in writers.so_far().values()) < enough:
                threading.Event().wait(0.01)
            before = writers.so_far()
            file = tmp_path / f"copy{number}.sqlite"
            taken = mlmp("backup", str(file), "--data", str(here), "--json")
            assert taken.returncode == 0, taken.stderr
            _until_more(writers)
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert not list(tmp_path.glob(".*")), "nothing half done is left"
            with closing(sqlite3.connect(file)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            put = mlmp("restore", str(file), "--data", str(there), "--json")
            assert put.returncode == 0, put.stderr
            assert json.loads(put.stdout)["history"] == json.loads(taken.stdout)["history"]
            copy = make_engine(f"sqlite:///{there / 'mlmp.sqlite'}")
            same_as_the_first_lines(copy, site.engine, before, writers)
            copy.dispose()
    site.engine.dispose()


def _until_more(writers: Writers) -> None:
    """Returns when somebody was answered since."""
    before = writers.so_far()
    while writers.so_far() == before:
        threading.Event().wait(0.01)


def test_a_restored_site_books_on(tmp_path: Path) -> None:
    """The rules of the database are in the copy too, and the tables go on where they were."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    site = site_on(f"sqlite:///{here / 'mlmp.sqlite'}")
    asked = BookingRequest(profile="gpu", start=NOW + HOUR, end=NOW + 2 * HOUR, units=4)
    booking.book(site, asked, actor=Actor("ann"), now=NOW)
    site.engine.dispose()
    assert mlmp("backup", str(tmp_path / "copy"), "--data", str(here)).returncode == 0
    assert mlmp("restore", str(tmp_path / "copy"), "--data", str(there)).returncode == 0
    restored = Site(make_engine(f"sqlite:///{there / 'mlmp.sqlite'}"), catalog(gpu_a=4, gpu_b=2))
    with pytest.raises(MLMPError):
        booking.book(restored, asked, actor=Actor("ben"), now=NOW)
    booking.book(restored, BookingRequest(profile="gpu", start=NOW + HOUR, end=NOW + 2 * HOUR, units=2),
                 actor=Actor("ben"), now=NOW)  # fmt: skip
    assert violations(restored.engine) == []
    restored.engine.dispose()


@pytest.mark.skipif(postgresql_programs() is None, reason="no PostgreSQL here")
def test_postgresql_s_own_tools_bring_back_the_same(tmp_path: Path) -> None:
    programs = postgresql_programs()
    assert programs is not None
    server = PostgreSQL()
    try:
        site = site_on(server.create(template=None))
        with writing(site) as writers:
            while sum(booked for booked, _ in writers.so_far().values()) < 40:
                threading.Event().wait(0.01)
            before = writers.so_far()
            file = tmp_path / "mlmp.dump"
            _run(programs / "pg_dump", "--format=custom", f"--file={file}", _dsn(site.engine))
            _until_more(writers)
        copy_url = server.create(template="template0")
        copy = make_engine(copy_url)
        _run(programs / "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={_dsn(copy)}", str(file))
        same_as_the_first_lines(copy, site.engine, before, writers)
        _, _, start, end, node, _ = next(iter(state(copy).values()))
        everything = BookingRequest(profile="gpu", start=start, end=end, node=node, units=2 if node == "gpu-b" else 4)
        with pytest.raises(NoCapacity):
            booking.book(Site(copy, site.catalog), everything, actor=Actor("kim"), now=NOW)
        with pytest.raises(Refused), transaction(copy) as connection:  # the triggers came with it
            connection.execute(text("UPDATE mlmp_allocation SET units = 99"))
        copy.dispose()
        site.engine.dispose()
    finally:
        server.stop()


def _dsn(engine: Engine) -> str:
    url = make_url(engine.url)
    return f"host={url.query['host']} user={url.username} dbname={url.database}"


def _run(*command: object) -> None:
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
