"""The tornado application: pages, API, static files, and nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from tornado.web import Application, StaticFileHandler

from mlmp_spawner.web.api import table
from mlmp_spawner.web.base import SECURITY_HEADERS, Handler, LoginCallback, Missing, log_request
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.templating import STATIC, make_templates

HARD_BODY_LIMIT = 1024 * 1024
"""What the server reads of a body at all; beyond the (smaller) limit of the settings the answer is a clear 413."""


class StaticFiles(StaticFileHandler):
    """Our scripts, styles and pictures; with a version in the address a browser may keep them."""

    def set_default_headers(self) -> None:
        """The usual headers, but browsers may keep the file."""
        self.clear_header("Server")
        for name, value in SECURITY_HEADERS.items():
            if name != "Cache-Control":
                self.set_header(name, value)

    def set_extra_headers(self, path: str) -> None:
        """What scripts import from one another has no version in its address: asked for anew, mostly a 304."""
        if "v" not in self.request.arguments:
            self.set_header("Cache-Control", "no-cache")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """As everywhere."""
        self.finish(f"{status_code}\n")


def make_app(
    context: Context, *, pages: Iterable[tuple[Any, ...]] = (), cookie_secret: bytes | None = None
) -> Application:
    """All routes under the service's prefix.

    :param pages: routes of pages: patterns below the prefix, their handlers.

    Without a ``cookie_secret`` a restart signs browsers out (and in again
    by itself, through the hub).
    """
    prefix = context.prefix
    ours = re.escape(prefix)
    routes: list[tuple[Any, ...]] = [
        (f"{ours}oauth_callback", LoginCallback),
        (f"{ours}static/(.*)", StaticFiles, {"path": str(STATIC)}),
        *table.routes(context.api_prefix),
        *((ours + pattern, *rest) for pattern, *rest in pages),
        (r".*", Missing),
    ]
    return Application(
        routes,
        cookie_secret=cookie_secret or os.urandom(32),
        log_function=log_request,
        default_handler_class=Missing,
        login_url=context.auth.login_url,
        templates=make_templates(),
        openapi=table.document(context.api_prefix),
        mlmp=context,
    )


__all__ = ["HARD_BODY_LIMIT", "Handler", "make_app"]
