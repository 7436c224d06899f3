"""MLMP in a real JupyterLab: until when, more time, saving before the end, running as job, the jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import insert, update

from mlmp_spawner import units
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.jobs import listing
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE, SECOND
from tests.browser.played import AXE, booked, running, serious
from tests.databases import sqlite_copy
from tests.lab.pscan.served import TOKEN, lab
from tests.operations.conftest import catalog
from tests.web.harness import RunningApp, until
from tests.web.job_rows import Rows

EXTENSION = Path(__file__).resolve().parents[2] / "lab_extension" / "mlmp_lab"
COUNTDOWN = ".mlmp-countdown"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tmp_path_factory.mktemp("extension"))


@pytest.fixture(scope="module")
def app(sqlite_file: Path, folder: Path) -> Iterator[RunningApp]:
    engine = make_engine(sqlite_copy(sqlite_file, folder / "mlmp.sqlite"))
    with transaction(engine) as connection:
        connection.execute(insert(users), [{"id": n, "name": who} for n, who in enumerate(("ann", "ben", "root"), 1)])
    site = Site(engine, catalog(gpu_a=4, gpu_b=2))
    now = units.now()
    catalog_sync.sync(site, now=now)
    with RunningApp(site, now) as running:
        yield running
    engine.dispose()


@pytest.fixture(scope="module")
def rows(app: RunningApp, folder: Path) -> Rows:
    return Rows.of(app, folder / "rows")


@pytest.fixture(scope="module")
def booking(app: RunningApp) -> Reservation:
    made = booked(app, start=app.now, hours=1)
    running(app, made)
    return made


@pytest.fixture(scope="module")
def work(folder: Path) -> Path:
    made = folder / "work"
    (made / "code").mkdir(parents=True)
    (made / "code" / "train.py").write_text("print('trained')\n")
    (made / "code" / "helper.py").write_text("x = 1\n")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")]), made / "code" / "study.ipynb")
    (made / "notes.txt").write_text("first\n")
    return made


@pytest.fixture(scope="module")
def url(app: RunningApp, booking: Reservation, rows: Rows, work: Path, folder: Path) -> Iterator[str]:
    if not (EXTENSION / "labextension" / "package.json").exists():
        pytest.fail("the extension is not built: make .venv/.lab")
    told = {"MLMP_URL": f"{app.url}/", "MLMP_TOKEN": "ann-token", "MLMP_RESERVATION_ID": booking.id}
    options = ("--ServerApp.jpserver_extensions=mlmp_spawner.lab.desk=True",
               f"--LabApp.extra_labextensions_path={EXTENSION}")  # fmt: skip
    with lab(work, folder, *options, environment=told) as found:
        yield found


@pytest.fixture
def until_in(app: RunningApp, booking: Reservation) -> Iterator[Callable[[int], None]]:
    """Has the booking's server stop in so many ms from now."""

    def set_to(ms: int) -> None:
        with app.site.engine.begin() as connection:
            ...

    yield set_to


@pytest.fixture
def open_lab(url: str, new_page: Callable[..., Page]) -> Callable[..., Page]:
    """JupyterLab in the owner's browser."""

    def make(path: str = "lab", **options: object) -> Page:
        page = new_page(**options)
        page.goto(f"{url}api/status?token={TOKEN}")
        page.goto(f"{url}{path}{'&' if '?' in path else '?'}reset")
        expect(page.locator("#jp-main-dock-panel")).to_be_visible(timeout=60_000)
        return page

    return make


def test_the_status_bar_says_how_long_the_booking_goes_on(open_lab: Callable[..., Page]):
    page = open_lab()
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"^gpu · 5\d min left$"))
    expect(page.locator(COUNTDOWN)).to_have_attribute("title", re.compile(r"^Until \d\d:\d\d\. Press to extend\.$"))
