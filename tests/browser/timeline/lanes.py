"""The timeline's lanes as a test sees them: who booked what, where on the screen it is, and how it is dragged."""

from __future__ import annotations

from datetime import datetime

from playwright.sync_api import Locator, Page
from sqlalchemy import update

from mlmp_spawner.operations import booking, changes, outages
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import tables
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR
from tests.operations.conftest import NOW, ann
from tests.operations.conftest import admin as root
from tests.web.harness import RunningApp

MINE = ".tl-body .tl-mine"


def booked(
    app: RunningApp, who: Actor = ann, *, start: float = 2, hours: float = 2, units: int = 1, node: str | None = None,
    title: str = "", waitlist: bool = False,
) -> Reservation:  # fmt: skip
    """A booking, from so many hours from now on."""
    begin = NOW + round(start * HOUR)
    request = BookingRequest(
        "gpu", start=begin, end=begin + round(hours * HOUR), units=units, node=node, title=title, waitlist=waitlist
    )
    made = booking.book(app.site, request, actor=who, now=app.now)
    app.feed.wake()
    return made


def row(app: RunningApp, found: Reservation) -> Reservation:
    return changes.get(app.site, found.id)


def bar(page: Page, found: Reservation) -> Locator:
    return page.locator(f".tl-bar[data-key^='{found.id}.']")


def at(page: Page, node: str, hours: float, row: int = 0) -> tuple[float, float]:
    """Where on the screen a time (hours from now) of a node is."""
    script = """([node, row]) => {
      const lane = [...document.querySelectorAll(".tl-lane")].find((one) => one.innerText.startsWith(node));
      const box = lane.querySelectorAll(".tl-row")[row].getBoundingClientRect();
      const now = document.querySelector(".tl-now").getBoundingClientRect();
      const [one, two] = document.querySelectorAll(".tl-lines .tl-hour");
      const hour = two.getBoundingClientRect().left - one.getBoundingClientRect().left;
      return [now.left + now.width / 2, hour, box.top + box.height / 2];
    }"""
    now, hour, y = page.evaluate(script, [node, row])
    return now + hours * hour, y


def drag(page: Page, start: tuple[float, float], end: tuple[float, float], *, drop: bool = True) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=3)
    page.mouse.move(*end, steps=3)
    if drop:
        page.mouse.up()


def rowed(app: RunningApp) -> list[tuple[float, float, int, str]]:
    """All bookings of ann's: from, to (hours from now), units, node."""
    with app.client() as client:
        items = client.get("reservations?owner=ann").json()["items"]
    found = []
    for one in items:
        if one["state"] in ("booked", "active", "waiting"):
            hours = [
                (datetime.fromisoformat(one[k].replace("Z", "+00:00")).timestamp() * 1000 - NOW) / HOUR
                for k in ("start", "end")
            ]
            found.append((*hours, one["units"], ",".join(a["node"] for a in one["allocations"])))
    return found


def of_kind(app: RunningApp, found: Reservation, kind: str) -> Reservation:
    """Makes it a booking of a class or a job, which nothing books yet."""
    with transaction(app.site.engine) as connection:
        its = tables.reservation.c.id == found.id
        connection.execute(update(tables.reservation).where(its).values(kind=kind))
    return row(app, found)


def maintenance(app: RunningApp, node: str, *, start: float, hours: float, reason: str) -> None:
    """A node that is away, from so many hours from now on; what is booked there stays."""
    begin = NOW + round(start * HOUR)
    wanted = outages.Wanted(begin, begin + round(hours * HOUR), reason)
    outages.set_outages(app.site, node, [wanted], actor=root, now=app.now, bookings="keep")
