"""Who gets an sshd: what the service says, as the files and options that sshd reads."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.lab import host_key, sshd
from mlmp_spawner.lab.allowed import Allowed, Asking, Service

log = logging.getLogger("mlmp.ssh")

KEPT = Path(".local/share/mlmp/ssh")
"""In the home: the host key, and what the service said last."""


class Closed(Exception):
    """Nobody comes in; the message says why."""


class Door:
    """The way in to one server.

    :param directory: for this account only; what sshd reads is put there. :param environment: of each session.
    """

    def __init__(self, directory: Path, home: Path, environment: Mapping[str, str], service: Service) -> None:
        self._directory = directory
        self._kept = home / KEPT
        self._environment = environment
        self._service = service
        self._asking: Asking | None = None
        self._asked_at = 0.0
        self._written: Allowed | None = None
        self._lock = asyncio.Lock()

    async def command(self) -> list[str]:
        """What to start for a connection that has come in now.

        :raises Closed: nobody may come in, or sshd can't run here.
        """
        try:
            asking = await self._ask()
        except ConfigurationError as error:
            raise Closed(" ".join(error.problems)) from None
        if asking.allowed.refusal:
            raise Closed(asking.allowed.refusal)
        return [sshd.program(), "-i", "-e", "-f", str(self._directory / sshd.NAME), *self._options(asking)]

    async def look(self) -> None:
        """Asks the service anew. Before the first connection there is nothing to ask for."""
        if self._asking is not None:
            await self._ask()

    def closed_to(self, fingerprint: str) -> str:
        """Why who came in with that key may not stay; empty if they may. Nobody goes while the service is silent."""
        asking = self._asking
        if asking is None or not asking.fresh or fingerprint in asking.allowed.keys:
            return ""
        return asking.allowed.refusal or f"the key {fingerprint} was removed"

    async def _ask(self) -> Asking:
        """What the service says now: the answer to a question that was asked before this call does not count."""
        called = time.monotonic()
        async with self._lock:
            if self._asking is None:
                self._asking = await asyncio.to_thread(self._prepare)
            if self._asked_at <= called:
                self._asked_at = time.monotonic()
                await asyncio.to_thread(self._asking.ask)
                self._write(self._asking.allowed)
            return self._asking

    def _prepare(self) -> Asking:
        sshd.program()
        public = host_key.prepare(self._kept, self._directory)
        sshd.write(self._directory, self._environment)
        return Asking(self._service, self._kept / "allowed.json", public)

    def _write(self, allowed: Allowed) -> None:
        if allowed == self._written:
            return
        files = {
            "authorized_keys": allowed.keys.values(),
            "authority": [allowed.authority],
            "principals": [allowed.principal],
            "certified": [f"{fingerprint} {allowed.principal}" for fingerprint in allowed.keys],
            "host_key-cert.pub": [allowed.certificate],
        }
        for name, lines in files.items():
            temporary = self._directory / f".{name}"
            temporary.write_text("".join(f"{line}\n" for line in lines if line))
            temporary.replace(self._directory / name)
        self._written = allowed

    def _options(self, asking: Asking) -> list[str]:
        """What differs from one connection to the next.

        A certificate counts for a registered key only; while the service does not say which these are, for any that
        was certified within the last minutes.
        """
        found = []
        if asking.allowed.certificate:
            found.append(f"HostCertificate={sshd.quoted(self._directory / 'host_key-cert.pub')}")
        sed = shutil.which("sed", path="/usr/bin:/bin")
        if not asking.fresh:
            found.append(f"AuthorizedPrincipalsFile={sshd.quoted(sshd.literal(self._directory / 'principals'))}")
        elif sed is not None:  # sshd runs programs of root's only; %f is the fingerprint, which has no bar in it
            found.append(
                f"AuthorizedPrincipalsCommand={sed} -n 's|^%f ||p' "
                f"{sshd.quoted(sshd.literal(self._directory / 'certified'))}"
            )
            found.append(f"AuthorizedPrincipalsCommandUser={sshd.quoted(sshd.account())}")
        else:
            found.append("AuthorizedPrincipalsFile=/dev/null")
        return [word for option in found for word in ("-o", option)]
