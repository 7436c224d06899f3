"""Notices as they come, in a browser: seen at once, in nobody's way, also while nobody looks."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from mlmp_spawner.operations import history
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR
from tests.browser.played import booked, serious
from tests.operations.conftest import NOW
from tests.web.harness import RunningApp
from tests.web.visitor import HOSTILE

# What the browser shows of its own can't be looked at from a page: this is the browser's part, written down.
NOTIFICATIONS = """
window.shown = [];
window.Notification = class {
  constructor(title) {
    window.shown.push(title);
    document.body.dataset.shown = window.shown.length;
  }
};
window.Notification.permission = "granted";
Object.defineProperty(document, "hidden", { get: () => window.away === true });
"""


def tell(app: RunningApp, action: str, booking: Reservation, **details: object) -> None:
    with transaction(app.site.engine) as connection:
        history.record(connection, action, actor="clock", at=app.now, reservation=booking, **details)
    app.feed.wake()


def test_a_notice_is_seen_at_once_and_takes_nothing_away(app: RunningApp, person: Callable[..., Page]):
    booking = booked(app, start=NOW + HOUR, title=HOSTILE)
    page = person(path="preferences")
    field = page.get_by_label("Booked: Here")
    field.focus()
    tell(app, "moved", booking, target=HOSTILE)
    toast = page.locator(".mlmp-toast")
    expect(toast).to_contain_text(f"Moved: A100, to {HOSTILE[:20]}")
    expect(page.locator("#bell")).to_have_attribute("aria-label", "Notices, 1 unread")
    expect(field).to_be_focused()
    assert page.locator("#toasts").get_attribute("aria-live") == "polite"
    toast.get_by_role("button", name="Close").click()
    expect(toast).to_have_count(0)
    page.locator("#bell").click()
    page.get_by_role("button", name="Mark all as read").click()
    expect(page.locator("#bell")).to_have_attribute("aria-label", "Notices")
    expect(page.get_by_text("All read")).to_be_visible()
    page.get_by_role("link", name="Moved").click()
    page.wait_for_url(f"**/bookings/{booking.id}")


def test_while_nobody_looks_the_system_shows_it(app: RunningApp, person: Callable[..., Page]):
    booking = booked(app, start=NOW + HOUR)
    page = person()
    page.add_init_script(NOTIFICATIONS)
    page.reload()
    expect(page.locator("#mlmp")).to_have_attribute("data-live", "yes")
    tell(app, "announced", booking)
    expect(page.locator(".mlmp-toast")).to_contain_text("Starts soon")
    assert page.evaluate("shown") == []
    page.evaluate("window.away = true")
    tell(app, "promoted", booking)
    expect(page.locator("body")).to_have_attribute("data-shown", "1")
    assert page.evaluate("shown[0]").startswith("You got a place: A100")


def test_the_address_of_the_calendar_stays_while_the_page_lives(app: RunningApp, person: Callable[..., Page]):
    booking = booked(app, start=NOW + HOUR)
    page = person(path="preferences")
    page.get_by_role("button", name="Make an address").click()
    address = page.get_by_label("Address of your calendar")
    expect(address).to_have_value(re.compile(r"calendar\.ics\?token=\w"))
    expect(page.locator("#mlmp")).to_have_attribute("data-live", "yes")
    tell(app, "moved", booking, target="gpu-b")
    expect(page.locator("#bell")).to_have_attribute("aria-label", "Notices, 1 unread")
    expect(address).to_be_visible()
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="End it").click()
    expect(address).to_have_count(0)
    expect(page.locator("#flash")).to_contain_text("dead")


def test_choices_by_keyboard_alone(app: RunningApp, person: Callable[..., Page]):
    page = person(path="preferences")
    box = page.get_by_label("Booked: Here")
    box.focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Save").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#flash")).to_contain_text("Saved.")
    expect(page.get_by_label("Booked: Here")).not_to_be_checked()
    expect(page.get_by_label("Moved or changed: Here")).to_be_checked()


def test_the_pages_are_for_everybody(app: RunningApp, person: Callable[..., Page]):
    booking = booked(app, start=NOW + HOUR)
    tell(app, "moved", booking, target="gpu-b")
    for options in ({}, {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}}):
        for path in ("notices", "preferences"):
            page = person(path=path, bypass_csp=True, **options)
            assert serious(page) == [], path
            overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(overflow) <= 0, path
