"""The timeline for everybody: what it says, how it looks, what it costs, what one may not."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from mlmp_spawner.units import MINUTE
from tests.browser.played import AXE, serious
from tests.browser.timeline.lanes import at, bar, booked, drag, maintenance, of_kind
from tests.operations.conftest import ben
from tests.web.harness import PREFIX, RunningApp
from tests.web.visitor import HOSTILE


def test_the_first_booking_is_explained(app: RunningApp, person: Callable[..., Page]):
    page = person()
    expect(page.locator("#tl-teach")).to_contain_text("Drag over free space")
    booked(app)
    expect(page.locator("#tl-teach")).to_have_count(0)


def test_kinds_differ_in_word_and_pattern_and_nothing_names_a_unit(app: RunningApp, person: Callable[..., Page]):
    kinds = {
        kind: of_kind(app, booked(app, ben, start=1 + n, node="gpu-a"), kind)
        for n, kind in enumerate(("class", "job"))
    }
    booked(app, units=2, node="gpu-b", start=1)
    waiting = booked(app, units=2, node="gpu-b", start=1, waitlist=True, title=HOSTILE)
    maintenance(app, "gpu-b", start=5, hours=2, reason="new disks")
    page = person()
    page.on("dialog", lambda dialog: pytest.fail("a script of a user ran"))
    looks = {bar(page, found).evaluate("one => getComputedStyle(one).backgroundImage") for found in kinds.values()}
    assert len(looks) == 2 and "none" not in looks
    expect(bar(page, kinds["class"])).to_contain_text("course")
    expect(page.locator(".tl-maintenance").first).to_contain_text("maintenance")
    expect(page.locator(f".tl-waiting[data-key='{waiting.id}']")).to_contain_text(HOSTILE)
    assert not re.search(r"GPU-|\bGPU \d", page.locator("#timeline").inner_text())
    page.locator(".tl-scroll").focus()
    page.keyboard.press("Control+End")
    expect(page.locator(".tl-maintenance:focus")).to_have_attribute(
        "aria-label", re.compile("maintenance new disks, on gpu-b")
    )


def test_only_what_is_in_view_is_in_the_page(app: RunningApp, person: Callable[..., Page]):
    for n in range(40):
        booked(app, ben, start=n * 4, hours=4, units=4, node="gpu-a")
    page = person(query="?view=week", viewport={"width": 700, "height": 500})
    first, last = (page.locator(f".tl-bar[aria-label*='{when}']") for when in ("Fri 15 Jan 09:00", "Thu 21 Jan 13:00"))
    expect(first).to_have_count(1)
    expect(last).to_have_count(0)
    page.evaluate("document.querySelector('.tl-scroll').scrollLeft = 1e6")
    expect(last).to_have_count(1)
    expect(first).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_serious_is_in_the_way_of_anybody(
    app: RunningApp, person: Callable[..., Page], theme: str, width: int
):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: tools/npm.sh ci")
    mine = booked(app, start=0, units=2, title="thesis")
    booked(app, ben, start=1, units=2, hours=5)
    of_kind(app, booked(app, ben, start=7), "class")
    past = booked(app, ben, start=0, hours=0.5)
    maintenance(app, "gpu-b", start=9, hours=2, reason="disks")
    app.now = past.end + MINUTE
    page = person(color_scheme=theme, viewport={"width": width, "height": 844}, bypass_csp=True)
    assert serious(page) == []
    if width > 640:
        bar(page, mine).click()
        assert serious(page) == []
        page.keyboard.press("Escape")
        page.keyboard.press("b")
        assert serious(page) == []
    page.goto(f"{app.url}{PREFIX}timeline?view=week&show=list&date=2027-01-14")
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_who_may_only_look_can_look(app: RunningApp, person: Callable[..., Page]):
    booked(app)
    page = person("reader-token")
    drag(page, at(page, "gpu-b", 2), at(page, "gpu-b", 6), drop=False)
    expect(page.locator(".tl-ghost")).to_have_count(0)
    page.mouse.up()
    expect(page.locator("#tl-book")).to_have_count(0)
