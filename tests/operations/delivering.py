"""What tests of notices on their way share."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select

from mlmp_spawner.operations import booking, history
from mlmp_spawner.operations.delivery import Outbox
from mlmp_spawner.operations.people import Ways
from mlmp_spawner.operations.postman import Postman
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import CLOCK, Actor, Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import tables
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import DAY, HOUR
from tests.operations.conftest import NOW, ann
from tests.operations.mailbox import Mailbox

PAGES = "https://hub.example.org/services/mlmp/"
EVIL = (
    "x\r\nBcc: eve@example.org\r\n\r\n<!channel> <https://evil.example|click> @here [a](https://evil.example) \u202e"
)
CHAT = "<!channel> <@U123> <https://evil.example|click> @here @all [a](https://evil.example) www.evil.example #general"


def book(site: Site, actor: Actor = ann, **fields: object) -> Reservation:
    request = BookingRequest(**({"profile": "gpu", "duration": HOUR, "start": NOW + DAY} | fields))  # type: ignore[arg-type]
    return booking.book(site, request, actor=actor, now=NOW)


def tell(site: Site, action: str, booked: Reservation, at: int = NOW, **details: object) -> None:
    with transaction(site.engine) as connection:
        history.record(connection, action, actor=CLOCK.name, at=at, reservation=booked, **details)


def outbox(mailbox: Mailbox | None = None, **fields: Any) -> Outbox:
    ways = Ways(mail=mailbox is not None, template="{username}@example.org")
    made = Outbox(mail=mailbox.server() if mailbox else None, ways=ways, pages=PAGES, zone=ZoneInfo("Europe/Zurich"))
    return replace(made, **fields)


def postman(site: Site, box: Outbox) -> Postman:
    return Postman(lambda: site, box)


async def send(man: Postman, now: int) -> None:
    """Plans and sends mail until nothing is due."""
    while await man.plan(now) or await man.send_mail(now):
        pass


def rows(site: Site) -> list[Any]:
    with read(site.engine) as connection:
        query = select(tables.delivery).order_by(tables.delivery.c.notice, tables.delivery.c.address)
        return list(connection.execute(query))


class Chat:
    """A chat server: keeps what is posted. ``answers``: the statuses of the next ones."""

    def __enter__(self) -> Chat:
        self.posted: list[Any] = []
        self.answers: list[int] = []
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                chat.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                status = chat.answers.pop(0) if chat.answers else 200
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", chat.url + "elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
