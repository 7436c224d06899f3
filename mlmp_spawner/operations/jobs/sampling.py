"""What the jobs on this machine use, every few seconds, as lines beside their logs: to be plotted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from mlmp_spawner.activity import GpuWatch, ServerUse, ServerWatch, UnitUse
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.pod_numbers import USAGE_LIMIT
from mlmp_spawner.operations.site import Site
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import read


class UseSampling:
    """Looks, and writes down what it saw: ``cpu`` in cores, ``memory`` and ``gpu_memory`` in bytes, ``gpu`` in per
    cent, over all units of the attempt.

    :param gpus, jobs: what looks, for tests.
    """

    def __init__(
        self,
        site: Callable[[], Site],
        files: JobFiles,
        *,
        gpus: GpuWatch | None = None,
        jobs: ServerWatch | None = None,
    ) -> None:
        self.site = site
        self.files = files
        self.gpus = gpus or GpuWatch()
        self.jobs = jobs or ServerWatch(files.running)
        self.last: int | None = None

    def look(self, now: int) -> None:
        """One look at all that runs."""
        seen = self.jobs.read()
        since, self.last = self.last, now
        if not seen:
            return
        units = _units(self.site())
        gpus = self.gpus.read() if any(units.values()) else {}
        for attempt, use in seen.items():
            values = _of_processes(use, None if since is None else now - since)
            values |= _of_units([gpus[unit] for unit in units.get(attempt, ()) if unit in gpus])
            self._write(attempt, {"at": now, "step": None, "values": values})

    def _write(self, attempt: str, line: Mapping[str, object]) -> None:
        with suppress(FileNotFoundError):  # its logs were removed just now
            path = self.files.usage(attempt)
            if not path.exists() or path.stat().st_size < USAGE_LIMIT:
                with path.open("a") as file:
                    file.write(json.dumps(line) + "\n")


def _of_processes(use: ServerUse, passed: int | None) -> dict[str, float]:
    values: dict[str, float] = {"memory": use.memory}
    if use.cpu is not None and passed:
        values["cpu"] = round(use.cpu / passed, 3)
    return values


def _of_units(units: Sequence[UnitUse]) -> dict[str, float]:
    busy = [unit.utilisation for unit in units if unit.utilisation is not None]
    memory = [unit.memory for unit in units if unit.memory is not None]
    values = {"gpu": sum(busy) / len(busy)} if busy else {}
    return values | ({"gpu_memory": sum(memory)} if memory else {})


def _units(site: Site) -> dict[str, list[str]]:
    """The physical units of each attempt under way."""
    with read(site.engine) as connection:
        return {
            attempt.id: [unit for place in store.places_of(connection, attempt) for unit in place["units"]]
            for attempt in store.live_attempts(connection)
        }
