"""PScan behind a real hub: in the server that somebody booked, and for nobody else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import Human
from tests.lab.pscan.served import GREEN
from tests.live import Site


@pytest.mark.faults
def test_results_are_browsed_in_ones_own_server_by_oneself_alone(lab_site: Site, new_page: Callable[..., Page]):
    ann, ben = (Human(new_page(), lab_site.url, name) for name in ("ann", "ben"))
    ann.work(duration="300s")
    folder = lab_site.data / "homes" / "ann" / "runs"
    for lr in ("0.1", "0.01"):
        (folder / f"lr={lr}").mkdir(parents=True)
        (folder / f"lr={lr}" / "loss.png").write_bytes(GREEN)
        (folder / f"lr={lr}" / "log.txt").write_text("epoch 1")
        (folder / f"lr={lr}" / "page.html").write_text("<p>fine")
    ann.page.locator(".jp-DirListing-item", has_text="runs").click(button="right")
    ann.page.get_by_text("Open in PScan").click()
    inside = ann.page.frame_locator(".jp-IFrame iframe")
    expect(inside.locator("td[data-row] > img")).to_have_count(2)
    inside.get_by_label("Role of file").select_option("Columns")
    expect(inside.locator("td .text pre").first).to_have_text("epoch 1")
    expect(inside.frame_locator("td iframe").first.locator("p")).to_have_text("fine")
    answer = ben.page.goto(f"{lab_site.url}user/ann/pscan/api/look?root=runs")
    assert answer is not None and answer.status == 403
    assert "loss.png" not in ben.page.content()
