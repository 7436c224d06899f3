"""The pages of scans in a browser: the best is found, by keyboard and on a phone; rows are retried and cancelled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import read
from tests.browser.played import AXE, serious, settled
from tests.operations.conftest import NOW
from tests.web.harness import RunningApp
from tests.web.job_parts import SLEEP
from tests.web.job_rows import Rows

Person = Callable[..., Page]
LOSS = (0.41, 0.28, 0.35, 0.12, 0.9, 0.5)
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def rows(app: RunningApp, tmp_path: Path) -> Rows:
    return Rows.of(app, tmp_path)


@pytest.fixture
def scan(app: RunningApp, rows: Rows) -> str:
    """Of six rows four succeeded, one failed, one waits; the lowest loss has row 4."""
    asked = {
        "manifest": SLEEP, "parameters": {"lr": [0.1, 0.01, 0.001], "opt": ["sgd", "adam"]}, "name": "rates",
        "out": "runs/lr={lr}/{opt}",
    }  # fmt: skip
    with app.client("ann-token") as client:
        answer = client.post("scans", json=asked)
        assert answer.status_code == 201, answer.text
    for row, loss in zip(answer.json()["rows"][:5], LOSS, strict=False):
        job = find(app, row["job"])
        rows.measured(rows.attempt(job, ended_at=NOW, reason="succeeded"), [(NOW, 1, {"loss": loss, "acc": 1 - loss})])
        rows.end(job, outcome="failed" if row["row"] == 4 else "succeeded", reason="exit_status")
    return str(answer.json()["id"])


def find(app: RunningApp, job_id: str) -> Job:
    with read(app.site.engine) as connection:
        found = store.find(connection, job_id)
    assert found
    return found


def job_of(app: RunningApp, scan: str, row: int) -> str:
    with app.client("ann-token") as client:
        return str(client.get(f"scans/{scan}").json()["rows"][row]["job"])


def column(page: Page, name: str) -> list[str]:
    """The cells under a heading."""
    heads = [
        text.strip(" ▴▾\n").split("\n")[0].strip() for text in page.locator("#scan-table thead th").all_inner_texts()
    ]
    return page.locator(f"#scan-table tbody tr > :nth-child({heads.index(name) + 1})").all_inner_texts()


def test_the_best_is_found_and_marked_and_leads_to_its_job(scan: str, person: Person):
    page = person(path=f"scans/{scan}?metric=loss")
    expect(page.locator("#scan-state")).to_contain_text("1 failed, 1 queued, 4 succeeded of 6 rows")
    expect(page.locator("#scan-best")).to_contain_text("by lowest loss: row 4, lr 0.01, opt adam")
    expect(page.locator(".scan-best-row")).to_have_attribute("data-row", "3")
    page.get_by_role("link", name="acc", exact=True).first.click()
    expect(page.locator("#scan-best")).to_contain_text("by highest acc: row 4")
    page.get_by_role("link", name="lowest is best").click()
    expect(page.locator("#scan-best")).to_contain_text("by lowest acc: row 1")
    page.locator("#scan-best a").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("sleep-1")


def test_the_table_is_sorted_by_any_column_in_both_directions(scan: str, person: Person):
    page = person(path=f"scans/{scan}?metric=loss")
    page.locator("#scan-table thead").get_by_role("link", name="loss").click()
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("loss")
    assert column(page, "loss") == ["0.12", "0.28", "0.35", "0.41", "0.9", "–"]
    page.locator("#scan-table thead").get_by_role("link", name="loss").click()
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("loss")
    assert column(page, "loss") == ["0.9", "0.41", "0.35", "0.28", "0.12", "–"]
    page.locator("#scan-table thead").get_by_role("link", name="opt").click()
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("opt")
    assert column(page, "opt") == ["adam"] * 3 + ["sgd"] * 3


def test_lines_are_read_one_after_the_other_by_keyboard(scan: str, app: RunningApp, rows: Rows, person: Person):
    page = person(path=f"scans/{scan}?metric=loss")
    page.locator("[data-scan-plot]").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#scan-read")).to_contain_text("row 1: lr 0.1, opt sgd")
    expect(page.locator("tr.scan-row-picked")).to_have_attribute("data-row", "0")
    with page.expect_response(lambda answer: f"scans/{scan}" in answer.url):
        rows.tell(find(app, job_of(app, scan, 5)), "job_ended")
    settled(page)  # and what is read stays
    expect(page.locator("#scan-read")).to_contain_text("row 1: lr 0.1, opt sgd")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#scan-read")).to_contain_text("row 5:")
    page.keyboard.press("Escape")
    expect(page.locator(".scan-picked")).to_have_count(0)
    expect(page.locator("#scan-read")).to_be_empty()
    page.locator("#row-1 a").focus()
    expect(page.locator(".scan-line.scan-picked")).to_have_attribute("data-row", "1")


def test_the_failed_are_retried_and_the_choice_stays(scan: str, app: RunningApp, person: Person):
    page = person(path=f"scans/{scan}?metric=acc&low=1")
    page.get_by_role("button", name="Retry 1 that failed").click()
    expect(page.locator("#done")).to_have_text("Submitted again.")
    expect(page.locator("#scan-state")).to_contain_text("2 queued, 4 succeeded")
    expect(page.locator("#scan-best")).to_contain_text("by lowest acc")
    expect(page.get_by_role("button", name="that failed")).to_have_count(0)


def test_all_is_cancelled_only_after_a_second_word(scan: str, person: Person):
    page = person(path=f"scans/{scan}")
    expect(page.get_by_role("button", name="End this scan")).to_be_hidden()
    page.get_by_text("Cancel all", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#cancel-scan")).to_contain_text("1 that wait or run are ended")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#done")).to_contain_text("Cancelled")
    expect(page.locator("#scan-state")).to_contain_text("1 cancelled, 1 failed, 4 succeeded")
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)


def test_results_are_downloaded_and_browsed(scan: str, person: Person):
    page = person(path=f"scans/{scan}")
    expect(page.locator("#csv")).to_have_attribute("download", f"scan-{scan}.csv")
    text = page.locator("#csv").evaluate("async (link) => (await fetch(link.href)).text()")
    assert text.splitlines()[4].startswith('4,0.01,"adam","succeeded"')
    link = page.locator("#pscan").get_attribute("href") or ""
    asked = httpx.URL(link)
    assert asked.path == "/hub/user-redirect/pscan"
    assert dict(asked.params) == {"root": "~/runs", "pattern": "lr={lr}/{opt}/{file}"}


def test_what_ends_meanwhile_is_there_without_a_reload(scan: str, app: RunningApp, rows: Rows, person: Person):
    page = person(path=f"scans/{scan}?metric=loss")
    page.evaluate("window.stayed = true")
    job = find(app, job_of(app, scan, 5))
    rows.measured(rows.attempt(job, ended_at=NOW, reason="succeeded"), [(NOW, 1, {"loss": 0.01})])
    rows.end(job, outcome="succeeded", reason="exit_status")
    rows.tell(job, "job_ended")
    expect(page.locator("#scan-best")).to_contain_text("row 6")
    assert page.evaluate("window.stayed")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, {"width": 1280, "height": 800}], ids=["phone", "desktop"])
def test_a_scan_is_for_everybody(scan: str, person: Person, theme: str, size: dict[str, int]):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: tools/npm.sh ci")
    page = person(
        path=f"scans/{scan}?metric=loss", viewport=size, color_scheme=theme, bypass_csp=True, reduced_motion="reduce"
    )
    assert serious(page) == []
    page.get_by_text("Cancel all", exact=True).click()
    assert serious(page) == []
    page.keyboard.press("Escape")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    cells = page.locator("#row-3 > *")
    for number in range(3):  # the row, its state and what one judges by, before any scrolling
        box = cells.nth(number).bounding_box()
        assert box and box["x"] + 40 < size["width"]


def test_who_has_no_scan_is_shown_how_the_first_is_made(rows: Rows, person: Person):
    page = person(path="scans", viewport=PHONE)
    expect(page.locator("#none")).to_contain_text("You have no scans yet")
    expect(page.locator("#none code")).to_contain_text("mlmp scan run train.py")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_list_leads_to_each(scan: str, person: Person):
    page = person(path="scans")
    expect(page.locator(f"#scan-{scan}")).to_contain_text("6 rows over lr, opt")
    page.get_by_role("link", name="rates").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Scan rates")
