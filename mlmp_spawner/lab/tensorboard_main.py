"""TensorBoard at the Unix socket ``socket`` of the folder it is started in, over what ``wanted.json`` there names.

A port of a machine is open to all of its accounts; a socket is open to whom its folder lets in. It ends with the
server that started it, which holds the other end of its standard input.
"""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboard import default, program
from tensorboard.backend.event_processing import data_ingester
from werkzeug import serving

SOCKET = "socket"
WANTED = "wanted.json"
MOST_FOLDERS = 50_000
DEEPEST = 40
"""Folders below the one that is named."""
SHORTEST_PAUSE = 10.0
"""Seconds between two looks for what is new; ten times as long as the last one took, where that is more."""


class SocketServer(serving.ThreadedWSGIServer, program.TensorBoardServer):  # type: ignore[misc]
    """TensorBoard's own server, but at the socket."""

    daemon_threads = True

    def __init__(self, wsgi_app: Any, flags: Any) -> None:
        super().__init__(f"unix://{SOCKET}", 0, wsgi_app)

    def server_bind(self) -> None:
        """Without asking a name server what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", 0

    def get_url(self) -> str:
        """There is none that leads here by itself."""
        return "http://localhost:0/"

    def print_serving_message(self) -> None:
        """Nobody reads it."""


class Runs(data_ingester.LocalDataIngester):  # type: ignore[misc]
    """Finds runs without following links: two that lead up are a tree without end, and others lead out of the home."""

    def __init__(self, flags: Any, folders: Mapping[str, str]) -> None:
        super().__init__(flags)
        self._folders = folders

    def start(self) -> None:
        """Reads what there is, and then again and again what is new."""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self._look()
            except Exception:  # noqa: BLE001 - of one run; the others are still shown, and the next look may go well
                traceback.print_exc()
            time.sleep(max(SHORTEST_PAUSE, 10 * (time.monotonic() - began)))

    def _look(self) -> None:
        for name, folder in self._folders.items():
            for path in folders_with_events(folder):
                below = os.path.relpath(path, folder)
                self.deprecated_multiplexer.AddRun(path, os.path.join(name, below) if below != "." else name or ".")
        self.deprecated_multiplexer.Reload()


class Board(program.TensorBoard):  # type: ignore[misc]
    """TensorBoard that reads by :class:`Runs`: its own fast way is another process, which listens at a port."""

    folders: Mapping[str, str]

    def _make_data_ingester(self) -> Runs:
        found = Runs(self.flags, self.folders)
        found.start()
        return found


def folders_with_events(top: str) -> Iterator[str]:
    """The folders from ``top`` on with event files in them; links and hidden ones are left out."""
    waiting = [] if os.path.islink(top) else [(top, 0)]
    seen = 0
    while waiting and seen < MOST_FOLDERS:
        folder, depth = waiting.pop()
        seen += 1
        has_events = False
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if depth < DEEPEST and not entry.name.startswith("."):
                            waiting.append((entry.path, depth + 1))
                    else:
                        has_events |= "tfevents" in entry.name and entry.is_file(follow_symlinks=False)
        except OSError:  # not there yet, or closed
            continue
        if has_events:
            yield folder


def main() -> None:
    """Serves until the server that started it is gone."""
    os.umask(0o077)
    os.nice(10)
    threading.Thread(target=_end_with_the_server, args=(Path.cwd(),), daemon=True).start()
    wanted = json.loads(Path(WANTED).read_text())
    board = Board(default.get_plugins(), server_class=SocketServer)
    board.folders = wanted["runs"]
    board.configure(logdir=wanted["shown"], window_title=wanted["title"], load_fast="false")
    board.main()


def _end_with_the_server(folder: Path) -> None:
    try:
        sys.stdin.buffer.read()
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
