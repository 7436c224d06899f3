"""TensorBoard over the rows of a made-up scan, in a real JupyterLab, for the picture of the documentation."""

from __future__ import annotations

import math
import random
import tempfile
from pathlib import Path

from playwright.sync_api import Browser
from tensorboardX import SummaryWriter

from tests.lab.pscan.served import TOKEN, lab

IMAGES = Path(__file__).parent / "images"
DESK = "--ServerApp.jpserver_extensions=mlmp_spawner.lab.desk=True"


def runs(folder: Path) -> None:
    """Three learning rates."""
    for lr in (0.1, 0.03, 0.01):
        chance = random.Random(lr)  # noqa: S311
        with SummaryWriter(str(folder / f"lr={lr}")) as writer:
            for step in range(120):
                loss = 2.3 * math.exp(-step * lr / 2) + 0.1 + chance.gauss(0, 0.02)
                writer.add_scalar("loss", loss, step)
                writer.add_scalar("accuracy", 1 - loss / 2.6, step)


def photograph_tensorboard(browser: Browser) -> None:
    """At a desk, in light colours: those of TensorBoard are its own."""
    with tempfile.TemporaryDirectory() as folder:
        work, home = Path(folder) / "work", Path(folder) / "home"
        home.mkdir()
        runs(work / "runs")
        with lab(work, home, DESK) as url:
            context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
            sheet = context.new_page()
            sheet.goto(f"{url}api/status?token={TOKEN}")
            sheet.goto(f"{url}lab?reset")
            sheet.locator(".jp-DirListing-item", has_text="runs").click(button="right")
            sheet.get_by_text("Open in TensorBoard").click()
            board = sheet.frame_locator('iframe[title="TensorBoard of runs"]')
            board.locator("scalar-card svg.line, scalar-card canvas").first.wait_for(timeout=120_000)
            board.get_by_role("button", name="Settings").first.click()  # its side bar takes half of the room
            if sheet.get_by_role("button", name="No", exact=True).is_visible():
                sheet.get_by_role("button", name="No", exact=True).click()
            sheet.wait_for_timeout(1500)
            sheet.screenshot(path=IMAGES / "tensorboard-desktop-light.png")
            context.close()
