"""Chromium, people in front of it, and a service of which the hub is played and the time is the test's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jupyterhub._data import DATA_FILES_PATH
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from sqlalchemy import Engine, insert
from tornado.web import StaticFileHandler

from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.site import Site
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from tests import live
from tests.databases import sqlite_copy
from tests.operations.conftest import NOW, catalog
from tests.web.harness import PREFIX, RunningApp

CHROMIUM = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ZONE = "Europe/Zurich"

expect.set_options(timeout=15_000)  # ms; a limit for busy machines: whatever is waited for is there long before


# For a module only: an open Playwright keeps an event loop, in which no test after it could run a coroutine.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    path = shutil.which("chromium")
    if path is None:
        reason = "no chromium on the PATH (Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def lab_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Site]:
    """All that ``mlmp up`` runs, with real JupyterLabs."""
    made = live.Site(tmp_path_factory.mktemp("site"), lab=True)
    made.start()
    yield made
    made.close()


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What pages complained of: errors of scripts, refused by the content security policy. There may be none."""
    found: list[str] = []
    yield found
    assert not found


@pytest.fixture
def new_page(browser: Browser, complaints: list[str], tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Makes a page of a person of its own."""
    contexts: list[BrowserContext] = []

    def make(**options: object) -> Page:
        context = browser.new_context(**{"timezone_id": ZONE, "viewport": {"width": 1280, "height": 800}} | options)
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: _listen(message.type, message.text, complaints))
        return page

    yield make
    for number, context in enumerate(contexts):
        if os.environ.get("KEEP_SCREENSHOTS"):
            context.pages[0].screenshot(path=Path(os.environ["KEEP_SCREENSHOTS"]) / f"{tmp_path.name}-{number}.png")
        context.close()


def _listen(kind: str, text: str, complaints: list[str]) -> None:
    if kind == "error" and "Content Security Policy" in text:
        complaints.append(text)


@pytest.fixture
def engine(sqlite_file: Path, tmp_path: Path) -> Iterator[Engine]:
    made = make_engine(sqlite_copy(sqlite_file, tmp_path / "mlmp.sqlite"))
    yield made
    made.dispose()


@pytest.fixture
def app(engine: Engine) -> Iterator[RunningApp]:
    """The service with two nodes and three people, and what its pages load of the hub."""
    with transaction(engine) as connection:
        connection.execute(insert(users), [{"id": n, "name": who} for n, who in enumerate(("ann", "ben", "root"), 1)])
    site = Site(engine, catalog(gpu_a=4, gpu_b=2))
    catalog_sync.sync(site, now=NOW)
    with RunningApp(site, NOW) as running:
        looks = [(r"/hub/static/(.*)", StaticFileHandler, {"path": str(Path(DATA_FILES_PATH) / "static")})]
        running.app.add_handlers(".*", looks)
        yield running


@pytest.fixture
def person(app: RunningApp, new_page: Callable[..., Page]) -> Callable[..., Page]:
    """Somebody's page of the application."""

    def make(token: str = "ann-token", path: str = "", **options: object) -> Page:
        page = new_page(extra_http_headers={"Authorization": f"Bearer {token}"}, **options)
        page.goto(app.url + PREFIX + path)
        expect(page.locator("#mlmp")).to_have_attribute("data-live", "yes")
        return page

    return make
