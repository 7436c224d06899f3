"""The way of SSH through a user's Jupyter server: bytes both ways over a WebSocket.

The hub checks the token as it does for JupyterLab, so nobody reaches another's server and no port is open for SSH.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from mlmp_spawner import __version__

PIECE = 1 << 17
"""Bytes that are read and sent at once."""

LARGEST = 1 << 20
"""Bytes that one message may have: its other end is a user's, and what it says is kept until all of it is here."""

PATIENCE = 10.0
"""Seconds for which a hub or its proxy that restarts is asked again."""

REFUSED = b"MLMP: "
"""What the server's side begins with where it lets nobody in; the reason follows."""

BUSY = (429, 502, 503, 504)
"""Answers of a proxy that soon may have another."""


class NoWay(Exception):
    """The way is refused or not there. ``status``: the HTTP answer; None where there was none."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.status = reason, status


class Cut(Exception):
    """The other side ended the way while it was in use. ``code``: of the WebSocket's end."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Reader(Protocol):
    """Where bytes come from: asyncio's StreamReader, asyncssh's SSHReader."""

    async def read(self, n: int = -1) -> bytes:
        """At most ``n`` bytes; none at the end."""


class Writer(Protocol):
    """Where bytes go to: asyncio's StreamWriter, asyncssh's SSHWriter."""

    def write(self, data: bytes) -> Any:
        """Takes bytes."""

    async def drain(self) -> None:
        """Waits until more may be written."""


def way_to(hub: str, user: str, server: str = "") -> str:
    """The address of the WebSocket. ``hub``: its address, with a slash at its end; ``user``: as the hub knows them."""
    parts = urlsplit(hub)
    place = quote(user, safe="@~") + "/" + (quote(server, safe="@~") + "/" if server else "")
    scheme = "wss" if parts.scheme == "https" else "ws"
    return urlunsplit((scheme, parts.netloc, f"{parts.path}user/{place}ssh/", "", ""))


async def dial(address: str, token: str, *, patience: float = PATIENCE) -> ClientConnection:
    """Opens the way; asks again for ``patience`` seconds where nobody answers just now.

    :raises NoWay: it is refused, or nothing answers.
    """
    loop = asyncio.get_running_loop()
    limit = loop.time() + patience
    pause = 0.25
    while True:
        try:
            return await _open(address, token)
        except NoWay as error:
            again = error.status is None or error.status in BUSY
            if not again or loop.time() + pause > limit or isinstance(error.__cause__, ssl.SSLError):
                raise
        await asyncio.sleep(pause)
        pause = min(pause * 2, 2.0)


class _Straight(connect):
    """Follows nobody elsewhere: the answer comes from the user's server, and the token goes where it was meant to."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def _open(address: str, token: str) -> ClientConnection:
    try:
        return await _Straight(
            address,
            additional_headers={"Authorization": f"token {token}"},
            user_agent_header=f"mlmp/{__version__}",
            compression=None,  # what SSH sends is encrypted and does not shrink
            max_size=LARGEST,
            max_queue=32,
            open_timeout=60,  # the first connection starts the listener
            ping_interval=20,  # proxies on the way end what is silent for long
            ping_timeout=60,
            close_timeout=2,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        raise NoWay(f"the answer is {status}", status) from error
    except TimeoutError as error:
        raise NoWay("it took too long") from error
    except (OSError, EOFError, InvalidHandshake, InvalidURI) as error:
        raise NoWay(str(error) or type(error).__name__) from error


async def carry(
    way: ClientConnection, reader: Reader, writer: Writer, *, seen: Callable[[], None] = lambda: None
) -> None:
    """Carries bytes both ways until one side ends; closes the way.

    No more is read than the other side takes. ``seen`` is called whenever something came, from either side.

    :raises Cut: the server's side ended it without saying so as sshd does when a session is over.
    """

    async def up() -> None:
        while data := await reader.read(PIECE):
            seen()
            await way.send(data)

    async def down() -> None:
        first = True
        async for message in way:
            seen()
            data = message if isinstance(message, bytes) else message.encode()
            if first and data.startswith(REFUSED):
                raise Cut(None, data.removeprefix(REFUSED).decode(errors="replace").strip())
            first = False
            writer.write(data)
            await writer.drain()

    both = [asyncio.create_task(up()), asyncio.create_task(down())]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            if task.done():
                task.result()
    except ConnectionClosed as error:
        raise Cut(error.rcvd.code if error.rcvd else None, str(error)) from error
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        await way.close()


async def join_standard_streams(address: str, token: str) -> None:
    """What a ProxyCommand is: standard input and output are the connection.

    :raises NoWay: it is refused. :raises Cut: it was ended.
    """
    way = await dial(address, token)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2 * PIECE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), sys.stdout.buffer
    )
    transport.set_write_buffer_limits(0)  # drained is written: nothing is left behind at the end
    try:
        await carry(way, reader, asyncio.StreamWriter(transport, protocol, None, loop))
    except (BrokenPipeError, ConnectionResetError):  # ssh has gone
        return
