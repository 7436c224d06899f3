"""The classes of courses: ``Client(access).classes``. Answers are as the service gave them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from mlmp_spawner.client.courses import course_path
from mlmp_spawner.client.transport import Transport


class ClassApi:
    """What can be asked about classes. :param parse: makes a value of an answer, or raises NotReachable."""

    def __init__(self, http: Transport, parse: Callable[[Callable[[Any], Any], Any], Any]) -> None:
        self._http, self._parse = http, parse

    def list(self, course: str, *, start: str | None = None, end: str | None = None) -> list[dict[str, Any]]:
        """The classes of a course, by start. :param start: those that end after it (ISO 8601); None: after now.

        :raises NotFound: there is no course that the caller is in.
        """
        answer = self._http.json("GET", f"{course_path(course)}/classes", query={"start": start, "end": end})
        found: list[dict[str, Any]] = self._parse(lambda body: [_class(one) for one in body["items"]], answer)
        return found

    def book(self, course: str, asked: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Books a class, or all those of a recurrence, or none.

        :param asked: any of ``start, end, duration, seats, recurrence, holidays, zone``. :param dry_run: only say
            whether it fits.
        :raises NoCapacity: ``dates`` has each date that does not fit. :raises Invalid, NotFound, NotAllowed:
        """
        body = {name: value for name, value in asked.items() if value is not None}
        answer = self._http.json(
            "POST", f"{course_path(course)}/classes", query={"dry_run": "true"} if dry_run else {}, body=body,
            headers={"Idempotency-Key": secrets.token_hex(16)}, repeatable=True,
        )  # fmt: skip
        found: dict[str, Any] = self._parse(_booked, answer)
        return found

    def cancel(self, course: str, class_id: str, *, which: str = "this") -> tuple[str, ...]:
        """Cancels a class; ``which``: also those that follow, or all of its series. The ids of what was given back."""
        found: tuple[str, ...] = self._parse(
            lambda body: tuple(str(one) for one in body["cancelled"]),
            self._http.json("DELETE", _path(course, class_id), query={"which": which}),
        )
        return found

    def get(self, course: str, class_id: str) -> dict[str, Any]:
        """A class with its seats (``people``). :raises NotFound: there is none of a course that the caller is in."""
        found: dict[str, Any] = self._parse(_whole, self._http.json("GET", _path(course, class_id)))
        return found

    def extend(self, course: str, class_id: str, duration: str) -> dict[str, Any]:
        """Lets a class go on for longer; ``end``, and the ``people`` whose seats do.

        :raises NoCapacity: ``longest_end`` says how far it could go. :raises TooLate, NotFound, NotAllowed:
        """
        answer = self._http.json("POST", f"{_path(course, class_id)}/extend", body={"duration": duration})
        found: dict[str, Any] = self._parse(lambda body: {"end": str(body["end"]), "people": _people(body)}, answer)
        return found

    def say(self, course: str, class_id: str, text: str) -> tuple[str, ...]:
        """Tells everybody with a seat something; their names. :raises Invalid, NotNow, NotFound, NotAllowed:"""
        answer = self._http.json("POST", f"{_path(course, class_id)}/message", body={"text": text})
        return tuple(self._parse(_people, answer))

    def servers(self, course: str, class_id: str, what: str, people: Sequence[str] | None = None) -> tuple[str, ...]:
        """Has servers of seats started, stopped or restarted (``what``); whose. :param people: None for everybody.

        :raises Invalid, NotNow, NotFound, NotAllowed:
        """
        body = {"what": what, "people": None if people is None else list(people)}
        answer = self._http.json("POST", f"{_path(course, class_id)}/servers", body=body, repeatable=True)
        return tuple(self._parse(_people, answer))


def _path(course: str, class_id: str) -> str:
    return f"{course_path(course)}/classes/{quote(class_id, safe='').replace('.', '%2E')}"


# What the commands use of an answer: KeyError or TypeError where it is none.


def _class(body: Any) -> dict[str, Any]:
    for key in ("id", "start", "end", "state", "seats", "given", "used", "unit_hours"):
        body[key]
    return {
        **body,
        "nodes": [_place(one) for one in body["nodes"]],
        "problems": [str(one) for one in body["problems"]],
    }


def _whole(body: Any) -> dict[str, Any]:
    for one in body["people"]:
        one["name"], one["node"], one["status"], one["problem"]
    return _class(body)


def _people(body: Any) -> list[str]:
    return [str(one) for one in body["people"]]


def _booked(body: Any) -> dict[str, Any]:
    for one in body["dates"]:
        one["start"], one["end"], [_place(node) for node in one["nodes"]]
    return {**body, "id": body["id"], "seats": int(body["seats"])}


def _place(one: Any) -> dict[str, Any]:
    return {"node": str(one["node"]), "seats": int(one["seats"])}
