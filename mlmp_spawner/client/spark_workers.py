"""The workers of a Spark session: jobs of MLMP, so that queue, quotas, bookings, logs and clean-up are those of jobs.

All workers that are asked for together are one job: they come all or none. More later are a job more.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from mlmp_spawner.client import jobs
from mlmp_spawner.client.api import Client
from mlmp_spawner.client.jobs import Job
from mlmp_spawner.errors import Invalid, MLMPError, NotNow
from mlmp_spawner.units import HOUR, format_size

COMMAND = ("python3", "-m", "mlmp_spawner.lab.spark_worker")
GPU = "nvidia.com/"
"""How the names of its resources begin."""
BESIDE = 512 << 20
"""Bytes that an executor needs at least beside what is Spark's."""
_BYTES = {"m": 1 << 20, "g": 1 << 30}
LOOK = 0.5
"""Seconds between two looks at whether they have come."""
ASK = 2.0
"""The same, at what the service says of their jobs."""


class Workers:
    """Those of one session.

    :param master: where it is; ``memory``: of each for Spark itself, as ``4g``; ``secret``: the session's.
    :param manifest: of each job, without the number of workers.
    """

    def __init__(self, client: Client, master: str, memory: str, secret: str, manifest: Mapping[str, Any]) -> None:
        self.client = client
        self._command, self._secret, self._manifest = [*COMMAND, master, memory], secret, dict(manifest)
        self._jobs: list[Job] = []

    @property
    def count(self) -> int:
        """How many were asked for."""
        return sum(job.record.workers for job in self._jobs)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Their jobs, the oldest first."""
        return tuple(self._jobs)

    def gpu_settings(self) -> dict[str, str]:
        """By which Spark gives each task a GPU of its own, where the executors have any."""
        profile = next((one for one in self.client.profiles() if one.name == self._manifest.get("profile")), None)
        if profile is None or profile.simulated or not profile.resource.startswith(GPU):
            return {}
        each = str(self._manifest.get("units") or profile.units)
        return {"spark.executor.resource.gpu.amount": each, "spark.task.resource.gpu.amount": "1"}

    def scale(self, count: int) -> None:
        """Asks for more, or lets some go: the newest job first, whole, and what is too few then is asked for anew.

        :raises OverLimit, NotAllowed, Invalid: more are refused; those that are there stay.
        """
        self._jobs = [job for job in self._jobs if not job.refresh().ended]
        while self._jobs and self.count > count:
            self._jobs.pop().cancel()
        if self.count < count:
            self._jobs.append(self._submit(count - self.count))

    def end(self) -> None:
        """Lets all go; one that can't be told ends by itself once the master is gone."""
        while self._jobs:
            try:
                self._jobs.pop().cancel()
            except MLMPError:
                continue

    def wait(self, here: Callable[[], int], timeout: float, tell: Callable[[str], None]) -> None:
        """Until all are in the session.

        :param here: how many are. :param timeout: seconds. :param tell: is told what is waited for, when that changes.
        :raises NotNow: too few have come; it says why. :raises Invalid: a job of them has failed.
        """
        until, asked, told = time.monotonic() + timeout, 0.0, ""
        while (found := here()) < self.count:
            if time.monotonic() - asked >= ASK:
                asked = time.monotonic()
                why = self._why()
                said = f"{found} of {self.count} executors are here. {why}"
                if said != told:
                    tell(said)
                    told = said
            if time.monotonic() >= until:
                raise NotNow(
                    f"{found} of {self.count} executors have come in {timeout:g} s. {self._why()}".strip(),
                    hint="Ask for fewer, for another profile, or wait longer: spark_session(…, wait=600).",
                )
            time.sleep(LOOK)
        if told:
            tell(f"{found} of {self.count} executors are here.")

    def _why(self) -> str:
        """What the queue says of the first job that is not there yet. :raises Invalid: one has ended."""
        for job in self._jobs:
            record = job.refresh().record
            if record.ended:
                raise Invalid(
                    f"The executors have ended: job {job.id} {record.outcome}. {record.message}\n{_tail(job)}".strip()
                )
            if record.state != "running":
                return f"Job {job.id} is {record.state}. {record.why}".strip()
        return ""

    def _submit(self, count: int) -> Job:
        said = {"name": "spark", "grace": "5s", **self._manifest, "command": self._command, "workers": count}
        return jobs.submit(client=self.client, secrets={"SPARK_SESSION_SECRET": self._secret}, **said)


def of_server(client: Client, environ: Mapping[str, str], now: int) -> dict[str, Any]:
    """What a manifest says of the booking of this server: how long it lasts (hours), so that its executors are not
    asked for longer, and that they talk with this server; nothing outside of one.

    :param now: ms UTC.
    """
    booking = environ.get("MLMP_RESERVATION_ID")
    if not booking:
        return {}
    try:
        found = client.reservation(booking)
    except MLMPError:
        return {}
    if found.end <= now:
        return {}
    return {"hours": max(math.ceil((found.end - now) / HOUR * 100) / 100, 0.01), "server": found.id}


def check_memory(client: Client, memory: str, manifest: Mapping[str, Any]) -> None:
    """:raises Invalid: what an executor runs on has no room for that much, and what Spark has to have beside it."""
    profile = next((one for one in client.profiles() if one.name == manifest.get("profile")), None)
    found = re.fullmatch(r"(\d+)([mg])b?", memory.strip().lower())
    most = profile.raw.get("memory") if profile is not None else None
    if profile is None or found is None or not isinstance(most, int):
        return
    units = int(manifest.get("units") or profile.units)
    most = most * units // max(1, profile.units)
    if int(found[1]) * _BYTES[found[2]] + BESIDE > most:
        raise Invalid.field(
            "memory", f"an executor on {profile.name!r} has {format_size(most)}, and {format_size(BESIDE)} of that "
            f"are for Python and Spark's own worker, which leaves no room for {memory}",
        )  # fmt: skip


def _tail(job: Job) -> str:
    try:
        text = "".join(job.logs())
    except MLMPError:
        return ""
    return "\n".join(text.splitlines()[-5:])
