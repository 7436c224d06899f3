"""One's jobs in the side bar of JupyterLab."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from mlmp_spawner import units
from tests.browser.lab_extension.inside import COUNTDOWN, show_jobs, use_theme
from tests.browser.played import AXE, serious
from tests.web.harness import RunningApp
from tests.web.job_rows import Rows


def test_who_has_no_jobs_is_told_how_to_make_one(rows: Rows, open_lab: Callable[..., Page]):
    page = open_lab()
    show_jobs(page)
    expect(page.locator(".mlmp-jobs")).to_contain_text("choose Run as Job")


def test_the_panel_shows_what_a_job_prints_and_measures_while_it_runs(rows: Rows, open_lab: Callable[..., Page]):
    job = rows.add(name="watched")
    attempt = rows.attempt(job, log="begin\n")
    page = open_lab()
    show_jobs(page)
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
    show_jobs(page)
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
    use_theme(url, theme)
    page = open_lab("lab/tree/code/train.py")
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", str("Light" in theme).lower())
    show_jobs(page)
    page.locator(".mlmp-job > button").first.click()
    assert serious(page, ".mlmp-jobs") == []
    assert serious(page, COUNTDOWN) == []
    page.get_by_role("button", name="Run as Job").click()
    expect(page.get_by_label("Manifest")).to_be_visible()
    assert serious(page, ".mlmp-form") == []


def test_a_job_is_opened_read_and_cancelled_by_keyboard(rows: Rows, open_lab: Callable[..., Page]):
    job = rows.add(name="typed")
    page = open_lab()
    show_jobs(page)
    row = page.locator(f'[data-job="{job.id}"]')
    row.get_by_role("button", name="typed").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(row.get_by_role("log")).to_be_focused()
    page.keyboard.press("Tab")
    expect(row.get_by_role("button", name="Cancel the job")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(row.get_by_role("button", name="typed")).not_to_contain_text("cancelled")


def test_what_can_not_be_read_of_one_job_is_said_there(rows: Rows, open_lab: Callable[..., Page]):
    lost, fine = rows.add(name="lost"), rows.add(name="fine")
    for job in (lost, fine):
        rows.attempt(job, log="epoch 1\n")
    page = open_lab()
    answer = {"status": 404, "code": "not_found", "detail": "Its log is not kept any more."}
    page.route(f"**/jobs/{lost.id}/log*", lambda route: route.fulfill(status=404, json=answer))
    show_jobs(page)
    for job in (lost, fine):
        page.locator(f'[data-job="{job.id}"] > button').click()
    expect(page.locator(f'[data-job="{lost.id}"]')).to_contain_text("Its log is not kept any more.")
    expect(page.locator(f'[data-job="{fine.id}"]').get_by_role("log")).to_contain_text("epoch 1")
    expect(page.locator(".mlmp-jobs [role=status]")).to_have_text("")


def test_the_panel_says_that_nobody_answers_and_goes_on_afterwards(
    app: RunningApp, rows: Rows, open_lab: Callable[..., Page]
):
    page = open_lab()
    show_jobs(page)
    expect(page.locator(".mlmp-job").first).to_be_visible()
    app.call(app.go_away())
    expect(page.locator(".mlmp-jobs [role=status]")).to_have_text(re.compile("trying again"))
    expect(page.locator(".mlmp-job").first).to_be_visible()
    app.call(app.come_back())
    later = rows.add(name="later")
    expect(page.locator(f'[data-job="{later.id}"]')).to_be_visible(timeout=60_000)
    expect(page.locator(".mlmp-jobs [role=status]")).to_have_text("")
