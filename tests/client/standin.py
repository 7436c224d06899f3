"""A small real HTTP server that answers as a test tells it, and remembers what it was asked."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/services/mlmp/api/v1/"


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Answer:
    """One answer. ``body``: JSON, or text as it is; ``drop``: close the connection without one; ``cut``: close it
    before the end."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    cut: bool = False


def problem(status: int, code: str, detail: str, **more: Any) -> Answer:
    """A problem document."""
    body = {
        "type": f"urn:mlmp:problem:{code}",
        "title": "No",
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }
    return Answer(status, {**body, **more}, {"Content-Type": "application/problem+json"})


@dataclass
class StandIn:
    """The server: ``on["GET me"]`` is one answer, a list of them (the last one again and again) or a function."""

    url: str = ""
    on: dict[str, Answer | list[Answer] | Callable[[Asked], Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> Answer:
        """What to say; 404 in HTML for what the test did not name, as the hub does for services it does not have."""
        self.asked.append(asked)
        found = self.on.get(f"{asked.method} {asked.path}")
        if found is None:
            return Answer(404, "<html>404 : Not Found</html>", {"Content-Type": "text/html"})
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found(asked) if callable(found) else found

    def times(self, method: str, path: str) -> int:
        """How often it was asked that."""
        return sum(one.method == method and one.path == path for one in self.asked)


@contextmanager
def serve(tls: ssl.SSLContext | None = None) -> Iterator[StandIn]:
    """A stand-in on a free port of the loopback address, with TLS where that is given."""
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def work(self) -> None:
            parts = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            path = parts.path.removeprefix(API) if parts.path.startswith(API) else parts.path
            as_sent = headers.get("content-type") == "application/octet-stream"
            said = raw if as_sent else json.loads(raw) if raw else None
            answer = stand_in.answer(Asked(self.command, path, query, headers, said))
            if answer.drop:
                self.close_connection = True
                return
            text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
            body = b"" if answer.body is None else text.encode()
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) + answer.cut))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.close_connection |= answer.cut

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = work

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    stand_in.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
