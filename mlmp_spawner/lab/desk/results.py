"""Where the results of one's jobs and scans are, below the home, by the names under which they are shown together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlmp_spawner.client.api import Client
from mlmp_spawner.errors import NotAllowed, NotFound

WORK = "mlmp-jobs"
"""Below it each job has the folder that it runs in."""
MOST_ROWS = 500
"""So many rows of a scan are shown together, the first ones: with more TensorBoard is of no use."""


def of_job(client: Client, id: str) -> tuple[str, dict[str, str]]:
    """The job's name, and its folders.

    :raises NotFound: there is no such job. :raises NotAllowed: it is somebody else's, whose home this is not.
    """
    job = client.jobs.get(id)
    manifest = job.raw.get("manifest") or {}
    if not job.raw.get("mine"):
        raise NotAllowed(f"The job {id} is somebody else's.", hint="Its results are in that person's home.")
    name = job.name or id
    return name, _apart(_folders(manifest, id, name))


def of_scan(client: Client, id: str) -> tuple[str, dict[str, str]]:
    """The scan's name, and the folder of each row, named by its parameters.

    :raises NotFound: there is no such scan. :raises NotAllowed: it is somebody else's.
    """
    scan = client.scans.get(id)
    if scan.raw.get("owner") != client.me().name:
        raise NotAllowed(f"The scan {id} is somebody else's.", hint="Its results are in that person's home.")
    found: dict[str, str] = {}
    for row in scan.raw["rows"][:MOST_ROWS]:
        if row["job"] is None or row["outputs"] is None:
            continue
        values = ",".join(f"{name}={value}" for name, value in row["parameters"].items())
        named = _apart({"": row["outputs"], "work": f"{WORK}/{row['job']}"})
        found |= {f"{values},{part}" if part else values: path for part, path in named.items()}
    return scan.name, found


def _folders(manifest: Mapping[str, Any], id: str, name: str) -> dict[str, str]:
    """What it writes to: by its manifest, and where it runs."""
    found = {"outputs": str(manifest.get("outputs") or f"{WORK}/{{id}}"), "work": f"{WORK}/{{id}}"}
    for number, metric in enumerate(manifest.get("metrics") or ()):
        told = metric.get("tensorboard") or ""
        if told.startswith("~/"):
            found[f"metrics-{number + 1}"] = told[2:]
    return {part: path.replace("{id}", id).replace("{name}", name) for part, path in found.items()}


def _apart(named: Mapping[str, str]) -> dict[str, str]:
    """Without those that are within others."""
    found: dict[str, str] = {}
    for part, path in sorted(named.items(), key=lambda one: len(one[1])):
        if not any(f"{path}/".startswith(f"{other}/") for other in found.values()):
            found[part] = path
    return found


def check_there(named: Mapping[str, str]) -> None:
    """:raises NotFound: there are none."""
    if not named:
        raise NotFound("There are no results yet.", hint="Come back when a job of it has started.")
