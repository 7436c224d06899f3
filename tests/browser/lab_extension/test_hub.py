"""MLMP's extension of JupyterLab behind a real hub, with the token that the server got."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import Human
from tests.live import Site, wait_for

LEFT = re.compile(r"^gpu · \d+ (min|s) left$")
LOST = "left (not connected)"
ASKS_UNTIL = """([selector, text]) => {
  dispatchEvent(new Event("online"));
  return document.querySelector(selector).textContent.includes(text);
}"""


@pytest.mark.faults
def test_a_booking_is_seen_and_extended_and_a_job_runs_from_ones_own_server(
    lab_site: Site, new_page: Callable[..., Page]
):  # fmt: skip
    ann = Human(new_page(), lab_site.url, "ann")
    ann.work(duration="300s")
    countdown = ann.page.locator(".mlmp-countdown")
    expect(countdown).to_have_text(re.compile(r"^gpu · \d (min|s) left$|^gpu · \d+ s left$"))
    countdown.click()
    ann.page.get_by_role("menuitem", name="Extend the Booking by 15 min").click()
    expect(countdown).to_have_text(re.compile(r"^gpu · 1\d min left$"))
    folder = lab_site.data / "homes" / "ann" / "code"
    folder.mkdir()
    (folder / "train.py").write_text("print('trained', flush=True)\n")
    ann.page.goto(ann.page.url.partition("/lab")[0] + "/lab/tree/code/train.py?reset")
    ann.page.get_by_role("button", name="Run as Job").click()
    ann.page.get_by_role("button", name="Submit").click()
    expect(ann.page.locator(".mlmp-job").get_by_role("log")).to_have_text("trained", timeout=60_000)


@pytest.mark.faults
def test_what_of_mlmp_is_killed_is_found_again_without_a_reload(lab_site: Site, new_page: Callable[..., Page]):
    ben = Human(new_page(), lab_site.url, "ben")
    ben.work(duration="300s")
    countdown = ben.page.locator(".mlmp-countdown")
    expect(countdown).to_have_text(LEFT, timeout=60_000)
    for part in ("service", "proxy"):
        before = lab_site.pid_of(part)
        lab_site.kill(part)
        ben.page.wait_for_function(ASKS_UNTIL, arg=[".mlmp-countdown", LOST], timeout=60_000, polling=100)
        wait_for(lambda part=part, before=before: lab_site.pid_of(part) not in (None, before), 120, part)
        expect(countdown).to_have_text(LEFT, timeout=120_000)
    before = lab_site.pid_of("hub")
    lab_site.kill("hub")
    wait_for(lambda: lab_site.pid_of("hub") not in (None, before), 120, "the hub")
    expect(countdown).to_have_text(LEFT, timeout=120_000)
    countdown.click()
    ben.page.get_by_role("menuitem", name="Extend the Booking by 15 min").click()
    expect(countdown).to_have_text(re.compile(r"^gpu · 1\d min left$"), timeout=60_000)
