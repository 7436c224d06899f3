"""A real MLMP for tests: the whole of ``mlmp up --simulate`` in a directory of its own, and people who use it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from mlmp_spawner import processes, units
from mlmp_spawner.processes import Record

CATALOG = """\
images:
  lab: {reference: example.org/lab:1}
profiles:
  gpu: {title: GPU, resource: nvidia.com/gpu, min_duration: 3s, default_duration: 10m}
  cpu: {title: CPU, resource: mlmp.dev/slot, min_duration: 3s, default_duration: 10m}
"""

# Something that answers like a server of the hub, in a tenth of a second instead of two; it notes each SIGTERM and the
# pid of a process that it detached as a user would who wants to stay longer. Where the file `stays` is beside it, that
# one ignores SIGTERM, and a stop takes the seconds that it is given.
STAND_IN = '''\
import http.server, json, os, pathlib, signal, subprocess, sys, time, urllib.parse
home = pathlib.Path.home()
left = subprocess.Popen(["setsid", "nohup", sys.executable, "-c", """if True:
    import os, pathlib, signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: pathlib.Path(sys.argv[1]).exists() or os._exit(0))
    while True:
        time.sleep(3600)""", pathlib.Path(__file__).with_name("stays")],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
note = dict(reservation=os.environ["MLMP_RESERVATION_ID"], pid=os.getpid(), left=left.pid, at=time.time_ns() // 10**6)
with open(home / "starts.jsonl", "a") as file:
    file.write(json.dumps(note) + "\\n")

def stop(*_):
    with open(home / "stops.jsonl", "a") as file:
        file.write(json.dumps(note | {"at": time.time_ns() // 10**6}) + "\\n")
    os._exit(0)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.end_headers()
        self.wfile.write(json.dumps(dict(os.environ)).encode())
    def log_message(self, *_): pass

signal.signal(signal.SIGTERM, stop)
url = urllib.parse.urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
http.server.ThreadingHTTPServer((url.hostname, url.port), Handler).serve_forever()
'''


def wait_for(condition: Callable[[], Any], seconds: float = 30, what: str = "it") -> Any:
    """Looks until ``condition`` gives something true; that is returned."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, f"{what} did not happen within {seconds} s"
        time.sleep(0.1)
    return found


class Site:
    """One ``mlmp up``, started and killed at will.

    :param lab: whether servers are real JupyterLabs; else something that starts at once.
    :param simulate: whether it has the four simulated units, or what its catalog says.
    :param settings: lines of an admin's jupyterhub_config.py.
    :param wrapper: command that starts it, where that is not done directly.
    """

    def __init__(
        self, root: Path, *, lab: bool = False, settings: str = "", auth: str = "dummy", simulate: bool = True,
        wrapper: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.wrapper = wrapper
        self.simulate = simulate
        self.data = root / "data"
        self.data.mkdir(parents=True)
        self.catalog = root / "catalog"
        self.catalog.mkdir()
        (self.catalog / "catalog.yaml").write_text(CATALOG)
        (root / "server.py").write_text(STAND_IN)
        self.stays = root / "stays"
        if not lab:
            settings += f"\nc.Spawner.cmd = {[sys.executable, str(root / 'server.py')]!r}\nc.Spawner.args = []\n"
        (self.data / "jupyterhub_config.py").write_text(f"c = get_config()\n{settings}\n")
        self.auth = auth
        self.process: subprocess.Popen[bytes] | None = None
        self.output = root / "up.out"

    def start(self, *options: str) -> Site:
        """Starts it and waits until it is ready."""
        command = [sys.executable, "-m", "mlmp_spawner.client.cli", "up", "--port", "0", "--data", str(self.data),
                   "--catalog", str(self.catalog), "--auth", self.auth, *options]  # fmt: skip
        command = [*self.wrapper, *command]
        command += ["--simulate"] * self.simulate
        before = self.output.stat().st_size if self.output.exists() else 0
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)

        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.output.read_text()
            return "Ctrl-C ends it" in self.output.read_text()[before:]  # the last line of what it says

        wait_for(ready, 180, "mlmp up")
        return self

    def end(self) -> int:
        """Ctrl-C, as it were; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(40)

    def kill(self, *names: str) -> None:
        """SIGKILL to ``hub``, ``service``, ``proxy``, ``job starter`` or ``up``."""
        for name in names:
            if name == "up":
                assert self.process is not None
                self.process.kill()
                self.process.wait()
            elif pid := self.pid_of(name):
                os.kill(pid, signal.SIGKILL)

    def pid_of(self, name: str) -> int | None:
        """The pid of a part of it, None while that is down."""
        assert self.process is not None
        words = {
            "hub": "jupyterhub", "service": "mlmp_spawner.service", "proxy": "configurable-http-proxy",
            "job starter": "mlmp_spawner.admin.job_starter",
        }  # fmt: skip
        for pid in processes.below(self.process.pid):
            if processes.identity(pid) and any(words[name] in word for word in command_line(pid)[:4]):
                return pid
        return None

    def close(self) -> None:
        """Ends all of it, users' servers too."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for record in [*self.servers(), *processes.running(self.data / "jobs" / "running")]:
            for pid in processes.below(record.pid):
                with suppress(ProcessLookupError):  # it ended by itself meanwhile
                    os.kill(pid, signal.SIGKILL)
            processes.send(record.identity, signal.SIGKILL)

    def servers(self) -> list[Record]:
        """The users' servers that run."""
        return processes.running(self.data / "servers")

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{json.loads((self.data / 'up.json').read_text())['port']}/"

    def person(self, name: str, password: str = "any") -> Person:
        """Somebody, logged in."""
        return Person(self, name, password)


