"""What is asked of the service on behalf of the user whose server this is."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from mlmp_spawner import units
from mlmp_spawner.client import config, job_submit
from mlmp_spawner.client.api import Client
from mlmp_spawner.client.job_models import JobRecord
from mlmp_spawner.client.models import Reservation
from mlmp_spawner.errors import Invalid, NotNow

T = TypeVar("T")

TO_READ = (0.5, 5.0)
"""Seconds of patience, and for one answer: JupyterLab asks again by itself, and says soon that nobody answers."""

TO_CHANGE = (3.0, 10.0)
"""The same for what a person asked for."""

AT_ONCE = 4
"""Questions under way; they have threads of their own, so that none of the server's waits for a service that hangs."""

MOST_JOBS = 50
"""So many of one's jobs are listed, the newest."""

MOST_MESSAGES = 50
"""So many of the newest notices are looked through for messages."""

PART = 256 << 10
"""Bytes of a log that are given at once."""


class Desk:
    """Answers for one server. ``root``: the folder that JupyterLab shows. May be used by several threads."""

    def __init__(self, root: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.root = root
        self._environ = environ
        self._lock = threading.Lock()
        self._clients: dict[bool, Client] = {}
        self._threads = ThreadPoolExecutor(AT_ONCE, "mlmp-desk")

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Something of this that takes its time, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    @property
    def client(self) -> Client:
        """The service, to read. :raises NotSignedIn: this server is none of MLMP, and nobody signed in."""
        return self._service(to_change=False)

    @property
    def _changing(self) -> Client:
        return self._service(to_change=True)

    def _service(self, *, to_change: bool) -> Client:
        with self._lock:
            if to_change not in self._clients:
                patience, timeout = TO_CHANGE if to_change else TO_READ
                self._clients[to_change] = Client(config.load(self._environ), patience=patience, timeout=timeout)
            return self._clients[to_change]

    # -- the booking ----------------------------------------------------------------------------------------------

    def state(self, now: int) -> dict[str, Any]:
        """The booking that this server runs in, None where it runs in none, and what who teaches said in the class
        that it is a seat of; times in ms UTC."""
        found = self._booking(now)
        if found is None:
            return {"booking": None, "messages": []}
        return {"booking": _booking(found), "messages": self._messages(found)}

    def extend(self, duration: str, now: int) -> dict[str, Any]:
        """Moves the end of the booking back.

        :raises NotNow: there is no booking. :raises NoCapacity: ``longest_end`` says how far it could go.
        """
        found = self._booking(now)
        if found is None:
            raise NotNow("This server runs in no booking, so there is nothing to extend.")
        return {"booking": _booking(self._changing.extend(found.id, duration))}

    def _messages(self, found: Reservation) -> list[dict[str, Any]]:
        """What was not read yet, the oldest first: ``id`` and ``text``."""
        if found.raw.get("kind") != "session" or not found.raw.get("parent"):
            return []
        unread = self.client.notices(unread="true", limit=MOST_MESSAGES)["items"]
        said = [one for one in unread if one["kind"] == "message" and one["reservation"] == found.id]
        return [{"id": one["id"], "text": one["headline"]} for one in reversed(said)]

    def read_message(self, id: int) -> dict[str, Any]:
        """It is not shown any more, here or elsewhere."""
        self._changing.read_notices(id, only=True)
        return {}

    def _booking(self, now: int) -> Reservation | None:
        """Of several that follow each other without a break, the one of now: a server goes on from one to the next."""
        id = self._environ.get("MLMP_RESERVATION_ID")
        if not id:
            return None
        found = self.client.reservation(id)
        if found.state == "active" or found.raw.get("server") is None:
            return found
        server = found.raw["server"]
        return next((one for one in self._now(found, now) if one.raw.get("server") == server), found)

    def _now(self, found: Reservation, now: int) -> list[Reservation]:
        window = {"start": units.to_iso(now), "end": units.to_iso(now + 1000)}
        bookings = self.client.reservations(owner=found.owner, state="active", **window)
        return [one for one in bookings if one.mine]

    # -- jobs -----------------------------------------------------------------------------------------------------

    def profiles(self) -> list[dict[str, str]]:
        """On what a job may run."""
        return [{"name": one.name, "title": one.title} for one in self.client.profiles()]

    def submit(self, manifest: Any, folder: Path, key: str) -> JobRecord:
        """Puts a job into the queue, with the files of ``folder`` as they are now.

        :param key: who repeats it with the same submits once.
        :raises Invalid, OverLimit, NotAllowed: it is refused.
        """
        said = job_submit.in_python_here(manifest, self._environ)
        values = _secrets(said.get("secrets") or (), self._environ)
        return job_submit.submit(self._changing.jobs, job_submit.Work(said, folder, values), key=key)

    def jobs(self) -> list[dict[str, Any]]:
        """One's own jobs, the newest first."""
        found: list[dict[str, Any]] = []
        for one in self.client.jobs.list(owner=self.client.me().name):
            found.append(_job(one))
            if len(found) == MOST_JOBS:
                break
        return found

    def job(self, id: str) -> dict[str, Any]:
        """One job. :raises NotFound: there is no such."""
        return _job(self.client.jobs.get(id))

    def cancel(self, id: str) -> dict[str, Any]:
        """Ends a job. :raises TooLate: it is over."""
        return _job(self._changing.jobs.cancel(id))

    def log(self, id: str, attempt: int | None, start: int) -> dict[str, Any]:
        """A piece of a job's log: ``text``, and the bytes ``start``, ``end`` of ``size`` that it is."""
        return self.client.jobs.part(id, attempt, start=start, limit=PART)

    def metrics(self, id: str) -> dict[str, Any]:
        """What a job measured: of each name ``steps`` and ``values``."""
        return dict(self.client.jobs.metrics(id)["series"])


def _booking(found: Reservation) -> dict[str, Any]:
    nodes = sorted({one.node for one in found.allocations})
    return {
        "id": found.id, "profile": found.profile, "title": found.title, "units": found.units, "nodes": nodes,
        "state": found.state, "start": found.start, "end": found.end,
        "stops_at": found.end if found.stops_at is None else found.stops_at,
    }  # fmt: skip


def _job(found: JobRecord) -> dict[str, Any]:
    manifest = found.raw.get("manifest") or {}
    return {
        "id": found.id, "name": found.name or found.id, "profile": found.profile, "state": found.state,
        "outcome": found.outcome, "reason": found.reason, "message": found.message, "why": found.why,
        "created_at": found.created_at, "started_at": found.started_at, "ended_at": found.ended_at,
        "attempt": found.attempts[-1].number if found.attempts else None, "outputs": manifest.get("outputs"),
    }  # fmt: skip


def _secrets(names: Any, environ: Mapping[str, str]) -> dict[str, str]:
    missing = [str(name) for name in names if str(name) not in environ]
    if missing:
        raise Invalid.field(
            "secrets", f"there is no {missing[0][:40]!r} in the environment of this server; submit from a terminal, "
            "which asks for it: mlmp job run … --secret NAME",
        )  # fmt: skip
    return {str(name): environ[str(name)] for name in names}
