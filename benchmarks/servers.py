"""Servers: from the click to JupyterLab beside a bare ``jupyter lab``, and how late many stops at once are."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.common import Report, median, note
from mlmp_spawner import units
from mlmp_spawner.admin import ports
from tests.live import Person, Site, wait_for

MANY = """\
images:
  lab: {{reference: example.org/lab:1}}
profiles:
  gpu: {{title: GPU, resource: nvidia.com/gpu, min_duration: 3s, default_duration: 10m}}
nodes:
  bench: {{accelerators: [{{resource: nvidia.com/gpu, count: {count}, simulated: true}}]}}
"""


def run(report: Report, *, quick: bool = False) -> None:
    """Runs both."""
    with tempfile.TemporaryDirectory(prefix="mlmp-bench-") as folder:
        _click_to_lab(report, Path(folder), rounds=1 if quick else 5)
        _stop_lag(report, Path(folder), count=4 if quick else 24, seconds=15 if quick else 60)


@contextmanager
def _site(site: Site) -> Iterator[Site]:
    try:
        yield site.start()
    finally:
        site.close()


def _click_to_lab(report: Report, folder: Path, *, rounds: int) -> None:
    ours, bare = [], []
    with _site(Site(folder / "lab", lab=True)) as site:
        ann = site.person("ann")
        ann.book(3600)
        for number in range(rounds + 1):
            mine = _timed(lambda: ann.start(), lambda: _answers(ann.browser, f"{site.url}user/ann/lab"))
            ann.stop()
            wait_for(lambda: not site.servers(), 60, "the stop")
            theirs = _bare_lab(folder)
            if number:  # the first fills the caches of both
                ours.append(mine)
                bare.append(theirs)
    goal = "<= 1.3 x bare jupyter lab"
    report.add("click to JupyterLab", median(ours), "s", versus=median(bare), goal=goal)


def _timed(begin: Callable[[], object], there: Callable[[], bool]) -> float:
    began = time.perf_counter()
    begin()
    limit = began + 120
    while not there():
        assert time.perf_counter() < limit, "JupyterLab did not answer within 120 s"
        time.sleep(0.02)
    return time.perf_counter() - began


def _answers(browser: httpx.Client, url: str) -> bool:
    """Whether JupyterLab's page is there, not the hub's about a server on its way."""
    try:
        answer = browser.get(url)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and "jupyter-config-data" in answer.text


def _bare_lab(folder: Path) -> float:
    port = ports.choose()
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.token=",
               f"--ServerApp.port={port}", f"--ServerApp.root_dir={folder}"]  # fmt: skip
    server: list[subprocess.Popen[bytes]] = []
    with httpx.Client() as browser:
        try:
            return _timed(
                lambda: server.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)),
                lambda: _answers(browser, f"http://127.0.0.1:{port}/lab"),
            )
        finally:
            for process in server:
                process.terminate()
                process.wait()


def _stop_lag(report: Report, folder: Path, *, count: int, seconds: int) -> None:
    site = Site(folder / "stops", simulate=False)
    (site.catalog / "catalog.yaml").write_text(MANY.format(count=count))
    with _site(site):
        people = [site.person(f"user{number}") for number in range(count)]
        start = units.now() + 2_000 * count
        times = {"start": units.to_iso(start), "end": units.to_iso(start + seconds * 1000)}
        booked = [person.book(0, **times) for person in people]
        note(f"{count} servers that end together")
        wait_for(lambda: units.now() >= start, 300, "the start")
        for person in people:
            person.start()
        wait_for(lambda: len(site.servers()) == count, 120, "all servers running")
        end, stop_at = start + seconds * 1000, units.from_iso(_stops_at(people[0], booked[0]["id"]))
        wait_for(lambda: not site.servers(), seconds + 60, "the end")
        gone = (units.now() - end) / 1000
        told = [_first_stop(site, person) for person in people]
    report.add(f"stop lag, {count} servers at once: last SIGTERM after stop_at", (max(told) - stop_at) / 1000, "s")
    report.add(f"stop lag, {count} servers at once: last process after the end", gone, "s", goal="<= 0")


def _stops_at(person: Person, reservation: str) -> str:
    return str(person.api.get(f"/services/mlmp/api/v1/reservations/{reservation}").json()["stops_at"])


def _first_stop(site: Site, person: Person) -> int:
    line = (site.data / "homes" / person.name / "stops.jsonl").read_text().splitlines()[0]
    return int(json.loads(line)["at"])
