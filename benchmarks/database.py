"""The database: bookings per second, and what a booking and a calendar cost at a thousand and at a million rows.

Both databases are durable here: a commit is on the disk when it is answered. The site is a large one, 64 nodes of
8 GPUs; a million rows are seven years of its calendar, of which the last two days lie ahead.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
from sqlalchemy import Engine, delete, insert, text

from benchmarks.common import Report, in_turns, median, note, noted
from mlmp_spawner.operations import availability, booking, catalog_sync, listing
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import Accelerator, Catalog, Node, Profile
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.store import tables, triggers
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import Refused, transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE
from tests.databases import PostgreSQL, postgresql_programs, prepare

GPU = "nvidia.com/gpu"
NODES, GPUS, USERS = 64, 8, 500
LANES = 4
"""Each node is filled in so many lanes of ``GPUS // LANES`` units, one booking after the other in each."""
NOW = 1_800_000_000_000
AHEAD = 2 * DAY
THREADS = 8


def run(report: Report, *, quick: bool) -> None:
    """All figures for both databases."""
    sizes = (100, 1_000) if quick else (1_000, 100_000, 1_000_000)
    count = 20 if quick else 300
    directory = Path(tempfile.mkdtemp(prefix="mlmp-bench-"))
    try:
        _database(report, "sqlite", lambda n: f"sqlite:///{directory / f'{n}.sqlite'}", sizes, count)
    finally:
        shutil.rmtree(directory)
    if postgresql_programs() is None:
        note("no PostgreSQL here; on Debian and Ubuntu: apt-get install postgresql")
        return
    server = PostgreSQL(durable=True)
    try:
        _database(report, "postgresql", lambda _: server.create(template=None), sizes, count)
    finally:
        server.stop()


def _database(report: Report, name: str, new: Callable[[int], str], sizes: tuple[int, ...], count: int) -> None:
    sites = {size: site(new(size)) for size in (0, *sizes)}
    _throughput(report, name, sites[0], count)
    for size in sizes:
        with noted(f"{name}: {size} rows"):
            load(sites[size].engine, size)
    for what, prepared in (("an insert with its trigger", _inserting), ("a booking", _booking)):
        # In turns, so that whatever else the machine does meets all sizes alike.
        figures = in_turns({size: prepared(sites[size]) for size in sizes}, count)
        for size in sizes:
            versus = median(figures[sizes[0]]) if size != sizes[0] else None
            goal = "ratio <= 1.5" if size == sizes[-1] else ""
            report.add(f"{name}: {what}, {size} rows", median(figures[size]), "ms", versus=versus, goal=goal)
    _calendar(report, name, sites[sizes[-1]], sizes[-1])
    for made in sites.values():
        made.engine.dispose()


def site(url: str) -> Site:
    """A database with people and nodes, and no bookings."""
    prepare(url)
    made = Site(make_engine(url, pool_size=THREADS), catalog())
    with transaction(made.engine) as connection:
        people = [{"id": n, "name": f"user{n}"} for n in range(USERS)]
        connection.execute(insert(tables.users), people)
        connection.execute(text("CREATE TABLE bare_commit (id INTEGER PRIMARY KEY, at BIGINT, who VARCHAR(255))"))
    catalog_sync.sync(made, now=NOW)
    return made


def catalog() -> Catalog:
    """64 nodes of 8 GPUs, without limits."""
    gpus = (Accelerator(resource=GPU, model="A100", count=GPUS),)
    names = [f"node{n:02}" for n in range(NODES)]
    gpu = Profile(name="gpu", title="A100", resource=GPU, units=1, max_units=GPUS, min_duration=MINUTE,
                  max_duration=30 * DAY)  # fmt: skip
    return Catalog(nodes={name: Node(name=name, accelerators=gpus) for name in names}, profiles={"gpu": gpu})


