"""The timeline by keyboard alone."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.timeline.lanes import MINE, bar, booked, rowed
from tests.operations.conftest import ben
from tests.web.harness import RunningApp


def test_a_booking_is_made_by_keyboard_alone(app: RunningApp, person: Callable[..., Page]):
    page = person()
    page.keyboard.press("b")
    form = page.get_by_role("dialog", name="Book")
    expect(form).to_be_visible()
    fields = {"units": "2", "node": "gpu-b"}
    for name, value in fields.items():
        form.locator(f"[name={name}]").focus()
        page.keyboard.type(value)
    form.locator("[name=start]").fill("2027-01-15T14:30")
    form.locator("[name=length]").focus()
    page.keyboard.type("2 h")
    expect(form).to_contain_text("2 × A100 on gpu-b, Fri 15 Jan 14:30–16:30, 2 h")
    form.get_by_role("button", name="Book").focus()
    page.keyboard.press("Enter")
    expect(page.locator(MINE)).to_be_focused()
    assert rowed(app) == [(5.5, 7.5, 2, "gpu-b")]
    page.keyboard.press("Alt+ArrowRight")
    expect(page.locator("#tl-words")).to_have_text("Fri 15 Jan 14:45–16:45")
    page.keyboard.press("Alt+Shift+ArrowRight")
    expect(page.locator(".tl-toast")).to_contain_text("Now Fri 15 Jan 14:45–17:00")
    assert rowed(app) == [(5.75, 8, 2, "gpu-b")]
    expect(page.locator(MINE)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("gpu-b")
    page.keyboard.press("Escape")
    expect(page.locator(MINE)).to_be_focused()


def test_arrows_go_from_booking_to_booking(app: RunningApp, person: Callable[..., Page]):
    first = booked(app, start=1, hours=1, node="gpu-a")
    second = booked(app, ben, start=3, hours=1, node="gpu-a")
    below = booked(app, ben, start=3, hours=2, node="gpu-b")
    page = person()
    page.locator(".tl-scroll").focus()
    for key, expected in (
        ("ArrowDown", first), ("ArrowRight", second), ("ArrowDown", below), ("ArrowUp", second), ("Home", first),
        ("End", second), ("Control+End", below), ("Control+Home", first),
    ):  # fmt: skip
        page.keyboard.press(key)
        expect(bar(page, expected)).to_be_focused()
    assert page.locator(".tl-bar[tabindex='0']").count() == 1
