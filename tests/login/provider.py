"""A real OpenID provider on this machine, whose people a test changes."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import httpx

from mlmp_spawner.admin import node
from tests.live import wait_for

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Provider:
    """oidc-provider.

    :param callback: where it may send people back to. :param access_seconds: how long an access token holds.
    """

    def __init__(self, callback: str, output: Path, access_seconds: int = 2) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [node.find_node().node, str(Path(__file__).with_name("provider.mjs")), str(port), callback]
        with output.open("wb") as log:
            self._process = subprocess.Popen([*command, str(access_seconds)], stdout=log, stderr=log, cwd=ROOT)
        wait_for(lambda: self._answers(output), 30, "the OpenID provider")

    def _answers(self, output: Path) -> bool:
        assert self._process.poll() is None, output.read_text()
        return "ready" in output.read_text()

    def put(self, name: str, *groups: str) -> None:
        """Makes or changes a person."""
        httpx.put(f"{self.url}/people/{name}", json={"groups": groups}).raise_for_status()

    def remove(self, name: str) -> None:
        """Removes a person."""
        httpx.delete(f"{self.url}/people/{name}").raise_for_status()

    def silence(self, *paths: str) -> None:
        """Answers 503 to what begins with one of these; without any it answers all again."""
        httpx.post(f"{self.url}/silence", json={"paths": paths}).raise_for_status()

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