def load(engine: Engine, size: int) -> None:
    """Makes ``size`` bookings the whole calendar. They fit by construction; the triggers come afterwards."""
    with transaction(engine) as connection:
        triggers.drop(connection)
        connection.execute(delete(tables.history))
        connection.execute(delete(tables.allocation))
        connection.execute(delete(tables.reservation))
    made = list(bookings(size))
    if engine.dialect.name == "postgresql":
        _copy(engine, made)
    else:
        _executemany(engine, made)
    with transaction(engine) as connection:
        triggers.create(connection)
    url = engine.url.render_as_string(hide_password=False)
    if engine.dialect.name == "postgresql":
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")
    else:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            connection.execute("ANALYZE")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def bookings(size: int) -> list[tuple[str, int, int, int, int]]:
    """``(id, user, node, start, end)``, by start: every lane of every node is taken for some 60% of the time."""
    chance = random.Random(size)
    made = []
    per_lane = size // (NODES * LANES) + 1
    for lane in range(NODES * LANES):
        end = NOW + AHEAD
        for _ in range(per_lane):
            last = end - chance.randrange(13) * HOUR
            end = last - chance.randint(1, 18) * HOUR
            made.append((chance.randrange(USERS), lane // LANES, end, last))
    made.sort(key=lambda row: row[2])
    return [(f"b{n:011}", *row) for n, row in enumerate(made[:size])]


_RESERVATION = ("id", "owner", "owner_id", "profile", "resource", "units", "title", "start", "end", "pinned",
                "preemptible", "created_at", "server", "version")  # fmt: skip
_ALLOCATION = ("reservation", "node", "resource", "units", "start", "end")


def _values(row: tuple[str, int, int, int, int]) -> tuple[tuple[object, ...], tuple[object, ...]]:
    name, user, node, start, end = row
    units = GPUS // LANES
    reservation = (name, f"user{user}", user, "gpu", GPU, units, "", start, end, False, False, start - DAY, "", 1)
    return reservation, (name, f"node{node:02}", GPU, units, start, end)


def _executemany(engine: Engine, made: list[tuple[str, int, int, int, int]]) -> None:
    with transaction(engine) as connection:
        for table, columns, part in ((tables.reservation, _RESERVATION, 0), (tables.allocation, _ALLOCATION, 1)):
            names = ", ".join(f'"{column}"' for column in columns)
            marks = ", ".join("?" for _ in columns)
            sql = f"INSERT INTO {table.name} ({names}) VALUES ({marks})"
            connection.exec_driver_sql(sql, [_values(row)[part] for row in made])


def _copy(engine: Engine, made: list[tuple[str, int, int, int, int]]) -> None:
    url = engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for table, columns, part in ((tables.reservation, _RESERVATION, 0), (tables.allocation, _ALLOCATION, 1)):
            names = ", ".join(f'"{column}"' for column in columns)
            with cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
                for row in made:
                    copy.write_row(_values(row)[part])


def _throughput(report: Report, name: str, site: Site, count: int) -> None:
    """Bookings per second on an empty calendar, beside commits of one plain row."""

    def commit(n: int) -> None:
        with transaction(site.engine) as connection:
            sql = "INSERT INTO bare_commit (id, at, who) VALUES (:id, :at, :who)"
            connection.execute(text(sql), {"id": n, "at": NOW, "who": "user1"})

    def book(n: int) -> None:
        start = NOW + (n // 100 + 1) * HOUR
        request = BookingRequest(profile="gpu", start=start, end=start + HOUR)
        booking.book(site, request, actor=Actor(f"user{n % USERS}"), now=NOW)

    for how, threads in (("one at a time", 1), (f"{THREADS} at once", THREADS)):
        bare, booked = _per_second(commit, count, threads), _per_second(book, count, threads)
        report.add(f"{name}: bookings, {how}, beside bare commits", booked, "1/s", versus=bare)
        with transaction(site.engine) as connection:
            connection.execute(text("DELETE FROM bare_commit"))
            connection.execute(delete(tables.reservation))


def _per_second(work: Callable[[int], None], count: int, threads: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        for future in [pool.submit(work, n) for n in range(count)]:
            future.result()
        return count / (time.perf_counter() - began)


def _inserting(site: Site) -> Callable[[int], None]:
    """A root allocation of an hour where it fits, by plain SQL: trigger and commit."""
    chance = random.Random(1)
    with transaction(site.engine) as connection:
        row = dict(zip(_RESERVATION, _values(("probe", 0, 0, NOW, NOW + DAY))[0], strict=True))
        connection.execute(insert(tables.reservation), row)

    def one(n: int) -> None:
        row = {"reservation": "probe", "node": f"node{n % NODES:02}", "resource": GPU, "units": 1}
        while True:
            start = NOW + chance.randrange(AHEAD)
            try:
                with transaction(site.engine) as connection:
                    connection.execute(insert(tables.allocation), row | {"start": start, "end": start + HOUR})
                return
            except Refused:
                continue

    return one


def _booking(site: Site) -> Callable[[int], None]:
    """``operations.booking.book``: limits, placement over all nodes, rows, history, commit."""
    chance = random.Random(2)

    def one(n: int) -> None:
        start = NOW + chance.randrange(AHEAD)
        request = BookingRequest(profile="gpu", start=start, end=start + chance.randint(1, 8) * HOUR)
        booking.book(site, request, actor=Actor(f"user{n % USERS}"), now=NOW)

    return one


def _calendar(report: Report, name: str, site: Site, size: int) -> None:
    """A week as the pages show it: what is free on every node, and whose bookings there are."""

    def free(week: Interval) -> int:
        return len(availability.availability(site, profile="gpu", window=week, groups=frozenset(), now=NOW))

    def booked(week: Interval) -> int:
        cursor, found = None, 0
        while True:
            page, cursor = listing.listing(site, window=week, limit=200, cursor=cursor, now=NOW)
            found += len(page)
            if cursor is None:
                return found

    for when, start in (("this week", NOW), ("a week years ago", NOW - size // 1_000_000 * 1000 * DAY - 3 * DAY)):
        week = Interval(start, start + 7 * DAY)
        note(f"{name}, {when}: {booked(week)} bookings")
        for what, work in (("what is free", free), ("all bookings", booked)):
            took = median(in_turns({0: lambda _, work=work, week=week: work(week)}, 10)[0])
            report.add(f"{name}: {what}, {NODES} nodes, {when}, {size} rows", took, "ms")
