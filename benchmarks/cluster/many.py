"""500 servers on simulated nodes: how long the control plane takes to bind and run them, and to list them for us.

Control plane only: no kubelet, no container, no network is in these figures.
"""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.cluster.place import GPU, Place, wait_for
from benchmarks.cluster.simulated import nodes
from benchmarks.common import Report, median, note
from mlmp_spawner import units
from mlmp_spawner.kube.pods import Pods
from mlmp_spawner.units import HOUR


def run(report: Report, place: Place, *, quick: bool) -> None:
    """Creates them all at once, each with a GPU."""
    if not nodes(place):
        note("skipped")
        return
    count = 20 if quick else 500
    began = time.perf_counter()
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda number: _create(place, number), range(count)))
    report.add(f"{count} servers created (control plane only)", time.perf_counter() - began, "s")
    wait_for(lambda: place.running() == count, 300, f"{count} pods")
    report.add(f"{count} servers running (control plane only)", time.perf_counter() - began, "s")
    taken = asyncio.run(_looks(place, 3 if quick else 20))
    report.add(f"one look at {count} servers by the service", median(taken) * 1000, "ms")


def _create(place: Place, number: int) -> None:
    now = units.now()
    pod = place.server_pod(number, stops_at=now + HOUR, end=now + 2 * HOUR, simulated=True)
    pod["spec"]["containers"][0]["resources"] = {"limits": {GPU: "1"}}
    place.core.create_namespaced_pod(place.namespace, pod)


async def _looks(place: Place, rounds: int) -> list[float]:
    os.environ["KUBECONFIG"] = str(place.cluster.kubeconfig)
    pods = Pods(place.namespace)
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        await pods.servers()
        taken.append(time.perf_counter() - began)
    await pods.close()
    return taken
