"""TensorBoard behind a real hub: from the page of a job, in the server that its owner booked, and for nobody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import Human
from tests.live import Site

TRAIN = """\
import os, sys
sys.path.append({packages!r})
from tensorboardX import SummaryWriter
with SummaryWriter(os.environ["MLMP_OUTPUT_DIR"] + "/logs") as writer:
    for step in range(10):
        writer.add_scalar("loss", 1 / (step + 1), step)
print("trained", flush=True)
"""


@pytest.mark.faults
def test_a_job_is_watched_in_tensorboard_from_its_page_by_its_owner_alone(
    lab_site: Site, new_page: Callable[..., Page]
):
    ann, ben = (Human(new_page(), lab_site.url, name) for name in ("ann", "ben"))
    ann.work(duration="300s")
    folder = lab_site.data / "homes" / "ann" / "code"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN.format(packages=str(Path(pytest.__file__).parent.parent)))
    ann.page.goto(ann.page.url.partition("/lab")[0] + "/lab/tree/code/train.py?reset")
    ann.page.get_by_role("button", name="Run as Job").click()
    ann.page.get_by_role("button", name="Submit").click()
    row = ann.page.locator(".mlmp-job")
    expect(row.get_by_role("log")).to_contain_text("trained", timeout=120_000)
    ann.go(f"jobs/{row.get_attribute('data-job')}")
    ann.page.get_by_role("link", name="TensorBoard").click()
    expect(ann.page.locator("scalar-card", has_text="loss").first).to_be_visible(timeout=120_000)
    assert "/user/ann/" in ann.page.url
    answer = ben.page.goto(f"{ann.page.url.partition('#')[0]}data/runs")
    assert answer is not None and answer.status == 403
    assert "logs" not in ben.page.content()
