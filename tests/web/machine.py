"""A real hub, proxy and service as processes of their own, on SQLite or PostgreSQL, for tests that go all the way."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
from jupyterhub.orm import new_session_factory

from mlmp_spawner.admin import node as nodes
from mlmp_spawner.settings import shared_file
from mlmp_spawner.spawners.hub import OneMachine, environment_of_service
from mlmp_spawner.store import schema

API = "services/mlmp/api/v1/"


def free_ports(number: int) -> list[int]:
    """Ports that are free just now."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Machine:
    """Hub, proxy and service. Use as a context manager.

    :param data: an empty directory. :param catalog: the catalog's directory. :param db_url: None for SQLite there.
    :param config: lines of the admin's own configuration.
    """

    def __init__(self, data: Path, catalog: Path, *, db_url: str | None = None, config: str = "") -> None:
        self.data = data
        public, hub, api, service = free_ports(4)
        self.up = OneMachine(
            data=str(data),
            catalog=str(catalog),
            port=public,
            hub_port=hub,
            proxy_api_port=api,
            service_port=service,
            auth="dummy",
        )
        self.url = f"http://127.0.0.1:{public}/"
        self.db_url = db_url or self.up.db_url
        urls = f"c.JupyterHub.db_url = c.MLMP.db_url = {self.db_url!r}\n"
        (data / "jupyterhub_config.py").write_text(urls + config)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Machine:
        for name in ("deadlines", "servers", "homes", "logs", "logs/servers"):
            (self.data / name).mkdir(mode=0o700, exist_ok=True)
        self.up.save()
        session = new_session_factory(self.db_url)
        session.kw["bind"].dispose()
        schema.upgrade(self.db_url)
        try:
            for name in ("proxy", "hub", "service"):
                self.start(name)
            self.wait("hub/health")
            self.wait(f"{API}health")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("service", "hub", "proxy"):
            if name in self.processes:
                self.processes[name].send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name: str) -> None:
        """Starts one of the three (again)."""
        node = nodes.find_node()
        config = shared_file("hub_config") / "jupyterhub_config.py"
        proxy = nodes.installed_proxy(self.data) or nodes.install_proxy(node, self.data)
        hub = f"http://127.0.0.1:{self.up.hub_port}"
        commands = {
            "proxy": [
                node.node, str(proxy), "--ip", "127.0.0.1", "--port", str(self.up.port), "--api-ip", "127.0.0.1",
                "--api-port", str(self.up.proxy_api_port), "--error-target", f"{hub}/hub/error",
            ],
            "hub": [sys.executable, "-m", "jupyterhub", "-f", str(config)],
            "service": [sys.executable, "-m", "mlmp_spawner.service", "--config", str(config)],
        }  # fmt: skip
        environment = {
            **os.environ,
            **node.environment,
            **environment_of_service(self.up),
            "MLMP_UP": str(self.data / "up.json"),
            "MLMP_DATA": str(self.data),
            "CONFIGPROXY_AUTH_TOKEN": self.up.proxy_token,
        }
        with (self.data / "logs" / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                commands[name], stdout=log, stderr=log, env=environment, cwd=self.data
            )

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self.processes[name].kill()
        self.processes[name].wait()

    def log(self, name: str) -> str:
        """What one of the three has written."""
        return (self.data / "logs" / f"{name}.log").read_text(errors="replace")

    def wait(self, path: str, within: float = 60) -> None:
        """Returns when the address answers 200."""
        until = time.monotonic() + within
        while True:
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended:\n{self.log(name)[-3000:]}"
            try:
                if httpx.get(self.url + path, timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            logs = "\n".join(self.log(name)[-1500:] for name in self.processes)
            assert time.monotonic() < until, f"{path} does not answer:\n{logs}"
            time.sleep(0.1)

    def browser(self, name: str) -> httpx.Client:
        """A client that is logged in as a browser is: by cookies."""
        client = httpx.Client(base_url=self.url, follow_redirects=True, timeout=20, trust_env=False)
        page = client.get("hub/login").text
        found = re.search(r'name="_xsrf" value="([^"]+)"', page)
        assert found, page
        answer = client.post("hub/login", data={"username": name, "password": "any", "_xsrf": found.group(1)})
        assert answer.status_code == 200 or "mlmp" in str(answer.url), f"{answer.url}: {answer.text[:500]}"
        return client

    def token(self, name: str, *scopes: str) -> str:
        """A token of a user, with all that the user may do, or with some scopes only."""
        with closing(self.browser(name)) as client:
            return self.token_of(client, name, *scopes)

    def token_of(self, client: httpx.Client, name: str, *scopes: str) -> str:
        """The same for who is logged in already."""
        client.get("hub/token")
        xsrf = next(c.value for c in client.cookies.jar if c.name == "_xsrf" and c.path == "/hub/")
        body: dict[str, object] = {"note": "test"}
        if scopes:
            body["scopes"] = list(scopes)
        answer = client.post(f"hub/api/users/{name}/tokens", json=body, headers={"X-XSRFToken": str(xsrf)})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    def api(self, token: str) -> httpx.Client:
        """A client of the API, through the proxy."""
        return httpx.Client(
            base_url=self.url + API, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False
        )
