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

    # Ann books two of the four units and works on them.
    ann.go("book")
    ann.say(units="2", duration="60s")
    expect(ann.page.locator("#book")).to_have_text(re.compile(r"\s*Book 2 × GPU for 1 min, from now until \d\d:\d\d"))
    ann.book()
    expect(ann.page.locator("#live")).to_contain_text("ready to start")
    ann.start()
    hers = ann.devices()
    assert len(hers) == 2
    assert hers < {"simulated-0", "simulated-1", "simulated-2", "simulated-3"}

    # Ben asks for three: refused, with what he could have instead. He takes one of these, and it works.
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
    assert not his & hers

    # Ann extends, from Home, without her server noticing.
    started = {record.id: record.pid for record in site.servers()}
    ann.go()
    ann.page.locator("summary", has_text="Extend").click()
    ann.page.get_by_role("button", name="+1 min").click()
    expect(ann.page.locator("#done")).to_contain_text("Extended")
    assert {record.id: record.pid for record in site.servers()} == started
    end = ann.times("[data-booking]")[0]

    # Eve books the same two units from that moment on: back to back.
    eve.go("book")
    eve.say(units="2", duration="60s", when="first")
    eve.book()
    expect(eve.page.locator("#live")).to_contain_text("booked")
    assert eve.times("[data-booking]")[0] == end

    # At its end Ann's server is stopped, and the units are free.
    def anns() -> list[str]:
        return [record.id for record in site.servers() if record.owner == "ann"]

    assert anns()
    eve.go()
    wait_for(lambda: not anns(), end - time.time() + 5, "the stop of Ann's server")
    assert time.time() <= end + 0.5
    expect(ann.page.locator("[data-booking]")).to_have_count(0, timeout=15_000)

    # Eve's page, open all the time, shows her booking when its time has come; she starts, on Ann's units.
    button = eve.page.get_by_role("button", name="Start", exact=True)
    expect(button).to_be_visible(timeout=(end - time.time()) * 1000 + 10_000)
    eve.start()
    assert eve.devices() == hers
    assert ben.devices() == his
