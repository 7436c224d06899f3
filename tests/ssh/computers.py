"""Somebody's own computer: `mlmp`, and OpenSSH's client with the configuration that `mlmp` writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.live import Person

PATIENCE = 60
"""Seconds for a command: other tests run beside."""


class Computer:
    """What a person has at home. ``directory``: empty."""

    def __init__(self, person: Person, directory: Path) -> None:
        self.person = person
        self.directory = directory
        home = directory / "home"
        home.mkdir(parents=True)
        # Nothing of the machine that the tests run on: no agent, no proxy.
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home), "LC_ALL": "C.UTF-8",
            "XDG_CONFIG_HOME": str(directory / "config"), "MLMP_URL": person.site.url, "MLMP_TOKEN": person.token,
        }  # fmt: skip

    @property
    def place(self) -> Path:
        """Where `mlmp` keeps what SSH needs."""
        return self.directory / "config" / "mlmp" / "ssh"

    def run(self, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command."""
        options = {"capture_output": True, "text": True, "timeout": PATIENCE, **options}
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([str(word) for word in words], env=self.environment, **options)

    def mlmp(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`mlmp` with these words."""
        return self.run(*self.words("mlmp", *words), **options)

    def ssh(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """OpenSSH's `ssh`, configured by `mlmp ssh-config`; scp and sftp likewise."""
        return self.run(*self.words("ssh", *words), **options)

    def words(self, program: str, *words: str) -> list[str]:
        """A command line."""
        if program == "mlmp":
            return [sys.executable, "-m", "mlmp_spawner.client.cli", *words]
        if program == "rsync":
            return ["rsync", "-e", f"ssh -F {self.place / 'config'}", *words]
        return [program, "-F", str(self.place / "config"), *words]

    @contextmanager
    def open(self, *words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """`ssh` that goes on; it and its ProxyCommand are ended."""
        with running(self.words("ssh", *words), env=self.environment, **options) as process:
            yield process


@contextmanager
def running(words: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command with pipes, in a session of its own that is ended."""
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    process = subprocess.Popen(words, start_new_session=True, **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
