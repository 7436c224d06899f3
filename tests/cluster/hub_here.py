"""A real JupyterHub on this machine whose users' servers are pods of a real cluster."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from kubernetes import client

from mlmp_spawner import units
from mlmp_spawner.admin.db import prepare
from mlmp_spawner.operations import catalog_sync, changes
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog_yaml import load_catalog
from mlmp_spawner.store import reservations
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import read

TOKEN = "a-token-for-tests-only-0123456789"
GPUS = ("mlmp.test/gpu-spawner", "nvidia.com/gpu")

# Answers like a server of the hub in a tenth of a second, with what every image has.
STAND_IN = r"""
use IO::Socket::INET; $SIG{TERM} = sub { exit 0 }; $SIG{CHLD} = 'IGNORE'; $SIG{PIPE} = 'IGNORE';
my $s = IO::Socket::INET->new(LocalPort => 8888, Listen => 50, ReuseAddr => 1) or die $!;
while (1) {
  my $c = $s->accept or next; my $n; while (defined(my $l = <$c>)) { last if $l =~ /^\r?\n$/ }
  my $b = join("\n", map { "$_=$ENV{$_}" } sort keys %ENV);
  print $c "HTTP/1.1 200 OK\r\nX-JupyterHub-Version: 6.1.1\r\nConnection: close\r\n";
  print $c "Content-Length: " . length($b) . "\r\n\r\n$b";
  close $c;
}
"""


def address_towards(core: client.CoreV1Api) -> str:
    """Where nodes reach this machine."""
    node = core.list_node().items[0]
    internal = next(one.address for one in node.status.addresses if one.type == "InternalIP")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((internal, 9))
        return str(probe.getsockname()[0])


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def wait_for(condition: Callable[[], Any], seconds: float = 60, what: str = "it") -> Any:
    """Looks until ``condition`` gives something true; that is returned."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.1)
    return found


class Hub:
    """A hub that can be killed at will; its proxy runs on.

    :param resource: what a unit is; each node has ``count`` of it. :param image: of the profile ``gpu``.
    :param cpus: cores that a server may use, and ``memory``.
    """

    def __init__(
        self, root: Path, core: client.CoreV1Api, namespace: str, *, kubeconfig: Path, image: str, resource: str,
        nodes: Mapping[str, int], settings: str = "", cpus: float = 0.05, memory: str = "200MiB",
    ) -> None:  # fmt: skip
        self.root, self.core, self.namespace, self.kubeconfig = root, core, namespace, kubeconfig
        self.node = next(iter(nodes))
        self.port, self.hub_port, self.proxy_port = free_port(), free_port(), free_port()
        self.db_url = f"sqlite:///{root / 'hub.sqlite'}"
        self.process: subprocess.Popen[bytes] | None = None
        self.proxy: subprocess.Popen[bytes] | None = None
        catalog = root / "catalog"
        catalog.mkdir()
        (catalog / "catalog.yaml").write_text(_catalog(nodes, resource, image, cpus, memory))
        (root / "jupyterhub_config.py").write_text(_config(self, address_towards(core), catalog, settings))
        prepare(self.db_url)
        catalog_sync.sync(Site(make_engine(self.db_url), load_catalog(catalog)), now=units.now())
        self.api = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"token {TOKEN}"}, timeout=100
        )

    def start(self) -> Hub:
        """Starts it, and its proxy where that does not run; returns when it answers."""
        environment = os.environ | {"KUBECONFIG": str(self.kubeconfig), "CONFIGPROXY_AUTH_TOKEN": TOKEN}
        if self.proxy is None:
            command = [
                shutil.which("node") or "node", "node_modules/.bin/configurable-http-proxy", "--port", str(self.port),
                "--api-port", str(self.proxy_port), "--default-target", f"http://127.0.0.1:{self.hub_port}",
                "--error-target", f"http://127.0.0.1:{self.hub_port}/hub/error",
            ]  # fmt: skip
            with (self.root / "proxy.log").open("ab") as log:
                self.proxy = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        with (self.root / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "--config", str(self.root / "jupyterhub_config.py")],
                cwd=self.root, env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        wait_for(self._answers, 120, "the hub")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log[-3000:]
        try:
            return self.api.get("/hub/health").status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Ends all of it, but not the users' servers."""
        for process in (self.process, self.proxy):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.api.close()

    @property
    def url(self) -> str:
        """The proxy's address."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def log(self) -> str:
        """What it wrote."""
        return (self.root / "hub.log").read_text(errors="replace")

    def begin(self, name: str, **options: Any) -> httpx.Response:
        """Asks for somebody's server, on the first node where no other is named."""
        self.api.post(f"/hub/api/users/{name}")
        options = {"profile": "gpu", "duration": "20m", "node": self.node} | options
        return self.api.post(f"/hub/api/users/{name}/server", json={"user_options": options})

    def ready(self, name: str) -> bool:
        """Whether the hub says that the server is ready."""
        servers = self.api.get(f"/hub/api/users/{name}").json().get("servers", {})
        return bool(servers.get("", {}).get("ready"))

    def pending(self, name: str) -> bool:
        """Whether something is going on with the server."""
        servers = self.api.get(f"/hub/api/users/{name}").json().get("servers", {})
        return bool(servers.get("", {}).get("pending"))

    def get(self, name: str) -> str:
        """What a stand-in server answers, through the proxy: its environment."""
        answer = self.api.get(f"/user/{name}/")
        assert answer.status_code == 200, answer.text
        return answer.text

    def release(self, name: str) -> None:
        """Ends somebody's bookings, as their owner would."""
        engine = make_engine(self.db_url)
        with read(engine) as connection:
            mine = [row for row in reservations.of_owner(connection, name, since=units.now()) if not row.end_reason]
        site = Site(engine, load_catalog(self.root / "catalog"))
        for row in mine:
            changes.cancel(site, row.id, actor=Actor(name), now=units.now())
        engine.dispose()

    def steps(self, name: str) -> list[dict[str, Any]]:
        """What the page of the start shows, until the start is over."""
        answer = self.api.get(f"/hub/api/users/{name}/server/progress")
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        return [httpx.Response(200, text=line).json() for line in lines]

    def end(self, name: str) -> None:
        """Stops a server; returns when its pod is gone."""
        self.api.delete(f"/hub/api/users/{name}/server")
        wait_for(lambda: self.pod(name) is None, 60, f"the end of {name}'s pod")

    def pod(self, name: str) -> client.V1Pod | None:
        """Somebody's pod."""
        found = [pod for pod in self.pods() if pod.metadata.annotations.get("mlmp.dev/owner") == name]
        assert len(found) <= 1, [pod.metadata.name for pod in found]
        return found[0] if found else None

    def pods(self) -> list[client.V1Pod]:
        """The pods of users' servers."""
        return list(self.core.list_namespaced_pod(self.namespace, label_selector="mlmp.dev/kind=server").items)


