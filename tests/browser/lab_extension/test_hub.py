"""MLMP's extension of JupyterLab behind a real hub, with the token that the server got."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import Human
from tests.live import Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(Path(tmp_path_factory.mktemp("site")), lab=True)
    made.start()
    yield made
    made.close()


@pytest.mark.faults
def test_a_booking_is_seen_and_extended_and_a_job_runs_from_ones_own_server(
    site: Site, new_page: Callable[..., Page]
):  # fmt: skip
    ann = Human(new_page(), site.url, "ann")
    ann.go("book")
    ann.say(duration="300s")
    ann.book()
    ann.start()
    countdown = ann.page.locator(".mlmp-countdown")
    expect(countdown).to_have_text(re.compile(r"^gpu · \d (min|s) left$|^gpu · \d+ s left$"))
    countdown.click()
    ann.page.get_by_role("menuitem", name="Extend the Booking by 15 min").click()
    expect(countdown).to_have_text(re.compile(r"^gpu · 1\d min left$"))
    folder = site.data / "homes" / "ann" / "code"
    folder.mkdir()
    (folder / "train.py").write_text("print('trained', flush=True)\n")
    ann.page.goto(ann.page.url.partition("/lab")[0] + "/lab/tree/code/train.py?reset")
    ann.page.get_by_role("button", name="Run as Job").click()
    ann.page.get_by_role("button", name="Submit").click()
    expect(ann.page.locator(".mlmp-job").get_by_role("log")).to_have_text("trained", timeout=60_000)
