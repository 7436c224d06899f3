"""The page of a course's guests in the browser: codes by the keyboard, on a phone, in the dark."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from mlmp_spawner.operations.courses import courses, guests
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.units import DAY
from mlmp_spawner.web.context import WebSettings
from tests.browser.played import AXE, serious
from tests.operations.conftest import admin
from tests.web.harness import RunningApp

COURSE = {"name": "ml", "title": "Deep Learning, autumn 2026", "profile": "gpu", "seats": 20, "guests": 30,
          "instructors": ["ben"]}  # fmt: skip


@pytest.fixture(autouse=True)
def course(app: RunningApp) -> None:
    app.context.settings = WebSettings(rate=0, poll=0.05, guest_isolation="pod", guest_erase_after=3 * DAY)
    courses.apply(app.site, course_yaml.parse(COURSE), actor=admin, now=app.now)


def test_codes_are_made_with_the_keyboard(app: RunningApp, person: Callable[..., Page]) -> None:
    page = person("teacher-token", path="courses/ml")
    page.get_by_role("link", name="Guests").click()
    page.get_by_label("For how many people").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("3")
    page.keyboard.press("Enter")
    expect(page.locator("#codes code")).to_have_count(3)
    code = page.locator("#codes code").first.inner_text()
    assert guests.redeem(app.site.engine, code, erase_after=DAY, now=app.now) is not None
    page.goto(page.url)
    expect(page.locator("#guests")).to_contain_text("guest-")
    page.get_by_role("button", name="End now").click()
    expect(page.locator("#guests")).to_contain_text("over; erased")


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_is_for_everybody(app: RunningApp, person: Callable[..., Page], theme: str, width: int) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: tools/npm.sh ci")
    page = person(
        "teacher-token", path="courses/ml/guests", color_scheme=theme, viewport={"width": width, "height": 844},
        bypass_csp=True,
    )  # fmt: skip
    page.get_by_role("button", name="Make codes").click()
    expect(page.locator("#codes code")).to_have_count(10)
    code = page.locator("#codes code").first.inner_text()
    guests.redeem(app.site.engine, code, erase_after=DAY, now=app.now)
    assert serious(page) == []
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.goto(page.url)
    expect(page.locator("#guests")).to_contain_text("guest-")
    assert serious(page) == []
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