def command_line(pid: int) -> list[str]:
    """What a process was started with; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


class Person:
    """Somebody in front of a browser, without its script. The cookies last while the site keeps its data."""

    def __init__(self, site: Site, name: str, password: str) -> None:
        self.site, self.name = site, name.lower()  # as the hub knows them
        self.browser = httpx.Client(base_url=site.url, follow_redirects=True, timeout=30)
        page = self.browser.get("/hub/login")
        form = {"username": name, "password": password, "_xsrf": hidden(page.text, "_xsrf")}
        self.landed = self.browser.post("/hub/login", data=form)
        self.token = ""
        if "/hub/login" not in str(self.landed.url):
            headers = {"X-XSRFToken": self.browser.cookies.get("_xsrf", path="/hub/") or "", "Referer": site.url}
            answer = self.browser.post(f"/hub/api/users/{quote(self.name, safe='')}/tokens", json={}, headers=headers)
            assert answer.status_code == 201, answer.text
            self.token = answer.json()["token"]
        self.api = httpx.Client(base_url=site.url, headers={"Authorization": f"token {self.token}"}, timeout=60)

    def book(self, seconds: float, **asked: Any) -> dict[str, Any]:
        """A booking from now on."""
        answer = self.try_to_book(seconds, **asked)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def try_to_book(self, seconds: float, **asked: Any) -> httpx.Response:
        """Asks for a booking from now on."""
        now = units.now()
        body = {"profile": "gpu", "start": units.to_iso(now), "end": units.to_iso(now + round(seconds * 1000))} | asked
        return self.api.post("/services/mlmp/api/v1/reservations", json=body)

    def extend(self, reservation: str, seconds: int) -> httpx.Response:
        """Asks for more time."""
        path = f"/services/mlmp/api/v1/reservations/{reservation}/extend"
        return self.api.post(path, json={"duration": f"{seconds}s"})

    def end_in(self, booking: dict[str, Any], seconds: float) -> None:
        """Shortens a booking: however long its server took to start, this much is left."""
        body = {"end": units.to_iso(units.now() + round(seconds * 1000))}
        answer = self.api.patch(f"/services/mlmp/api/v1/reservations/{booking['id']}", json=body)
        assert answer.status_code == 200, answer.text

    def start(self, server: str = "", **options: Any) -> httpx.Response:
        """Asks the hub's API for a server."""
        return self.api.post(self.server_path(server), json={"user_options": options})

    def stop(self, server: str = "") -> httpx.Response:
        """Asks the hub's API to stop a server."""
        return self.api.delete(self.server_path(server))

    def server_path(self, server: str = "") -> str:
        """Its place in the hub's API."""
        path = f"/hub/api/users/{quote(self.name, safe='')}"
        return f"{path}/servers/{server}" if server else f"{path}/server"

    def servers(self) -> dict[str, Any]:
        """The person's servers as the hub lists them."""
        answer = self.api.get(f"/hub/api/users/{quote(self.name, safe='')}")
        assert answer.status_code == 200, answer.text
        return answer.json()["servers"]

    def environment(self, server: str = "") -> dict[str, str]:
        """The environment of a stand-in server, through the proxy."""
        path = f"/user/{quote(self.name, safe='@~')}/" + (f"{server}/" if server else "")
        return self.api.get(path).json()


def hidden(page: str, name: str) -> str:
    """The value of a hidden field of a form."""
    found = re.search(rf'name="{name}"\s+value="([^"]*)"', page)
    assert found, f"no field {name} in the page"
    return found[1]
