"""Guests of a course: ``Client(access).guests``. Answers are as the service gave them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from mlmp_spawner.client.courses import course_path
from mlmp_spawner.client.transport import Transport
from mlmp_spawner.units import to_iso


class GuestApi:
    """What can be asked about guests. :param parse: makes a value of an answer, or raises NotReachable."""

    def __init__(self, http: Transport, parse: Callable[[Callable[[Any], Any], Any], Any]) -> None:
        self._http, self._parse = http, parse

    def list(self, course: str) -> dict[str, Any]:
        """Who came, and how many codes nobody used. :raises NotFound, NotAllowed:"""
        return self._dict(_guests, self._http.json("GET", f"{course_path(course)}/guests"))

    def invite(self, course: str, count: int, *, until: int) -> dict[str, Any]:
        """Codes, each for one person, that are shown this once. :param until: when they are over, ms UTC.

        :raises Invalid, NotFound, NotAllowed, Conflict:
        """
        body = {"count": count, "until": to_iso(until)}
        return self._dict(_codes, self._http.json("POST", f"{course_path(course)}/guests", body=body))

    def withdraw(self, course: str) -> int:
        """Makes the codes useless that nobody used; how many. :raises NotFound, NotAllowed:"""
        found = self._http.json("DELETE", f"{course_path(course)}/guests")
        return int(self._parse(lambda body: int(body["withdrawn"]), found))

    def end(self, course: str, guest: str) -> dict[str, Any]:
        """Ends a guest's time now. :raises NotFound, NotAllowed:"""
        path = f"{course_path(course)}/guests/{quote(guest, safe='').replace('.', '%2E')}"
        return self._dict(_guest, self._http.json("DELETE", path))

    def _dict(self, check: Callable[[Any], dict[str, Any]], body: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._parse(check, body)
        return found


# What the commands use of an answer: KeyError or TypeError where it is none.


def _guests(body: Any) -> dict[str, Any]:
    return {**body, "items": [_guest(one) for one in body["items"]], "open_codes": int(body["open_codes"])}


def _guest(body: Any) -> dict[str, Any]:
    for key in ("name", "until", "ended_at", "erased_from"):
        body[key]
    return dict(body)


def _codes(body: Any) -> dict[str, Any]:
    for one in body["items"]:
        one["code"], one["link"]
    for key in ("address", "until", "erased_after"):
        body[key]
    return dict(body)
