"""The timeline in a browser: by mouse, finger and keyboard, live, on any clock.

The hub is played; the time is the test's. Now is Friday 15 January 2027, 09:00 in Zurich.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from jupyterhub._data import DATA_FILES_PATH
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import Engine, insert, update
from tornado.web import StaticFileHandler

from mlmp_spawner.operations import booking, catalog_sync, changes
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import tables
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE
from tests.browser.test_pages import AXE, serious
from tests.databases import sqlite_copy
from tests.operations.conftest import NOW, ann, ben, catalog
from tests.web.harness import PREFIX, RunningApp
from tests.web.visitor import HOSTILE

MINE = ".tl-body .tl-mine"


@pytest.fixture
def engine(sqlite_file: Path, tmp_path: Path) -> Iterator[Engine]:
    made = make_engine(sqlite_copy(sqlite_file, tmp_path / "mlmp.sqlite"))
    yield made
    made.dispose()


@pytest.fixture
def app(engine: Engine) -> Iterator[RunningApp]:
    with transaction(engine) as connection:
        people = [{"id": n, "name": who} for n, who in enumerate(("ann", "ben", "root"), 1)]
        connection.execute(insert(tables.users), people)
    site = Site(engine, catalog(gpu_a=4, gpu_b=2))
    catalog_sync.sync(site, now=NOW)
    with RunningApp(site, NOW) as running:
        looks = [(r"/hub/static/(.*)", StaticFileHandler, {"path": str(Path(DATA_FILES_PATH) / "static")})]
        running.app.add_handlers(".*", looks)
        yield running


@pytest.fixture
def person(app: RunningApp, new_page: Callable[..., Page]) -> Callable[..., Page]:
    """Somebody's timeline."""

    def make(token: str = "ann-token", query: str = "", **options: object) -> Page:
        page = new_page(extra_http_headers={"Authorization": f"Bearer {token}"}, **options)
        page.goto(f"{app.url}{PREFIX}timeline{query}")
        expect(page.locator("#mlmp")).to_have_attribute("data-live", "yes")
        if page.evaluate("matchMedia('(min-width: 40.01rem)').matches && !location.search.includes('show=list')"):
            expect(page.locator(".tl-lane").first).to_be_visible()
        return page

    return make


def booked(
    app: RunningApp, who: Actor = ann, *, start: float = 2, hours: float = 2, units: int = 1, node: str | None = None,
    title: str = "", waitlist: bool = False,
) -> Reservation:  # fmt: skip
    """A booking, from so many hours from now on."""
    begin = NOW + round(start * HOUR)
    request = BookingRequest(
        "gpu", start=begin, end=begin + round(hours * HOUR), units=units, node=node, title=title, waitlist=waitlist
    )
    made = booking.book(app.site, request, actor=who, now=app.now)
    app.feed.wake()
    return made


def row(app: RunningApp, found: Reservation) -> Reservation:
    return changes.get(app.site, found.id)


def bar(page: Page, found: Reservation) -> Locator:
    return page.locator(f".tl-bar[data-key^='{found.id}.']")


def at(page: Page, node: str, hours: float, row: int = 0) -> tuple[float, float]:
    """Where on the screen a time (hours from now) of a node is."""
    script = """([node, row]) => {
      const lane = [...document.querySelectorAll(".tl-lane")].find((one) => one.innerText.startsWith(node));
      const box = lane.querySelectorAll(".tl-row")[row].getBoundingClientRect();
      const now = document.querySelector(".tl-now").getBoundingClientRect();
      const [one, two] = document.querySelectorAll(".tl-lines .tl-hour");
      const hour = two.getBoundingClientRect().left - one.getBoundingClientRect().left;
      return [now.left + now.width / 2, hour, box.top + box.height / 2];
    }"""
    now, hour, y = page.evaluate(script, [node, row])
    return now + hours * hour, y


def drag(page: Page, start: tuple[float, float], end: tuple[float, float], *, drop: bool = True) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=3)
    page.mouse.move(*end, steps=3)
    if drop:
        page.mouse.up()


def rowed(app: RunningApp) -> list[tuple[float, float, int, str]]:
    """All bookings of ann's: from, to (hours from now), units, node."""
    with app.client() as client:
        items = client.get("reservations?owner=ann").json()["items"]
    found = []
    for one in items:
        if one["state"] in ("booked", "active", "waiting"):
            hours = [
                (datetime.fromisoformat(one[k].replace("Z", "+00:00")).timestamp() * 1000 - NOW) / HOUR
                for k in ("start", "end")
            ]
            found.append((*hours, one["units"], ",".join(a["node"] for a in one["allocations"])))
    return found


