"""The classes of courses: ``Client(access).classes``. Answers are as the service gave them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
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
        path = f"{course_path(course)}/classes/{quote(class_id, safe='').replace('.', '%2E')}"
        found: tuple[str, ...] = self._parse(
            lambda body: tuple(str(one) for one in body["cancelled"]),
            self._http.json("DELETE", path, query={"which": which}),
        )
        return found


# What the commands use of an answer: KeyError or TypeError where it is none.


def _class(body: Any) -> dict[str, Any]:
    for key in ("id", "start", "end", "state", "seats", "given", "used", "unit_hours"):
        body[key]
    return {
        **body,
        "nodes": [_place(one) for one in body["nodes"]],
        "problems": [str(one) for one in body["problems"]],
    }


def _booked(body: Any) -> dict[str, Any]:
    for one in body["dates"]:
        one["start"], one["end"], [_place(node) for node in one["nodes"]]
    return {**body, "id": body["id"], "seats": int(body["seats"])}


def _place(one: Any) -> dict[str, Any]:
    return {"node": str(one["node"]), "seats": int(one["seats"])}
