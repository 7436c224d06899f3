"""Makes the pictures of README and documentation: docs/images/NAME-LOOK.png.

    .venv/bin/python docs/screenshots.py [NAME …]

Starts an MLMP with simulated units in a temporary directory, gives it some life, and photographs its pages.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
CHROMIUM = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
SCREENS = {"desktop": {"width": 1080, "height": 700}, "phone": {"width": 390, "height": 844}}
LOOKS = (("desktop", "light"), ("desktop", "dark"), ("phone", "light"))
TWO = (("desktop", "light"), ("phone", "dark"))
"""The looks of most pages; Home has all three."""
ZONE = ZoneInfo("Europe/Zurich")
CATALOG = """\
images:
  lab: {reference: quay.io/jupyter/pytorch-notebook:cuda12-latest}
profiles:
  gpu: {title: "A100 · 80 GB", description: "With 16 cores and 128 GB of memory each.", resource: nvidia.com/gpu}
  cpu: {title: CPU, description: "For editing, plotting and preparing data.", resource: mlmp.dev/slot}
"""
MLMP = "services/mlmp/"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFZ/NjApOsAaTTRQGQiFxbHjDryfYzQkpSQ/Ust23aVj"


@contextmanager
def machine() -> Iterator[str]:
    """An MLMP of its own; its address."""
    with tempfile.TemporaryDirectory() as folder:
        catalog, data = Path(folder) / "catalog", Path(folder) / "data"
        catalog.mkdir()
        (catalog / "catalog.yaml").write_text(CATALOG)
        options = ["--simulate", "--auth", "dummy", "--port", "0", "--stop-servers"]
        command = [sys.executable, "-m", "mlmp_spawner.client.cli", "up", *options]
        command += ["--data", str(data), "--catalog", str(catalog)]
        output = Path(folder) / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            while not (found := re.search(r"ready: (\S+)", output.read_text())):
                if process.poll() is not None:
                    sys.exit(output.read_text())
                time.sleep(0.2)
            yield found[1]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


class Person:
    """Somebody logged in, with one page for each look."""

    def __init__(self, browser: Browser, url: str, name: str) -> None:
        self.browser, self.url = browser, url
        self.context = self._context("desktop", "light")
        page = self.context.new_page()
        page.goto(f"{url}hub/login")
        page.fill("#username_input", name)
        page.fill("#password_input", "any")
        page.click("#login_submit")
        page.wait_for_selector("#live")
        self.page = page

    def _context(self, screen: str, theme: str, **more: object) -> BrowserContext:
        return self.browser.new_context(
            viewport=SCREENS[screen], color_scheme=theme, timezone_id=str(ZONE), locale="en-GB", **more  # type: ignore[arg-type]
        )  # fmt: skip

    def ask(self, path: str, **body: object) -> dict[str, object]:
        """One call of the API, as a page would make it."""
        script = """async ([path, body]) => {
          const main = document.getElementById("mlmp");
          const headers = {"X-XSRFToken": main.dataset.xsrf, "Content-Type": "application/json"};
          const answer = await fetch(main.dataset.api + path, {method: "POST", headers, body: JSON.stringify(body)});
          return JSON.stringify(await answer.json());
        }"""
        found: dict[str, object] = json.loads(self.page.evaluate(script, [path, body]))
        return found

    def book(self, start: datetime, hours: float, **more: object) -> dict[str, object]:
        """A booking."""
        end = start + timedelta(hours=hours)
        body = {"profile": "gpu", "start": start.isoformat(), "end": end.isoformat()} | more
        return self.ask("reservations", **body)

    def photograph(self, name: str, path: str, prepare: str = "", looks: tuple[tuple[str, str], ...] = TWO) -> None:
        """A page in these looks. ``prepare``: a selector to click first."""
        IMAGES.mkdir(exist_ok=True)
        for screen, theme in looks:
            context = self._context(screen, theme, storage_state=self.context.storage_state())
            page = context.new_page()
            page.goto(f"{self.url}{path}")
            self._settle(page)
            if prepare:
                page.locator(prepare).first.click()
                self._settle(page)
            bottom = page.locator("main").bounding_box()
            height = (bottom["y"] + bottom["height"] + 12) if bottom else 800
            clip = {"x": 0, "y": 0, "width": SCREENS[screen]["width"], "height": max(height, 560)}
            page.screenshot(path=IMAGES / f"{name}-{screen}-{theme}.png", full_page=True, clip=clip)  # type: ignore[arg-type]
            context.close()

    @staticmethod
    def _settle(page: Page) -> None:
        page.wait_for_load_state("load")
        page.wait_for_timeout(500)


def live_a_little(ann: Person, ben: Person) -> str:
    """Bookings of two people; Ann's runs. Its id."""
    now = datetime.now(ZONE).replace(microsecond=0)
    hour = now.replace(minute=0, second=0)
    tomorrow = hour.replace(hour=8, minute=15) + timedelta(days=1)
    night = hour.replace(hour=22) + timedelta(days=1 if hour.hour >= 18 else 0)
    running = ann.book(now, 1.2, units=2, title="Thesis: fine-tuning")
    ben.book(now, 3, units=1)
    ben.book(night, 6, units=4, title="night run")
    ben.book(tomorrow, 3, units=3)
    ann.book(tomorrow, 1.75, title="Deep Learning class")
    ann.book(tomorrow + timedelta(hours=5), 4, units=2)
    for title in ("Ablation", ""):
        gone = ann.book(tomorrow + timedelta(days=2), 2, title=title)
        ann.page.evaluate(
            """async (id) => {
              const main = document.getElementById("mlmp");
              const headers = {"X-XSRFToken": main.dataset.xsrf};
              await fetch(`${main.dataset.api}reservations/${id}`, {method: "DELETE", headers});
            }""",
            gone["id"],
        )
    ann.ask(f"reservations/{running['id']}/start")
    for _ in range(60):
        ann.page.goto(f"{ann.url}{MLMP}")
        if ann.page.get_by_text("Open JupyterLab").count():
            break
        time.sleep(1)
    return str(running["id"])


