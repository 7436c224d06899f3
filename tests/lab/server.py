"""What the tests of SSH stand on: a user's server as far as SSH sees it, and the service that says who may come in."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlmp_spawner import units
from mlmp_spawner.client.problems import NotReachable
from mlmp_spawner.errors import MLMPError
from mlmp_spawner.lab import sshd
from mlmp_spawner.lab.allowed import Service
from mlmp_spawner.lab.door import Door
from mlmp_spawner.lab.ssh_listener import Listener, listen
from mlmp_spawner.rules import ssh_certificates, ssh_keys

ACCOUNT = pwd.getpwuid(os.getuid()).pw_name

# Standard input and output <-> the socket, as `mlmp ssh` and jupyter-server-proxy do it over a WebSocket.
DIAL = """\
import os, socket, sys, threading
to = socket.socket(socket.AF_UNIX)
to.connect(sys.argv[1])
def up():
    while data := os.read(0, 65536):
        to.sendall(data)
    to.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := to.recv(65536):
    os.write(1, data)
"""


def why_not() -> str:
    """Why there can be no SSH here; empty if there can."""
    missing = [name for name in ("ssh", "ssh-keygen", "scp", "sftp", "rsync") if shutil.which(name) is None]
    missing += [] if sshd.find() else ["sshd"]
    return f"needs {', '.join(missing)}; apt-get install openssh-server openssh-client rsync" if missing else ""


class Said(Service):
    """A service that knows one person, ``ann``."""

    def __init__(self) -> None:
        self.authority = ssh_certificates.read_authority(ssh_certificates.new_authority())
        self.keys: dict[str, ssh_keys.PublicKey] = {}
        self.facts: dict[str, Any] = {"enabled": True, "principal": "ann"}
        self.ends = units.now() + units.DAY
        self.error: MLMPError | None = None
        self.asked = 0

    def register(self, private: Path) -> ssh_keys.PublicKey:
        """Registers a key of ann's."""
        key = public(private)
        self.keys[key.fingerprint] = key
        return key

    def away(self) -> None:
        """From now on nobody answers."""
        self.error = NotReachable("it does not answer")

    def get(self, path: str) -> Any:
        """The API's answers."""
        self.asked += 1
        if self.error is not None:
            raise self.error
        if path == "ssh":
            return self.facts | {"authority": ssh_certificates.public_line(self.authority)}
        if path == "ssh-keys":
            items = [
                {"algorithm": key.algorithm, "fingerprint": name, "key": key.blob} for name, key in self.keys.items()
            ]
            return {"items": items}
        assert path == "reservations/b1"
        return {"end": units.to_iso(self.ends), "stops_at": units.to_iso(self.ends)}

    def post(self, path: str, body: Mapping[str, str]) -> Any:
        """A certificate for the host key."""
        assert path == "ssh-host-certificates"
        key = ssh_keys.parse(body["public_key"])
        line, ends = ssh_certificates.host_certificate(self.authority, key, principal="ann", now=units.now())
        return {"certificate": line, "expires": units.to_iso(ends)}


class Server:
    """The server of ann: a home, an environment, and a listener that runs in the test's loop."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "a home"
        self.home.mkdir()
        self.socket = root / "run" / "socket"
        self.environment = {
            "PATH": f"{root}/bin:{os.environ['PATH']}", "HOME": str(self.home), "USER": "ann", "SHELL": "/bin/bash",
            "LANG": "C.UTF-8", "MLMP_RESERVATION_ID": "b1",
        }  # fmt: skip
        self.login = ACCOUNT
        self.service = Said()
        self.door: Door
        self.listener: Listener
        self._serving: asyncio.Task[None] | None = None
        (root / "dial.py").write_text(DIAL)

    async def start(self) -> None:
        """Starts the listener."""
        self.door = Door(self.socket.parent, self.home, self.environment, self.service)
        self.listener = Listener(self.door, self.service, "b1", look=0.1)
        self._serving = asyncio.create_task(self.listener.serve(listen(self.socket)))

    async def stop(self) -> None:
        """Ends it, and what is open."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)

    def key(self, name: str) -> Path:
        """A private key of somebody's."""
        path = self.root / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        return path

    def certify(self, private: Path, principal: str = "ann") -> None:
        """Puts a certificate of the CA beside a key, where ssh finds it."""
        key, authority = public(private), self.service.authority
        line, _ = ssh_certificates.user_certificate(authority, key, principal=principal, now=units.now())
        Path(f"{private}-cert.pub").write_text(f"{line}\n")

    @property
    def options(self) -> list[str]:
        """Of ssh, scp and sftp: the way, no questions, and the host key checked by the CA's signature alone."""
        known = self.root / "known_hosts"
        known.write_text(f"@cert-authority ann {ssh_certificates.public_line(self.service.authority)}\n")
        said = {
            "ProxyCommand": f"{sys.executable} {self.root}/dial.py {self.socket}", "BatchMode": "yes",
            "UserKnownHostsFile": str(known), "GlobalKnownHostsFile": "/dev/null", "HostKeyAlias": "ann",
            "StrictHostKeyChecking": "yes", "IdentitiesOnly": "yes", "IdentityAgent": "none", "LogLevel": "ERROR",
            "User": self.login,
        }  # fmt: skip
        return ["-F", "none", *(word for name, value in said.items() for word in ("-o", f"{name}={value}"))]

    async def ssh(self, *words: str, key: str = "laptop", input: str = "") -> Ended:
        """Runs OpenSSH's client."""
        return await run("ssh", *self.options, "-i", str(self.root / key), *words, input=input)

    async def open(self, *words: str, key: str = "laptop") -> asyncio.subprocess.Process:
        """Starts OpenSSH's client and leaves it running."""
        return await asyncio.create_subprocess_exec(
            "ssh", *self.options, "-i", str(self.root / key), *words, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip


class Ended:
    """A program that has ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    def __repr__(self) -> str:
        """All of it, for a failed test."""
        return f"Ended({self.status}, {self.out!r}, {self.err!r})"


async def run(*command: str, input: str = "") -> Ended:
    """Runs a program to its end while the listener goes on."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(input.encode()), 30)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def eventually(condition: Callable[[], Any], seconds: float = 15) -> Any:
    """Looks until ``condition`` gives something true, while the listener goes on."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "it did not happen"
        await asyncio.sleep(0.02)
    return found


def public(private: Path) -> ssh_keys.PublicKey:
    """The public half of a key."""
    return ssh_keys.parse(Path(f"{private}.pub").read_text())
