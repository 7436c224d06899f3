"""Many servers whose bookings end at one moment, stopped by `mlmp enforce` alone: how long after it the last is told.

On simulated nodes where there are some ("control plane only"), else fewer on real ones.
"""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.cluster.place import Place, wait_for
from benchmarks.cluster.simulated import nodes
from benchmarks.common import Report, median
from mlmp_spawner import units
from mlmp_spawner.units import SECOND


def run(report: Report, place: Place, *, quick: bool) -> None:
    """Starts the pods and the enforcer, and reads from the cluster's own answers when each was deleted."""
    simulated = nodes(place)
    count = 10 if quick else 200 if simulated else 20
    # Far enough away that all of them run by then.
    stops_at = units.now() + (20 if quick else 60) * SECOND
    for number in range(count):
        pod = place.server_pod(number, stops_at=stops_at, end=stops_at + SECOND, simulated=simulated)
        place.core.create_namespaced_pod(place.namespace, pod)
    wait_for(lambda: place.running() == count, 120, f"{count} pods")
    if units.now() > stops_at - SECOND:
        raise RuntimeError(f"{count} pods took too long to start for a measurement: this machine is too busy")
    environment = os.environ | {"KUBECONFIG": str(place.cluster.kubeconfig)}
    command = [sys.executable, "-m", "mlmp_spawner.client.cli", "enforce", "--namespace", place.namespace]
    with (
        (place.folder / "enforce.log").open("wb") as log,
        subprocess.Popen(command, env=environment, stderr=log) as one,
    ):
        try:
            lags = _lags(place, count, stops_at)
        finally:
            one.terminate()
    kind = "control plane only, simulated nodes" if simulated else "real nodes"
    report.add(f"stop: {count} servers at once, the last ({kind})", max(lags), "s", goal="at most 60 s, hub away")
    report.add(f"stop: {count} servers at once, median ({kind})", median(lags), "s")


def _lags(place: Place, count: int, stops_at: int) -> list[float]:
    """Seconds from the stop until each pod was gone or told to go, looked at four times a second."""
    told: dict[str, float] = {}

    def all_told() -> bool:
        now = units.now()
        pods = place.core.list_namespaced_pod(place.namespace, resource_version="0").items
        left = {pod.metadata.name: pod.metadata for pod in pods}
        for number in range(count):
            name = f"server-{number}"
            if name not in left or left[name].deletion_timestamp:
                told.setdefault(name, (now - stops_at) / SECOND)
        return len(told) == count

    wait_for(all_told, 180, "the end of all pods")
    return list(told.values())
