"""Pages of other programs of one's own, such as TensorBoard and Spark, through one's own Jupyter server."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server_proxy.handlers import ProxyHandler
from tornado import web

_PASSED = (
    "Accept", "Accept-Language", "Content-Type", "If-Modified-Since", "If-None-Match", "Range", "User-Agent",
)  # fmt: skip
"""What opens this server is nothing for such a program."""


class OwnPages(ProxyHandler):  # type: ignore[misc]  # it has no types
    """Those of one program: it learns nothing by which anybody could act for the user here."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.update_last_activity = False  # a page that asks again and again is no sign that somebody works here

    async def pass_on(self, name: str, path: str) -> None:
        """Finds the program of that name, asks it by ``proxy``, and passes on what it says."""
        raise NotImplementedError

    async def http_get(self, name: str, path: str) -> None:
        """Reads a page."""
        await self.pass_on(name, path)

    async def head(self, name: str, path: str) -> None:
        """The same, without the page."""
        await self.pass_on(name, path)

    async def post(self, name: str, path: str) -> None:
        """Tells the program something, from its own pages alone."""
        if not from_here(self):
            raise web.HTTPError(403, "Another site asks for this.")
        await self.pass_on(name, path)

    async def put(self, name: str, path: str) -> None:
        """No such program takes it."""
        raise web.HTTPError(405)

    delete = patch = options = put

    async def open(self, name: str, path: str) -> None:
        """They have no WebSockets."""
        self.close()

    def proxy_request_headers(self) -> dict[str, str]:
        """Without what proves to others who asks."""
        said = self.request.headers
        return {name: said[name] for name in _PASSED if name in said}


def from_here(handler: JupyterHandler) -> bool:
    """Whether a page of this site asks. Browsers say so in one way over HTTPS, in another over HTTP."""
    said = handler.request.headers.get("Sec-Fetch-Site")
    if said is not None:
        return said == "same-origin"
    return urlsplit(handler.request.headers.get("Referer", "")).netloc == handler.request.host
