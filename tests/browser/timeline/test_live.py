"""The timeline while things change, and its address."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from mlmp_spawner.operations import changes
from tests.browser.timeline.lanes import at, bar, booked, drag
from tests.operations.conftest import ben
from tests.web.harness import RunningApp


def test_a_second_browser_sees_it_within_a_second_and_keeps_focus_and_scroll(
    app: RunningApp, person: Callable[..., Page]
):
    mine = booked(app, node="gpu-b")
    page, other = person(viewport={"width": 700, "height": 420}), person("ben-token")
    bar(page, mine).focus()
    page.evaluate("document.querySelector('.tl-scroll').scrollBy(40, 20)")
    page.evaluate("window.where = document.querySelector('.tl-scroll').scrollLeft")
    theirs = booked(app, ben, start=5, node="gpu-b")
    expect(bar(page, theirs)).to_be_visible(timeout=1000)
    expect(bar(other, theirs)).to_have_class(re.compile("tl-mine"), timeout=1000)
    expect(other.locator("#tl-teach")).to_have_count(0)
    x, y = at(other, "gpu-b", 6, 0)
    drag(other, (x, y), (at(other, "gpu-b", 8)[0], y))
    expect(other.locator(".tl-toast")).to_contain_text("Now Fri")
    expect(bar(page, theirs)).to_have_attribute("aria-label", re.compile("16:00–18:00"), timeout=1000)
    expect(page.locator("#tl-summary")).to_contain_text("6 of 6 free now, 5 from 11:00")
    changes.cancel(app.site, theirs.id, actor=ben, now=app.now)
    expect(bar(page, theirs)).to_have_count(0, timeout=1000)
    expect(bar(page, mine)).to_be_focused()
    assert page.evaluate("window.where === document.querySelector('.tl-scroll').scrollLeft")


def test_the_address_holds_the_view(app: RunningApp, person: Callable[..., Page]):
    found = booked(app, start=30)
    page = person()
    expect(bar(page, found)).to_have_count(0)
    page.get_by_role("link", name="Later").click()
    expect(bar(page, found)).to_be_visible()
    page.get_by_role("link", name="Week").click()
    expect(page.locator("#tl-period")).to_have_text("16 – 22 January 2027")
    expect(page.locator(".tl-tick-day")).to_have_count(7)
    assert "date=2027-01-16" in page.url and "view=week" in page.url
    page.go_back()
    expect(page.locator("#tl-period")).to_have_text("Saturday 16 January 2027")
    page.get_by_role("link", name="Today").click()
    expect(bar(page, found)).to_have_count(0)
