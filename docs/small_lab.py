"""A small lab for pictures: three machines, a week of bookings behind it and one before it, always on the same Friday.

The real service in a thread of its own, since one machine alone would make a dull picture; only the hub is played.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jupyterhub._data import DATA_FILES_PATH
from sqlalchemy import insert, update
from tornado.web import RedirectHandler, StaticFileHandler

from mlmp_spawner.operations import booking, catalog_sync, outages
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import Accelerator, Catalog, Node, Profile
from mlmp_spawner.store import tables
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE
from mlmp_spawner.web.context import WebSettings
from tests.databases import sqlite_template
from tests.web.harness import PREFIX, RunningApp

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
