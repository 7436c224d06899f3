"""Scans as the API answers them: with some of their rows, or all of them as one table."""

from __future__ import annotations

from collections.abc import Mapping

from mlmp_spawner.operations.jobs.scans import Standing
from mlmp_spawner.rules import job_manifest
from mlmp_spawner.web import scan_models as types
from mlmp_spawner.web.csv_text import csv_text, harmless

MOST_METRICS = 200
"""Columns of metrics in one table, the first by their names."""

Values = Mapping[str, Mapping[str, float]]
"""Of each job, by its id, the last value of each metric."""


def answer(of: Standing, measured: Values | None = None, *, rows: int = 0) -> types.Scan:
    """A scan as the API tells it. :param rows: how many of those that were read it has."""
    scan = of.scan
    stop = min(of.start + rows, of.start + len(of.last))
    return types.Scan(
        id=scan.id, name=scan.name, owner=scan.owner, parameters=list(scan.names), size=scan.size, out=scan.out,
        at_once=scan.at_once, created_at=scan.created_at, cancelled_at=scan.cancelled_at, counts=dict(of.counts),
        rows=[row(of, number, measured or {}) for number in range(of.start, stop)],
        next_start=stop if rows and stop < scan.size else None,
    )  # fmt: skip


def row(of: Standing, number: int, measured: Values) -> types.Row:
    """A row as the API tells it."""
    job = of.last[number - of.start]
    return types.Row(
        row=number,
        parameters=of.scan.rows[number],
        job=job.id if job else None,
        state=job.state() if job else None,
        outcome=job.outcome if job else None,
        reason=job.reason if job else None,
        message=job.message if job else "",
        outputs=job_manifest.for_job(job.manifest, job.id)["outputs"] if job else None,
        metrics=dict(measured.get(job.id, {})) if job else {},
    )


def results(of: Standing, measured: Values) -> types.Results:
    """All of its rows."""
    metrics = sorted({name for one in measured.values() for name in one})[:MOST_METRICS]
    rows = [row(of, number, measured) for number in range(of.start, of.start + len(of.last))]
    return types.Results(parameters=list(of.scan.names), metrics=metrics, rows=rows)


def table(found: types.Results) -> bytes:
    """The same as CSV: a column for each parameter and each metric."""
    taken = {"row", *found.parameters, "state", "reason", "job"}
    measured = [harmless(f"{name} (measured)" if name in taken else name) for name in found.metrics]
    lines = [
        [one.row + 1, *one.parameters.values(), one.outcome or one.state or "gone", one.reason or "", one.job or "",
         *(one.metrics.get(name, "") for name in found.metrics)]
        for one in found.rows
    ]  # fmt: skip
    return csv_text(["row", *found.parameters, "state", "reason", "job", *measured], lines)
