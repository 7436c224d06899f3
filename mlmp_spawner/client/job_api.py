"""The service's REST API for jobs, typed: ``Client(access).jobs``.

A refusal raises the same error as on the server (:mod:`mlmp_spawner.errors`).
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from mlmp_spawner.client.job_code import Snapshot, too_large
from mlmp_spawner.client.job_models import JobRecord
from mlmp_spawner.client.problems import NotReachable
from mlmp_spawner.client.transport import Transport
from mlmp_spawner.errors import Invalid, NotAllowed, OverLimit, TooManyRequests, Unavailable
from mlmp_spawner.units import format_size

T = TypeVar("T")
Manifest = Mapping[str, Any] | str
"""As an object, or as YAML text."""

PAGE = 200
PART = 1 << 20
"""Bytes of a log that are asked for at once."""

LONGEST_LOSS = 300.0
"""Seconds for which a log is followed though the service does not answer."""

AWAY = (NotReachable, Unavailable, TooManyRequests)
"""What a service raises that restarts, or is busy."""

STEP = 1.0
"""Seconds between two looks at a job that waits, and between two tries to reach the service."""


class JobApi:
    """What can be asked about jobs. :param parse: makes a value of an answer, or raises NotReachable."""

    def __init__(
        self, http: Transport, parse: Callable[[Callable[[Any], Any], Any], Any], sleep: Callable[[float], None]
    ) -> None:
        self._http, self._parse, self._sleep = http, parse, sleep

    def check(self, manifest: Manifest) -> dict[str, Any]:
        """The manifest with everything that it leaves out, as the service reads it; nothing is submitted.

        :raises Invalid: with every mistake in it. :raises OverLimit, NotAllowed: it would be refused.
        """
        body = sendable({"manifest": manifest})
        found = self._http.json("POST", "jobs", query={"dry_run": 1}, body=body, repeatable=True)
        return self._parse(_manifest, found)

    def keep(self, code: Snapshot) -> None:
        """Sends a snapshot, unless the service has it.

        :raises OverLimit: it is too large for the service, with the largest files.
        """
        path = f"jobs/code/{code.sha256}"
        if self._http.there(path):
            return
        try:
            self._http.upload(path, code.packed, code.size)
        except OverLimit as error:
            told = too_large(code.found, f"{format_size(code.size)} packed. {error.detail}")
            told.data = error.data
            raise told from error

    def submit(
        self, manifest: Manifest, *, code: str | None, secrets: Mapping[str, str], key: str | None = None, **more: Any
    ) -> JobRecord:
        """Puts a job into the queue.

        :param code: the SHA-256 of a snapshot that was kept. :param secrets: values of those that the manifest names.
        :param key: who repeats the call with it submits once; None: one of its own.
        :raises Invalid, NotAllowed, OverLimit: as the service says.
        """
        body = sendable({"manifest": manifest, "code": code, "secrets": dict(secrets), **more})
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}  # so that repeating it submits once
        return self._job("POST", "jobs", body=body, headers=headers, repeatable=True)

    def get(self, id: str) -> JobRecord:
        """One job. :raises NotFound: there is no such."""
        return self._job("GET", _path(id))

    def list(self, **query: str | int | None) -> Iterator[JobRecord]:
        """Jobs, the newest first, page after page: ``owner``, ``state`` (or ``open``), ``batch`` narrow them."""
        cursor: str | None = None
        while True:
            body = self._http.json("GET", "jobs", query={"limit": PAGE, **query, "cursor": cursor})
            yield from self._parse(lambda found: [JobRecord.parse(item) for item in found["items"]], body)
            cursor = body.get("next_cursor")
            if not cursor:
                return

    def cancel(self, id: str) -> JobRecord:
        """Ends it: at once where it waits, after its grace where it runs. :raises TooLate: it is over."""
        return self._job("DELETE", _path(id), repeatable=True)

    def resubmit(self, id: str) -> JobRecord:
        """Puts the same once more into the queue, as a new job."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return self._job("POST", f"{_path(id)}/resubmit", headers=headers, repeatable=True)

    def metrics(self, id: str, attempt: int | str = "all") -> dict[str, Any]:
        """What it measured and used: ``series`` and ``usage``, of each name ``steps``, ``values``, ``at``."""
        found = self._http.json("GET", f"{_path(id)}/metrics", query={"attempt": attempt})
        return self._parse(lambda body: {"series": dict(body["series"]), "usage": dict(body["usage"])} | body, found)

    def log(self, id: str, attempt: int | None = None, *, start: int = 0) -> Iterator[str]:
        """The log as far as it is now, piece by piece.

        :param attempt: of this try; None: of the last. :param start: the byte to begin at; negative: from the end.
        """
        while True:
            part = self.part(id, attempt, start=start)
            yield part["text"]
            if part["end"] >= part["size"] or part["end"] <= part["start"]:
                return
            start = part["end"]

    def part(self, id: str, attempt: int | None = None, *, start: int = 0, limit: int = PART) -> dict[str, Any]:
        """A piece of the log: ``text``, and the bytes ``start``, ``end`` of ``size`` that it is."""
        query = {"attempt": attempt, "start": start, "limit": limit}
        found: dict[str, Any] = self._parse(_part, self._http.json("GET", f"{_path(id)}/logs", query=query))
        return found

    def follow(self, id: str, *, start: int = 0) -> Iterator[str | JobRecord]:
        """The log of its last attempt and of those to come, as it is written, until the job is over. The job itself
        comes between, whenever it is seen to be in another state.

        :raises NotAllowed: it is somebody else's.
        :raises NotReachable: the service has not answered for :data:`LONGEST_LOSS`.
        """
        told: tuple[object, ...] | None = None
        number = 0
        while True:
            job = self.patiently(lambda: self.get(id))
            if not job.mine:
                raise NotAllowed("This job is somebody else's: only its owner sees its log.")
            now = (job.state, len(job.attempts), job.why if job.state == "queued" else "")
            if now != told:
                told = now
                yield job
            following = [one.number for one in job.attempts if one.number > number]
            if not number and following:
                following = following[-1:]
            for number in following:
                yield from self._stream(id, number, start)
                start = 0
            if job.ended and not following:
                return
            if not following:
                self._sleep(STEP)

    def patiently(self, ask: Callable[[], T]) -> T:
        """What ``ask`` answers, asked again for :data:`LONGEST_LOSS` where the service does not answer: whoever waits
        for hours waits over a restart too."""
        began = time.monotonic()
        while True:
            try:
                return ask()
            except AWAY:
                if time.monotonic() - began > LONGEST_LOSS:
                    raise
            self._sleep(STEP)

    def _stream(self, id: str, attempt: int, start: int) -> Iterator[str]:
        """The log of one attempt until its end, over as many connections as that takes."""
        heard = time.monotonic()
        while True:
            try:
                query = {"attempt": attempt, "start": start}
                for event in self._http.events(f"{_path(id)}/logs/stream", query=query):
                    heard = time.monotonic()
                    if event.name == "end":
                        return
                    if event.name == "log":
                        part = self._parse(lambda text: _part(json.loads(text)), event.data)
                        start = part["end"]
                        yield part["text"]
            except AWAY:
                if time.monotonic() - heard > LONGEST_LOSS:
                    raise
            self._sleep(STEP)

    def _job(self, method: str, path: str, **options: Any) -> JobRecord:
        found: JobRecord = self._parse(JobRecord.parse, self._http.json(method, path, **options))
        return found


def _path(id: str) -> str:
    """The path of a job; whatever was typed stays one component."""
    return f"jobs/{quote(id, safe='').replace('.', '%2E')}"


def sendable(body: dict[str, Any]) -> dict[str, Any]:
    """:raises Invalid: JSON can't say it: no number, no text, or something else altogether."""
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"This can't be sent: {error}") from None
    return body


def _manifest(body: Any) -> dict[str, Any]:
    return dict(body.get("manifest", body))


def _part(body: Any) -> dict[str, Any]:
    """A piece of a log: ``text`` and the bytes ``start``, ``end`` of ``size`` that it is."""
    return {"text": str(body["text"]), **{name: int(body[name]) for name in ("start", "end")},
            "size": int(body.get("size", body["end"]))}  # fmt: skip
