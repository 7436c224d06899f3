"""The timeline by finger, and what a phone shows instead."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from mlmp_spawner.units import HOUR
from tests.browser.timeline.lanes import at, booked, row
from tests.operations.conftest import NOW, ben
from tests.web.harness import RunningApp


def test_a_finger_presses_long_to_move_and_else_scrolls(app: RunningApp, person: Callable[..., Page]):
    found = booked(app, node="gpu-a")
    page = person(has_touch=True, viewport={"width": 1024, "height": 700})
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        where = [{"x": x, "y": y} for x, y in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})

    (x, y), (to, _) = at(page, "gpu-a", 3), at(page, "gpu-a", 5)
    touch("touchStart", (x, y))
    expect(page.locator(".tl-ghost")).to_have_count(1)
    touch("touchMove", (to, y))
    touch("touchEnd")
    expect(page.locator(".tl-toast")).to_contain_text("13:00–15:00")
    assert row(app, found).start == NOW + 4 * HOUR
    touch("touchStart", (to, y))
    touch("touchMove", (to - 60, y))
    expect(page.locator(".tl-ghost")).to_have_count(0)
    touch("touchEnd")
    assert row(app, found).start == NOW + 4 * HOUR


def test_a_phone_has_the_list_with_mine_first(app: RunningApp, person: Callable[..., Page]):
    found = booked(app, start=0)
    booked(app, ben, start=1, units=2)
    page = person(viewport={"width": 390, "height": 844})
    expect(page.locator("#agenda h2").first).to_have_text("Yours")
    expect(page.locator(f"#booking-{found.id}").get_by_role("button", name="Release")).to_be_visible()
    expect(page.locator(".tl-scroll")).to_have_count(0)
    expect(page.locator("#agenda")).to_contain_text("ben")
    booked(app, ben, start=5, units=3)
    expect(page.locator("#agenda")).to_contain_text("3 × A100")
    page.locator("#tl-on").click()
    expect(page.locator("#tl-period")).to_have_text("Saturday 16 January 2027")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
