"""A git repository behind https on this machine, as anybody's may be, with a certificate of an authority made here."""

from __future__ import annotations

import http.server
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trustme


class Repository:
    """A repository with the branch ``main``. ``url``: where it is served; ``authority``: file with the CA."""

    def __init__(self, root: Path) -> None:
        self.root, self.url, self.authority = root, "", root / "ca.pem"
        self.work, self.served = root / "work", root / "www" / "ml.git"
        self.root.joinpath("www").mkdir()
        self.git("init", "--quiet", "-b", "main", str(self.work), cwd=root)

    def git(self, *words: str, cwd: Path | None = None) -> str:
        """Runs git as somebody who has no settings."""
        environ = os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        who = ("-c", "user.name=Eve", "-c", "user.email=eve@example.org")
        done = subprocess.run(["git", *who, *words], cwd=cwd or self.work, env=environ, capture_output=True, text=True,
                              check=True)  # fmt: skip
        return done.stdout

    def publish(self, files: dict[str, str | None]) -> None:
        """Commits files to the branch that is checked out, None: one less, and serves what is then there."""
        for name, text in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink() if text is None else path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "more")
        if not self.served.exists():
            self.git("clone", "--quiet", "--bare", str(self.work), str(self.served))
        self.git("push", "--quiet", str(self.served), "HEAD")
        self.git("update-server-info", cwd=self.served)

    @property
    def environ(self) -> dict[str, str]:
        """As it is where the site's own authority is known."""
        return {"PATH": os.environ["PATH"], "GIT_SSL_CAINFO": str(self.authority)}


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Git's own server, so that clones may be shallow. What is behind ``/closed`` wants a password."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        if path.startswith("/closed/"):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="closed"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if path.startswith("/elsewhere/"):
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:9/{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        environ = os.environ | {
            "GIT_PROJECT_ROOT": self.directory, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
            "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "REMOTE_ADDR": "127.0.0.1",
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
        }  # fmt: skip
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        done = subprocess.run(["git", "http-backend"], input=body, env=environ, capture_output=True, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in (fields | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextmanager
def repository(root: Path) -> Iterator[Repository]:
    """Serves one until it is left."""
    made = Repository(root)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(made.authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(root / "www")))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.url = f"https://localhost:{server.server_address[1]}/ml.git"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
