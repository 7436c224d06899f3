"""The pages of one's Spark sessions in one's own Jupyter server: ``…/mlmp/spark/``, and ``…/mlmp/spark/ID/``.

Spark's own pages are closed to all who lack the session's token; it is added here, and nothing of the hub's (cookies,
tokens) goes on to them. Since a port may be somebody else's once a session has ended, it is looked at first whose it
is.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from tornado import web

from mlmp_spawner.client.spark import SESSIONS
from mlmp_spawner.lab.own_pages import OwnPages

NAME = re.compile(r"[0-9a-f]{12}")
_LISTENS = "0A"
"""State of a socket in /proc/net/tcp (proc_pid_net(5))."""
_NONE = "There is no Spark session. In a notebook: spark = spark_session(executors=2, profile=…)"


def pages_of(folder: Path, name: str) -> tuple[str, int, str] | None:
    """Host, port and token of a session's pages; None where it is over.

    :param folder: with the sessions of this account. :param name: from the address, so anything.
    """
    if not NAME.fullmatch(name):
        return None
    try:
        said = json.loads((folder / name / "session.json").read_text())
        address = urlsplit(str(said["url"]))
        token, pid = str(said["token"]), int(said["pid"])
        alive = Path(f"/proc/{pid}").stat().st_uid == os.getuid()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not alive or not address.hostname or not address.port or not is_mine(address.port):
        return None
    return address.hostname, address.port, token


def is_mine(port: int) -> bool:
    """Whether it is this account that listens at a TCP port of this machine."""
    owners = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        fields = [line.split() for line in lines]
        owners |= {int(row[7]) for row in fields if row[3] == _LISTENS and int(row[1].rpartition(":")[2], 16) == port}
    return owners == {os.getuid()}


class Sessions(JupyterHandler):
    """The sessions that there are; the only one at once."""

    auth_resource = "terminals"

    @web.authenticated
    @authorized
    def get(self) -> None:
        folder = self.settings["mlmp_spark"]
        found = [one.name for one in sorted(folder.glob("*")) if pages_of(folder, one.name)]
        if len(found) == 1:
            self.redirect(f"{self.base_url}mlmp/spark/{found[0]}/")
            return
        self.set_header("Content-Type", "text/html; charset=utf-8")
        links = "".join(f'<li><a href="{name}/">Session {name}</a></li>' for name in found)
        self.finish(f"<!doctype html><html lang='en'><title>Spark</title><h1>Spark</h1><ul>{links}</ul>"
                    f"<p>{'' if found else _NONE}</p>")  # fmt: skip


class Pages(OwnPages):
    """Spark's own pages of one session."""

    auth_resource = "terminals"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.host_allowlist = lambda handler, host: True  # it is read from a file of this account's own
        self._token = ""

    @authorized
    async def pass_on(self, name: str, path: str) -> None:
        """Asks Spark."""
        found = pages_of(self.settings["mlmp_spark"], name)
        if found is None:
            raise web.HTTPError(404, "This Spark session is over.")
        host, port, self._token = found
        self.proxy_base = f"mlmp/spark/{name}"
        await self.proxy(host, port, path)

    def _rewrite_location_header(self, location: str, host: str, port: int, proxied_path: str) -> str:
        """Spark redirects to its own address, with our path in it or without."""
        there = urlsplit(location)._replace(scheme="", netloc="").geturl()
        ours = f"{self.base_url}{self.proxy_base}/"
        return there if there.startswith(ours) else ours + there.lstrip("/")

    def proxy_request_headers(self) -> dict[str, str]:
        """With the session's token, and nothing of the hub's."""
        return super().proxy_request_headers() | {"Authorization": f"Bearer {self._token}"}


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "mlmp_spawner.lab.spark_pages"}]


def _load_jupyter_server_extension(server: Any) -> None:
    server.web_app.settings["mlmp_spark"] = Path.home() / SESSIONS
    base = server.web_app.settings["base_url"]
    routes = [(f"{base}mlmp/spark/?", Sessions), (rf"{base}mlmp/spark/([0-9a-f]{{12}})/(.*)", Pages)]
    server.web_app.add_handlers(".*", routes)
