"""TensorBoard in a real JupyterLab, with real event files: from folders, the palette and a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import FrameLocator, Page, expect

from mlmp_spawner import units
from tests.browser.lab_extension.inside import choose, show_jobs, use_theme
from tests.browser.played import AXE, serious
from tests.lab.desk.boards import write_events
from tests.lab.pscan.served import TOKEN
from tests.web.job_rows import Rows

START = 120_000
"""ms within which TensorBoard comes up on a busy machine."""


@pytest.fixture(scope="module", autouse=True)
def _events(work: Path) -> None:
    for lr in ("0.1", "0.01"):
        write_events(work / "runs" / f"lr={lr}")


def inside(page: Page, name: str) -> FrameLocator:
    """What TensorBoard shows."""
    return page.frame_locator(f'iframe[title="TensorBoard of {name}"]')


def shows(board: FrameLocator, *runs: str) -> None:
    """A card with the curve, and the runs that are in it."""
    expect(board.locator("scalar-card", has_text="loss").first).to_be_visible(timeout=START)
    for run in runs:
        expect(board.locator("runs-table, runs-selector").get_by_text(run, exact=True).first).to_be_visible()


def test_a_folder_opens_in_tensorboard_by_its_menu(open_lab: Callable[..., Page]):
    page = open_lab()
    page.locator(".jp-DirListing-item", has_text="runs").click(button="right")
    page.get_by_text("Open in TensorBoard").click()
    shows(inside(page, "runs"), "lr=0.1", "lr=0.01")


def test_the_folder_one_is_in_opens_by_the_palette(open_lab: Callable[..., Page]):
    page = open_lab("lab/tree/runs")
    expect(page.locator(".jp-DirListing-item", has_text="lr=0.01")).to_be_visible()
    choose(page, "TensorBoard of the Current Folder")
    shows(inside(page, "runs"), "lr=0.1", "lr=0.01")


def test_a_job_opens_from_the_panel(rows: Rows, folder: Path, open_lab: Callable[..., Page]):
    job = rows.add(name="trained")
    rows.attempt(job, log="begin\n")
    write_events(folder / "mlmp-jobs" / job.id / "logs")
    page = open_lab()
    show_jobs(page)
    row = page.locator(f'[data-job="{job.id}"]')
    row.get_by_role("button", name="trained").click()
    row.get_by_role("button", name="TensorBoard").click()
    shows(inside(page, "trained"), "logs")


def test_it_is_there_again_after_a_reload(open_lab: Callable[..., Page]):
    page = open_lab("lab/tree/runs")
    expect(page.locator(".jp-DirListing-item", has_text="lr=0.01")).to_be_visible()
    choose(page, "TensorBoard of the Current Folder")
    shows(inside(page, "runs"))
    with page.expect_response(lambda one: one.request.method == "PUT" and "/workspaces/" in one.url, timeout=START):
        page.locator(".jp-DirListing-item").first.click()
    page.reload()
    inside(page, "runs").get_by_role("button", name="Open TensorBoard").click(timeout=START)
    shows(inside(page, "runs"))


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_what_can_not_be_opened_is_said_in_the_colours_of_jupyterlab(
    url: str, rows: Rows, open_lab: Callable[..., Page], theme: str
):
    use_theme(url, theme)
    job = rows.add(name="early")
    rows.attempt(job, log="begin\n", started_at=units.now())
    page = open_lab()
    show_jobs(page)
    row = page.locator(f'[data-job="{job.id}"]')
    row.get_by_role("button", name="early").click()
    row.get_by_role("button", name="TensorBoard").click()
    refused = inside(page, "early")
    expect(refused.get_by_role("alert")).to_contain_text("A job makes its own when it starts", timeout=START)
    expect(refused.get_by_role("button", name="Try again")).to_be_visible()
    expect(refused.locator("html")).to_have_attribute("data-theme", "dark" if "Dark" in theme else "light")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_keeps_anybody_from_reading_why_not_on_a_phone_too(
    url: str, new_page: Callable[..., Page], theme: str
):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: tools/npm.sh ci")
    page = new_page(viewport={"width": 390, "height": 844}, color_scheme=theme)
    page.goto(f"{url}api/status?token={TOKEN}")
    page.goto(f"{url}mlmp/tensorboard?path=runs/{'a-long-name-' * 8}&wait=1")
    assert serious(page, "main") == []
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Open TensorBoard")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("There is no folder")
    assert serious(page, "main") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
