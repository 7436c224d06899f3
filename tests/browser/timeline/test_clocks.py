"""The timeline on any clock."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from playwright.sync_api import Page, expect

from mlmp_spawner.operations import booking
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.units import HOUR
from tests.browser.timeline.lanes import bar, booked, drag, row
from tests.operations.conftest import ann
from tests.web.harness import RunningApp


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
