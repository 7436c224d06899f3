"""What several workers print, as whole lines that say whose they are: ``[1] step 7 loss 0.3``."""

from __future__ import annotations

import os
import select
import threading
from contextlib import suppress

LOOK = 0.5
"""Seconds between two looks whether the workers are over."""
LAST_LINES = 10.0
"""Seconds within which is taken what they printed last."""
LONGEST_LINE = 64 << 10
"""Bytes; what is longer goes on in a line of its own."""

_PIECE = 64 << 10


class Lines:
    """Takes what workers print, and writes it to ``target`` line by line, so that no two are mixed.

    A carriage return ends a line, too, since progress bars write so. :param target: file descriptor.
    """

    def __init__(self, target: int = 1) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._pipes: dict[int, int] = {}
        self._threads: list[threading.Thread] = []

    def of(self, rank: int) -> int:
        """Where a worker prints to: a file descriptor, which the caller closes once the worker has it."""
        self._pipes[rank], write = os.pipe()
        return write

    def begin(self) -> None:
        """Takes from now on what the workers print; all are started, and have what :meth:`of` gave for them."""
        for rank, pipe in self._pipes.items():
            thread = threading.Thread(target=self._take, args=(rank, pipe), daemon=True)
            thread.start()
            self._threads.append(thread)

    def end(self) -> None:
        """Writes what is left, once the workers are over; what they left behind may still hold their pipes."""
        self._over.set()
        for thread in self._threads:
            thread.join(LAST_LINES)

    def _take(self, rank: int, pipe: int) -> None:
        rest = b""
        while True:
            over = self._over.is_set()  # asked first: what was printed before is there then
            if not select.select([pipe], [], [], 0 if over else LOOK)[0]:
                if over:
                    break
                continue
            piece = os.read(pipe, _PIECE)
            if not piece:
                break
            lines, rest = whole_lines(rest + piece)
            self._write(rank, lines)
        if rest:
            self._write(rank, [rest.rstrip(b"\r") + b"\n"])

    def _write(self, rank: int, lines: list[bytes]) -> None:
        text = b"".join(b"[%d] %s" % (rank, line) for line in lines)
        with self._lock, suppress(OSError):
            while text:
                text = text[os.write(self.target, text) :]


def whole_lines(text: bytes) -> tuple[list[bytes], bytes]:
    """The lines that are whole, with their ends, and the begin of the next one."""
    end = max(text.rfind(b"\n"), text.rfind(b"\r", 0, -1)) + 1  # a newline may follow the last carriage return
    lines, rest = text[:end].splitlines(keepends=True), text[end:]
    if len(rest) > LONGEST_LINE:
        lines.append(rest + b"\n")
        rest = b""
    return lines, rest
