"""A class on simulated nodes: how long from its begin until all of its servers are ready, and what that costs others.

Control plane only: each server is a pod that runs nowhere, and one stand-in on this machine answers for all of them.
Hub, service, proxy and database are real, on this machine. The first seats can be given out, and their servers be
started, ``SETUP`` before people come: that is the begin from which is measured.
"""

from __future__ import annotations

import multiprocessing
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.cluster.place import GPU, TOLERATED, Place
from benchmarks.cluster.simulated import GPUS, NODES, nodes
from benchmarks.common import Report, noted
from mlmp_spawner import units
from mlmp_spawner.units import SECOND, to_iso
from tests.cluster.hub_here import Hub, free_port, wait_for
from tests.cluster.service_here import API, service, settings
from tests.live import Person

LABEL = "(control plane only: stub servers on kwok nodes)"
SETUP, LASTS = "5m", "10m"
PATIENCE = 280
"""Seconds: less than the setup."""

PODS = """
c.KubeSpawner.tolerations = [{tolerated!r}]
c.KubeSpawner.get_pod_url = lambda spawner, pod: {stub!r}
"""


class Answer(BaseHTTPRequestHandler):
    """What a server of the hub answers."""

    def do_GET(self) -> None:
        """The same to everybody."""
        self.send_response(200)
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def serve(port: int) -> None:
    """Answers for all servers, in a process of its own: what is measured here shall not wait for it."""
    ThreadingHTTPServer(("127.0.0.1", port), Answer).serve_forever()


class Elsewhere:
    """Somebody who looks at MLMP's pages all the while."""

    def __init__(self, person: Person) -> None:
        self.person, self.taken = person, list[float]()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Elsewhere:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.2):
            for path in ("/services/mlmp/timeline", f"{API}timeline", f"{API}reservations"):
                began = time.perf_counter()
                self.person.browser.get(path).raise_for_status()
                self.taken.append((time.perf_counter() - began) * 1000)

    @property
    def p95(self) -> float:
        """Of all looks, in ms."""
        return statistics.quantiles(self.taken, n=20)[-1]


def run(report: Report, place: Place, *, quick: bool) -> None:
    """A class of 70, and one of 500."""
    if not nodes(place):
        return
    for seats in (8,) if quick else (70, 500):
        with _site(place, f"class-{seats}") as site:
            _measure(report, site, seats, quick=quick)


@contextmanager
def _site(place: Place, name: str) -> Iterator[Hub]:
    """A hub and the service beside it, whose machines are the simulated ones."""
    folder, port = place.folder / name, free_port()
    folder.mkdir()
    stub_port = free_port()
    stub = multiprocessing.get_context("spawn").Process(target=serve, args=(stub_port,), daemon=True)
    stub.start()
    pods = PODS.format(tolerated=TOLERATED, stub=f"http://127.0.0.1:{stub_port}")
    machines = {f"simulated-{number:03}": GPUS for number in range(NODES)}
    hub = Hub(folder, place.core, place.namespace, kubeconfig=place.cluster.kubeconfig, image=place.cluster.debian,
              resource=GPU, nodes=machines, settings=settings(port) + pods)  # fmt: skip
    try:
        hub.start()
        with service(hub, port):
            yield hub
    finally:
        hub.close()
        stub.kill()


def _measure(report: Report, hub: Hub, seats: int, *, quick: bool) -> None:
    teacher, other = (Person(hub, name, "any") for name in ("admin", "zoe"))  # type: ignore[arg-type] # asked the url
    students = [f"s{number:03}" for number in range(seats)]
    course = {"name": "ml", "title": "ML", "profile": "gpu", "seats": seats, "setup": SETUP, "students": students}
    teacher.api.post(f"{API}courses", json={"course": course}).raise_for_status()
    with noted(f"{seats} students become users of the hub"):
        wait_for(lambda: _known(hub, students), 300, "all students")
    with Elsewhere(other) as idle:
        time.sleep(2 if quick else 20)
    people_come = units.now() + units.parse_duration(SETUP) + 5 * SECOND
    body = {"start": to_iso(people_come), "duration": LASTS}
    booked = teacher.api.post(f"{API}courses/ml/classes", json=body).raise_for_status().json()
    path, begins = f"{API}courses/ml/classes/{booked['id']}", people_come - units.parse_duration(SETUP)
    wait_for(lambda: units.now() >= begins, 60, "the begin")
    with Elsewhere(other) as meanwhile:
        wait_for(lambda: _ready(teacher, path) == seats, PATIENCE, f"{seats} servers")
        ready = units.now()
    report.add(f"class of {seats}: from its begin to all servers ready {LABEL}", (ready - begins) / SECOND, "s",
               goal="70: < 60 s; all: before people come")  # fmt: skip
    report.add(f"class of {seats}: pages of others meanwhile, p95 {LABEL}", meanwhile.p95, "ms", versus=idle.p95,
               goal="ratio <= 2")  # fmt: skip
    pages = [_page(teacher, booked["id"]) for _ in range(10)]
    report.add(f"class of {seats}: page of who teaches, median {LABEL}", statistics.median(pages), "ms")


def _known(hub: Hub, students: list[str]) -> bool:
    found = hub.api.get("/hub/api/users", params={"limit": 200, "offset": len(students) // 200 * 200})
    total = found.raise_for_status().json()
    return students[-1] in {one["name"] for one in total}


def _ready(teacher: Person, path: str) -> int:
    time.sleep(1)  # as often as the page of who teaches would
    found: dict[str, Any] = teacher.api.get(path).raise_for_status().json()
    return sum(one["server_state"] == "running" for one in found["people"])


def _page(teacher: Person, class_id: str) -> float:
    began = time.perf_counter()
    teacher.browser.get(f"/services/mlmp/courses/ml/classes/{class_id}").raise_for_status()
    return (time.perf_counter() - began) * 1000
