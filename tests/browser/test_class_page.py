"""The page of a class in the browser: it is right by itself, by keyboard, on a phone, in both themes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from mlmp_spawner.operations import notices
from mlmp_spawner.units import MINUTE
from tests.browser.played import AXE, serious, settled
from tests.web.harness import RunningApp
from tests.web.played_class import a_class
from tests.web.visitor import HOSTILE

SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"


def test_it_shows_what_becomes_of_servers_without_a_reload(app: RunningApp, person: Callable[..., Page]) -> None:
    played = a_class(app)
    page = person("teacher-token", path=played.where)
    zoe = page.locator("#tiles li", has_text="zoe")
    expect(zoe).to_contain_text("The image is gone.")
    expect(page.locator("#tiles li").first).to_contain_text("zoe")
    expect(page.locator("#clock")).to_have_text("2 h")
    played.hub.refusals.clear()
    app.now += 5 * MINUTE
    played.look()
    expect(zoe).to_contain_text("ready")
    page.get_by_role("link", name="In 1").click()
    expect(page.locator("#tiles li")).to_have_count(1)
    page.locator("#tiles li", has_text="ann").get_by_role("button", name="Restart").click()
    expect(page.locator("#done")).to_contain_text("started again")
    assert "show=in" in page.url
    page.get_by_role("link", name="All").click()
    app.now += MINUTE
    played.look()
    assert played.hub.stopped == ["ann"]
    page.get_by_role("button", name="15 min more").click()
    expect(page.locator("#done")).to_contain_text("goes on longer")


def test_a_word_to_everybody_goes_by_keyboard(app: RunningApp, person: Callable[..., Page]) -> None:
    played = a_class(app)
    page = person("teacher-token", path=played.where)
    student = person("ann-token")
    page.get_by_label("A word to all").focus()
    page.keyboard.type("Break until ten")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#done")).to_contain_text("Everybody with a seat is told")
    expect(student.locator("#toasts")).to_contain_text("Break until ten")
    assert [one.kind for one in notices.page(app.site.engine, "zoe").items][:1] == ["message"]


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_is_for_everybody(app: RunningApp, person: Callable[..., Page], theme: str, width: int) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: tools/npm.sh ci")
    played = a_class(app, ("ann", "eve", "zoe", "x" * 200, "never"), title=HOSTILE)
    page = person(
        "teacher-token", path=played.where, color_scheme=theme, viewport={"width": width, "height": 844},
        bypass_csp=True,
    )  # fmt: skip
    page.on("dialog", lambda dialog: pytest.fail("a script of a user ran"))
    page.get_by_role("button", name="15 min more").click()
    expect(page.locator("#done")).to_be_visible()
    settled(page)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"class-{theme}-{width}.png", full_page=True)
    page.locator("#all-menu").evaluate("fold => { fold.open = true; }")
    assert serious(page) == []
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert over <= 0, f"it scrolls sideways at {width}"
