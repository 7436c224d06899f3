"""What a test does to a service of which the hub is played, and what it makes of a page."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from mlmp_spawner.operations import admission, booking
from mlmp_spawner.operations.admission import StartOptions
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import HOUR
from tests.operations.conftest import NOW, ann
from tests.web.harness import RunningApp

AXE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"


def booked(
    app: RunningApp, who: Actor = ann, *, start: int = NOW, hours: float = 1, units: int = 1, title: str = ""
) -> Reservation:
    request = BookingRequest("gpu", start=start, end=start + round(hours * HOUR), units=units, title=title)
    made = booking.book(app.site, request, actor=who, now=app.now)
    app.feed.wake()
    return made


def running(app: RunningApp, found: Reservation) -> None:
    options = StartOptions(reservation=found.id)
    admission.admit(app.site, actor=Actor(found.owner), server=found.server, options=options, now=app.now)
    admission.started(app.site, found.id, now=app.now)
    app.feed.wake()


def settled(page: Page) -> None:
    """The page shows what it last asked for."""
    expect(page.locator("#mlmp")).not_to_have_attribute("aria-busy", "true")


def serious(page: Page, part: str = "#mlmp") -> list[str]:
    """What axe finds in our part of the page that is serious or worse."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("async (part) => (await axe.run(document.querySelector(part))).violations", part)
    return [
        f"{one['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
