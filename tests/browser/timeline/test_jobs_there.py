"""Jobs on the timeline: seen as jobs, and in nobody's way."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from mlmp_spawner.units import HOUR
from tests.browser.timeline.lanes import MINE, at, drag, rowed
from tests.operations.conftest import NOW
from tests.operations.jobs.running import attempt_of, run_job
from tests.web.harness import PREFIX, RunningApp


def test_a_drag_over_a_job_that_makes_way_books_and_a_press_shows_the_job(
    app: RunningApp, person: Callable[..., Page]
):
    job = run_job(app.site, "gpu-b", now=NOW, owner="ben", units=2, length=8 * HOUR)
    page = person()
    mine = page.locator(f".tl-job[data-key^='{job.reservation}.']")
    expect(mine).to_have_attribute("aria-label", re.compile("job ben, 2 × A100, on gpu-b"))
    expect(page.locator("#tl-summary")).to_contain_text("6 of 6 free now")
    x, y = at(page, "gpu-b", 4)
    page.mouse.click(x, y)
    expect(page.get_by_role("dialog")).to_contain_text("for any booking of these units")
    page.keyboard.press("Escape")
    drag(page, (x, y), at(page, "gpu-b", 6), drop=False)
    expect(page.locator(".tl-ghost")).to_contain_text("✓ free")
    page.mouse.up()
    page.get_by_role("dialog", name="Book").get_by_role("button", name="Book").click()
    expect(page.locator(MINE)).to_have_count(1)
    assert [(start, end, node) for start, end, _, node in rowed(app)][-1] == (4, 6, "gpu-b")
    assert attempt_of(app.site, job).kill_at == NOW + 4 * HOUR


def test_ones_own_job_leads_to_its_page_and_can_not_be_dragged(app: RunningApp, person: Callable[..., Page]):
    job = run_job(app.site, "gpu-b", now=NOW, owner="ann", units=2, length=8 * HOUR)
    page = person()
    page.mouse.click(*at(page, "gpu-b", 4))
    link = page.get_by_role("dialog").get_by_role("link", name="Open")
    expect(link).to_have_attribute("href", f"{PREFIX}bookings/{job.reservation}")
    expect(page.get_by_role("dialog").get_by_role("button", name="Cancel booking")).to_have_count(0)
