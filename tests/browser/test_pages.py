"""The pages in a browser: live, by keyboard, for everybody. The hub is played; the time is the test's."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from mlmp_spawner.operations import changes, waitlist
from mlmp_spawner.units import DAY, HOUR, MINUTE
from tests.browser.played import AXE, booked, running, serious, settled
from tests.operations.conftest import NOW, ben
from tests.web.harness import PREFIX, RunningApp
from tests.web.test_times import NOW as SATURDAY
from tests.web.test_times import WORDS
from tests.web.visitor import HOSTILE

SECOND = 1000


# -- live ---------------------------------------------------------------------------------------------------------


def test_a_booking_of_another_shows_at_once_without_a_reload(app: RunningApp, person: Callable[..., Page]):
    page = person()
    page.evaluate("window.stayed = true")
    expect(page.locator("#offer-gpu")).to_contain_text("6 of 6 free")
    booked(app, ben, units=3, hours=60)
    expect(page.locator("#offer-gpu")).to_contain_text("3 of 6 free")
    assert page.evaluate("window.stayed")


def test_two_windows_of_one_person_agree(app: RunningApp, person: Callable[..., Page]):
    found = booked(app, start=NOW + DAY)
    one, other = person(path="bookings"), person()
    one.get_by_role("button", name="Cancel").click()
    expect(one.locator("#done")).to_contain_text("Cancelled")
    expect(other.locator(f"#booking-{found.id}")).to_have_count(0)
    one.get_by_role("button", name="Undo").click()
    expect(one.locator("[data-booking]")).to_contain_text("booked")
    expect(other.locator("[data-booking]")).to_contain_text("booked")


def test_a_change_elsewhere_takes_neither_focus_nor_scroll_nor_what_was_put_in(
    app: RunningApp, person: Callable[..., Page]
):
    for number in range(5):
        booked(app, start=NOW + (number + 1) * 2 * HOUR)
    found = booked(app, hours=4)
    running(app, found)
    page = person(viewport={"width": 800, "height": 400})
    page.locator("#units-gpu").select_option("2")
    page.locator(f"#extend-{found.id} summary").click()
    page.get_by_role("button", name="+1 h").focus()
    page.evaluate("window.scrollTo(0, 120)")
    booked(app, ben, units=2, hours=60)
    expect(page.locator("#offer-gpu")).to_contain_text("3 of 6 free")
    assert page.locator("#units-gpu").input_value() == "2"
    expect(page.get_by_role("button", name="+1 h")).to_be_focused()
    assert page.evaluate("window.scrollY") == 120


def test_what_was_said_of_waiting_is_no_longer_said_when_it_got_a_place(app: RunningApp, person: Callable[..., Page]):
    taken = [booked(app, ben, units=units, hours=4) for units in (4, 2)]
    page = person(path="book?units=4&duration=1h")
    page.locator("#book").click()
    page.locator("#refusal").get_by_role("button", name="Join the waitlist").click()
    expect(page.locator("#done")).to_contain_text("On the waitlist: 4 × A100")
    booked(app, ben, start=NOW + DAY)
    expect(page.locator("#live")).to_contain_text("waiting")
    expect(page.locator("#done")).to_be_visible()
    changes.cancel(app.site, taken[0].id, actor=ben, now=app.now)
    assert waitlist.promote(app.site, now=app.now)
    app.feed.wake()
    expect(page.locator("#live")).to_contain_text("ready to start")
    expect(page.locator("#done")).to_have_count(0)


def test_the_time_alone_changes_a_page(app: RunningApp, person: Callable[..., Page]):
    found = booked(app, start=NOW + 4 * SECOND)
    page = person()
    expect(page.locator(f"#booking-{found.id}")).to_contain_text("booked")
    app.now = found.start
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()


def test_the_end_is_announced_on_every_open_page_and_in_its_title(app: RunningApp, person: Callable[..., Page]):
    found = booked(app, hours=2)
    running(app, found)
    app.now = found.end - 10 * MINUTE - 3 * SECOND
    pages = [person(path=path) for path in ("", "book", "bookings")]
    for page in pages:
        expect(page.locator("#warnings [id]")).to_have_count(0)
        assert page.locator("#warnings").get_attribute("aria-live") == "polite"
    app.now = found.end - 10 * MINUTE
    for page in pages:
        expect(page.locator(f"#warning-{found.id}")).to_contain_text("left of A100")
        expect(page).to_have_title(re.compile(r"\(9 min left\) .*MLMP"))
    pages[1].locator("#warnings").get_by_role("button", name="Extend by 30 min").click()
    for page in pages:
        expect(page.locator(f"#warning-{found.id}")).to_have_count(0)


def test_a_countdown_goes_on_by_the_servers_clock(app: RunningApp, person: Callable[..., Page]):
    found = booked(app)
    running(app, found)
    app.now = found.end - 100 * SECOND
    left = person().locator(f"#booking-{found.id} time[data-show=left]")
    expect(left).to_have_text(re.compile(r"1 min (3[0-8]|[12]\d) s"))


# -- Book ---------------------------------------------------------------------------------------------------------


def test_a_changed_sentence_shows_at_once_what_would_be_booked(app: RunningApp, person: Callable[..., Page]):
    booked(app, ben, units=4, hours=3)
    booked(app, ben, units=2, hours=2)
    page = person(path="book")
    button = page.locator("#book")
    expect(button).to_contain_text("Ask for A100 for 4 h")
    page.locator("#when").select_option("first")
    expect(button).to_contain_text("Book A100 for 4 h, 11:00 – 15:00")
    page.locator("#units").focus()
    page.locator("#units").select_option("3")
    expect(button).to_contain_text("Book 3 × A100 for 4 h, 12:00 – 16:00")
    expect(page.locator("#units")).to_be_focused()
    button.click()
    page.wait_for_url("**/bookings*")
    expect(page.locator("#done")).to_contain_text("Booked: 3 × A100, 12:00 – 16:00")


def test_a_stretch_of_the_strip_is_chosen_by_mouse_and_by_keyboard(app: RunningApp, person: Callable[..., Page]):
    booked(app, ben, units=4, hours=24)
    booked(app, ben, units=2, hours=12)
    page = person(path="book?units=2&duration=2h")
    stretch = page.locator("#strip a").first
    box = stretch.locator("rect").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 10)
    expect(page.locator("#when")).to_have_value("at")
    expect(page.locator("#book")).to_contain_text("tomorrow 21:00 – 23:00")
    stretch.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#book")).to_contain_text("tomorrow 09:00 – 11:00")
    expect(page.locator("#at")).to_have_value("2027-01-16T09:00")


def test_a_refusal_shows_what_is_possible_and_one_click_has_it(app: RunningApp, person: Callable[..., Page]):
    booked(app, ben, units=3, hours=3)
    page = person(path="book?units=3&duration=4h")
    page.locator("#book").click()
    expect(page.locator("#refusal")).to_contain_text("at most 2 would be free all that time")
    page.locator("#refusal [data-kind=later]").click()
    page.wait_for_url("**/bookings*")
    expect(page.locator("[data-booking]")).to_contain_text("12:00 – 16:00")


def test_what_is_typed_stays_while_things_change(app: RunningApp, person: Callable[..., Page]):
    page = person(path="book")
    page.locator("#title").press_sequentially("My thesis")
    booked(app, ben, units=4)
    expect(page.locator("#strip")).to_contain_text("0 of 4 free")
    page.locator("#title").press_sequentially(", at last")
    page.locator("#duration").select_option("3600s")
    expect(page.locator("#book")).to_contain_text("for 1 h")
    assert page.locator("#title").input_value() == "My thesis, at last"
    page.locator("#book").click()
    expect(page.locator("[data-booking]")).to_contain_text("My thesis, at last")


# -- for everybody ------------------------------------------------------------------------------------------------


def test_a_booking_can_be_extended_by_keyboard_alone(app: RunningApp, person: Callable[..., Page]):
    found = booked(app)
    running(app, found)
    page = person()
    page.locator(f"#extend-{found.id} summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#done")).to_contain_text("Extended")
    page.locator(f"#extend-{found.id} summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.locator(f"#extend-{found.id}")).not_to_have_attribute("open", "")
    expect(page.locator(f"#extend-{found.id} summary")).to_be_focused()


def test_times_are_in_the_browsers_zone_which_is_named_once(app: RunningApp, person: Callable[..., Page]):
    booked(app, start=NOW + DAY)
    for zone, clock in (("Asia/Tokyo", "17:00"), ("America/New_York", "03:00")):
        page = person(timezone_id=zone)
        expect(page.locator("[data-booking]")).to_contain_text(f"tomorrow {clock}")
        assert page.locator("#mlmp").inner_text().count(zone) == 1


def test_the_browser_says_times_as_the_server_does(app: RunningApp, person: Callable[..., Page]):
    page = person()
    script = """async ([root, now, all]) => {
      const times = await import(root + "static/times.js");
      times.setNow(Date.parse(now));
      return all.map(([instant, show]) => times.said(Date.parse(instant), show));
    }"""
    said = page.evaluate(script, [PREFIX, SATURDAY, [[instant, show] for instant, show, _ in WORDS]])
    assert said == [words for *_, words in WORDS]


def test_what_people_write_is_never_markup(app: RunningApp, person: Callable[..., Page]):
    found = booked(app, title=HOSTILE, start=NOW + HOUR)
    page = person()
    page.on("dialog", lambda dialog: pytest.fail("a script of a user ran"))
    booked(app, ben)  # the page is fetched anew and put in place by a script
    expect(page.locator("#offer-gpu")).to_contain_text("5 of 6 free")
    expect(page.locator(f"#booking-{found.id} .mlmp-title")).to_have_text(HOSTILE)


def test_without_a_script_all_of_it_works_too(app: RunningApp, new_page: Callable[..., Page]):
    page = new_page(extra_http_headers={"Authorization": "Bearer ann-token"}, java_script_enabled=False)
    page.goto(f"{app.url}{PREFIX}book")
    page.locator("#units").select_option("2")
    page.locator("#when").select_option("at")
    page.locator("#at").fill("2027-01-16T09:00")
    page.get_by_role("button", name="Look").click()
    page.locator("#book").click()
    expect(page.locator("#done")).to_contain_text("Booked")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#done")).to_contain_text("Cancelled")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_serious_is_in_the_way_of_anybody(
    app: RunningApp, person: Callable[..., Page], theme: str, width: int
):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: tools/npm.sh ci")
    found = booked(app, hours=2, units=2, title="thesis")
    running(app, found)
    booked(app, start=NOW + DAY)
    booked(app, ben, units=3, start=NOW + 3 * HOUR, hours=5)
    app.now = found.end - 5 * MINUTE  # with its warning
    look = {"color_scheme": theme, "viewport": {"width": width, "height": 844}, "bypass_csp": True}
    page = person(**look)
    for path in ("", "book?units=4&duration=8h", "bookings", f"bookings/{found.id}"):
        page.goto(app.url + PREFIX + path)
        settled(page)
        if path.startswith("book?"):
            page.locator("#book").click()
            expect(page.locator("#refusal")).to_be_visible()
        for menu in page.locator("details.mlmp-menu").all():
            menu.evaluate("menu => { menu.open = true; }")
        assert serious(page) == [], path
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(overflow) <= 0, f"{path} scrolls sideways at {width}"
