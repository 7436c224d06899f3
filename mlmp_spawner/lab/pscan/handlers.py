"""PScan in a Jupyter server: the page, what it asks for, and single files under rules that make them harmless."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any, BinaryIO

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from tornado import web

from mlmp_spawner.errors import MLMPError
from mlmp_spawner.lab.pscan import cells, index
from mlmp_spawner.lab.pscan.browse import Asked, Browser, Seen
from mlmp_spawner.lab.pscan.export import exported
from mlmp_spawner.lab.pscan.kinds import kind_of, media_type
from mlmp_spawner.lab.static_files import Static

HERE = Path(__file__).parent
CHUNK = 1 << 20
MOST_EXAMPLES = 20

_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
_NOTHING = "default-src 'none'; sandbox; frame-ancestors 'self'"
_PDF = "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'self'"

Method = Callable[..., Awaitable[None]]


def _answers(method: Method) -> Method:
    """Refusals become problem documents."""

    @wraps(method)
    async def answer(self: Handler, *arguments: str) -> None:
        try:
            await method(self, *arguments)
        except MLMPError as error:
            self.set_status(error.status)
            self.set_header("Content-Type", "application/problem+json")
            self.finish(json.dumps(error.problem()))

    return answer


class Handler(JupyterHandler):
    """What all have in common: the right to read files by way of this server."""

    auth_resource = "contents"
    rules = _NOTHING

    @property
    def content_security_policy(self) -> str:
        """What the browser holds the answer to."""
        return self.rules

    @property
    def browser(self) -> Browser:
        """What was found so far."""
        found: Browser = self.settings["mlmp_pscan"]
        return found

    def asked(self) -> Asked:
        """What the address says."""

        def names(key: str) -> list[str] | None:
            text = self.get_query_argument(key, None)
            return None if text is None else [name for name in text.split(",") if name]

        at = {key[3:]: self.get_query_argument(key, strip=False) for key in self.request.query_arguments
              if key.startswith("at.")}  # fmt: skip
        root, pattern = (self.get_query_argument(key, "", strip=False) for key in ("root", "pattern"))
        return Asked(root, pattern, names("rows"), names("columns"), at, self.get_query_argument("fresh", "") == "1")

    async def seen(self) -> Seen:
        """What there is to see."""
        return await self.browser.look(self.asked())

    def file(self) -> tuple[str, str]:
        """The root and the path of the file that is asked for, as they were written."""
        root, path = (self.get_query_argument(key, "", strip=False) for key in ("root", "path"))
        return root, path


class Page(Handler):
    """The page; all that it shows it asks for."""

    rules = _PAGE

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """The page."""
        _ = self.xsrf_token  # sets the cookie that its requests send back
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish((HERE / "page.html").read_bytes())


class Look(Handler):
    """Axes, counts and cells."""

    @web.authenticated
    @authorized
    @_answers
    async def get(self) -> None:
        """What is to be seen, as JSON; with ``brief=1`` without what only changes with the files."""
        seen = await self.seen()
        brief = self.get_query_argument("brief", "") == "1"
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(await self.browser.run(lambda: json.dumps(_cells(seen) if brief else _found(seen) | _cells(seen))))


class Cell(Handler):
    """A text, a table or plots as a piece of HTML."""

    @web.authenticated
    @authorized
    @_answers
    async def get(self) -> None:
        """The piece."""
        root, path = self.file()
        piece = await self.browser.run(lambda: cells.shown(index.root_of(root, self.browser.home), path))
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(piece)


class Export(Handler):
    """A view as one file to keep."""

    @web.authenticated
    @authorized
    @_answers
    async def get(self) -> None:
        """The file, to be saved."""
        seen = await self.seen()
        text = await self.browser.run(partial(exported, seen))
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Disposition", 'attachment; filename="pscan.html"')
        self.finish(text)


class File(Handler):
    """A file as it is, where a browser shows it by itself; any other is for saving."""

    @web.authenticated
    @authorized
    @_answers
    async def get(self) -> None:
        """The file, under the rules of its kind."""
        root, path = self.file()
        self._describe(path)
        with await self.browser.run(partial(_opened, self.browser.home, root, path)) as file:
            about = os.fstat(file.fileno())
            self.set_header("Cache-Control", "private, no-cache")
            self.set_header("Etag", f'"{about.st_ino:x}-{about.st_mtime_ns:x}-{about.st_size:x}"')
            if self.check_etag_header():
                self.set_status(304)
                return
            self.set_header("Content-Length", str(about.st_size))
            left = about.st_size
            while left > 0 and (data := await self.browser.run(partial(file.read, min(CHUNK, left)))):
                left -= len(data)
                self.write(data)
                await self.flush()

    def _describe(self, path: str) -> None:
        kind, media = kind_of(path), media_type(path)
        self.set_header("Content-Type", media or "application/octet-stream")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        if media is None:
            self.set_header("Content-Disposition", "attachment")
        if kind == "html":
            scripts = self.get_query_argument("scripts", "") == "1"
            rules = cells.SCRIPTS if scripts else cells.NO_SCRIPTS
            sandbox = "sandbox allow-scripts" if scripts else "sandbox"
            self.set_header("Content-Security-Policy", f"{rules}; {sandbox}; frame-ancestors 'self'")
        elif kind == "pdf":  # a browser's viewer for PDF doesn't come up in a sandbox
            self.set_header("Content-Security-Policy", _PDF)
        elif kind == "image":
            self.set_header("Content-Security-Policy", f"{_NOTHING}; style-src 'unsafe-inline'; img-src data:")


def _opened(home: Path, root: str, path: str) -> BinaryIO:
    return open(index.open_file(index.root_of(root, home), path), "rb")


def _found(seen: Seen) -> dict[str, Any]:
    table, listing = seen.table, seen.listing
    return {
        "root": str(seen.root), "pattern": seen.pattern, "files": len(listing.files), "matched": table.matched,
        "missing": table.missing, "unmatched": len(table.unmatched), "links": listing.links,
        "examples": [_text(path) for path in table.unmatched[:MOST_EXAMPLES]],
        "unreadable": listing.unreadable, "cut": listing.cut,
        "axes": [{"name": one.name, "numeric": one.numeric, "values": one.values} for one in table.axes],
    }  # fmt: skip


def _cells(seen: Seen) -> dict[str, Any]:
    layout = seen.view.layout
    return {
        "layout": {"rows": layout.rows, "columns": layout.columns, "at": dict(layout.at)},
        "rows": seen.view.rows,
        "columns": seen.view.columns,
        "cells": [[cell and (cell[0], kind_of(cell[0]), cell[1]) for cell in line] for line in seen.view.cells],
    }


def _text(path: str) -> str:
    return path.encode(errors="backslashreplace").decode()


def routes(base: str) -> list[tuple[Any, ...]]:
    """All of it, below the address of the server."""
    return [
        (f"{base}pscan", Page),
        (f"{base}pscan/api/look", Look),
        (f"{base}pscan/api/cell", Cell),
        (f"{base}pscan/file", File),
        (f"{base}pscan/export", Export),
        (f"{base}pscan/static/(.*)", Static, {"path": str(HERE / "static")}),
    ]
