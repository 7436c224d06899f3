"""TensorBoard at the Unix socket ``socket`` of the folder in which it is started: ``python -m … LOGDIR TITLE``.

A port of a machine is open to all of its accounts; a socket is open to whom its folder lets in. It ends with the
server that started it, which holds the other end of its standard input.
"""

from __future__ import annotations

import os
import shutil
import socketserver
import sys
import threading
from pathlib import Path
from typing import Any

from tensorboard import default, program
from werkzeug import serving

SOCKET = "socket"


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


def main(logdir: str, title: str) -> None:
    """Serves ``logdir`` until the server that started it is gone."""
    os.umask(0o077)
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    board = program.TensorBoard(default.get_plugins(), server_class=SocketServer)
    # Its fast way to load is another process, which listens at a port.
    board.configure(logdir=logdir, window_title=title, load_fast="false", reload_interval=10)
    board.main()


def _end_with_the_server() -> None:
    sys.stdin.buffer.read()
    shutil.rmtree(Path.cwd(), ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
