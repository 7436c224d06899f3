"""Scripts and styles of our own pages in a Jupyter server."""

from __future__ import annotations

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado import web


class Static(web.StaticFileHandler):
    """They are no secret, and modules are fetched without what proves who asks."""

    @allow_unauthenticated
    async def get(self, path: str, include_body: bool = True) -> None:
        """A file of ours."""
        await super().get(path, include_body)

    def set_extra_headers(self, path: str) -> None:
        """Asked for again after an update."""
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Content-Type-Options", "nosniff")