# -- by mouse -------------------------------------------------------------------------------------------------------


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


# -- by keyboard ----------------------------------------------------------------------------------------------------


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


# -- by finger, on a phone ------------------------------------------------------------------------------------------


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
    expect(page.locator("#agenda")).to_contain_text("3 × A100", timeout=2000)
    page.locator("#tl-on").click()
    expect(page.locator("#tl-period")).to_have_text("Saturday 16 January 2027")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


# -- live -----------------------------------------------------------------------------------------------------------


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


# -- clocks ---------------------------------------------------------------------------------------------------------


def test_a_day_of_25_hours_in_zurich_seen_from_tokyo(app: RunningApp, person: Callable[..., Page]):
    zurich = ZoneInfo("Europe/Zurich")
    start = int(datetime(2027, 10, 31, 2, 0, tzinfo=zurich).timestamp() * 1000)  # the first 02:00 of two
    request = BookingRequest("gpu", start=start, end=start + 2 * HOUR, node="gpu-b")
    found = booking.book(app.site, request, actor=ann, now=app.now)
    page = person(query="?date=2027-10-31&zone=Europe/Zurich", timezone_id="Asia/Tokyo")
    labels = page.locator(".tl-tick-hour").all_inner_texts()
    assert labels[:5] == ["01:00", "02:00", "02:00", "03:00", "04:00"] and len(labels) == 24
    assert bar(page, found).get_attribute("aria-label") == "Yours: A100, on gpu-b, Sun 31 Oct 02:00–03:00"
    assert page.locator("#mlmp").inner_text().count("Europe/Zurich") == 1
    lines = page.locator(".tl-lines .tl-hour").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect().left)"
    )
    box = bar(page, found).bounding_box()
    assert box is not None and abs(box["x"] - lines[1]) < 1.5 and abs(box["x"] + box["width"] + 1 - lines[3]) < 1.5
    drag(
        page,
        (box["x"] + box["width"] / 2, box["y"] + 8),
        (box["x"] + box["width"] / 2 + lines[1] - lines[0], box["y"] + 8),
    )
    expect(page.locator(".tl-toast")).to_contain_text("Sun 31 Oct 02:00–04:00")
    assert row(app, found).start == start + HOUR


def test_without_a_choice_the_zone_is_the_browsers(app: RunningApp, person: Callable[..., Page]):
    found = booked(app)
    page = person(timezone_id="Asia/Tokyo")
    expect(bar(page, found)).to_have_attribute("aria-label", re.compile("19:00–21:00"))
    assert page.locator("#mlmp").inner_text().count("Asia/Tokyo") == 1


# -- for everybody --------------------------------------------------------------------------------------------------


def test_the_first_booking_is_explained(app: RunningApp, person: Callable[..., Page]):
    page = person()
    expect(page.locator("#tl-teach")).to_contain_text("Drag over free space")
    booked(app)
    expect(page.locator("#tl-teach")).to_have_count(0)


def test_kinds_differ_in_word_and_pattern_and_nothing_names_a_unit(app: RunningApp, person: Callable[..., Page]):
    kinds = {kind: booked(app, ben, start=1 + n, node="gpu-a") for n, kind in enumerate(("class", "job"))}
    booked(app, units=2, node="gpu-b", start=1)
    waiting = booked(app, units=2, node="gpu-b", start=1, waitlist=True, title=HOSTILE)
    with transaction(app.site.engine) as connection:
        for kind, found in kinds.items():
            its = tables.reservation.c.id == found.id
            connection.execute(update(tables.reservation).where(its).values(kind=kind))
        away = {
            "id": "outage01",
            "node": "gpu-b",
            "start": NOW + 5 * HOUR,
            "end": NOW + 7 * HOUR,
            "reason": "new disks",
        }
        connection.execute(insert(tables.outage), away)
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
    course = booked(app, ben, start=7)
    past = booked(app, ben, start=0, hours=0.5)
    with transaction(app.site.engine) as connection:
        its = tables.reservation.c.id == course.id
        connection.execute(update(tables.reservation).where(its).values(kind="class"))
        away = {"id": "outage01", "node": "gpu-b", "start": NOW + 9 * HOUR, "end": NOW + 11 * HOUR, "reason": "disks"}
        connection.execute(insert(tables.outage), away)
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
