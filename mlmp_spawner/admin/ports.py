"""Ports for what runs on this machine: chosen once, kept, and out of the way of those that the kernel gives away."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Sequence
from pathlib import Path

_LOWEST = 10_000
_HIGHEST = 32_768
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def is_free(port: int, host: str = "127.0.0.1", *, patience: float = 0.0) -> bool:
    """Whether something could listen there; waits up to ``patience`` seconds for a former listener to go.

    :raises OSError: ``host`` is no address of this machine.
    """
    limit = time.monotonic() + patience
    while True:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen()
                return True
            except OSError as error:
                if isinstance(error, socket.gaierror) or error.errno == 99:  # EADDRNOTAVAIL
                    raise
                if time.monotonic() >= limit:
                    return False
        time.sleep(0.1)


def choose(taken: Sequence[int] = ()) -> int:
    """A free port that no outgoing connection will be given, and that is not in ``taken``.

    :raises OSError: there is none.
    """
    try:
        highest = min(_HIGHEST, int(_RANGE.read_text().split()[0]))
    except (OSError, ValueError):
        highest = _HIGHEST
    lowest = _LOWEST if highest > _LOWEST + 1000 else 1024
    for _ in range(1000):
        port = random.randrange(lowest, max(highest, lowest + 1000))  # noqa: S311 -- no secret
        if port not in taken and is_free(port):
            return port
    raise OSError("found no free port on this machine")
