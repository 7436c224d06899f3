"""A visitor of the pages without any script, and what is on them."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import httpx

from mlmp_spawner.operations import admission, booking, listing
from mlmp_spawner.operations.admission import StartOptions
from mlmp_spawner.operations.image_states import Look
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor
from mlmp_spawner.rules.catalog import Image
from mlmp_spawner.rules.preload import NodeImages, PullPod
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import HOUR, MINUTE
from tests.operations.conftest import NOW, ann
from tests.web.harness import PREFIX, PlayedImages, RunningApp

LAB, TORCH = "example.org/lab:1", "example.org/torch:1"
HOSTILE = "<script>alert(1)</script>'\"&{{7919*7907}}"
EVALUATED = str(7919 * 7907)
"""What a template would make of it: too long to be in anybody's id by chance."""


class Forms(HTMLParser):
    """The forms of a page, with their fields and buttons."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[dict[str, str]] = []
        self.buttons: list[tuple[int, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.forms.append({" action": (given.get("action") or "") if given.get("method") == "post" else ""})
        elif tag == "input" and self.forms and given.get("name"):
            self.forms[-1][given["name"] or ""] = given.get("value") or ""
        elif tag == "button" and self.forms:
            self.buttons.append((len(self.forms) - 1, given))

    def press(self, action: str, **button: str) -> tuple[str, dict[str, str]]:
        """Where the form with this action goes, and what it sends when that button is pressed."""
        for number, given in self.buttons:
            form = self.forms[number]
            if form[" action"] == action and all(given.get(name) == value for name, value in button.items()):
                sent = {name: value for name, value in form.items() if name != " action"}
                if given.get("name"):
                    sent[given["name"] or ""] = given.get("value") or ""
                return action, sent
        raise AssertionError(f"no button {button} that leads to {action}: {self.forms}")


class Visitor:
    """Somebody with a browser that runs no script."""

    def __init__(self, app: RunningApp, token: str) -> None:
        self.http = app.client(token, Accept="text/html")
        self.root = app.url
        self.answer = httpx.Response(200)

    def get(self, path: str = "") -> str:
        """Opens a page."""
        self.answer = self.http.get(self.root + PREFIX + path, follow_redirects=True)
        return self.answer.text

    def press(self, action: str, **button: str) -> str:
        """Presses a button of the page."""
        where, sent = Forms(self.answer.text).press(PREFIX + action, **button)
        return self.post(where, sent)

    def post(self, where: str, sent: dict[str, str], follow: bool = True) -> str:
        """Sends a form; what is elsewhere (the hub) is not followed."""
        self.answer = self.http.post(self.root + where, data=sent)
        if follow and self.answer.status_code == 303 and self.answer.headers["Location"].startswith(PREFIX):
            self.answer = self.http.get(self.root + self.answer.headers["Location"])
        return self.answer.text


def offer_images(app: RunningApp) -> None:
    """From now on servers run in images, and the profile has two to choose from."""
    catalog = app.site.catalog
    images = {name: Image(name=name, reference=f"example.org/{name}:1") for name in ("lab", "torch")}
    gpu = catalog.profiles["gpu"].model_copy(update={"images": tuple(images)})
    changed = catalog.model_copy(update={"images": images, "profiles": {"gpu": gpu}})
    app.site = app.context.site = replace(app.site, images=True, catalog=changed)


def images_on_nodes(app: RunningApp) -> PlayedImages:
    """On gpu-a the one image is there and the other fails; gpu-b is cordoned, and one waits its turn there."""
    offer_images(app)
    played = PlayedImages()
    since, problem = app.now - MINUTE, f"manifest unknown {HOSTILE}"
    played.seen = Look(
        app.now,
        {
            "gpu-a": NodeImages("gpu-a", images=frozenset({LAB})),
            "gpu-b": NodeImages("gpu-b", away="cordoned in the cluster"),
        },
        (
            PullPod("one", "gpu-a", TORCH, "failing", since, problem=problem),
            PullPod("two", "gpu-b", LAB, "queued", since, asked_by="ben"),
        ),
    )
    app.context.images = played
    return played


def text(html: str) -> str:
    """The words of a page, tags and scripts left out."""
    body = re.sub(r"(?s)<script.*?</script>|<noscript.*?</noscript>|<title>.*?</title>", " ", html)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def booked(
    app: RunningApp, who: Actor = ann, *, start: int = NOW, hours: float = 1, units: int = 1, title: str = ""
) -> Reservation:
    request = BookingRequest("gpu", start=start, end=start + round(hours * HOUR), units=units, title=title)
    return booking.book(app.site, request, actor=who, now=app.now)


def running(app: RunningApp, found: Reservation) -> None:
    """The server of a booking is up."""
    options = StartOptions(reservation=found.id)
    admission.admit(app.site, actor=Actor(found.owner), server=found.server, options=options, now=app.now)
    admission.started(app.site, found.id, now=app.now)


def app_listing(app: RunningApp) -> list[Reservation]:
    """All bookings there are."""
    return listing.listing(app.site, now=app.now, limit=200)[0]