LAB = (
    ("timeline", "timeline", "", LOOKS),
    ("timeline-week", "timeline?view=week", "", LOOKS[:1]),
    ("timeline-book", "timeline?date=2027-01-16", "#tl-book", LOOKS[:1]),
    ("usage", "usage?period=last-week&by=user", "", TWO),
    ("jobs", "jobs", "", TWO),
    ("job", "jobs/resnetbase22", "", TWO),
    ("compare", "jobs/compare?job=sweep7aaaaaa&job=sweep7bbbbbb&job=sweep7cccccc&job=sweep7dddddd", "", TWO),
    ("scan", "scans/resnetscan24?metric=accuracy&sort=3&down=1", "", TWO),
    ("notices", "notices", "", TWO),
    ("preferences", "preferences", "", TWO),
)
"""Pages that several machines, or a past, make more of."""


def photograph_the_lab(browser: Browser, names: set[str]) -> None:
    """Pages of a small lab, on a Friday at 9."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from docs.small_lab import lab

    wanted = [row for row in LAB if not names or row[0] in names]
    if not wanted:
        return
    with lab() as url:
        for name, path, prepare, looks in wanted:
            for screen, theme in looks:
                context = browser.new_context(
                    viewport=SCREENS[screen], color_scheme=theme, timezone_id=str(ZONE), locale="en-GB",  # type: ignore[arg-type]
                    extra_http_headers={"Authorization": "Bearer ann-token"},
                )  # fmt: skip
                page = context.new_page()
                page.goto(url + path)
                page.wait_for_timeout(1500)
                if prepare:
                    page.locator(prepare).click()
                    page.wait_for_timeout(300)
                page.screenshot(
                    path=IMAGES / f"{name}-{screen}-{theme}.png", full_page=not path.startswith("timeline")
                )
                context.close()


def main(names: set[str]) -> None:
    """All pictures, or those named."""
    chromium = shutil.which("chromium")
    with machine() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM))
        new, ann, ben = (Person(browser, url, name) for name in ("zoe", "ann", "ben"))
        admin = Person(browser, url, "admin")

        def take(person: Person, name: str, path: str, prepare: str = "", looks: Any = TWO) -> None:
            if not names or name in names:
                person.photograph(name, path, prepare, looks)

        take(new, "first", MLMP)
        running = live_a_little(ann, ben)
        take(ann, "home", MLMP, looks=LOOKS)
        take(ann, "extend", MLMP, "summary:has-text('Extend')")
        take(ann, "book", f"{MLMP}book?units=2&duration=4h&when=first")
        take(ann, "refused", f"{MLMP}book?units=3&duration=4h", "#book")
        take(ann, "bookings", f"{MLMP}bookings")
        take(ann, "booking", f"{MLMP}bookings/{running}", "#change summary")
        ann.ask("ssh-keys", key=PUBLIC_KEY, title="laptop")
        take(ann, "ssh", f"{MLMP}ssh")
        take(ben, "spawn", "hub/spawn")
        take(admin, "machines", f"{MLMP}admin")
        machine_of = admin.page.locator("table a.btn").first
        admin.page.goto(f"{url}{MLMP}admin")
        where = str(machine_of.get_attribute("href")).removeprefix("/")
        take(admin, "maintenance", f"{where}?bookings=move&start=&end=&reason=new+driver")
        take(admin, "everybody", f"{MLMP}admin/bookings")
        take(admin, "people", f"{MLMP}admin/people")
        take(admin, "health", f"{MLMP}admin/health")
        take(admin, "audit", f"{MLMP}admin/audit")
        photograph_the_lab(browser, names)
        if not names or "tensorboard" in names:
            from docs.tensorboard_pictures import photograph_tensorboard

            photograph_tensorboard(browser)
        if not names or "spark" in names:
            from docs.spark_pictures import photograph_spark

            photograph_spark(browser)
        if not names or "pscan" in names:
            from docs.pscan_pictures import photograph_pscan

            photograph_pscan(browser)
        if not names or names & {"course", "class", "class-book"}:
            from docs.class_pictures import photograph_classes

            photograph_classes(browser, IMAGES, names)
        if not names or any(name.startswith("lab-") for name in names):
            from docs.lab_extension_pictures import photograph_lab_extension

            photograph_lab_extension(browser, names)
        browser.close()


if __name__ == "__main__":
    main(set(sys.argv[1:]))
