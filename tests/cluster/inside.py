"""What a program in a user's pod can see and reach, as it says itself."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.cluster.rig.cluster import Cluster

# Run by the pod's own Python, with nothing but its library. What it prints last is the answer.
_TOOLS = r"""
import json, os, socket, urllib.error, urllib.request

def ask(method, url, body=None, token=os.environ.get("MLMP_TOKEN", ""), headers=()):
    request = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode())
    request.add_header("Authorization", "token " + token)
    request.add_header("Content-Type", "application/json")
    for name, value in headers:
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read().decode()
            return {"status": answer.status, "json": json.loads(text) if text.startswith(("{", "[")) else None}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "json": None}

def reaches(host, port):
    try:
        socket.create_connection((host, port), timeout=3).close()
        return True
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)

def say(answer):
    print(json.dumps(answer))
"""


class Inside:
    """The container of a server."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str, container: str = "notebook") -> None:
        self._command = [*cluster.kubectl(), "--namespace", namespace, "exec", "-i", pod, "-c", container, "--"]

    def command(self, *command: str) -> list[str]:
        """What runs a command there."""
        return [*self._command, *command]

    def run(self, *command: str, stdin: str = "", check: bool = True, seconds: float = 120) -> str:
        """Runs a command; what it wrote."""
        done = subprocess.run(self.command(*command), input=stdin, capture_output=True, text=True, timeout=seconds)
        assert done.returncode == 0 or not check, f"{command[:3]}: {done.stdout}{done.stderr}"
        return done.stdout

    def python(self, script: str) -> Any:
        """What a script says: ``say(…)``; ``ask`` and ``reaches`` are there for it."""
        return json.loads(self.run("python3", "-", stdin=_TOOLS + script).splitlines()[-1])

    def ask(self, method: str, url: str, body: Any = None) -> dict[str, Any]:
        """An HTTP request with the token that the pod has: ``status`` and ``json`` of the answer."""
        answer: dict[str, Any] = self.python(f"say(ask({method!r}, {url!r}, {body!r}))")
        return answer
