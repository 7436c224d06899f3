"""The event stream: what changes is told within a second, to each no more than they may see."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.units import HOUR, to_iso
from mlmp_spawner.web.context import WebSettings
from tests.operations.conftest import NOW
from tests.web.harness import API, RunningApp, until


class Events:
    """The events of one open stream, as they come."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.ended = threading.Event()
        self._found: queue.Queue[tuple[str, dict]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        kind = ""
        try:
            for line in self.answer.iter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self._found.put((kind, json.loads(line.removeprefix("data: "))))
        except httpx.HTTPError:
            pass
        self.ended.set()

    def next(self, kind: str, within: float = 5) -> dict:
        """The next event of a kind; others before it are passed over."""
        until = time.monotonic() + within
        while True:
            name, data = self._found.get(timeout=max(0.01, until - time.monotonic()))
            if name == kind:
                return data

    def anything(self, within: float = 5) -> tuple[str, dict]:
        """The next event, of whatever kind."""
        return self._found.get(timeout=within)


@contextmanager
def following(app: RunningApp, token: str) -> Iterator[Events]:
    with app.client(token) as client, client.stream("GET", "stream") as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        events = Events(answer)
        events.next("hello")
        yield events


def test_a_booking_reaches_open_pages_within_a_second(app: RunningApp, ann: httpx.Client):
    with following(app, "ann-token") as events:
        began = time.monotonic()
        made = ann.post("reservations", json={"profile": "gpu", "duration": "1h", "title": "mine"}).json()
        told = events.next("reservation")
        assert time.monotonic() - began < 1
        assert told == {"action": "booked", **made}
        assert events.next("availability") == {"nodes": [made["allocations"][0]["node"]]}


def test_others_see_of_it_what_the_api_shows_them(app: RunningApp, ann: httpx.Client):
    with following(app, "ben-token") as events:
        ann.post("reservations", json={"profile": "gpu", "title": "secret", "server": "lab"})
        told = events.next("reservation")
        assert (told["owner"], told["title"], told["server"], told["mine"]) == ("ann", None, None, False)


def test_what_another_process_writes_is_told_too(app: RunningApp, site: Site):
    with following(app, "ann-token") as events:
        booked = book(site, BookingRequest("gpu", duration=HOUR), actor=Actor("ann"), now=NOW)
        assert events.next("reservation")["id"] == booked.id


def test_a_stream_that_is_closed_leaves_nothing_behind_and_one_user_has_only_so_many(site: Site):
    with RunningApp(site, NOW, WebSettings(rate=0, poll=0.05, streams_per_user=2, heartbeat=0.1)) as app:
        with following(app, "ann-token"), following(app, "ann-token"):
            with app.client("ann-token") as client:
                refused = client.get("stream")
            assert refused.status_code == 429 and refused.headers["Retry-After"]
            with following(app, "ben-token"):
                assert len(app.feed._listeners) == 3
        until(lambda: not app.feed._listeners and not app.feed._by_user)
        until(lambda: app.context.metrics.registry.get_sample_value("mlmp_streams") == 0)
        with following(app, "ann-token"):
            pass


def test_a_client_that_vanishes_or_never_reads_does_not_stay(site: Site):
    with RunningApp(site, NOW, WebSettings(rate=0, poll=0.05, heartbeat=0.05)) as app:
        host, port = app.url.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)))
        connection.sendall(f"GET {API}stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann-token\r\n\r\n".encode())
        until(lambda: app.feed._listeners)
        connection.close()
        until(lambda: not app.feed._listeners)


def test_a_stream_ends_after_a_while_so_that_rights_are_checked_anew(site: Site):
    with (
        RunningApp(site, NOW, WebSettings(rate=0, poll=0.05, stream_age=0.3)) as app,
        following(app, "ann-token") as events,
    ):
        assert events.ended.wait(5)
        until(lambda: not app.feed._listeners)


def test_when_the_service_stops_streams_end(app: RunningApp):
    with following(app, "ann-token") as events:
        app._loop.call_soon_threadsafe(app.feed.end)
        assert events.ended.wait(5)


@pytest.mark.parametrize("number", [30])
def test_a_burst_of_changes_arrives_whole_and_in_order(app: RunningApp, ann: httpx.Client, number: int):
    with following(app, "ann-token") as events:
        made = ann.post("reservations", json={"profile": "gpu", "duration": "1h"}).json()
        for title in range(number):
            ann.patch(f"reservations/{made['id']}", json={"title": str(title)})
        told = [events.next("reservation")["action"] for _ in range(number + 1)]
    assert told == ["booked", *["changed"] * number]


def test_what_begins_and_ends_by_the_time_alone_is_told_too(app: RunningApp, ann: httpx.Client):
    made = ann.post("reservations", json={"profile": "gpu", "start": to_iso(NOW + HOUR), "duration": "1h"}).json()
    with following(app, "ann-token") as events:
        for hours, action, state in ((1, "begun", "active"), (2, "over", "ended")):
            began = time.monotonic()
            app.now = NOW + hours * HOUR
            told = events.next("reservation")
            assert (told["id"], told["action"], told["state"]) == (made["id"], action, state)
            assert events.next("availability") == {"nodes": [made["allocations"][0]["node"]]}
            assert time.monotonic() - began < 1


def test_maintenance_is_told_as_it_is_made_begins_and_ends(app: RunningApp):
    window = {"start": to_iso(NOW + HOUR), "end": to_iso(NOW + 2 * HOUR)}
    with following(app, "ann-token") as events, app.client("admin-token") as admin:
        assert admin.put("nodes/gpu-b/outages", json={"items": [window]}).status_code == 200
        assert events.next("availability") == {"nodes": ["gpu-b"]}
        for hours in (1, 2):
            app.now = NOW + hours * HOUR
            assert events.next("availability") == {"nodes": ["gpu-b"]}
