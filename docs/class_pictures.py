"""A course and a class under way, for pictures: the real service, whose hub and servers are played."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jupyterhub._data import DATA_FILES_PATH
from playwright.sync_api import Browser
from sqlalchemy import insert
from tornado.web import RedirectHandler, StaticFileHandler

from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.site import Site
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import MINUTE
from mlmp_spawner.web.context import WebSettings
from tests.databases import sqlite_template
from tests.operations.conftest import NOW, catalog
from tests.web.harness import PREFIX, RunningApp
from tests.web.played_class import PlayedClass, a_class

STUDENTS = ("ann", "eve", "zoe", "bo", "cy", "dora", "emil", "fay", "gus", "hana", "ida", "jon", "kim", "lea")
CAME = STUDENTS[3:11]
LOOKS = (("desktop", "light", 1280), ("phone", "dark", 390))


def photograph_classes(browser: Browser, images: Path, names: set[str]) -> None:
    """The pages of an instructor, at a desk and on a phone."""
    with _class() as played:
        pages = {"course": "courses/ml", "class-book": "courses/ml/new-class", "class": played.where}
        for name in [name for name in pages if not names or name in names]:
            for screen, theme, width in LOOKS:
                context = browser.new_context(
                    viewport={"width": width, "height": 844}, color_scheme=theme, timezone_id="Europe/Zurich",
                    locale="en-GB", extra_http_headers={"Authorization": "Bearer teacher-token"},
                )  # fmt: skip
                page = context.new_page()
                page.goto(f"{played.app.url}{PREFIX}{pages[name]}")
                page.wait_for_timeout(1500)
                page.screenshot(path=images / f"{name}-{screen}-{theme}.png", full_page=True)
                context.close()


@contextmanager
def _class() -> Iterator[PlayedClass]:
    with tempfile.TemporaryDirectory() as folder:
        engine = make_engine(f"sqlite:///{sqlite_template(Path(folder) / 'class.sqlite')}")
        try:
            with transaction(engine) as connection:
                known = [{"id": n, "name": name} for n, name in enumerate(("ann", "ben", "root"), 1)]
                connection.execute(insert(users), known)
            site = Site(engine, catalog(gpu_a=8, gpu_b=8))
            catalog_sync.sync(site, now=NOW)
            with RunningApp(site, NOW, WebSettings(rate=0, zone="Europe/Zurich")) as app:
                looks = (r"/hub/static/(.*)", StaticFileHandler, {"path": str(Path(DATA_FILES_PATH) / "static")})
                logo = (r"/hub/logo", RedirectHandler, {"url": "/hub/static/images/jupyterhub-80.png"})
                app.app.add_handlers(".*", [looks, logo])
                played = a_class(app, STUDENTS, seats=16)
                for name in CAME:
                    played.comes(name)
                app.now += 4 * MINUTE
                played.look()
                yield played
        finally:
            engine.dispose()
