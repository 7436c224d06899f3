"""Results of a made-up scan in PScan, in a real JupyterLab, for the pictures of the documentation."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize

from tests.lab.pscan.served import TOKEN, lab

IMAGES = Path(__file__).parent / "images"
SCREENS: dict[str, ViewportSize] = {
    "desktop": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844},
}  # fmt: skip
EPOCHS = 30
PICTURE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 240 160" width="240" height="160">
<rect width="240" height="160" fill="#fff"/>
<path d="M34 10V136H232" fill="none" stroke="#444"/>
<g font-family="sans-serif" font-size="10" fill="#444"><text x="8" y="16">2.5</text><text x="20" y="139">0</text>
<text x="216" y="150">{last}</text><text x="118" y="154">epoch</text><text x="180" y="20">loss {loss:.2f}</text></g>
<polyline fill="none" stroke="#1f77b4" stroke-width="2" points="{train}"/>
<polyline fill="none" stroke="#ff7f0e" stroke-width="2" points="{test}"/></svg>
"""


def results(folder: Path) -> None:
    """A folder for each combination of three parameters: a picture of the loss, and its numbers."""
    for lr, bs, seed in product((0.3, 0.1, 0.03, 0.01), (32, 64, 128, 256), range(5)):
        if (lr, bs, seed) == (0.3, 256, 0):
            continue  # it did not come to an end
        chance = random.Random(f"{lr} {bs} {seed}")  # noqa: S311
        run = folder / f"lr={lr}" / f"bs={bs}" / f"seed={seed}"
        run.mkdir(parents=True)
        speed = lr * 12 / math.sqrt(bs)
        train = [2.3 * math.exp(-epoch * speed) + 0.1 + chance.gauss(0, 0.3 * lr) ** 2 for epoch in range(EPOCHS)]
        test = [one + 0.004 * epoch * speed + 0.08 for epoch, one in enumerate(train)]
        picture = PICTURE.format(last=EPOCHS, loss=test[-1], train=_points(train), test=_points(test))
        (run / "loss.svg").write_text(picture)
        rows = "".join(
            f"{epoch},{one:.4f},{two:.4f}\n" for epoch, (one, two) in enumerate(zip(train, test, strict=True))
        )
        (run / "loss.csv").write_text("epoch,train,test\n" + rows)


def _points(values: list[float]) -> str:
    return " ".join(
        f"{34 + 198 * n / (EPOCHS - 1):.1f},{136 - 50 * min(one, 2.5):.1f}" for n, one in enumerate(values)
    )


@contextmanager
def served() -> Iterator[str]:
    """A JupyterLab with these results in ``runs``; its address."""
    with tempfile.TemporaryDirectory() as folder:
        work, home = Path(folder) / "work", Path(folder) / "home"
        home.mkdir()
        results(work / "runs")
        with lab(work, home) as url:
            yield url


def photograph_pscan(browser: Browser) -> None:
    """Pictures at a desk and on a phone, and plots."""
    page = "pscan?root=runs&pattern=lr%3D{lr}/bs%3D{bs}/seed%3D{seed}/{file}&rows=lr&columns=bs"
    with served() as url:
        for name, path, screen, theme in (
            ("pscan", page, "desktop", "light"),
            ("pscan", page, "phone", "dark"),
            ("pscan-plots", f"{page}&at.file=loss.csv", "desktop", "light"),
        ):
            context = browser.new_context(viewport=SCREENS[screen], color_scheme=theme, locale="en-GB")  # type: ignore[arg-type]
            sheet = context.new_page()
            sheet.goto(f"{url}api/status?token={TOKEN}")
            sheet.goto(url + path)
            sheet.locator("td[data-row] > *").first.wait_for()
            sheet.wait_for_load_state("networkidle")
            sheet.screenshot(path=IMAGES / f"{name}-{screen}-{theme}.png")
            context.close()
