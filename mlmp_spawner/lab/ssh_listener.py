"""Listens on a socket in the user's server and gives each connection its own ``sshd -i``.

Started by jupyter-server-proxy with the first connection; the hub's authorisation was asked before anything gets here.
Nothing of it is ever another account's: no port, no root, no capability.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlmp_spawner import units
from mlmp_spawner.client.config import Access, checked_token, hub_url
from mlmp_spawner.errors import ConfigurationError, MLMPError
from mlmp_spawner.lab import ending
from mlmp_spawner.lab.allowed import Service
from mlmp_spawner.lab.door import Closed, Door
from mlmp_spawner.lab.sessions import Session

log = logging.getLogger("mlmp.ssh")

LOOK = 5.0
"""Seconds between two looks whether the key of each session still holds."""
CLOSES = 2.0
"""Seconds that sessions have to go when all is ended."""
SPEAKS = 0.3
"""Seconds after which a client that says nothing gets its sshd all the same."""


class Listener:
    """Takes connections until it is cancelled.

    :param reservation: the booking whose end terminals are told of; empty: none is.
    :param look: seconds between two looks after the open sessions.
    """

    def __init__(self, door: Door, service: Service, reservation: str = "", *, look: float = LOOK) -> None:
        self._door = door
        self._service = service
        self._reservation = reservation
        self._interval = look
        self._tasks: set[asyncio.Task[None]] = set()
        self.sessions: set[Session] = set()

    async def serve(self, listening: socket.socket) -> None:
        """Hands over each connection. What is open is ended with it."""
        loop = asyncio.get_running_loop()
        listening.setblocking(False)
        looking = self._keep(self._look())
        try:
            with listening:
                while True:
                    connection, _ = await loop.sock_accept(listening)
                    self._keep(self._hand_over(connection))
        finally:
            looking.cancel()
            await self._close()

    async def _close(self) -> None:
        for session in self.sessions:
            session.end("the server ends")
        _, late = await asyncio.wait(self._tasks, timeout=CLOSES)
        for task in late:
            task.cancel()

    def _keep(self, doing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection ended badly", exc_info=error)

    async def _hand_over(self, connection: socket.socket) -> None:
        with connection:
            if not await _speaks(connection):
                return
            try:
                command = await self._door.command()
                connection.setblocking(True)
                session = await Session.begin(connection, command)
            except (Closed, OSError) as error:
                log.warning("refused: %s", error)
                connection.setblocking(False)
                with suppress(OSError):  # RFC 4253: before SSH's own first line others may come
                    connection.send(f"MLMP: {error}\r\n".encode())
                return
        self.sessions.add(session)
        try:
            await session.last()
        finally:
            self.sessions.discard(session)

    async def _look(self) -> None:
        """Every few seconds, while somebody is in: does their key still hold, and does their time end."""
        while True:
            await asyncio.sleep(self._interval)
            if not self.sessions:
                continue
            for step in (self._check, self._tell):
                try:
                    await step()
                except Exception:  # one bad look must not be the last: removed keys would stay in
                    log.exception("a look after the open sessions failed; the next one follows")

    async def _check(self) -> None:
        try:
            await self._door.look()
        except (ConfigurationError, OSError) as error:
            log.error("could not look whether the keys still hold: %s", error)
        for session in self.sessions:
            why = self._door.closed_to(session.fingerprint) if session.fingerprint else ""
            if why:
                session.end(why)

    async def _tell(self) -> None:
        left = await asyncio.to_thread(self._left) if self._reservation else None
        if left is None:
            return
        for session in self.sessions:
            session.told = ending.still_told(left, session.told)
            moment = ending.due(left, session.told)
            if moment is not None and session.tell(ending.words(left, self._reservation)):
                session.told = moment

    def _left(self) -> int | None:
        """Until the end, in ms; None where it is not known just now."""
        try:
            said = self._service.get(f"reservations/{self._reservation}")
            return units.from_iso(said.get("stops_at") or said["end"]) - units.now()
        except (MLMPError, KeyError, TypeError, ValueError, AttributeError):
            return None


async def _speaks(connection: socket.socket) -> bool:
    """False for who leaves without a word, as jupyter-server-proxy does to see whether somebody listens."""
    connection.setblocking(False)
    limit = time.monotonic() + SPEAKS
    while time.monotonic() < limit:
        try:
            return bool(connection.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            await asyncio.sleep(0.01)
        except OSError:
            return False
    return True


def listen(path: Path) -> socket.socket:
    """The socket, which only this account may open; one that a former listener left is replaced."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(256)
    return listening


def access() -> Access:
    """The hub and the token, as the server was told; no other is used.

    :raises ConfigurationError: this is no server that MLMP has started.
    """
    url, token = os.environ.get("MLMP_URL"), os.environ.get("MLMP_TOKEN")
    if not url or not token:
        raise ConfigurationError(["MLMP_URL and MLMP_TOKEN are not set: SSH is for servers that MLMP has started"])
    try:
        return Access(hub_url(url), checked_token(token), "MLMP_URL and MLMP_TOKEN")
    except MLMPError as error:
        raise ConfigurationError([error.detail]) from None


async def run(path: Path) -> None:
    """Listens at ``path`` until a signal ends it. :raises ConfigurationError: as :func:`access`."""
    service = Service(access())
    door = Door(path.parent, Path.home(), os.environ, service)
    listener = Listener(door, service, os.environ.get("MLMP_RESERVATION_ID", ""))
    serving = asyncio.create_task(listener.serve(listen(path)))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving


def main() -> int:
    """The command line: the path of the socket. Returns an exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s mlmp.ssh %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        asyncio.run(run(Path(sys.argv[1])))
    except ConfigurationError as error:
        log.error("%s", " ".join(error.problems))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
