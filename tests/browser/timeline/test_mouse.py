"""The timeline by mouse: a drag books, moves and resizes; a press shows what something is."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.timeline.lanes import MINE, at, bar, booked, drag, row, rowed
from tests.operations.conftest import ben
from tests.web.harness import RunningApp


def test_a_drag_over_free_space_books(app: RunningApp, person: Callable[..., Page]):
    page = person()
    drag(page, at(page, "gpu-b", 2), at(page, "gpu-b", 6), drop=False)
    expect(page.locator(".tl-ghost")).to_contain_text("Fri 15 Jan 11:00–15:00, 4 h · ✓ free")
    page.mouse.up()
    form = page.get_by_role("dialog", name="Book")
    expect(form).to_contain_text("1 × A100 on gpu-b, Fri 15 Jan 11:00–15:00, 4 h")
    form.get_by_label("How many").select_option("2")
    expect(form).to_contain_text("2 × A100 on gpu-b")
    form.get_by_role("button", name="Book").click()
    expect(page.locator(".tl-toast")).to_contain_text("Booked on gpu-b")
    expect(page.locator(MINE)).to_have_attribute("aria-label", "Yours: 2 × A100, on gpu-b, Fri 15 Jan 11:00–15:00")
    assert rowed(app) == [(2, 6, 2, "gpu-b")]
    page.locator(".tl-toast").get_by_role("button", name="Undo").click()
    expect(page.locator(MINE)).to_have_count(0)
    assert rowed(app) == []


def test_a_drag_that_does_not_fit_says_so_before_and_after_and_offers_what_does(
    app: RunningApp, person: Callable[..., Page]
):
    booked(app, ben, start=3, hours=4, units=2, node="gpu-b")
    page = person()
    drag(page, at(page, "gpu-b", 1), at(page, "gpu-b", 5), drop=False)
    expect(page.locator(".tl-ghost.tl-full")).to_contain_text("✕ taken")
    page.mouse.up()
    form = page.get_by_role("dialog", name="Book")
    expect(form).to_contain_text("Not free all that time")
    form.get_by_role("button", name="Book", exact=True).click()
    expect(form.get_by_role("alert")).to_contain_text("on gpu-b none would be free")
    form.get_by_role("button", name="gpu-a").click()
    expect(page.locator(".tl-toast")).to_contain_text("Booked on gpu-a")
    assert rowed(app) == [(1, 5, 1, "gpu-a")]


def test_a_drag_moves_ones_own_and_undo_brings_it_back(app: RunningApp, person: Callable[..., Page]):
    found = booked(app, node="gpu-a")
    with app.client() as client:
        client.patch(f"reservations/{found.id}", json={"node": None})  # movable, as most are
    page = person()
    x, y = at(page, "gpu-a", 3)
    drag(page, (x, y), (at(page, "gpu-b", 5)[0], at(page, "gpu-b", 5)[1]))
    expect(page.locator(".tl-toast")).to_contain_text("Now on gpu-b, Fri 15 Jan 13:00–15:00")
    assert rowed(app) == [(4, 6, 1, "gpu-b")]
    page.get_by_role("button", name="Undo").click()
    expect(bar(page, found)).to_have_attribute("aria-label", re.compile("on gpu-a, Fri 15 Jan 11:00–13:00"))
    assert rowed(app) == [(2, 4, 1, "gpu-a")]
    assert not row(app, found).pinned


def test_a_refused_move_snaps_back_says_why_and_offers_what_is_possible(app: RunningApp, person: Callable[..., Page]):
    found = booked(app, start=1, hours=2, node="gpu-b", units=2)
    booked(app, ben, start=6, hours=4, node="gpu-b", units=1)
    page = person()
    before = bar(page, found).bounding_box()
    drag(page, at(page, "gpu-b", 2), at(page, "gpu-b", 8), drop=False)
    expect(page.locator(".tl-ghost.tl-full")).to_contain_text("only 1 free")
    page.mouse.up()
    said = page.get_by_role("dialog")
    expect(said).to_contain_text("You asked for 2 × A100 for 2 h; on")
    assert bar(page, found).bounding_box() == before
    assert rowed(app) == [(1, 3, 2, "gpu-b")]
    said.locator(".btn-primary").first.click()
    expect(page.locator(".tl-toast")).to_contain_text("Now ")
    assert rowed(app) != [(1, 3, 2, "gpu-b")]


def test_the_edges_of_ones_own_resize_it(app: RunningApp, person: Callable[..., Page]):
    found = booked(app, node="gpu-a")
    page = person()
    x, y = at(page, "gpu-a", 4)
    drag(page, (x - 4, y), (at(page, "gpu-a", 6)[0] - 4, y))
    expect(page.locator(".tl-toast")).to_contain_text("Now Fri 15 Jan 11:00–15:00")
    x, y = at(page, "gpu-a", 2)
    drag(page, (x + 4, y), (at(page, "gpu-a", 1)[0] + 4, y))
    expect(page.locator(".tl-toast")).to_contain_text("Now Fri 15 Jan 10:00–15:00")
    assert rowed(app) == [(1, 6, 1, "gpu-a")]
    assert row(app, found).pinned


def test_of_what_has_begun_only_the_end_moves(app: RunningApp, person: Callable[..., Page]):
    booked(app, start=0, hours=2, node="gpu-a")
    page = person()
    drag(page, at(page, "gpu-a", 1), at(page, "gpu-a", 5))
    assert rowed(app) == [(0, 2, 1, "gpu-a")]
    page.keyboard.press("Escape")
    x, y = at(page, "gpu-a", 2)
    drag(page, (x - 4, y), (at(page, "gpu-a", 3)[0] - 4, y))
    expect(page.locator(".tl-toast")).to_contain_text("09:00–12:00")
    assert rowed(app) == [(0, 3, 1, "gpu-a")]


def test_others_bars_do_not_move_and_escape_ends_a_drag(app: RunningApp, person: Callable[..., Page]):
    theirs, mine = booked(app, ben, node="gpu-b"), booked(app, node="gpu-a")
    page = person()
    drag(page, at(page, "gpu-b", 3), at(page, "gpu-b", 6), drop=False)
    expect(page.locator(".tl-ghost")).to_have_count(0)
    page.mouse.up()
    page.keyboard.press("Escape")
    drag(page, at(page, "gpu-a", 3), at(page, "gpu-a", 6), drop=False)
    expect(page.locator(".tl-ghost")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".tl-ghost")).to_have_count(0)
    page.mouse.up()
    assert (row(app, theirs).start, row(app, mine).start) == (theirs.start, mine.start)


def test_a_press_shows_what_a_bar_is_and_what_can_be_done(app: RunningApp, person: Callable[..., Page]):
    theirs, mine = booked(app, ben, node="gpu-b", title="secret"), booked(app, title="thesis")
    page = person()
    bar(page, theirs).click()
    expect(page.get_by_role("dialog")).to_contain_text("ben")
    expect(page.get_by_role("dialog")).not_to_contain_text("secret")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    bar(page, mine).click()
    page.get_by_role("button", name="Cancel booking").click()
    expect(page.locator(".tl-toast")).to_contain_text("Cancelled")
    assert rowed(app) == []
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(MINE)).to_contain_text("thesis")
    assert [one[:3] for one in rowed(app)] == [(2, 4, 1)]
