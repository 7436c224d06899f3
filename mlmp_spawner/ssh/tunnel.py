"""One session through the gateway: an SSH channel at one end, the WebSocket of a user's server at the other."""

from __future__ import annotations

import asyncio
import logging
import time

import asyncssh
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from mlmp_spawner.client.dial import Cut, carry
from mlmp_spawner.ssh.directory import Login, Running

log = logging.getLogger("mlmp.ssh")


class Tunnel:
    """One session to one server of somebody's. ``end``: of its booking as it was last seen; it and ``opened`` in ms
    UTC."""

    def __init__(self, login: Login, server: str, booked: Running, way: ClientConnection, *, opened: int) -> None:
        self.login = login
        self.server = server
        self.reservation = booked.reservation
        self.end = booked.end
        self.opened = opened
        self._way = way
        self._why = "it was over"
        self._task: asyncio.Task[None] | None = None
        self._cut = False

    async def run(self, reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]) -> None:
        """Carries bytes until one side ends, or it is cut."""
        self._task = asyncio.create_task(carry(self._way, reader, writer))
        if self._cut:
            self._task.cancel()
        began = time.monotonic()
        try:
            await asyncio.wait([self._task])
            self._task.result()
        except asyncio.CancelledError:
            pass  # cut, or the client is gone; what that was is known
        except Cut as error:
            self._why = f"the server ended it: {error.reason}"
        except (OSError, asyncssh.Error, ConnectionClosed) as error:
            self._why = f"the client is gone: {type(error).__name__}"
        finally:
            self._task.cancel()
            self._way.transport.abort()  # a cut waits for nobody's goodbye
            writer.close()
            log.info("closed user=%r server=%r reservation=%s seconds=%.1f why=%r", self.login.name, self.server,
                     self.reservation, time.monotonic() - began, self._why)  # fmt: skip

    def cut(self, why: str) -> None:
        """Ends it at once."""
        if not self._cut:
            self._why, self._cut = why, True
        if self._task is not None:
            self._task.cancel()
