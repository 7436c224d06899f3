"""Scans: one program with many values of its parameters. ``Client(access).scans``; from Python see
:func:`mlmp_spawner.client.jobs.scan`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from mlmp_spawner.client import job_submit
from mlmp_spawner.client.job_api import AWAY, LONGEST_LOSS, JobApi, sendable
from mlmp_spawner.client.job_submit import Work
from mlmp_spawner.client.transport import Transport
from mlmp_spawner.errors import Invalid

OPEN = ("queued", "starting", "running", "stopping")
STEP = 2.0
"""Seconds between two looks at a scan that is waited for."""


@dataclass(frozen=True, slots=True)
class RowRecord:
    """One row: its values, the job that was submitted for it last, what that measured last, and the directory of its
    outputs, below the home."""

    row: int
    parameters: dict[str, Any]
    job: str | None
    state: str
    reason: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    outputs: str | None = None


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """A scan as the service answered it. ``counts``: rows by state, those that are over by their outcome."""

    id: str
    name: str
    size: int
    parameters: tuple[str, ...]
    at_once: int | None
    cancelled: bool
    counts: dict[str, int]
    rows: tuple[RowRecord, ...]
    raw: dict[str, Any] = field(repr=False)

    @property
    def open(self) -> int:
        """How many rows are not over."""
        return sum(self.counts.get(state, 0) for state in OPEN)

    @classmethod
    def parse(cls, body: Any) -> ScanRecord:
        """From JSON. :raises KeyError, TypeError, ValueError: it is none."""
        return cls(
            id=str(body["id"]), name=str(body["name"]), size=int(body["size"]),
            parameters=tuple(str(name) for name in body["parameters"]), at_once=body.get("at_once"),
            cancelled=body.get("cancelled_at") is not None,
            counts={str(state): int(count) for state, count in body["counts"].items()},
            rows=tuple(_row(one) for one in body["rows"]), raw=body,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planned:
    """What would be submitted: how many rows, the first of them, the manifest of each, and what says the rows."""

    size: int
    rows: list[dict[str, Any]]
    manifest: dict[str, Any]
    scan: dict[str, Any]

    @classmethod
    def parse(cls, body: Any) -> Planned:
        """From JSON. :raises KeyError, TypeError, ValueError: it is none."""
        return cls(int(body["size"]), list(body["rows"]), dict(body["manifest"]), dict(body["scan"]))


class ScanApi:
    """What can be asked about scans. :param parse: makes a value of an answer, or raises NotReachable."""

    def __init__(
        self, http: Transport, parse: Callable[[Callable[[Any], Any], Any], Any], sleep: Callable[[float], None]
    ) -> None:
        self._http, self._parse, self._sleep = http, parse, sleep

    def check(self, body: Mapping[str, Any]) -> Planned:
        """What it would be; nothing is submitted. :raises Invalid, OverLimit, NotAllowed: it would be refused."""
        asked = sendable(dict(body))
        found: Planned = self._parse(
            Planned.parse, self._http.json("POST", "scans", query={"dry_run": 1}, body=asked, repeatable=True)
        )
        return found

    def submit(self, body: Mapping[str, Any]) -> ScanRecord:
        """Puts a job for every row into the queue, or none. :raises Invalid, NotAllowed, OverLimit, Conflict:"""
        headers = {"Idempotency-Key": str(uuid.uuid4())}  # so that repeating it submits once
        return self._scan("POST", "scans", body=sendable(dict(body)), headers=headers, repeatable=True)

    def send(
        self, jobs: JobApi, work: Work, asked: Mapping[str, Any], *, note: Callable[[str], None] = lambda text: None
    ) -> ScanRecord:
        """Checks, packs the code, sends and submits it. :param asked: all but code and secrets. :raises: see
        :meth:`submit`."""
        self.check(asked)
        sha256 = job_submit.send_code(jobs, work, note=note)
        return self.submit({**asked, "code": sha256, "secrets": dict(work.secrets)})

    def list(self) -> list[ScanRecord]:
        """One's own, the newest first, without rows."""
        found = self._http.json("GET", "scans")
        return self._parse(lambda body: [ScanRecord.parse(one) for one in body["items"]], found)

    def get(self, id: str) -> ScanRecord:
        """One scan with all of its rows. :raises NotFound, NotAllowed: there is none, or it is somebody else's."""
        whole = self._http.json("GET", _path(id))
        body, rows = whole, list(whole["rows"])
        while body.get("next_start"):
            body = self._http.json("GET", _path(id), query={"start": body["next_start"]})
            rows += body["rows"]
        return self._parse(ScanRecord.parse, {**whole, "rows": rows, "next_start": None})

    def retry(self, id: str) -> tuple[int, ScanRecord]:
        """Submits once more each row that failed; how many these are."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        found = self._http.json("POST", f"{_path(id)}/retry", headers=headers, repeatable=True)
        return self._parse(lambda one: (int(one["retried"]), ScanRecord.parse(one["scan"])), found)

    def cancel(self, id: str) -> ScanRecord:
        """Ends all of its jobs: at once what waits, after its grace what runs."""
        return self._scan("DELETE", _path(id), repeatable=True)

    def wait(self, id: str, timeout: float | None, tell: Callable[[ScanRecord], None]) -> ScanRecord:
        """Until all of it is over, also over a restart of the service. :param timeout: seconds; None: for ever.
        :param tell: is told whenever its counts changed. :raises TimeoutError: it is not over by then."""
        began = heard = time.monotonic()
        counts: dict[str, int] | None = None
        while True:
            try:
                found = self._scan("GET", _path(id), query={"limit": 1})
                heard = time.monotonic()
                if found.counts != counts:
                    counts = found.counts
                    tell(found)
                if not found.open:
                    return self.get(id)
            except AWAY:
                if time.monotonic() - heard > LONGEST_LOSS:
                    raise
            if timeout is not None and time.monotonic() - began > timeout:
                raise TimeoutError(f"the scan {id} is not over after {timeout:g} s")
            self._sleep(STEP)

    def _scan(self, method: str, path: str, **options: Any) -> ScanRecord:
        found: ScanRecord = self._parse(ScanRecord.parse, self._http.json(method, path, **options))
        return found


class Scan:
    """A scan that was submitted. ``record`` is what was last seen of it; :meth:`refresh` looks again."""

    def __init__(self, api: ScanApi, record: ScanRecord) -> None:
        self.record = record
        self._api = api

    def __repr__(self) -> str:
        """For example ``<Scan k3v9x0a2b1cd train 24 rows>``."""
        return f"<Scan {self.id} {self.record.name} {self.record.size} rows>"

    @property
    def id(self) -> str:
        """By which it is known."""
        return self.record.id

    @property
    def rows(self) -> tuple[RowRecord, ...]:
        """Each with ``parameters``, ``state``, ``job`` and ``metrics``, when last seen."""
        return self.record.rows

    def refresh(self) -> Scan:
        """Looks again."""
        self.record = self._api.get(self.id)
        return self

    def wait(self, timeout: float | None = None) -> Scan:
        """Until all rows are over. :param timeout: seconds. :raises TimeoutError: they are not by then."""
        self.record = self._api.wait(self.id, timeout, lambda one: None)
        return self

    def best(self, metric: str, *, lowest: bool = False) -> RowRecord:
        """The row with the highest (or lowest) last value of a metric, of those that succeeded when last seen.

        :raises Invalid: none has it; it says which there are.
        """
        found = best(self.rows, metric, lowest=lowest)
        if found is None:
            known = sorted({name for one in self.rows for name in one.metrics})
            raise Invalid(f"No row that succeeded has a metric {metric!r}; there are {', '.join(known) or 'none'}.")
        return found

    def retry(self) -> int:
        """Submits once more each row that failed; how many these are."""
        count, _ = self._api.retry(self.id)
        self.refresh()
        return count

    def cancel(self) -> Scan:
        """Ends all of its jobs."""
        self._api.cancel(self.id)
        return self.refresh()


def best(rows: Sequence[RowRecord], metric: str, *, lowest: bool = False) -> RowRecord | None:
    """See :meth:`Scan.best`; None where none has it."""
    having = [one for one in rows if one.state == "succeeded" and metric in one.metrics]
    return (min if lowest else max)(having, key=lambda one: one.metrics[metric], default=None)


def _row(body: Any) -> RowRecord:
    return RowRecord(
        row=int(body["row"]), parameters=dict(body["parameters"]), job=body["job"],
        state=body["outcome"] or body["state"] or "gone", reason=body.get("reason"),
        metrics={str(name): float(value) for name, value in body["metrics"].items()}, outputs=body.get("outputs"),
    )  # fmt: skip


def _path(id: str) -> str:
    return f"scans/{quote(id, safe='').replace('.', '%2E')}"
