"""The calls of the extension in JupyterLab: parse, ask, answer."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from mlmp_spawner import units
from mlmp_spawner.errors import Invalid, MLMPError
from mlmp_spawner.lab.desk import draft
from mlmp_spawner.lab.desk.courses import Courses
from mlmp_spawner.lab.desk.service import Desk

Method = Callable[..., Awaitable[Any]]

LARGEST = 1 << 20
"""Bytes of a body; each member has a limit of its own."""


def answers(method: Method) -> Method:
    """What it returns becomes JSON, refusals become problem documents."""

    @wraps(method)
    async def answer(self: Handler, *arguments: str) -> None:
        self.set_header("Cache-Control", "no-store")
        try:
            body = await _in_our_words(method(self, *arguments))
        except MLMPError as error:
            self.set_status(error.status)
            self.set_header("Content-Type", "application/problem+json")
            self.finish(json.dumps(error.problem()))
        else:
            self.finish(json.dumps(body))

    return answer


async def _in_our_words(work: Awaitable[Any]) -> Any:
    """:raises Invalid: a file of the user's can't be read."""
    try:
        return await work
    except OSError as error:
        raise Invalid(f"{error.filename or 'A file'} can't be read: {error.strerror or error}.") from error


class Handler(APIHandler):
    """What all have in common."""

    auth_resource = "mlmp"
    # An open tab asks again and again: that is no sign that somebody works here.
    _track_activity = False

    @property
    def desk(self) -> Desk:
        """Who asks the service."""
        found: Desk = self.settings["mlmp_desk"]
        return found

    def said(self) -> dict[str, Any]:
        """The body. :raises Invalid: it is no JSON object, or too long for one of ours."""
        if len(self.request.body) > LARGEST:
            raise Invalid(f"The body is longer than {LARGEST} bytes.")
        try:
            body = json.loads(self.request.body or b"{}")
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise Invalid("The body is no JSON object.")
        return body

    def text(self, body: dict[str, Any], key: str) -> str:
        """A member that is text. :raises Invalid: it is not."""
        found = body.get(key)
        if not isinstance(found, str):
            raise Invalid.field(key, "it has to be text")
        return found

    def number(self, key: str, default: int | None) -> int | None:
        """A whole number of the address. :raises Invalid: it is none."""
        found = self.get_query_argument(key, None)
        if found is None:
            return default
        if not found.isascii() or not found.isdigit() or len(found) > 15:
            raise Invalid.field(key, f"{found[:40]!r} is no whole number")
        return int(found)


class State(Handler):
    """The booking."""

    @web.authenticated
    @authorized
    @answers
    async def get(self) -> Any:
        """As it is now."""
        found = await self.desk.run(self.desk.state, units.now())
        return found | {"now": units.now()}


class Extend(Handler):
    """More time."""

    @web.authenticated
    @authorized
    @answers
    async def post(self) -> Any:
        """``{"duration": "30m"}``; the booking afterwards."""
        found = await self.desk.run(self.desk.extend, self.text(self.said(), "duration"), units.now())
        return found | {"now": units.now()}


class Message(Handler):
    """A word of who teaches."""

    @web.authenticated
    @authorized
    @answers
    async def post(self, id: str) -> Any:
        """It was read."""
        return await self.desk.run(self.desk.read_message, int(id))


class Profiles(Handler):
    """On what a job may run."""

    @web.authenticated
    @authorized
    @answers
    async def get(self) -> Any:
        """Names and titles."""
        return {"items": await self.desk.run(self.desk.profiles)}


class Drafts(Handler):
    """A job before it is submitted."""

    @web.authenticated
    @authorized
    @answers
    async def post(self) -> Any:
        """``path``, or ``command``, or ``manifest`` with ``folder``, and maybe another ``profile``: all of it."""
        return (await self.desk.run(self._made, self.said())).shown(self.desk.root)

    def _made(self, body: dict[str, Any]) -> draft.Draft:
        root = self.desk.root
        if "command" in body:
            made = draft.of_command(self.text(body, "command"), root)
        elif "manifest" in body:
            made = draft.of_manifest(self.text(body, "manifest"), self.text(body, "folder"), root)
        else:
            return draft.of_file(self.text(body, "path"), root, profile=self.text(body, "profile"))
        return made.on(self.text(body, "profile")) if "profile" in body else made


class Jobs(Handler):
    """One's jobs."""

    @web.authenticated
    @authorized
    @answers
    async def get(self) -> Any:
        """The newest."""
        return {"items": await self.desk.run(self.desk.jobs)}

    @web.authenticated
    @authorized
    @answers
    async def post(self) -> Any:
        """Submits ``manifest``, with the files of ``folder``; with the same ``key`` once."""
        body = self.said()
        made = await self.desk.run(self._submit, *(self.text(body, one) for one in ("manifest", "folder", "key")))
        self.set_status(201)
        return made

    def _submit(self, manifest: str, folder: str, key: str) -> dict[str, Any]:
        if not re.fullmatch(r"[A-Za-z0-9-]{8,64}", key):
            raise Invalid.field("key", "8 to 64 letters, digits and hyphens")
        wanted = draft.of_manifest(manifest, folder, self.desk.root)
        found = self.desk.submit(wanted.manifest, wanted.folder, key)
        return {"id": found.id, "name": found.name, "why": found.why}


class Job(Handler):
    """One job."""

    @web.authenticated
    @authorized
    @answers
    async def get(self, id: str) -> Any:
        """As it is now."""
        return await self.desk.run(self.desk.job, id)

    @web.authenticated
    @authorized
    @answers
    async def delete(self, id: str) -> Any:
        """Ends it."""
        return await self.desk.run(self.desk.cancel, id)


class Log(Handler):
    """What a job prints."""

    @web.authenticated
    @authorized
    @answers
    async def get(self, id: str) -> Any:
        """From byte ``start`` on, of ``attempt``."""
        start, attempt = self.number("start", 0) or 0, self.number("attempt", None)
        return await self.desk.run(partial(self.desk.log, id, attempt, start))


class Metrics(Handler):
    """What a job measures."""

    @web.authenticated
    @authorized
    @answers
    async def get(self, id: str) -> Any:
        """As far as it is."""
        return {"series": await self.desk.run(self.desk.metrics, id)}


class CourseFiles(Handler):
    """The files of the courses that one is in."""

    @property
    def courses(self) -> Courses:
        """Who brings them."""
        found: Courses = self.settings["mlmp_courses"]
        return found

    @web.authenticated
    @authorized
    @answers
    async def get(self) -> Any:
        """How far they are."""
        return self.courses.state()

    @web.authenticated
    @authorized
    @answers
    async def post(self) -> Any:
        """Brings them up to date."""
        self.courses.start()
        self.set_status(202)
        return self.courses.state()


def routes(base_url: str) -> list[tuple[str, type[Handler]]]:
    """Where all of it is."""
    at, id = f"{base_url.rstrip('/')}/mlmp/api/", "([a-z0-9]{8,30})"
    return [
        (f"{at}state", State), (f"{at}extend", Extend), (f"{at}profiles", Profiles), (f"{at}drafts", Drafts),
        (f"{at}courses", CourseFiles), (f"{at}messages/([0-9]{{1,18}})", Message),
        (f"{at}jobs", Jobs), (f"{at}jobs/{id}", Job), (f"{at}jobs/{id}/log", Log), (f"{at}jobs/{id}/metrics", Metrics),
    ]  # fmt: skip
