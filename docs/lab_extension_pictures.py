"""JupyterLab with MLMP's extension, in a booking that goes on for a while, for the pictures of the documentation."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, ViewportSize
from sqlalchemy import insert

from mlmp_spawner import units
from mlmp_spawner.operations import admission, booking, catalog_sync
from mlmp_spawner.operations.admission import StartOptions
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import Accelerator, Catalog, Node, Profile
from mlmp_spawner.store import tables
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE
from tests.databases import sqlite_template
from tests.lab.pscan.served import TOKEN, lab
from tests.web.harness import RunningApp
from tests.web.job_rows import Rows

IMAGES = Path(__file__).parent / "images"
SCREEN: ViewportSize = {"width": 1280, "height": 720}
GPU = "nvidia.com/gpu"
SCRIPT = """\
import argparse

import torch

from data import loaders
from model import ResNet

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--epochs", type=int, default=30)
asked = parser.parse_args()

model = ResNet(18).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=asked.lr, momentum=0.9)
"""


def _catalog() -> Catalog:
    node = Node(name="atlas", accelerators=(Accelerator(resource=GPU, count=4, model="A100-80GB"),))
    a100 = Profile(
        name="a100",
        title="A100 · 80 GB",
        resource=GPU,
        units=1,
        max_units=4,
        min_duration=MINUTE,
        max_duration=9 * DAY,
    )
    return Catalog(nodes={"atlas": node}, profiles={"a100": a100})


@contextmanager
def _service(folder: Path) -> Iterator[tuple[RunningApp, str]]:
    """It, and the id of Ann's booking, which goes on for 72 minutes."""
    sqlite_template(folder / "mlmp.sqlite")
    engine = make_engine(f"sqlite:///{folder / 'mlmp.sqlite'}")
    with transaction(engine) as connection:
        connection.execute(insert(tables.users), [{"id": 1, "name": "ann"}])
    site, now, ann = Site(engine, _catalog()), units.now(), Actor("ann")
    catalog_sync.sync(site, now=now)
    with RunningApp(site, now - HOUR) as app:
        request = BookingRequest("a100", start=app.now, end=now + 73 * MINUTE, units=1)
        made = booking.book(site, request, actor=ann, now=app.now)
        app.now = now
        admission.admit(site, actor=ann, server=made.server, options=StartOptions(reservation=made.id), now=now)
        admission.started(site, made.id, now=now)
        yield app, made.id
    engine.dispose()


def _jobs(app: RunningApp, folder: Path) -> None:
    rows = Rows.of(app, folder)
    facts = {"created_at": app.now - HOUR, "queued_at": app.now - HOUR}
    rows.add(name="ablation", **facts)
    job = rows.add(name="resnet-18", **facts)
    lines = "".join(f"epoch {n:2d}  loss {2.3 * math.exp(-n / 9) + 0.1:.3f}\n" for n in range(22))
    attempt = rows.attempt(job, log=lines)
    loss = [(app.now + n, n, {"loss": 2.3 * math.exp(-n / 9) + 0.1}) for n in range(22)]
    rows.measured(attempt, [*loss, *((app.now + n, n, {"acc": 0.93 - 0.8 * math.exp(-n / 7)}) for n in range(22))])


@contextmanager
def served() -> Iterator[tuple[str, RunningApp, str]]:
    """JupyterLab's address, the service behind it, the booking's id."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name) / "home"
        (work / "code").mkdir(parents=True)
        for file in ("train.py", "model.py", "data.py"):
            (work / "code" / file).write_text(SCRIPT)
        with _service(Path(name)) as (app, id):
            _jobs(app, Path(name) / "rows")
            told = {"MLMP_URL": f"{app.url}/", "MLMP_TOKEN": "ann-token", "MLMP_RESERVATION_ID": id}
            desk = "--ServerApp.jpserver_extensions=mlmp_spawner.lab.desk=True"
            with lab(work, Path(name), desk, environment=told) as url:
                yield url, app, id


def _countdown(page: Page) -> None:
    page.locator(".mlmp-countdown").click()
    page.get_by_role("menu").wait_for()


def _run(page: Page) -> None:
    page.get_by_role("button", name="Run as Job").click()
    page.get_by_label("Manifest").wait_for()


def _panel(page: Page) -> None:
    page.get_by_role("tab", name="Jobs (MLMP)").click()
    page.locator(".mlmp-job > button", has_text="resnet-18").click()
    page.locator(".mlmp-plot").first.wait_for()


def _warning(page: Page) -> None:
    page.get_by_role("dialog").get_by_text("Saved: ").wait_for()


def photograph_lab_extension(browser: Browser, names: set[str]) -> None:
    """Countdown, run as job, the panel, and the last warning, which comes last: it is for all who are there."""
    with served() as (url, app, id):
        for name, prepare, theme in (
            ("lab-countdown", _countdown, "light"), ("lab-run", _run, "light"), ("lab-jobs", _panel, "dark"),
            ("lab-ending", _warning, "light"),
        ):  # fmt: skip
            if names and name not in names:
                continue
            _prefer(url, theme)
            context = browser.new_context(viewport=SCREEN, locale="en-GB", timezone_id="Europe/Zurich")
            page = context.new_page()
            page.goto(f"{url}api/status?token={TOKEN}")
            page.goto(f"{url}lab/tree/code/train.py?reset")
            page.locator(".mlmp-countdown", has_text="left").wait_for()
            if prepare is _warning:
                page.locator(".jp-FileEditor .cm-content").click()
                page.keyboard.press("Control+End")
                page.keyboard.type("\n")
                _end_soon(app, id)
                page.evaluate("dispatchEvent(new Event('online'))")
            prepare(page)
            page.wait_for_timeout(800)
            page.screenshot(path=IMAGES / f"{name}-desktop-{theme}.png")
            context.close()


def _prefer(url: str, theme: str) -> None:
    said = {
        "themes": f'{{"theme": "JupyterLab {theme.title()}"}}',
        "notification": '{"fetchNews": "false"}',
    }
    for name, raw in said.items():
        address = f"{url}lab/api/settings/@jupyterlab/apputils-extension:{name}"
        httpx.put(address, headers={"Authorization": f"token {TOKEN}"}, json={"raw": raw}).raise_for_status()


def _end_soon(app: RunningApp, id: str) -> None:
    app.now = units.now()
    with app.client() as ann:
        end = units.to_iso(app.now + 118_000 + app.site.stop_lead)
        ann.patch(f"reservations/{id}", json={"end": end}).raise_for_status()
