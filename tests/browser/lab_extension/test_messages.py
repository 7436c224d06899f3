"""What who teaches says to a class, in JupyterLab: shown until it is dismissed, whatever it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from mlmp_spawner import units
from mlmp_spawner.operations import notices
from mlmp_spawner.operations.courses import courses, opening, running
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import HOUR, MINUTE, to_iso
from tests.browser import played
from tests.browser.lab_extension.inside import look_now
from tests.operations.conftest import admin, ben
from tests.operations.courses.term import seats
from tests.web.harness import RunningApp

LOOKS_AGAIN = 45_000
"""ms in which a page that was just looking has surely looked anew by itself."""
HOSTILE = '<img src=x onerror="document.title=1">&lt;b&gt; [a](javascript:alert(1)) '


@pytest.fixture(scope="module")
def booking(app: RunningApp) -> Reservation:
    """ann's seat in a class that is under way."""
    course = {"name": "ml", "title": "ML", "profile": "gpu", "seats": 3, "instructors": ["ben"], "students": ["ann"]}
    courses.apply(app.site, course_yaml.parse(course), actor=admin, now=app.now)
    begins = app.now + HOUR // 2
    with app.client("teacher-token") as client:
        made = client.post("courses/ml/classes", json={"start": to_iso(begins), "duration": "2h"})
        assert made.status_code == 201, made.text
    app.now = begins - 10 * MINUTE
    opening.look(app.site, app.now)
    app.now = units.now()
    seat = seats(app.site, made.json()["id"], app.now)["ann"]
    played.running(app, seat)
    return seat


@pytest.fixture
def say(app: RunningApp, booking: Reservation) -> Callable[[str], None]:
    def tell(text: str) -> None:
        app.now = units.now()
        running.say(app.site, "ml", booking.parent or "", text, actor=ben, now=app.now)

    return tell


def toast(page: Page, text: str) -> Locator:
    return page.locator(".Toastify__toast", has_text=text)


def unread(app: RunningApp) -> list[str]:
    """What ann has not read, of what was said."""
    found = notices.page(app.site.engine, "ann", unread=True).items
    return [one.details["message"] for one in found if one.kind == "message"]


def test_a_word_is_shown_in_every_tab_until_it_is_dismissed_in_one(
    app: RunningApp, say: Callable[[str], None], open_lab: Callable[..., Page]
) -> None:
    first, second = open_lab(), open_lab()
    say("Break until ten")
    for page in (first, second):
        look_now(page)
        expect(toast(page, "ML: Break until ten")).to_be_visible(timeout=LOOKS_AGAIN)
        look_now(page)
    expect(toast(first, "Break until ten")).to_have_count(1)
    with first.expect_response("**/mlmp/api/messages/*"):
        toast(first, "Break until ten").get_by_role("button", name="Dismiss").click()
    expect(toast(first, "Break until ten")).to_have_count(0)
    look_now(second)
    expect(toast(second, "Break until ten")).to_have_count(0)
    assert unread(app) == []
    look_now(first)
    say("Go on")
    look_now(first)
    expect(toast(first, "ML: Go on")).to_be_visible(timeout=LOOKS_AGAIN)
    expect(toast(first, "Break until ten")).to_have_count(0)
    third = open_lab()
    expect(toast(third, "ML: Go on")).to_be_visible(timeout=LOOKS_AGAIN)
    expect(toast(third, "Break until ten")).to_have_count(0)


def test_a_word_is_text_and_a_long_one_can_be_read_whole(
    say: Callable[[str], None], open_lab: Callable[..., Page]
) -> None:
    page = open_lab()
    title = page.title()
    page.on("dialog", lambda dialog: pytest.fail("a script in a message ran"))
    text = HOSTILE + "x" * 200 + " the end"
    say(text)
    look_now(page)
    found = toast(page, '<img src=x onerror="document.title=1">')
    expect(found).to_be_visible(timeout=LOOKS_AGAIN)
    expect(found.locator("img, a, b")).to_have_count(0)
    found.get_by_role("button", name="Read All of It").click()
    dialog = page.get_by_role("dialog").filter(has_text="Said in class")
    expect(dialog).to_contain_text(text)
    expect(dialog.locator("img, a, b")).to_have_count(0)
    assert page.title() == title
