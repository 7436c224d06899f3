"""A real JupyterLab with MLMP's extension, in a booking of which a test says when it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import insert

from mlmp_spawner import units
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR
from tests.browser.played import booked, running
from tests.databases import sqlite_copy
from tests.lab.pscan.served import TOKEN, lab
from tests.operations.conftest import catalog
from tests.web.harness import RunningApp
from tests.web.job_rows import Rows

EXTENSION = Path(sys.prefix) / "share" / "jupyter" / "labextensions" / "mlmp-lab"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tmp_path_factory.mktemp("extension"))


@pytest.fixture(scope="module")
def app(sqlite_file: Path, folder: Path) -> Iterator[RunningApp]:
    engine = make_engine(sqlite_copy(sqlite_file, folder / "mlmp.sqlite"))
    with transaction(engine) as connection:
        connection.execute(insert(users), [{"id": n, "name": who} for n, who in enumerate(("ann", "ben", "root"), 1)])
    known = catalog(gpu_a=4, gpu_b=2)
    pair = known.profiles["gpu"].model_copy(update={"name": "pair", "title": "Two A100", "units": 2})
    site = Site(engine, known.model_copy(update={"profiles": {**known.profiles, "pair": pair}}))
    now = units.now()
    catalog_sync.sync(site, now=now)
    with RunningApp(site, now - HOUR) as running:
        yield running
    engine.dispose()


@pytest.fixture(scope="module")
def rows(app: RunningApp, folder: Path) -> Rows:
    return Rows.of(app, folder / "rows")


@pytest.fixture(scope="module")
def booking(app: RunningApp) -> Reservation:
    """It began an hour ago, and goes on for another."""
    made = booked(app, start=app.now, hours=2)
    app.now = units.now()
    running(app, made)
    return made


@pytest.fixture(scope="module")
def work(folder: Path) -> Path:
    made = folder / "work"
    (made / "code").mkdir(parents=True)
    (made / "code" / "train.py").write_text("print('trained')\n")
    (made / "code" / "helper.py").write_text("x = 1\n")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    study = nbformat.v4.new_notebook(metadata=kernel, cells=[nbformat.v4.new_code_cell("1 + 1")])
    nbformat.write(study, made / "code" / "study.ipynb")
    (made / "code" / "data.csv").write_text("a,b\n")
    (made / "notes.txt").write_text("first\n")
    return made


@pytest.fixture(scope="module")
def url(app: RunningApp, booking: Reservation, rows: Rows, work: Path, folder: Path) -> Iterator[str]:
    if not (EXTENSION / "package.json").exists():
        pytest.fail("the extension is not installed: make .venv/.lab")
    told = {"MLMP_URL": f"{app.url}/", "MLMP_TOKEN": "ann-token", "MLMP_RESERVATION_ID": booking.id}
    options = ("--ServerApp.jpserver_extensions=mlmp_spawner.lab.desk=True",)
    with lab(work, folder, *options, environment=told) as found:
        yield found


@pytest.fixture
def stops_in(app: RunningApp, booking: Reservation) -> Iterator[Callable[[int], None]]:
    """Has the booking's server begin to stop in so many ms from now; afterwards in an hour again."""

    def say(ms: int) -> None:
        app.now = units.now()
        with app.client() as ann:
            end = units.to_iso(app.now + ms + app.site.stop_lead)
            answer = ann.patch(f"reservations/{booking.id}", json={"end": end})
            assert answer.status_code == 200, answer.text

    yield say
    say(HOUR)


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
