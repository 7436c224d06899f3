"""A gateway to stand before: real connections and keys; who may do what, and what is behind it, the test says."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncssh
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection, serve

from mlmp_spawner.client.dial import NoWay, dial
from mlmp_spawner.errors import Unavailable
from mlmp_spawner.rules.ssh_keys import parse
from mlmp_spawner.ssh.__main__ import listen
from mlmp_spawner.ssh.directory import Login, Running, Standing
from mlmp_spawner.ssh.gateway import Gateway
from mlmp_spawner.ssh.limits import Limits
from mlmp_spawner.ssh.settings import MLMPSSHGateway
from mlmp_spawner.units import HOUR, now


async def eventually(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Waits until ``condition`` holds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"it did not happen within {seconds} s"
        await asyncio.sleep(0.02)


@dataclass
class People:
    """A directory that the test writes."""

    standing: dict[int, Standing] = field(default_factory=dict)
    used_keys: list[str] = field(default_factory=list)
    away: bool = False
    fails: Exception | None = None
    hangs: bool = False

    def add(self, name: str, key: Path, *servers: str) -> None:
        """Somebody with one key, and servers that run."""
        fingerprint = parse(key.with_suffix(".pub").read_text()).fingerprint
        running = {
            server: Running(f"r-{name}{server}", now() + HOUR, token=f"of {name}/{server}") for server in servers
        }
        self.standing[len(self.standing) + 1] = Standing(name, frozenset({fingerprint}), running)

    def change(self, name: str, **changes: Any) -> None:
        """Something of somebody is otherwise."""
        ((user, standing),) = [each for each in self.standing.items() if each[1].name == name]
        self.standing[user] = replace(standing, **changes)

    def server(self, name: str, server: str, *, gone: bool = False, **changes: Any) -> None:
        """Something of a server is otherwise, or it is gone."""
        (standing,) = [each for each in self.standing.values() if each.name == name]
        others = {each: running for each, running in standing.servers.items() if each != server}
        own = {} if gone else {server: replace(standing.servers[server], **changes)}
        self.change(name, servers=others | own)

    async def login(self, name: str, fingerprint: str) -> Login | None:
        self._check()
        for user, standing in self.standing.items():
            if standing.name == name and fingerprint in standing.keys:
                return Login(user, name, f"k{user}", fingerprint)
        return None

    async def used(self, login: Login) -> None:
        self.used_keys.append(login.fingerprint)

    async def standings(self, users: Collection[int]) -> Mapping[int, Standing]:
        self._check()
        if self.hangs:
            await asyncio.Event().wait()
        return {user: self.standing[user] for user in users if self.standing[user].keys}

    def _check(self) -> None:
        if self.fails is not None:
            raise self.fails
        if self.away:
            raise Unavailable("The database does not answer.")


@dataclass
class Session:
    """A session through the gateway to a server that says what it is told."""

    reader: asyncssh.SSHReader[bytes]
    writer: asyncssh.SSHWriter[bytes]

    @classmethod
    async def begin(cls, connection: asyncssh.SSHClientConnection, host: str) -> Session:
        """Opens it."""
        return cls(*await connection.open_connection(host, 22))

    async def says(self, words: bytes) -> bytes:
        """What comes back of them."""
        self.writer.write(words)
        return await asyncio.wait_for(self.reader.readexactly(len(words)), 10)

    async def over(self) -> bool:
        """Waits until it is."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 10) == b""
        except (asyncssh.Error, ConnectionError):
            return True


@dataclass
class Gate:
    """A gateway that listens, and what is behind it.

    ``dialled``: the ways that were opened, each user and server; ``refuses_with``: the hub's next refusals;
    ``deaf``: servers read nothing.
    """

    people: People
    settings: dict[str, float]
    dialled: list[tuple[str, str]] = field(default_factory=list)
    refuses_with: list[int | None] = field(default_factory=list)
    deaf: bool = False
    ways: int = 0
    gateway: Gateway = field(init=False)
    port: int = 0
    servers: str = ""

    def __post_init__(self) -> None:
        self.gateway = Gateway(self.people, self._way, Limits(MLMPSSHGateway(**self.settings)))

    async def ssh(self, user: str, key: Path, host: str, port: int = 22) -> tuple[int, str]:
        """OpenSSH's client asks for a way to there; its exit status and what it said."""
        command = ["ssh", "-F", "none", "-p", str(self.port), "-o", "StrictHostKeyChecking=no", "-o",
                   "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o",
                   "IdentityAgent=none", "-i", str(key), "-W", f"{host}:{port}", f"{user}@127.0.0.1"]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def connect(self, user: str, *keys: Path | None, **options: Any) -> asyncssh.SSHClientConnection:
        """A connection that stays."""
        return await asyncssh.connect(
            "127.0.0.1", self.port, username=user, client_keys=[str(key) for key in keys if key] or None,
            known_hosts=None, agent_path=None, config=None, **options,
        )  # fmt: skip

    def known_end(self, server: str) -> int:
        """Until when the gateway knows a session to be allowed."""
        (end,) = [
            tunnel.end
            for guest in self.gateway.guests
            for tunnel in guest._tunnels  # type: ignore[attr-defined]
            if tunnel.server == server
        ]
        return int(end)

    async def _way(self, user: str, server: str, token: str) -> ClientConnection:
        if self.refuses_with:
            raise NoWay("refused by the test", self.refuses_with.pop())
        assert token == f"of {user}/{server}", "another than the server's own"
        self.dialled.append((user, server))
        return await dial(self.servers, token, patience=0)

    async def _serve(self, way: ServerConnection) -> None:
        self.ways += 1
        try:
            if self.deaf:
                await way.wait_closed()
            async for message in way:
                await way.send(message)
        finally:
            self.ways -= 1


@asynccontextmanager
async def gate(**settings: float) -> AsyncIterator[Gate]:
    """A gateway whose servers say what they are told."""
    made = Gate(People(), settings)
    async with serve(
        made._serve, "127.0.0.1", 0, compression=None, max_size=None, max_queue=4, close_timeout=1
    ) as servers:
        made.servers = f"ws://127.0.0.1:{next(iter(servers.sockets)).getsockname()[1]}/"
        acceptor = await listen(made.gateway, "127.0.0.1", 0, asyncssh.generate_private_key("ssh-ed25519"), None)
        made.port = acceptor.get_port()
        watching = asyncio.create_task(made.gateway.watch())
        try:
            yield made
        finally:
            watching.cancel()
            made.gateway.close()
            acceptor.close()


def make_key(folder: Path, name: str = "key") -> Path:
    """A private key, with its public one beside it."""
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path
