"""One table row for each call of the API, and the handler that works by it.

A row names everything that is to be known of a call: address, method, right, the types of query, body and answer. The
handlers, the checks and the OpenAPI document all come from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel
from tornado.httputil import HTTPServerRequest

from mlmp_spawner.errors import Invalid
from mlmp_spawner.web import guest_rights
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.base import Handler
from mlmp_spawner.web.models import Request
from mlmp_spawner.web.problems import HTTPProblem

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

ALWAYS_ALLOWED = {"_xsrf", "token"}
"""Query arguments that belong to the login, not to the call."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call answers: a model, or ``text`` of some ``media_type``. ``etag`` (with its quotes) where the answer
    has one of its own."""

    body: BaseModel | None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    text: bytes = b""
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one row of the table, checked."""

    handler: ApiHandler
    query: Any
    body: Any
    path: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Route:
    """A row of the table.

    :param path: relative to the API's prefix; ``{id}`` stands for an id, any other ``{name}`` for a text.
    :param call: what answers it; None where ``handler`` does by itself.
    :param headers: request headers that it looks at, besides login: name to description.
    :param also: media types that it answers besides, where ``Accept`` asks for them.
    :param body_limit: bytes of its body, where that is not the usual.
    :param answers: of what type it answers under another status.
    :param statuses: what it may answer besides ``status`` and the errors of every call, with a word on each.
    """

    method: str
    path: str
    name: str
    summary: str
    right: Right
    call: Callable[[Call], Awaitable[Answer]] | None
    query: type[Request] | None = None
    body: type[Request] | None = None
    answer: type[BaseModel] | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    statuses: Mapping[int, str] = field(default_factory=dict)
    description: str = ""
    media_type: str = "application/json"
    also: tuple[str, ...] = ()
    handler: type[Handler] | None = None
    body_limit: int | None = None
    answers: Mapping[int, type[BaseModel]] = field(default_factory=dict)

    @property
    def placeholders(self) -> list[str]:
        """The names in its path that stand for something."""
        return _PLACEHOLDER.findall(self.path)


class ApiHandler(Handler):
    """Answers the calls of one address."""

    def initialize(self, rows: Mapping[str, Route], pattern: str) -> None:
        """``rows``: the table's rows of this address by method."""
        self._rows = rows
        self._own_etag: str | None = None
        self.route_name = pattern
        row = rows.get("GET" if self.request.method == "HEAD" else self.request.method or "")
        if row is not None:
            self.right = row.right
            self.body_limit = row.body_limit

    def methods(self) -> set[str]:
        """The methods that the table has for this address."""
        return set(self._rows) | ({"HEAD"} if "GET" in self._rows else set())

    def for_guests(self) -> bool:
        """By the table of their rights."""
        return self._row_name() in guest_rights.CALLS | guest_rights.JOB_CALLS

    def makes_jobs(self) -> bool:
        """By the same."""
        return self._row_name() in guest_rights.JOB_CALLS

    def _row_name(self) -> str:
        method = "GET" if self.request.method == "HEAD" else self.request.method
        return f"{method} {self.route_name}"

    async def _work(self, **path: str) -> None:
        method = "GET" if self.request.method == "HEAD" else str(self.request.method)
        row = self._rows[method]
        if row.call is None:
            raise HTTPProblem(405, "Method not allowed", "This address does not know this method.")
        arguments = query_of(self.request)
        if row.query is None and arguments:
            raise Invalid.field(ascii(min(arguments))[:60], "this call takes no such argument")
        query = row.query.model_validate(arguments) if row.query else None
        body = row.body.model_validate(json_of(self.request)) if row.body else None
        answer = await row.call(Call(self, query, body, path))
        self.respond(answer)

    get = post = patch = put = delete = _work

    def respond(self, answer: Answer) -> None:
        """Sends an answer."""
        self.set_status(answer.status)
        for name, value in answer.headers.items():
            self.set_header(name, value)
        self._own_etag = answer.etag
        if answer.etag and self.request.method not in ("GET", "HEAD"):
            # Of a GET tornado takes it from compute_etag, and answers 304 by it.
            self.set_header("ETag", answer.etag)
        if answer.status == 204:
            self.finish()
            return
        self.set_header("Content-Type", answer.media_type)
        self.finish(answer.text if answer.body is None else answer.body.model_dump_json())

    def compute_etag(self) -> str | None:
        """The answer's own, else a hash of what is sent."""
        return self._own_etag or super().compute_etag()


def handlers(rows: Iterable[Route], prefix: str) -> list[tuple[Any, ...]]:
    """The table as tornado's routes."""
    by_path: dict[str, dict[str, Route]] = {}
    found: list[tuple[Any, ...]] = []
    for row in rows:
        if row.handler is not None:
            found.append((_pattern(prefix, row.path), row.handler))
        else:
            by_path.setdefault(row.path, {})[row.method] = row
    return found + [
        (_pattern(prefix, path), ApiHandler, {"rows": ways, "pattern": path}) for path, ways in by_path.items()
    ]


def _pattern(prefix: str, path: str) -> str:
    return re.escape(prefix) + _PLACEHOLDER.sub(r"(?P<\1>[^/]+)", path).replace(".", r"\.")


def query_of(request: HTTPServerRequest) -> dict[str, str]:
    """The query as text, each argument once.

    :raises Invalid: not UTF-8, or an argument that is there twice.
    """
    found: dict[str, str] = {}
    for part in (request.query or "").split("&"):
        name, _, value = part.partition("=")
        if not name:
            continue
        key = _text(name)
        if key in ALWAYS_ALLOWED:
            continue
        if key in found:
            raise Invalid.field(key[:60], "it is there more than once")
        found[key] = _text(value)
    return found


def _text(part: str) -> str:
    try:
        return check_text(unquote_to_bytes(part.replace("+", " ").encode("latin-1")).decode())
    except UnicodeError as error:
        raise Invalid.field("query", "it is not UTF-8") from error


def json_of(request: HTTPServerRequest) -> Any:
    """The body as JSON.

    :raises HTTPProblem: 415, not sent as JSON. :raises Invalid: not JSON, or with text that can't be stored.
    """
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise HTTPProblem(415, "Unsupported media type", "Send the body as application/json.")
    try:
        found = json.loads(request.body.decode("utf-8"), parse_constant=_no_constant)
        _check_tree(found)
    except UnicodeDecodeError as error:
        raise Invalid("The body is not UTF-8.") from error
    except RecursionError as error:
        raise Invalid("The body is nested too deeply.") from error
    except ValueError as error:
        raise Invalid("The body is not JSON, or has a number too large for anything.") from error
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_tree(value: Any) -> None:
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_text(key)
            _check_tree(item)
    elif isinstance(value, list):
        for item in value:
            _check_tree(item)


def check_text(text: str) -> str:
    """Text that every part can store and send.

    :raises Invalid: a NUL, or half a character (a lone surrogate).
    """
    if _UNSTORABLE.search(text):
        raise Invalid("A text has a NUL or half a character in it.")
    return text