def _catalog(nodes: Mapping[str, int], resource: str, image: str, cpus: float, memory: str) -> str:
    share = "cpus: 2, memory: 2GiB"
    units = "".join(
        f"  {name}: {{{share}, accelerators: [{{resource: {resource}, count: {count}}}]}}\n"
        for name, count in nodes.items()
    )
    return (
        f"nodes:\n{units}images:\n  lab: {{reference: '{image}'}}\n"
        "profiles:\n"
        f"  gpu: {{title: GPU, resource: {resource}, images: [lab], cpus: {cpus}, memory: {memory},\n"
        "    min_duration: 5s}\n"
    )


def _config(hub: Hub, address: str, catalog: Path, settings: str) -> str:
    return f"""
c = get_config()
c.MLMP.update(backend="kubernetes", namespace={hub.namespace!r}, db_url={hub.db_url!r}, catalog={str(catalog)!r})
c.JupyterHub.update(
    spawner_class="mlmp_spawner.spawners.kube.MLMPKubeSpawner", db_url={hub.db_url!r}, cleanup_servers=False,
    bind_url="http://127.0.0.1:{hub.port}", hub_bind_url="http://0.0.0.0:{hub.hub_port}",
    hub_connect_url="http://{address}:{hub.hub_port}", authenticator_class="dummy", init_spawners_timeout=1,
    concurrent_spawn_limit=100, allow_named_servers=True, tornado_settings={{"slow_spawn_timeout": 0}},
    services=[{{"name": "tests", "api_token": {TOKEN!r}}}, {{"name": "mlmp"}}],
    load_roles=[{{"name": "tests", "services": ["tests"], "scopes":
        ["admin:users", "admin:servers", "access:servers", "list:users", "read:users"]}}],
    custom_scopes={{"custom:mlmp:book": {{"description": "book"}}}},
    cookie_secret_file={str(hub.root / "cookie_secret")!r},
)
c.Authenticator.allow_all = True
c.ConfigurableHTTPProxy.update(should_start=False, api_url="http://127.0.0.1:{hub.proxy_port}", auth_token={TOKEN!r})
STAND_IN = {STAND_IN!r}
c.KubeSpawner.cmd = ["perl", "-e", STAND_IN]
{settings}
"""
