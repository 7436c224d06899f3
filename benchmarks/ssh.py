"""SSH: rsync and logins by each way in beside a plain sshd, and how many connections are carried at once."""

from __future__ import annotations

import asyncio
import getpass
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import asyncssh
import psutil

from benchmarks.common import Report, median, note
from mlmp_spawner.admin import ports
from mlmp_spawner.client.dial import carry, dial, way_to
from mlmp_spawner.lab.sshd import find
from tests.live import Person, Site, wait_for
from tests.ssh.computers import Computer

MANY = """
c.MLMPSSHGateway.connections_per_user = 1000
c.MLMPSSHGateway.opens_per_minute = 0
"""

Way = Callable[..., list[str]]
"""The words of a command of OpenSSH's for a way in."""


def run(report: Report, *, quick: bool = False) -> None:
    """Runs all."""
    with tempfile.TemporaryDirectory(prefix="mlmp-bench-") as folder, _site(Path(folder)) as site:
        ann = site.person("ann")
        ann.book(3600)
        ann.start()
        wait_for(lambda: ann.servers().get("", {}).get("ready"), 120, "the server's start")
        direct, jump = Computer(ann, Path(folder) / "direct"), Computer(ann, Path(folder) / "jump")
        for computer, options in ((direct, []), (jump, ["--gateway"])):
            done = computer.mlmp("ssh-config", *options)
            assert done.returncode == 0, done.stderr
        with _plain(Path(folder), direct) as plain:
            ways = {"plain sshd": plain, "mlmp ssh": direct, "gateway": jump}
            _logins(report, ways, rounds=2 if quick else 11)
            _rsync(report, ways, Path(folder), site, megabytes=16 if quick else 200, rounds=1 if quick else 3)
        count = 20 if quick else 200
        for name, open_one in (("mlmp ssh", _directly), ("gateway", _by_gateway)):
            asyncio.run(_many(report, name, partial(open_one, direct), ann, count))


@contextmanager
def _site(folder: Path) -> Iterator[Site]:
    site = Site(folder / "site", lab=True, settings=MANY)
    try:
        yield site.start("--ssh-port", "0")
    finally:
        site.close()


@contextmanager
def _plain(folder: Path, beside: Computer) -> Iterator[Computer]:
    """An sshd as a system has it, on a port of its own, and a computer that is configured for it."""
    place = folder / "plain"
    made = Computer(beside.person, place)
    made.place.mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / "host"], check=True)
    port, key = ports.choose(), beside.place / "identity" / "id_ed25519"
    (place / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {place}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {key}.pub\nSubsystem sftp internal-sftp\n"
    )
    known = " ".join((place / "host.pub").read_text().split()[:2])
    (made.place / "known_hosts").write_text(f"[127.0.0.1]:{port} {known}\n")
    (made.place / "config").write_text(
        f"Host ann\n    HostName 127.0.0.1\n    Port {port}\n    User {getpass.getuser()}\n    IdentityFile {key}\n"
        f"    IdentitiesOnly yes\n    UserKnownHostsFile {made.place}/known_hosts\n"
    )
    sshd = find()
    assert sshd is not None, "no sshd here"
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([sshd, "-D", "-e", "-f", place / "sshd_config"], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: made.ssh("ann", "true").returncode == 0, 20, "the plain sshd")
        yield made
    finally:
        server.terminate()
        server.wait()


def _logins(report: Report, ways: Mapping[str, Computer], *, rounds: int) -> None:
    taken = _in_turns(ways, rounds, lambda computer: computer.ssh("ann", "true"))
    for name in ("mlmp ssh", "gateway"):
        report.add(f"ssh true, by {name}", median(taken[name]), "s", versus=median(taken["plain sshd"]))


def _rsync(
    report: Report, ways: Mapping[str, Computer], folder: Path, site: Site, *, megabytes: int, rounds: int
) -> None:
    """A file that does not shrink, there and back; each time all of it."""
    source, target, back = folder / "file", folder / "target", folder / "back"
    with source.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))
    for direction, words in (("up", (str(source), f"ann:{target}")), ("down", (f"ann:{target}", str(back)))):

        def copy(computer: Computer, words: tuple[str, ...] = words) -> subprocess.CompletedProcess[str]:
            return computer.run(*computer.words("rsync", "--whole-file", "--ignore-times", *words), timeout=600)

        taken = _in_turns(ways, rounds, copy)
        speed = {name: megabytes * 1.048576 / median(each) for name, each in taken.items()}
        for name in ("mlmp ssh", "gateway"):
            report.add(f"rsync {direction}, by {name}", speed[name], "MB/s", versus=speed["plain sshd"])


