"""The open connections, each an sshd of its own: by which key it came in, and how it is ended."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import re
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress

import psutil

log = logging.getLogger("mlmp.ssh")

_ACCEPTED = re.compile(
    r"Accepted publickey for .+? from .*? ssh2: \S+ (?P<fingerprint>SHA256:[A-Za-z0-9+/]{43})(?: |$)"
)
_PR_SET_PDEATHSIG = 1
_LONGEST_LINE = 2000


class Session:
    """One connection. ``fingerprint``: of the key that it came in with; empty before it is in."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.fingerprint = ""
        self.told: int | None = None
        """The last of the moments before the end that its terminals were told of."""

    @classmethod
    async def begin(cls, connection: socket.socket, command: Sequence[str]) -> Session:
        """Hands a connection to an sshd of its own."""
        process = await asyncio.create_subprocess_exec(
            *command, stdin=connection.fileno(), stdout=connection.fileno(), stderr=asyncio.subprocess.PIPE, cwd="/",
            preexec_fn=_end_with_parent,
        )  # fmt: skip
        return cls(process)

    async def last(self) -> None:
        """Until it ends; writes down meanwhile what its sshd says."""
        assert self._process.stderr is not None
        rest = b""
        while data := await self._process.stderr.read(4096):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                self._hear(line.decode(errors="replace").strip())
            rest = rest[-_LONGEST_LINE:]
        await self._process.wait()

    def _hear(self, line: str) -> None:
        accepted = _ACCEPTED.match(line)
        if accepted and not self.fingerprint:
            self.fingerprint = accepted["fingerprint"]
        log.info("%d: %s", self._process.pid, line[:_LONGEST_LINE])

    def end(self, why: str) -> None:
        """Ends it at once, and hangs up what runs in it as if the line had dropped."""
        log.warning("%d: ended: %s", self._process.pid, why)
        with suppress(psutil.Error):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGHUP)
        with suppress(ProcessLookupError):
            self._process.kill()

    def terminals(self) -> set[str]:
        """The terminals that it has opened, as paths of devices."""
        found = set()
        with suppress(psutil.Error):
            for process in psutil.Process(self._process.pid).children():
                with suppress(psutil.Error):
                    found.add(process.terminal())
        return {path for path in found if path is not None}

    def tell(self, text: str) -> bool:
        """Writes a line into each of its terminals; False if it has none. One that takes nothing now is left out."""
        terminals = self.terminals()
        for path in terminals:
            with suppress(OSError):
                terminal = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    os.write(terminal, f"\r\n{text}\r\n".encode())
                finally:
                    os.close(terminal)
        return bool(terminals)


_libc = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """In the child: gone with the listener, since nobody else looks whether its key still holds."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
