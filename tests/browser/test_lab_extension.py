"""MLMP in a real JupyterLab: until when, more time, saving before the end, running as job, the jobs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import nbformat
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import insert

from mlmp_spawner import units
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.jobs import listing
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE
from tests.browser.played import AXE, booked, running, serious
from tests.databases import sqlite_copy
from tests.lab.pscan.served import TOKEN, lab
from tests.operations.conftest import catalog
from tests.web.harness import RunningApp, until
from tests.web.job_rows import Rows

EXTENSION = Path(sys.prefix) / "share" / "jupyter" / "labextensions" / "mlmp-lab"
OWNER = {"Authorization": f"token {TOKEN}"}
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


def notice(page: Page, text: str) -> None:
    """Lab says it, in a notification."""
    expect(page.locator(".jp-toast-message, .Toastify__toast-body", has_text=text).first).to_be_visible()


def type_at_end(page: Page, text: str) -> None:
    page.locator(".jp-FileEditor:visible .cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type(text)


# -- until when, and more time ------------------------------------------------------------------------------------


def test_the_status_bar_says_how_long_the_booking_goes_on(open_lab: Callable[..., Page]):
    page = open_lab()
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"^gpu · 5\d min left$"))
    expect(page.locator(COUNTDOWN)).to_have_attribute("title", re.compile(r"^Until \d\d:\d\d\. Press to extend\.$"))


def test_the_booking_is_extended_there_by_keyboard(open_lab: Callable[..., Page], stops_in: Callable[[int], None]):
    stops_in(40 * MINUTE)
    page = open_lab()
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"^gpu · (40|39) min left$"))
    page.locator(COUNTDOWN).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Extend the Booking by 30 min")).to_be_visible()
    page.keyboard.press("Enter")
    notice(page, "Extended until")
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"^gpu · 1 h (10|9) min left$"))
    expect(page.locator(COUNTDOWN)).to_be_focused()


def test_an_extension_that_is_not_possible_is_refused_with_the_one_that_is(
    app: RunningApp, open_lab: Callable[..., Page], stops_in: Callable[[int], None]
):
    stops_in(40 * MINUTE)
    with app.client() as ann, app.client("ben-token") as ben:
        end = units.from_iso(ann.get("reservations", params={"owner": "ann"}).json()["items"][0]["end"])
        taken = []
        for node, many in (("gpu-a", 4), ("gpu-b", 2)):
            times = {"start": units.to_iso(end + 10 * MINUTE), "end": units.to_iso(end + 4 * HOUR)}
            body = {"profile": "gpu", "node": node, "units": many, **times}
            answer = ben.post("reservations", json=body)
            assert answer.status_code == 201, answer.text
            taken.append(answer.json()["id"])
        page = open_lab()
        page.locator(COUNTDOWN).click()
        page.get_by_role("menuitem", name="Extend the Booking by 1 h").click()
        notice(page, "Not extended.")
        page.get_by_role("button", name="Extend until").click()
        notice(page, "Extended until")
        expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"^gpu · (50|49) min left$"))
        for id in taken:
            ben.delete(f"reservations/{id}")


def test_a_service_that_is_away_is_said_and_found_again(app: RunningApp, open_lab: Callable[..., Page]):
    page = open_lab()
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"left$"))
    app.call(app.go_away())
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"left \(not connected\)$"))
    expect(page.locator(COUNTDOWN)).to_have_attribute("title", re.compile("trying again"))
    app.call(app.come_back())
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"left$"), timeout=60_000)


# -- before the end -----------------------------------------------------------------------------------------------


def test_a_word_comes_before_the_end_and_saves_all_when_asked(
    open_lab: Callable[..., Page], stops_in: Callable[[int], None], work: Path
):
    stops_in(9 * MINUTE)
    page = open_lab("lab/tree/notes.txt")
    expect(page.locator(COUNTDOWN)).to_have_attribute("data-near", "soon")
    notice(page, "This server stops at")
    type_at_end(page, "by hand")
    page.get_by_role("button", name="Save all").click()
    notice(page, "Saved: notes.txt.")
    assert "by hand" in (work / "notes.txt").read_text()


def test_at_the_last_warning_all_is_saved_and_a_dialog_offers_more_time(
    open_lab: Callable[..., Page], stops_in: Callable[[int], None], work: Path
):
    page = open_lab("lab/tree/notes.txt")
    type_at_end(page, "by itself")
    expect(page.locator(".jp-mod-dirty").first).to_be_attached()
    stops_in(100_000)
    page.evaluate("dispatchEvent(new Event('online'))")
    dialog = page.get_by_role("dialog").filter(has_text="This server stops soon")
    expect(dialog.get_by_role("status")).to_have_text("Saved: notes.txt.")
    assert "by itself" in (work / "notes.txt").read_text()
    expect(page.locator(COUNTDOWN)).to_have_attribute("data-near", "now")
    dialog.get_by_role("button", name="Extend by 30 min").click()
    notice(page, "Extended until")
    expect(dialog).to_have_count(0)
    expect(page.locator(COUNTDOWN)).not_to_have_attribute("data-near", "now")


# -- run as job ---------------------------------------------------------------------------------------------------


def submitted(app: RunningApp, before: set[str]) -> str:
    """The id of the job that came since."""

    def new() -> set[str]:
        with app.client() as ann:
            return {one["id"] for one in ann.get("jobs").json()["items"]} - before

    until(new)
    return new().pop()


def jobs_of(app: RunningApp) -> set[str]:
    with app.client() as ann:
        return {one["id"] for one in ann.get("jobs").json()["items"]}


def test_the_open_script_becomes_a_job_as_the_command_says(app: RunningApp, open_lab: Callable[..., Page]):
    before = jobs_of(app)
    page = open_lab("lab/tree/code/train.py")
    page.get_by_role("button", name="Run as Job").click()
    command, manifest = page.get_by_label("Command, as in a terminal"), page.get_by_label("Manifest")
    expect(command).to_have_value("mlmp job run code/train.py --code code --name train --profile gpu")
    expect(manifest).to_have_value("script: train.py\nname: train\nprofile: gpu\n")
    command.fill("mlmp job run code/train.py --code code --name better --profile gpu --hours 2 --lr 0.1")
    expect(manifest).to_have_value(re.compile(r"name: better\n.*hours: 2", re.S))
    page.get_by_role("button", name="Submit").click()
    notice(page, "Submitted better.")
    made = listing.get(app.site, submitted(app, before))
    assert (made.manifest["script"], made.manifest["arguments"]) == ("train.py", ["--lr", "0.1"])
    expect(page.locator(f'[data-job="{made.id}"] > button')).to_have_attribute("aria-expanded", "true")


def test_a_notebook_becomes_a_job_as_the_manifest_says(app: RunningApp, open_lab: Callable[..., Page]):
    before = jobs_of(app)
    page = open_lab("lab/tree/code/study.ipynb")
    page.get_by_role("button", name="Run as Job").click()
    command, manifest = page.get_by_label("Command, as in a terminal"), page.get_by_label("Manifest")
    manifest.fill("notebook: study.ipynb\nprofile: gpu\nparameters: {epochs: 3}\n")
    expect(command).to_have_value("mlmp job run code/study.ipynb --code code --profile gpu --parameter epochs=3")
    page.get_by_role("button", name="Submit").click()
    made = listing.get(app.site, submitted(app, before))
    assert made.manifest["notebook"] == "study.ipynb"
    assert made.manifest["parameters"] == {"epochs": 3}


def test_what_makes_no_sense_is_said_in_the_dialog_and_mended_there(app: RunningApp, open_lab: Callable[..., Page]):
    before = jobs_of(app)
    page = open_lab("lab/tree/code/train.py")
    page.locator(".jp-FileEditor .cm-content").click(button="right")
    page.get_by_role("menuitem", name="Run as Job").click()
    manifest, trouble = page.get_by_label("Manifest"), page.locator(".mlmp-form [role=alert]")
    manifest.fill("script: [")
    expect(trouble).to_contain_text("it is no YAML")
    manifest.fill("script: train.py\nprofile: warp\n")
    page.get_by_role("button", name="Submit").click()
    expect(trouble).to_contain_text("warp")
    assert jobs_of(app) == before
    manifest.fill("script: train.py\nprofile: gpu\n")
    page.get_by_role("button", name="Submit").click()
    submitted(app, before)


# -- jobs ---------------------------------------------------------------------------------------------------------


def test_the_panel_shows_what_a_job_prints_and_measures_while_it_runs(rows: Rows, open_lab: Callable[..., Page]):
    job = rows.add(name="watched")
    attempt = rows.attempt(job, log="begin\n")
    page = open_lab()
    page.get_by_role("tab", name="Jobs (MLMP)").click()
    row = page.locator(f'[data-job="{job.id}"]')
    row.get_by_role("button", name="watched").click()
    expect(row.get_by_role("log")).to_have_text("begin\n", use_inner_text=False)
    rows.print(attempt, "\x1b[32mstep 1\x1b[0m\n 10%\r 90%\n<b>")
    expect(row.get_by_role("log")).to_contain_text("step 1\n 90%\n<b>", use_inner_text=False)
    now = units.now()
    rows.measured(attempt, [(now + n, n, {"loss": 1 / (n + 1)}) for n in range(11)])
    expect(row.locator("figcaption")).to_have_text("loss: 0.09091 at step 10")
    expect(row.get_by_role("img", name="loss")).to_be_visible()


def test_a_job_is_cancelled_after_a_question(rows: Rows, open_lab: Callable[..., Page]):
    job = rows.add(name="unwanted")
    page = open_lab()
    page.get_by_role("tab", name="Jobs (MLMP)").click()
    row = page.locator(f'[data-job="{job.id}"]')
    row.get_by_role("button", name="unwanted").click()
    row.get_by_role("button", name="Cancel the job").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(row.get_by_role("button", name="unwanted")).to_contain_text("cancelled")


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_nothing_keeps_anybody_from_using_it(url: str, rows: Rows, open_lab: Callable[..., Page], theme: str):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: tools/npm.sh ci")
    rows.attempt(rows.add(name="seen"), log="begin\n")
    said = {"raw": json.dumps({"theme": theme})}
    httpx.put(
        f"{url}lab/api/settings/@jupyterlab/apputils-extension:themes", headers=OWNER, json=said
    ).raise_for_status()
    page = open_lab("lab/tree/code/train.py")
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", str("Light" in theme).lower())
    page.get_by_role("tab", name="Jobs (MLMP)").click()
    page.locator(".mlmp-job > button").first.click()
    assert serious(page, ".mlmp-jobs") == []
    assert serious(page, COUNTDOWN) == []
    page.get_by_role("button", name="Run as Job").click()
    expect(page.get_by_label("Manifest")).to_be_visible()
    assert serious(page, ".mlmp-form") == []
