"""A small site whose servers are sleeping pods: what acts on them, what is away, and who looks when they go."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from sqlalchemy import insert

from mlmp_spawner import units
from mlmp_spawner.errors import MLMPError
from mlmp_spawner.hub import HubClient
from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.labels import KIND, OWNER, RESERVATION, SERVER, SERVER_NAME, deadline_annotations
from mlmp_spawner.kube.pods import Pods
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.admission import StartOptions, admit, started
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import extend
from mlmp_spawner.operations.clock import Clock
from mlmp_spawner.operations.cluster import START_GRACE
from mlmp_spawner.operations.pod_servers import PodServers
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import Accelerator, Catalog, Node, Profile
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, SECOND
from tests.databases import sqlite_copy

GPU = "nvidia.com/gpu"
PEOPLE = ("ann", "ben", "eve")
STUBBORN = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
"""What does not end when it is told to: it takes all the grace that it gets."""


class Proxy:
    """Leads to the API server, until it is cut: then it looks as if that were away."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self._open: set[socket.socket] = set()
        self._cut = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._cut = True
        for each in list(self._open):
            self._close(each)

    def mend(self) -> None:
        self._cut = False

    def close(self) -> None:
        self.cut()
        self._close(self._listening)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if self._cut:
                    near.close()
                    continue
                far = socket.create_connection(self.target)
                self._open |= {near, far}
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for each in (one, other):
            self._close(each)

    def _close(self, one: socket.socket) -> None:
        self._open.discard(one)
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def through(proxy: Proxy, kubeconfig: Path, made: Path) -> Path:
    """A kubeconfig that leads through the proxy."""
    content = yaml.safe_load(kubeconfig.read_text())
    for each in content["clusters"]:
        host = each["cluster"]["server"].partition("://")[2].rpartition(":")[0]
        each["cluster"] |= {"server": f"https://127.0.0.1:{proxy.port}", "tls-server-name": host}
    made.write_text(yaml.safe_dump(content))
    return made


class PlayedHub(HubClient):
    """A hub that stops a server as KubeSpawner does: it deletes the pod."""

    def __init__(self, delete: Callable[[str], None]) -> None:
        super().__init__("http://127.0.0.1:1/hub/api", "none")
        self.delete = delete

    async def stop_server(self, user: str, server: str, *, remove: bool = False) -> bool:
        await asyncio.to_thread(self.delete, user)
        return False


def hub_away() -> HubClient:
    """One where nobody listens."""
    return HubClient("http://127.0.0.1:1/hub/api", "none")


class HungHub(HubClient):
    """One that takes every question and answers none."""

    def __init__(self) -> None:
        self._silent = socket.create_server(("127.0.0.1", 0))
        super().__init__(f"http://127.0.0.1:{self._silent.getsockname()[1]}/hub/api", "none")

    async def close(self) -> None:
        await super().close()
        self._silent.close()


@dataclass
class Seen:
    """What the official client saw of a pod, in ms UTC; None: not yet."""

    deleted: int | None = None
    gone: int | None = None


class Looker(threading.Thread):
    """Looks at the pods of a namespace all the time, by a way of its own."""

    def __init__(self, core: client.CoreV1Api, namespace: str) -> None:
        super().__init__(daemon=True)
        self.core, self.namespace = core, namespace
        self.seen: dict[str, Seen] = {}
        self.end = threading.Event()

    def run(self) -> None:
        while not self.end.wait(0.2):
            try:
                there = {pod.metadata.name: pod for pod in self.core.list_namespaced_pod(self.namespace).items}
            except (ApiException, OSError):
                continue
            now = units.now()
            for name, pod in there.items():
                one = self.seen.setdefault(name, Seen())
                if pod.metadata.deletion_timestamp is not None and one.deleted is None:
                    one.deleted = now
            for name, one in self.seen.items():
                if name not in there and one.gone is None:
                    one.gone = now


