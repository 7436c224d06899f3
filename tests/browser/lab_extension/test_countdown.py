"""Until when the booking goes on, and more time, in JupyterLab's status bar."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from mlmp_spawner import units
from mlmp_spawner.units import HOUR, MINUTE
from tests.browser.lab_extension.inside import COUNTDOWN, choose, look_now, notice
from tests.lab.pscan.served import TOKEN, lab
from tests.web.harness import RunningApp


def test_the_status_bar_says_how_long_the_booking_goes_on(open_lab: Callable[..., Page]):
    page = open_lab()
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"^gpu · 5\d min left$"))
    expect(page.locator(COUNTDOWN)).to_have_attribute("title", re.compile(r"^Until \d\d:\d\d\. Press to extend\.$"))


def test_the_booking_is_extended_there_by_keyboard(open_lab: Callable[..., Page], stops_in: Callable[[int], None]):
    stops_in(40 * MINUTE)
    page = open_lab()
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"^gpu · (40|39) min left$"))
    page.locator(COUNTDOWN).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Extend the Booking by 30 min")).to_be_visible()
    page.keyboard.press("Enter")
    notice(page, "Extended until")
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"^gpu · 1 h (10|9) min left$"))
    expect(page.locator(COUNTDOWN)).to_be_focused()


def test_an_extension_that_is_not_possible_is_refused_with_the_one_that_is(
    app: RunningApp, open_lab: Callable[..., Page], stops_in: Callable[[int], None]
):
    stops_in(40 * MINUTE)
    with app.client() as ann, app.client("ben-token") as ben:
        end = units.from_iso(ann.get("reservations", params={"owner": "ann"}).json()["items"][0]["end"])
        taken = []
        for node, many in (("gpu-a", 4), ("gpu-b", 2)):
            times = {"start": units.to_iso(end + 10 * MINUTE), "end": units.to_iso(end + 4 * HOUR)}
            body = {"profile": "gpu", "node": node, "units": many, **times}
            answer = ben.post("reservations", json=body)
            assert answer.status_code == 201, answer.text
            taken.append(answer.json()["id"])
        page = open_lab()
        page.locator(COUNTDOWN).click()
        page.get_by_role("menuitem", name="Extend the Booking by 1 h").click()
        refusal = page.get_by_role("dialog").filter(has_text="Not extended")
        expect(refusal).to_contain_text(re.compile(r"\d\d:\d\d"))
        refusal.get_by_role("button", name="Extend until").click()
        notice(page, "Extended until")
        expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"^gpu · (50|49) min left$"))
        for id in taken:
            ben.delete(f"reservations/{id}")


def test_a_service_that_is_away_is_said_and_found_again(app: RunningApp, open_lab: Callable[..., Page]):
    page = open_lab()
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"left$"))
    app.call(app.go_away())
    look_now(page)
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"left \(not connected\)$"))
    expect(page.locator(COUNTDOWN)).to_have_attribute("title", re.compile("trying again"))
    app.call(app.come_back())
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"left$"), timeout=60_000)


def test_more_time_is_in_the_command_palette(open_lab: Callable[..., Page], stops_in: Callable[[int], None]):
    stops_in(40 * MINUTE)
    page = open_lab()
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"^gpu · (40|39) min left$"))
    choose(page, "Extend the Booking by 2 h")
    notice(page, "Extended until")
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"^gpu · 2 h (40|39) min left$"))


def test_a_proxy_that_forgot_the_server_for_a_moment_ends_nothing(open_lab: Callable[..., Page]):
    page = open_lab()
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"left$"))
    page.route(re.compile("/mlmp/api/state"), lambda route: route.fulfill(status=404, body="Not found"))
    look_now(page)
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"left \(not connected\)$"))
    page.unroute_all()
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"left$"), timeout=60_000)


def test_a_browser_that_was_offline_goes_on_by_itself(open_lab: Callable[..., Page]):
    page = open_lab()
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"left$"))
    page.context.set_offline(True)
    look_now(page)
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"left \(not connected\)$"))
    page.context.set_offline(False)
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"left$"), timeout=60_000)


@pytest.mark.parametrize("hours", [-30, 5])
def test_a_browser_whose_clock_is_wrong_counts_as_the_server_does(new_page: Callable[..., Page], url: str, hours: int):
    page = new_page()
    page.add_init_script(f"{{ const right = Date.now; Date.now = () => right() + {hours * HOUR}; }}")
    page.goto(f"{url}api/status?token={TOKEN}")
    page.goto(f"{url}lab?reset")
    expect(page.locator(COUNTDOWN)).to_have_text(re.compile(r"^gpu · 5\d min left$"), timeout=60_000)
    expect(page.locator(COUNTDOWN)).to_have_attribute("title", re.compile(r"^Until \d\d:\d\d\."))


def test_two_browsers_see_the_same_booking(open_lab: Callable[..., Page], stops_in: Callable[[int], None]):
    stops_in(40 * MINUTE)
    here, there = open_lab(), open_lab()
    expect(there.locator(COUNTDOWN)).to_have_text(re.compile(r"^gpu · (40|39) min left$"))
    here.locator(COUNTDOWN).click()
    here.get_by_role("menuitem", name="Extend the Booking by 30 min").click()
    expect(there.locator(COUNTDOWN)).to_have_text(re.compile(r"^gpu · 1 h (10|9) min left$"), timeout=60_000)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "MLMP is not switched on in this server."),
        (("--ServerApp.jpserver_extensions=mlmp_spawner.lab.desk=True",), "Nobody is signed in here."),
    ],
    ids=["without the desk", "nobody signed in"],
)
def test_where_there_is_no_mlmp_nothing_is_in_the_way(
    new_page: Callable[..., Page], tmp_path: Path, options: tuple[str, ...], why: str
):
    (tmp_path / "work").mkdir()
    with lab(tmp_path / "work", tmp_path, *options, environment={"MLMP_URL": "", "MLMP_TOKEN": ""}) as url:
        page = new_page()
        page.goto(f"{url}lab?token={TOKEN}")
        page.get_by_role("tab", name="Jobs (MLMP)").click(timeout=60_000)
        expect(page.locator(".mlmp-jobs [role=status]")).to_contain_text(why)
        expect(page.locator(COUNTDOWN)).to_be_hidden()
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.goto("about:blank")
