"""A small lab for pictures: three machines, a week of bookings behind it and one before it, always on the same Friday.

The real service in a thread of its own, since one machine alone would make a dull picture; only the hub is played.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from jupyterhub._data import DATA_FILES_PATH
from sqlalchemy import insert, update
from tornado.web import RedirectHandler, StaticFileHandler

from mlmp_spawner.operations import booking, catalog_sync, outages
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import Accelerator, Catalog, Node, Profile
from mlmp_spawner.rules.job_queue import Outlook, Why
from mlmp_spawner.rules.jobs import Attempt
from mlmp_spawner.rules.scans import Scan
from mlmp_spawner.store import reservations, scans, tables
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE
from mlmp_spawner.web.context import WebSettings
from tests.databases import sqlite_template
from tests.web.harness import PREFIX, RunningApp
from tests.web.job_rows import Rows

NOW = 1_800_000_000_000
GPU = "nvidia.com/gpu"
WEEK = (
    # who, profile, machine, hours from now, hours, units, title, kind
    ("ann", "a100", "atlas", 0, 4, 2, "Thesis: fine-tuning", "session"),
    ("ben", "a100", "atlas", 0, 5, 1, "", "session"),
    ("eva", "a100", "atlas", 2, 6, 1, "", "session"), ("ben", "a100", "atlas", 6, 5, 2, "", "session"),
    ("ben", "a100", "balu", 1, 4, 4, "", "session"), ("eva", "a100", "balu", 7, 3, 3, "", "class"),
    ("ben", "h100", "circe", 0, 8, 1, "", "job"), ("ann", "h100", "circe", 9, 2, 1, "", "session"),
    ("ann", "a100", "balu", 23, 5, 2, "Ablation", "session"), ("ben", "a100", "balu", 25, 9, 2, "", "session"),
    ("eva", "a100", "atlas", 21, 10, 3, "", "session"), ("ben", "h100", "circe", 26, 7, 2, "", "session"),
    ("eva", "a100", "balu", 47, 8, 1, "", "session"), ("ben", "a100", "atlas", 49, 11, 2, "", "session"),
    ("eva", "h100", "circe", 51, 6, 1, "", "job"), ("ann", "a100", "atlas", 48, 4, 1, "", "session"),
    ("eva", "a100", "balu", 71, 3, 3, "", "class"), ("ben", "a100", "atlas", 74, 9, 4, "", "session"),
    ("ann", "a100", "balu", 97, 8, 4, "Final run", "session"), ("eva", "h100", "circe", 95, 9, 1, "", "session"),
)  # fmt: skip

RUNNING = "resnetbase22"
"""The job whose page is shown."""

SWEEP = ("sweep7aaaaaa", "sweep7bbbbbb", "sweep7cccccc", "sweep7dddddd")
"""Those that are compared."""

SCAN = "resnetscan24"
OPTIMIZERS = ("sgd", "adam")


@contextmanager
def lab() -> Iterator[str]:
    """The service with its week; the address of its pages. Its people log in by ``Bearer ann-token``."""
    with tempfile.TemporaryDirectory() as folder:
        engine = make_engine(f"sqlite:///{sqlite_template(Path(folder) / 'lab.sqlite')}")
        try:
            site = Site(engine, _catalog())
            _people(site)
            _last_week(site)
            _week(site)
            with RunningApp(site, NOW, WebSettings(rate=0, zone="Europe/Zurich")) as app:
                looks = (r"/hub/static/(.*)", StaticFileHandler, {"path": str(Path(DATA_FILES_PATH) / "static")})
                logo = (r"/hub/logo", RedirectHandler, {"url": "/hub/static/images/jupyterhub-80.png"})
                app.app.add_handlers(".*", [looks, logo])
                rows = Rows.of(app, Path(folder))
                _jobs(rows)
                _scan(rows)
                yield app.url + PREFIX
        finally:
            engine.dispose()


def _catalog() -> Catalog:
    machines = {"atlas": ("A100", 4), "balu": ("A100", 4), "circe": ("H100", 2)}
    nodes = {
        name: Node(name=name, accelerators=(Accelerator(resource=GPU, model=model, count=count),))
        for name, (model, count) in machines.items()
    }
    profiles = {
        "a100": Profile(name="a100", title="A100 · 80 GB", resource=GPU, model="A100", max_units=4),
        "h100": Profile(name="h100", title="H100 · 94 GB", resource=GPU, model="H100", max_units=2),
    }
    return Catalog(nodes=nodes, profiles=profiles)


def _people(site: Site) -> None:
    with transaction(site.engine) as connection:
        people = [{"id": n, "name": name} for n, name in enumerate(("ann", "ben", "eva", "root"), 1)]
        connection.execute(insert(tables.users), people)
    catalog_sync.sync(site, now=NOW - 8 * DAY)


def _last_week(site: Site) -> None:
    """The same bookings seven days ago, more or less used."""
    chance = random.Random(4)  # noqa: S311
    for who, profile, node, start, hours, units, title, _ in WEEK:
        begin = NOW - 7 * DAY + start * HOUR
        request = BookingRequest(profile, start=begin, end=begin + hours * HOUR, units=units, node=node, title=title)
        made = booking.book(site, request, actor=Actor(who), now=NOW - 8 * DAY)
        late, eager = chance.choice((0, 0, 1, 2)), chance.uniform(0.3, 1)
        seen = [
            {"reservation": made.id, "node": node, "at": at, "watched": 5 * MINUTE * units,
             "busy": 5 * MINUTE * units * (chance.random() < eager), "cpu": 4 * MINUTE, "memory": 8 << 30}
            for at in range(begin + late * HOUR, made.end, 5 * MINUTE)
        ]  # fmt: skip
        with transaction(site.engine) as connection:
            connection.execute(insert(tables.use), seen)


def _week(site: Site) -> None:
    for who, profile, node, start, hours, units, title, kind in WEEK:
        begin = NOW + start * HOUR
        request = BookingRequest(profile, start=begin, end=begin + hours * HOUR, units=units, node=node, title=title)
        made = booking.book(site, request, actor=Actor(who), now=NOW)
        with transaction(site.engine) as connection:
            its = tables.reservation.c.id == made.id
            connection.execute(update(tables.reservation).where(its).values(kind=kind))
    waits = BookingRequest("h100", start=NOW + HOUR, end=NOW + 4 * HOUR, units=2, title="Big run", waitlist=True)
    booking.book(site, waits, actor=Actor("ann"), now=NOW)
    disks = outages.Wanted(NOW + 11 * HOUR, NOW + 14 * HOUR, "new disks")
    outages.set_outages(site, "circe", [disks], actor=Actor("root", admin=True), now=NOW, bookings="keep")


def _jobs(rows: Rows) -> None:
    """One that runs for the second time, some that wait, a sweep that is over, one that failed."""
    a100 = {"profile": "a100", "units": 2}
    running = rows.add(id=RUNNING, name="resnet-baseline", hours=6, manifest=a100, created_at=NOW - 7 * HOUR, **a100)
    first = rows.attempt(
        running, "balu", started_at=NOW - 6 * HOUR, ended_at=NOW - 5 * HOUR, reason="preempted", log="step 0\n"
    )
    _train(rows, first, 0, 1200, 0.1)
    second = rows.attempt(running, "balu", started_at=NOW - 20 * MINUTE)
    lines = [f"step {step:4} loss {_loss(step, 0.1):.4f}  2.1 it/s\n" for step in range(1200, 2400, 20)]
    rows.print(second, "going on from checkpoints/last.pt, step 1200\n" + "".join(lines))
    _train(rows, second, 1200, 2400, 0.1)
    for name, profile, units, hours, start, why in (
        ("resnet-large", "a100", 4, 12, 12, Why("in_use")), ("ablation-3", "a100", 1, 1, 4, Why("behind", 3, 1)),
        ("tokenizer", "h100", 1, 2, 3, Why("booked")),
    ):  # fmt: skip
        waits = rows.add(name=name, hours=hours, manifest={"profile": profile}, profile=profile, units=units)
        rows.outlook[waits.id] = Outlook(NOW + start * HOUR, why)
    for number, (wanted, rate) in enumerate(zip(SWEEP, (0.05, 0.1, 0.2, 0.4), strict=True)):
        begun = NOW - 20 * HOUR + number
        said = {"profile": "a100", "arguments": ["--lr", str(rate), "--epochs", "20", "--augment"]}
        done = rows.add(id=wanted, name=f"sweep-lr-{rate}", hours=1, manifest=said, profile="a100", created_at=begun)
        attempt = rows.attempt(done, "atlas", started_at=begun, ended_at=begun + 50 * MINUTE, reason="succeeded")
        _train(rows, attempt, 0, 2000 - number * 150, rate)
        rows.end(done, outcome="succeeded", reason="succeeded", exit_status=0, ended_at=begun + 50 * MINUTE)


def _scan(rows: Rows) -> None:
    """24 rows: most are over, two failed, three run and three wait."""
    names = ("lr", "bs", "opt")
    values = [dict(zip(names, one, strict=True)) for one in product((0.001, 0.01, 0.1), (16, 32, 64, 128), OPTIMIZERS)]
    with transaction(rows.app.site.engine) as connection:
        owner = reservations.user_id(connection, "ann")
        out = "runs/lr={lr}/bs={bs}/{opt}"
        scans.insert_scan(connection, Scan(SCAN, "ann", "resnet-scan", names, len(values), tuple(values), owner, 3,
                                           NOW - 6 * HOUR, out=out))  # fmt: skip
    chance = random.Random(3)  # noqa: S311
    for place, row in enumerate(values):
        begun = NOW - 6 * HOUR + place * 10 * MINUTE
        one = rows.add(name=f"resnet-scan-{place + 1}", hours=1, manifest={"profile": "a100"}, profile="a100",
                       created_at=NOW - 6 * HOUR, batch=SCAN, place=place)  # fmt: skip
        if place > 20:
            rows.outlook[one.id] = Outlook(None, Why("scan", quota=3))
            continue
        over = None if place > 17 else begun + 50 * MINUTE
        failed = place in (5, 17)
        attempt = rows.attempt(one, "balu", started_at=begun, ended_at=over, reason="exit_status" if over else None)
        miss = 0.08 + 0.06 * abs(math.log10(float(row["lr"])) + 2) + 0.0005 * int(row["bs"]) + chance.random() / 50
        accuracy = 0.1 if failed else 1 - miss - (0.03 if row["opt"] == "sgd" else 0)
        rows.measured(attempt, [(begun, 2000, {"accuracy": round(accuracy, 4), "loss": round(2 * (1 - accuracy), 4)})])
        if over:
            rows.end(one, outcome="failed" if failed else "succeeded", reason="exit_status", ended_at=over)


def _loss(step: int, rate: float) -> float:
    return 2.3 * math.exp(-step * rate / 30) + 0.15


def _train(rows: Rows, attempt: Attempt, first: int, last: int, rate: float) -> None:
    chance = random.Random(attempt.id)  # noqa: S311
    start = attempt.started_at or 0
    measured = []
    for step in range(first, last, 10):
        loss = max(0.01, _loss(step, rate) + chance.gauss(0, 0.03))
        measured.append((start + (step - first) * 1000, step, {"loss": loss, "accuracy": 1 - loss / 2.6}))
    rows.measured(attempt, measured)
    used = [{"gpu": min(100, chance.gauss(88, 5)), "cpu": chance.gauss(3.4, 0.2), "memory": 9.5e9} for _ in measured]
    rows.used(attempt, [(at, None, values) for (at, _, _), values in zip(measured, used, strict=True)])
