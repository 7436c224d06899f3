"""The whole way, for real: hub, proxy, service, JupyterLab, three people with browsers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import Human
from tests.live import Site, wait_for


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(Path(tmp_path_factory.mktemp("site")), lab=True)
    made.start()
    yield made
    made.close()


def test_from_login_to_the_end_of_a_booking(site: Site, new_page: Callable[..., Page]) -> None:
    ann, ben, eve = (Human(new_page(), site.url, name) for name in ("ann", "ben", "eve"))
    hers = books_two_and_works_on_them(ann)
    his = is_refused_three_and_takes_two(ben)
    assert not his & hers
    end = extends_without_her_server_noticing(ann, site)
    books_from_that_moment_on(eve, end)
    her_server_is_stopped_at_its_end(ann, site, end)
    starts_when_the_page_says_so(eve, end)
    assert eve.devices() == hers
    assert ben.devices() == his


def books_two_and_works_on_them(ann: Human) -> set[str]:
    """Of the four units; returns those that she got."""
    ann.go("book")
    ann.say(units="2", duration="60s")
    expect(ann.page.locator("#book")).to_have_text(re.compile(r"\s*Book 2 × GPU for 1 min, from now until \d\d:\d\d"))
    ann.book()
    expect(ann.page.locator("#live")).to_contain_text("ready to start")
    ann.start()
    hers = ann.devices()
    assert len(hers) == 2
    assert hers < {"simulated-0", "simulated-1", "simulated-2", "simulated-3"}
    return hers


def is_refused_three_and_takes_two(ben: Human) -> set[str]:
    """He is told what he could have instead, and one click has it; returns the units."""
    ben.go("book")
    ben.say(units="3", duration="300s")
    expect(ben.page.locator("#verdict")).to_contain_text("At most 2 would be free")
    ben.book()
    refusal = ben.page.locator("#refusal")
    expect(refusal).to_contain_text("You asked for 3 × GPU for 5 min")
    assert refusal.get_by_role("button").count() >= 2
    refusal.locator("button[data-kind=smaller]").click()
    expect(ben.page.locator("#live")).to_contain_text("ready to start")
    ben.start()
    his = ben.devices()
    assert len(his) == 2
    return his


def extends_without_her_server_noticing(ann: Human, site: Site) -> float:
    """From Home; returns the new end."""
    started = {record.id: record.pid for record in site.servers()}
    ann.go()
    ann.page.locator("summary", has_text="Extend").click()
    ann.page.get_by_role("button", name="+1 min").click()
    expect(ann.page.locator("#done")).to_contain_text("Extended")
    assert {record.id: record.pid for record in site.servers()} == started
    return ann.times("[data-booking]")[0]


def books_from_that_moment_on(eve: Human, end: float) -> None:
    """The same two units, back to back."""
    eve.go("book")
    eve.say(units="2", duration="60s", when="first")
    eve.book()
    expect(eve.page.locator("#live")).to_contain_text("booked")
    assert eve.times("[data-booking]")[0] == end
    eve.go()


def her_server_is_stopped_at_its_end(ann: Human, site: Site, end: float) -> None:
    def hers() -> list[str]:
        return [record.id for record in site.servers() if record.owner == "ann"]

    assert hers()
    wait_for(lambda: not hers(), end - time.time() + 5, "the stop of Ann's server")
    assert time.time() <= end + 0.5
    expect(ann.page.locator("[data-booking]")).to_have_count(0)


def starts_when_the_page_says_so(eve: Human, end: float) -> None:
    """Her page is open all the time, and shows her booking when its time has come."""
    button = eve.page.get_by_role("button", name="Start", exact=True)
    expect(button).to_be_visible(timeout=max(0, end - time.time()) * 1000 + 15_000)
    eve.start()
