"""Courses: ``Client(access).courses``. Answers are as the service gave them (``courses`` in its API's description)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from mlmp_spawner.client.transport import Transport


class CourseApi:
    """What can be asked about courses. :param parse: makes a value of an answer, or raises NotReachable."""

    def __init__(self, http: Transport, parse: Callable[[Callable[[Any], Any], Any], Any]) -> None:
        self._http, self._parse = http, parse

    def mine(self) -> list[dict[str, Any]]:
        """Those that the caller is in, with what they bring into a server."""
        found: list[dict[str, Any]] = self._parse(
            lambda body: [_own(one) for one in body["items"]], self._http.json("GET", "me/courses")
        )
        return found

    def list(self) -> list[dict[str, Any]]:
        """Those that the caller is in; an admin sees all."""
        found: list[dict[str, Any]] = self._parse(
            lambda body: [_course(one) for one in body["items"]], self._http.json("GET", "courses")
        )
        return found

    def get(self, name: str) -> dict[str, Any]:
        """One course. :raises NotFound: there is none that the caller is in."""
        return self._dict(_course, self._http.json("GET", course_path(name)))

    def apply(self, course: str | Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Makes a course, or changes one to what is wanted; again, it changes nothing.

        :param course: YAML, or the same as a dictionary. :param dry_run: only say what would change.
        :raises Invalid, NotAllowed, Conflict:
        """
        query = {"dry_run": "true"} if dry_run else {}
        return self._dict(_applied, self._http.json("POST", "courses", query=query, body={"course": course},
                                                    repeatable=True))  # fmt: skip

    def remove(self, name: str) -> None:
        """Removes a course with its roster. :raises NotFound, NotAllowed, Conflict:"""
        self._http.json("DELETE", course_path(name))

    def roster(self, name: str) -> dict[str, Any]:
        """Who is in it. :raises NotFound, NotAllowed:"""
        return self._dict(_members, self._http.json("GET", f"{course_path(name)}/roster"))

    def change_roster(self, name: str, change: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Puts people on it and takes people off. :param change: any of ``text, add, remove, role, whole, domains``.

        :raises Invalid, NotFound, NotAllowed, Conflict:
        """
        query = {"dry_run": "true"} if dry_run else {}
        found = self._http.json("POST", f"{course_path(name)}/roster", query=query, body=dict(change), repeatable=True)
        return self._dict(_roster_change, found)

    def _dict(self, check: Callable[[Any], dict[str, Any]], body: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._parse(check, body)
        return found


def course_path(name: str) -> str:
    """The path of a course; whatever was typed stays one component."""
    return f"courses/{quote(name, safe='').replace('.', '%2E')}"


# What the commands use of an answer: KeyError or TypeError where it is none.


def _course(body: Any) -> dict[str, Any]:
    for key in ("name", "title", "profile", "units", "seats", "setup", "grace", "role", "runs", "members", "nodes"):
        body[key]
    return dict(body)


def _own(body: Any) -> dict[str, Any]:
    for key in ("name", "title", "role", "files", "data", "hand_in"):
        body[key]
    return dict(body)


def _applied(body: Any) -> dict[str, Any]:
    for one in body["changes"]:
        one["field"], one["old"], one["new"]
    return {**body, "course": _course(body["course"]), "roster": _roster_change(body["roster"]),
            "created": bool(body["created"])}  # fmt: skip


def _members(body: Any) -> dict[str, Any]:
    for one in body["items"]:
        one["name"], one["role"], one["known"], one["added_at"]
    return dict(body)


def _roster_change(body: Any) -> dict[str, Any]:
    for one in (*body["added"], *body["changed"]):
        one["name"], one["role"], one["known"]
    for one in body["not_understood"]:
        one["line"], one["text"], one["why"]
    return {**body, "removed": [*body["removed"]], "kept": int(body["kept"]),
            "not_understood_count": int(body["not_understood_count"])}  # fmt: skip
