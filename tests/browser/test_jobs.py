"""The pages of jobs in a browser: the log as it is printed, numbers under the pointer, by keyboard too."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from mlmp_spawner.rules.job_queue import Outlook, Why
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.units import HOUR, SECOND
from mlmp_spawner.web import job_views
from tests.browser.played import settled
from tests.operations.conftest import NOW
from tests.web.harness import RunningApp, until
from tests.web.job_rows import Rows

Person = Callable[..., Page]


@pytest.fixture
def rows(app: RunningApp, tmp_path: Path) -> Rows:
    return Rows.of(app, tmp_path)


def measuring(rows: Rows, name: str, slope: float = 1.0) -> Job:
    """A job that is over and measured a straight line."""
    job = rows.add(name=name)
    attempt = rows.attempt(job, ended_at=NOW, reason="succeeded")
    rows.measured(attempt, [(NOW + n, n, {"loss": slope * n}) for n in range(11)])
    rows.end(job, outcome="succeeded", reason="succeeded")
    return job


# -- the log ------------------------------------------------------------------------------------------------------


def test_what_is_printed_appears_without_a_reload_as_a_terminal_shows_it(rows: Rows, person: Person):
    job = rows.add()
    attempt = rows.attempt(job, log="begin\n")
    page = person(path=f"jobs/{job.id}")
    page.evaluate("window.stayed = true")
    log = page.locator("#log")
    expect(log).to_have_text("begin\n", use_inner_text=False)
    rows.print(attempt, "\x1b[32mstep 1\x1b[0m\n 10%\r")
    expect(log).to_contain_text("10%")
    rows.print(attempt, " 50%\r 90%")
    expect(log).to_contain_text("90%")
    rows.print(attempt, "\rdone <b>\n")
    expect(log).to_contain_text("done <b>")
    assert log.evaluate("log => log.textContent") == "begin\nstep 1\ndone <b>\n"
    assert page.evaluate("window.stayed")


def test_an_empty_log_says_that_it_will_be_filled(rows: Rows, person: Person):
    job = rows.add()
    attempt = rows.attempt(job)
    page = person(path=f"jobs/{job.id}")
    hint = "log => getComputedStyle(log, '::before').content"
    assert "what it prints appears here" in page.locator("#log").evaluate(hint)
    rows.print(attempt, "x\n")
    expect(page.locator("#log")).to_have_text("x")
    assert page.locator("#log").evaluate(hint) == "none"


def test_who_scrolls_up_reads_in_peace_and_follows_again_at_the_end(rows: Rows, person: Person):
    job = rows.add()
    attempt = rows.attempt(job, log="".join(f"line {n}\n" for n in range(300)))
    page = person(path=f"jobs/{job.id}")
    log, follow = page.locator("#log"), page.get_by_label("Follow")
    away = "log => log.scrollHeight - log.scrollTop - log.clientHeight"
    until(lambda: log.evaluate(away) < 5)
    log.evaluate("log => { log.scrollTop = 100; }")
    expect(follow).not_to_be_checked()
    rows.print(attempt, "more\n" * 50)
    expect(log).to_contain_text("more")
    assert log.evaluate("log => log.scrollTop") == 100
    follow.check()
    until(lambda: log.evaluate(away) < 5)
    rows.print(attempt, "and more\n" * 50)
    expect(log).to_contain_text("and more")
    until(lambda: log.evaluate(away) < 5)
    expect(follow).to_be_checked()


def test_the_log_of_the_next_try_takes_the_place_of_the_last_ones(rows: Rows, app: RunningApp, person: Person):
    job = rows.add()
    first = rows.attempt(job, log="first\n")
    page = person(path=f"jobs/{job.id}")
    expect(page.locator("#log")).to_have_text("first")
    rows.change_attempt(first, ended_at=NOW, reason="preempted")
    rows.tell(job, "job_requeued")
    expect(page.locator("#job")).to_contain_text("it made way for a booking")
    expect(page.get_by_label("Follow")).to_be_hidden()
    second = rows.attempt(job, "gpu-b", log="second\n")
    rows.tell(job, "job_running")
    expect(page.locator("#log-head")).to_have_text("Log of try 2")
    expect(page.locator("#log")).to_have_text("second")
    rows.print(second, "goes on\n")
    expect(page.locator("#log")).to_contain_text("goes on")


def test_a_connection_that_is_lost_goes_on_where_it_was(rows: Rows, app: RunningApp, person: Person):
    job = rows.add()
    attempt = rows.attempt(job, log="one\n")
    page = person(path=f"jobs/{job.id}")
    rows.print(attempt, "two\n")
    expect(page.locator("#log")).to_contain_text("two")
    page.context.set_offline(True)
    app.call(app._server.close_all_connections())
    rows.print(attempt, "three\n")
    page.context.set_offline(False)
    expect(page.locator("#log")).to_contain_text("three")
    assert page.locator("#log").evaluate("log => log.textContent") == "one\ntwo\nthree\n"


def test_a_long_reason_breaks_no_word_beside_it(rows: Rows, person: Person):
    job = rows.add()
    attempt = rows.attempt(job, ended_at=NOW, reason="exit_status", exit_status=1, message="no such data set " * 20)
    rows.end(job, outcome="failed", reason="exit_status", exit_status=1)
    row = person(path=f"jobs/{job.id}").locator(f"#try-{attempt.number}")
    lines = "cell => { const all = new Range(); all.selectNodeContents(cell); return all.getClientRects().length; }"
    assert row.locator("[data-label='How it went']").evaluate(lines) > 1
    assert row.locator("[data-label=On] span").evaluate("name => name.getClientRects().length") == 1
    assert row.locator("[data-label=Log] a").evaluate("link => link.getClientRects().length") == 1


# -- the queue ----------------------------------------------------------------------------------------------------


def test_the_queue_is_right_by_itself_and_keeps_what_is_chosen(
    rows: Rows, person: Person, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(job_views.LOOK_AGAIN, "queued", SECOND)  # though nobody tells of it
    job, other = rows.add(name="mine"), measuring(rows, "old")
    rows.outlook[job.id] = Outlook(NOW + HOUR, Why("in_use"))
    page = person(path="jobs?state=all")
    row = page.locator(f"#job-{job.id}")
    expect(row).to_contain_text("starts about 10:00")
    page.locator(f"#pick-{other.id}").check()
    rows.attempt(job, started_at=NOW)
    rows.change(job, version=2)
    expect(row).to_contain_text("running", timeout=30_000)
    expect(page.locator(f"#pick-{other.id}")).to_be_checked()
    expect(page.locator("#compare-help")).to_have_text("1 chosen")


def test_two_chosen_jobs_are_compared_by_keyboard(rows: Rows, person: Person):
    one, other = measuring(rows, "flat", 1), measuring(rows, "steep", 3)
    page = person(path="jobs?state=all")
    expect(page.locator("#compare-button")).to_be_disabled()
    for job in (one, other):
        page.locator(f"#pick-{job.id}").focus()
        page.keyboard.press("Space")
    page.locator("#compare-button").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Compare jobs")
    expect(page.locator(".job-legend li")).to_have_count(2)
    page.wait_for_load_state()  # the page is there before its scripts are
    page.locator("#legend-2 a").first.focus()
    expect(page.locator(".job-picked")).to_have_attribute("data-number", "2")
    plot = page.locator(".job-plot-lines").first
    plot.focus()
    page.keyboard.press("End")
    expect(page.locator(".job-plot-read").first).to_have_text(re.compile("^step 10 · "))


def test_a_running_job_is_cancelled_after_one_was_told_what_is_lost(rows: Rows, person: Person):
    job = rows.add(name="long")
    rows.attempt(job)
    page = person(path="jobs")
    page.locator(f"#cancel-{job.id} summary").click()
    expect(page.locator(f"#cancel-{job.id}")).to_contain_text("It gets 1 min to write a checkpoint")
    page.get_by_role("button", name="End this job").click()
    expect(page.locator("#done")).to_contain_text("Ending: long")
    expect(page.locator(f"#cancel-{job.id}")).to_have_count(0)
    assert rows.find(job).cancel_asked_at == NOW


# -- plots --------------------------------------------------------------------------------------------------------


def test_a_plot_says_its_values_under_the_pointer_and_by_keyboard(rows: Rows, person: Person):
    job = measuring(rows, "straight", 2)
    page = person(path=f"jobs/{job.id}")
    plot, said = page.locator("#plot-metric-1 .job-plot-lines"), page.locator("#plot-metric-1 .job-plot-read")
    box = plot.bounding_box()
    assert box is not None
    plot.hover(position={"x": box["width"] / 2, "y": 60})
    expect(said).to_have_text("step 5 · 10")
    plot.focus()
    page.keyboard.press("Home")
    expect(said).to_have_text("step 0 · 0")
    page.keyboard.press("ArrowRight")
    expect(said).to_have_text("step 1 · 2")
    page.get_by_text("As a table").click()
    expect(said).to_have_text("")


def test_a_plot_grows_while_it_is_read(rows: Rows, person: Person):
    job = rows.add()
    attempt = rows.attempt(job)
    rows.measured(attempt, [(NOW + n, n, {"loss": float(n)}) for n in range(11)])
    page = person(path=f"jobs/{job.id}")
    plot, said = page.locator("#plot-metric-1 .job-plot-lines"), page.locator("#plot-metric-1 .job-plot-read")
    plot.focus()
    page.keyboard.press("Home")
    expect(said).to_have_text("step 0 · 0")
    rows.measured(attempt, [(NOW + n, n, {"loss": float(n)}) for n in range(11, 21)])
    expect(plot).to_have_attribute("aria-label", re.compile("20 at step 20"))
    settled(page)
    expect(said).to_have_text("step 0 · 0")
    expect(plot).to_be_focused()
    page.keyboard.press("End")
    expect(said).to_have_text("step 20 · 20")