@dataclass
class House:
    """A namespace with a database of its own, and who acts on it."""

    core: client.CoreV1Api
    namespace: str
    image: str
    kubeconfig: Path
    folder: Path
    database: Path
    enforcer: subprocess.Popen[bytes] | None = None
    rows: dict[str, Reservation] = field(default_factory=dict)
    _clock: threading.Thread | None = None
    ticking: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.engine = make_engine(sqlite_copy(self.database, self.folder / "mlmp.sqlite"))
        with transaction(self.engine) as connection:
            connection.execute(insert(users), [{"id": n, "name": name} for n, name in enumerate(PEOPLE, 1)])
        node = Node(name="node", accelerators=(Accelerator(resource=GPU, count=8, model="A100"),))
        gpu = Profile(name="gpu", title="A100", resource=GPU, units=1, max_units=8, min_duration=1, max_duration=HOUR)
        self.site = Site(self.engine, Catalog(nodes={"node": node}, profiles={"gpu": gpu}))
        catalog_sync.sync(self.site, now=units.now())
        self.looker = Looker(self.core, self.namespace)
        self.looker.start()

    def start(self, owner: str, seconds: float, **spec: Any) -> str:
        """Books from now on and starts, as the hub's spawner would; the pod's name."""
        now = units.now()
        request = BookingRequest(profile="gpu", start=now, duration=round(seconds * 1000))
        book(self.site, request, actor=Actor(owner), now=now)
        admitted = admit(self.site, actor=Actor(owner), server="", options=StartOptions(), now=units.now())
        self.rows[owner] = admitted.reservation
        annotations = {OWNER: owner, SERVER_NAME: "", **deadline_annotations(admitted.deadline)}
        name = self.pod(owner, {KIND: SERVER, RESERVATION: admitted.reservation.server_id}, annotations, **spec)
        started(self.site, admitted.reservation.id, now=units.now())
        return name

    def pod(self, owner: str, labels: dict[str, str], annotations: dict[str, str], **spec: Any) -> str:
        """A sleeping pod."""
        limits = spec.pop("limits", {})
        container = {"name": "notebook", "image": self.image, "command": STUBBORN, "resources": {"limits": limits}}
        name = f"jupyter-{owner}"
        body = {
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "spec": {
                "containers": [container],
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 1,
                **spec,
            },
        }
        self.core.create_namespaced_pod(self.namespace, body)
        return name

    def delete(self, owner: str) -> None:
        """As the hub's spawner deletes a pod."""
        with suppress(ApiException):
            self.core.delete_namespaced_pod(f"jupyter-{owner}", self.namespace, grace_period_seconds=2)

    def longer(self, owner: str, seconds: float) -> None:
        """Extends, and tells before it answers, as the service does."""
        self.rows[owner] = extend(
            self.site, self.rows[owner].id, duration=round(seconds * 1000), actor=Actor(owner), now=units.now()
        )
        asyncio.run(self._with_clock(lambda clock: clock.published(self.rows[owner]), hub_away()))

    def run_clock(self, hub: HubClient) -> None:
        """The clock in a thread, as the service runs it, until :meth:`close`."""
        self._clock = threading.Thread(target=lambda: asyncio.run(self._with_clock(self._tick, hub)), daemon=True)
        self._clock.start()

    def run_enforcer(self) -> None:
        """``mlmp enforce``, as a process of its own."""
        mlmp = Path(sys.executable).parent / "mlmp"
        command = [mlmp, "enforce", "--namespace", self.namespace]
        environment = {"PATH": "/usr/bin:/bin", "KUBECONFIG": str(self.kubeconfig)}
        with self.log.open("wb") as log:
            self.enforcer = subprocess.Popen(command, env=environment, stderr=log)

    @property
    def log(self) -> Path:
        """What the enforcer said."""
        return self.folder / "enforcer.log"

    def close(self) -> None:
        """Ends all of it."""
        self.ticking.set()
        if self.enforcer is not None:
            self.enforcer.terminate()
            assert self.enforcer.wait(5) == 0
        if self._clock is not None:
            self._clock.join(15)
        self.looker.end.set()
        self.looker.join()
        self.engine.dispose()

    def stop_at(self, owner: str) -> int:
        return self.rows[owner].stop_at(self.site.stop_lead)

    def gone(self, owner: str, *, late: float) -> int:
        """Waits until the pod is gone; how late (ms) after the end that was. It was not told to end too early."""
        row, seen = self.rows[owner], self.looker.seen
        ends = row.end + round(late * 1000)
        while (one := seen.get(f"jupyter-{owner}")) is None or one.gone is None:
            assert units.now() < ends, f"{self.namespace}: {owner}'s pod is there {late:g} s after its end: {one}"
            time.sleep(0.1)
        told = one.deleted or one.gone
        assert told >= self.stop_at(owner), f"{owner}'s pod was told to end {self.stop_at(owner) - told} ms early"
        return one.gone - row.end

    async def _with_clock(self, work: Callable[[Clock], Awaitable[Any]], hub: HubClient) -> None:
        servers = PodServers(Pods(self.namespace, Connection(str(self.kubeconfig))), hub, silent_after=2)
        try:
            await work(Clock(lambda: self.site, servers, interval=SECOND, start_grace=START_GRACE))
        finally:
            await servers.close()
            await hub.close()

    async def _tick(self, clock: Clock) -> None:
        while not self.ticking.is_set():
            following = units.now() + SECOND
            with suppress(MLMPError):
                following = await clock.tick(units.now())
            await asyncio.sleep(max(0.05, min(1.0, (following - units.now()) / 1000)))