def _in_turns(
    ways: Mapping[str, Computer], rounds: int, work: Callable[[Computer], subprocess.CompletedProcess[str]]
) -> dict[str, list[float]]:
    """Seconds of each way, taking turns, after one that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, computer in ways.items():
            began = time.perf_counter()
            done = work(computer)
            assert done.returncode == 0, done.stderr
            if number:
                taken[name].append(time.perf_counter() - began)
    return taken


# -- many at once ----------------------------------------------------------------------------------------------------


async def _many(report: Report, name: str, open_one: Callable[[], object], person: Person, count: int) -> None:
    """So many connections with a session each; then a line through each of them, all at once."""
    note(f"{count} connections, by {name}")
    began = time.perf_counter()
    few = asyncio.Semaphore(8)  # as many as begin at once

    async with _all(open_one, few, count) as sessions:
        report.add(f"{count} connections opened, by {name}", time.perf_counter() - began, "s")
        report.add(f"memory of the server per connection, by {name}", _memory(person) / count / 2**20, "MiB")
        taken = []
        for number in range(5):
            began = time.perf_counter()
            await asyncio.gather(*(_echo(session, f"{number}\n") for session in sessions))
            taken.append((time.perf_counter() - began) * 1000)
        report.add(f"a line through each of {count} and back, by {name}", median(taken), "ms")


@asynccontextmanager
async def _all(open_one, few: asyncio.Semaphore, count: int) -> AsyncIterator[list[asyncssh.SSHClientProcess]]:  # type: ignore[no-untyped-def,type-arg]
    async def begin() -> tuple[asyncssh.SSHClientConnection, asyncssh.SSHClientProcess]:  # type: ignore[type-arg]
        async with few:
            connection = await open_one()
            return connection, await connection.create_process("cat")

    made = await asyncio.gather(*(begin() for _ in range(count)))
    try:
        yield [session for _, session in made]
    finally:
        for connection, _ in made:
            connection.close()
        await asyncio.gather(*(connection.wait_closed() for connection, _ in made))


async def _directly(computer: Computer) -> asyncssh.SSHClientConnection:
    person = computer.person

    async def bridge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await carry(await dial(way_to(person.site.url, person.name), person.token), reader, writer)
        finally:
            writer.close()

    bridges: set[asyncio.Task[None]] = set()
    server = await asyncio.start_server(lambda *ends: bridges.add(asyncio.create_task(bridge(*ends))), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        return await asyncssh.connect("127.0.0.1", port, **_options(computer))
    finally:
        server.close()


async def _by_gateway(computer: Computer) -> asyncssh.SSHClientConnection:
    gateway = computer.person.api.get("/services/mlmp/api/v1/ssh").json()["gateway"]
    jump = await asyncssh.connect(gateway["host"], gateway["port"], **_options(computer) | {"username": "ann"})
    return await asyncssh.connect("ann", 22, tunnel=jump, **_options(computer))


def _options(computer: Computer) -> dict[str, object]:
    key = str(computer.place / "identity" / "id_ed25519")
    return {"username": getpass.getuser(), "client_keys": [key], "known_hosts": None, "agent_path": None,
            "config": None, "login_timeout": 120}  # fmt: skip


async def _echo(session: asyncssh.SSHClientProcess, line: str) -> None:  # type: ignore[type-arg]
    session.stdin.write(line)
    assert await session.stdout.readline() == line


def _memory(person: Person) -> int:
    """Bytes that the processes of SSH in servers use, what they share counted once."""
    return sum(
        process.memory_full_info().pss
        for record in person.site.servers()
        for process in psutil.Process(record.pid).children(recursive=True)
        if process.name() == "sshd" or "ssh_listener" in " ".join(process.cmdline())
    )
