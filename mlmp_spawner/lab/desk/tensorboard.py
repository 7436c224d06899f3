"""TensorBoard in the user's own server: a page that starts it at a click, and the way to it for nobody else.

The page is at ``…/mlmp/tensorboard?path=FOLDER`` (or ``job=ID``, ``scan=ID``), each TensorBoard below that.
"""

from __future__ import annotations

import html
import string
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server_proxy.handlers import RewritableResponse
from tornado import web

from mlmp_spawner import units
from mlmp_spawner.errors import Invalid, MLMPError
from mlmp_spawner.lab.desk import results
from mlmp_spawner.lab.desk.handlers import Handler, answers
from mlmp_spawner.lab.own_pages import OwnPages, from_here
from mlmp_spawner.lab.static_files import Static
from mlmp_spawner.lab.tensorboard_boards import TensorBoards
from mlmp_spawner.lab.tensorboard_process import Wanted

STATIC = Path(__file__).with_name("static")
WAYS = ("path", "job", "scan")
FRAMES = "frame-ancestors 'self'"

_PAGE = f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; {FRAMES}"


class Boards(Handler):
    """Starting one."""

    @web.authenticated
    @authorized
    @answers
    async def post(self) -> Any:
        """``{"path"}``, ``{"job"}`` or ``{"scan"}``; its address, from ``…/mlmp/`` on."""
        body = self.said()
        ways = [way for way in WAYS if way in body]
        if len(ways) != 1:
            raise Invalid(f"Say one of: {', '.join(WAYS)}.")
        wanted = await self.desk.run(self._wanted, ways[0], self.text(body, ways[0]))
        boards: TensorBoards = self.settings["mlmp_tensorboards"]
        await boards.open(wanted, units.now())
        return {"url": f"tensorboard/{wanted.id}/", "title": wanted.title}

    def _wanted(self, way: str, said: str) -> Wanted:
        boards: TensorBoards = self.settings["mlmp_tensorboards"]
        if way == "path":
            return boards.folder(said)
        of = results.of_job if way == "job" else results.of_scan
        title, named = of(self.desk.client, said)
        results.check_there(named)
        if len(named) == 1:
            return boards.folder(f"~/{next(iter(named.values()))}")
        return boards.folders_of(f"{way} {said}", title, named)


class Page(JupyterHandler):
    """The page that starts it and goes there, or says why not."""

    auth_resource = "mlmp"

    @property
    def content_security_policy(self) -> str:
        """What the browser holds it to."""
        return _PAGE

    @web.authenticated
    @authorized
    def get(self) -> None:
        """The page. It waits for a click where a link on somebody else's site led here, and with ``wait=1``."""
        asked = {way: self.get_query_argument(way) for way in WAYS if self.get_query_argument(way, "")}
        told = next(iter(asked.items()), ("path", ""))
        theme = self.get_query_argument("theme", "")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        theme = theme if theme in ("light", "dark") else ""
        at_once = from_here(self) or self.request.headers.get("Sec-Fetch-Site") == "none"
        at_once = at_once and not self.get_query_argument("wait", "")
        self.finish(_page(*told, xsrf=self.xsrf_token.decode(), theme=theme, at_once=at_once))


class Proxied(OwnPages):
    """A TensorBoard of this server."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.rewrite_response = [_in_our_frames]

    @authorized("read", resource="contents")  # type: ignore[untyped-decorator]
    async def pass_on(self, name: str, path: str) -> None:
        """Asks it, and passes on what it says."""
        boards: TensorBoards = self.settings["mlmp_tensorboards"]
        try:
            board = await boards.reach(name, units.now(), may_start=from_here(self))
        except MLMPError as error:
            self.set_status(error.status)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(" ".join(filter(None, (error.detail, error.hint))))
            return
        self.proxy_base = f"mlmp/tensorboard/{name}"
        self.unix_socket = board.socket
        with boards.use(board):
            await self.proxy("localhost", 80, path)
        board.used = units.now()


def _in_our_frames(response: RewritableResponse) -> None:
    response.headers.add("Content-Security-Policy", FRAMES)


def _page(way: str, said: str, *, xsrf: str, theme: str, at_once: bool) -> str:
    what = f"the {way} {said}" if way in ("job", "scan") else said or "this folder"
    values = {
        "way": way,
        "said": said,
        "what": what,
        "xsrf": xsrf,
        "theme": theme,
        "at_once": "yes" if at_once else "no",
    }
    page = string.Template((STATIC / "tensorboard.html").read_text())
    return page.substitute({name: html.escape(value) for name, value in values.items()})


def routes(base_url: str) -> list[tuple[Any, ...]]:
    """Where all of it is."""
    at = f"{base_url.rstrip('/')}/mlmp/"
    return [
        (f"{at}api/tensorboards", Boards),
        (f"{at}tensorboard", Page),
        (f"{at}tensorboard/static/(.*)", Static, {"path": str(STATIC)}),
        (f"{at}tensorboard/([0-9a-f]{{16}})(/.*)", Proxied),
    ]
