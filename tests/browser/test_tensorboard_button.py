"""The button that leads from a job to TensorBoard, where no server runs: by keyboard, on a phone, in the dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.played import AXE, booked, serious
from tests.web.harness import RunningApp
from tests.web.job_rows import Rows


@pytest.mark.parametrize("look", ["light", "dark"])
def test_it_offers_to_start_the_booked_server_by_keyboard_and_on_a_phone(
    app: RunningApp, tmp_path: Path, person: Callable[..., Page], look: str
):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: tools/npm.sh ci")
    rows = Rows.of(app, tmp_path)
    job = rows.add()
    rows.attempt(job)
    booked(app, start=app.now, hours=1)
    screen = {"width": 390, "height": 844}
    page = person(path=f"jobs/{job.id}", viewport=screen, color_scheme=look, bypass_csp=True)
    page.locator("#tensorboard summary").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Start my server")).to_be_in_viewport(ratio=1)
    assert serious(page, "#job") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
