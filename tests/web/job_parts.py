"""Jobs for the tests of the web: the files are real, and what runs is what a test says."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from mlmp_spawner.jobs.base import LogPart, Order, Seen
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations.jobs import listing
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import Attempt
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE
from mlmp_spawner.web.context import Jobs

CODE = b"a packed folder, as far as the service knows"
SHA256 = hashlib.sha256(CODE).hexdigest()
SLEEP = {"profile": "gpu", "command": ["sleep", "60"], "hours": 1}


class QuietBackend:
    """Runs nothing; the logs are the files'. ``refusal`` is raised instead."""

    queues = False

    def __init__(self, files: JobFiles) -> None:
        self.files = files
        self.refusal: Exception | None = None

    async def submit(self, order: Order) -> None:
        raise AssertionError("nobody asked for that")

    async def state(self, attempt: str) -> Seen | None:
        return None

    async def logs(self, attempt: str, start: int, limit: int) -> LogPart:
        if self.refusal:
            raise self.refusal
        return self.files.read_log(attempt, start, limit, complete=False)

    async def cancel(self, attempt: str, *, stop_at: int, kill_at: int) -> None:
        raise AssertionError("nobody asked for that")

    async def list(self) -> dict[str, Seen]:
        return {}

    async def forget(self, attempt: str) -> None:
        raise AssertionError("nobody asked for that")


def make_jobs(folder: Path) -> Jobs:
    """What handlers need of jobs."""
    files = JobFiles(folder / "jobs")
    files.prepare()
    return Jobs(files, QuietBackend(files), code_limit=1 << 20)


def submit(client: httpx.Client, *, code: str | None = None, values: Any = None, **manifest: Any) -> dict[str, Any]:
    """Submits a job that sleeps, unless the manifest says otherwise. :param values: of its secrets."""
    body = {"manifest": {**SLEEP, **manifest}, "code": code, "secrets": values or {}}
    answer = client.post("jobs", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def begin(site: Site, job_id: str, now: int, **facts: Any) -> Attempt:
    """An attempt of a job begins, on one node."""
    job = listing.get(site, job_id)
    attempt = Attempt(job_id, len(job.attempts) + 1, "r" * 12, ("gpu-a",), now + HOUR, now + HOUR + MINUTE, now)
    attempt = replace(attempt, **facts)
    with transaction(site.engine) as connection:
        store.insert_attempt(connection, attempt, [{"node": "gpu-a", "units": []}])
    return attempt


def end(site: Site, attempt: Attempt, now: int, *, over: bool = True, **facts: Any) -> None:
    """An attempt has ended; with ``over`` its job too."""
    with transaction(site.engine) as connection:
        store.update_attempt(connection, attempt, ended_at=now, **{"reason": "succeeded", **facts})
        job = store.find(connection, attempt.job)
        assert job is not None
        if over:
            store.update_job(connection, job, ended_at=now, **{"outcome": "succeeded", "reason": "succeeded", **facts})


def printed(jobs: Jobs, attempt: Attempt, text: bytes) -> None:
    """It printed something."""
    log = jobs.files.log(attempt.id)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(text)
