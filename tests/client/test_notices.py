"""``mlmp notices`` and ``mlmp calendar``."""

from __future__ import annotations

from typing import Any

from tests.client.answers import ID, at
from tests.client.conftest import CommandLine
from tests.client.standin import Answer, StandIn


def told(number: int, **changes: Any) -> dict[str, Any]:
    body = {"id": number, "at": at(-60_000), "kind": "moved", "headline": f"Moved {number}", "text": "", "read": False}
    return {**body, "reservation": ID, **changes}


def page(*items: dict[str, Any], unread: int = 1) -> Answer:
    return Answer(200, {"items": list(items), "unread": unread, "zone": "UTC", "next_cursor": None})


def test_what_one_was_told(mlmp: CommandLine, server: StandIn) -> None:
    server.on["GET me/notices"] = page(told(8), told(7, read=True, headline="Old\x1b[2J\u202e"))
    ran = mlmp("notices")
    assert ran.status == 0 and "Moved 8" in ran.out and "new" in ran.out and ID in ran.out and "1 unread" in ran.out
    assert "\x1b" not in ran.out and "\u202e" not in ran.out
    assert "zone" in server.asked[0].query
    assert mlmp("notices", "--json").json["items"][0]["id"] == 8


def test_nothing_yet(mlmp: CommandLine, server: StandIn) -> None:
    server.on["GET me/notices"] = page(unread=0)
    assert "Nothing yet" in mlmp("notices").out
    assert "not read" in mlmp("notices", "--unread").out and server.asked[-1].query["unread"] == "true"


def test_marking_what_was_shown_as_read(mlmp: CommandLine, server: StandIn) -> None:
    server.on["GET me/notices"] = page(told(8), told(7), unread=2)
    server.on["POST me/notices/read"] = Answer(200, {"unread": 0})
    assert mlmp("notices", "--read", "--json").json["unread"] == 0
    assert server.asked[-1].body == {"up_to": 8}


def test_the_address_of_the_calendar_is_made_once(mlmp: CommandLine, server: StandIn) -> None:
    server.on["GET me/preferences"] = Answer(200, {"calendar_since": None})
    server.on["POST calendar-token"] = Answer(201, {"url": "https://hub.example.org/x?token=y", "since": at(0)})
    assert mlmp("calendar").out == "https://hub.example.org/x?token=y\n"
    server.on["GET me/preferences"] = Answer(200, {"calendar_since": at(0)})
    ran = mlmp("calendar")
    assert ran.status == 1 and "--new" in ran.err and ran.out == ""
    assert mlmp("calendar", "--new").out.startswith("https://")
    assert server.times("POST", "calendar-token") == 2


def test_the_address_can_be_ended(mlmp: CommandLine, server: StandIn) -> None:
    server.on["DELETE calendar-token"] = Answer(200, {"url": None, "since": None})
    assert "dead" in mlmp("calendar", "--revoke").out
    assert mlmp("calendar", "--revoke", "--json").json == {"url": None, "since": None}
