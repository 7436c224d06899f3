"""Scans: one program with many values of its parameters, a job for each row of values.

A row is tried again as a new job, so several jobs may have the same place; the last one of these is what the row is.
All instants are ms UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.rules.scan_parameters import Row


@dataclass(frozen=True, slots=True)
class Scan:
    """``rows``: of each job the values, empty in lists of scans; ``names``: the parameters, as they were given.

    ``at_once``: how many may run at a time, None for all that find room; ``out``: the template of the directories
    that its rows write to, None where it has none.
    """

    id: str
    owner: str
    name: str
    names: tuple[str, ...]
    size: int
    rows: tuple[Row, ...] = ()
    owner_id: int | None = None
    at_once: int | None = None
    created_at: int = 0
    cancelled_at: int | None = None
    out: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class Throttle:
    """What of a scan says which of its jobs may start: of whom it is, how many at once, whether it is off."""

    scan: str
    owner_id: int | None
    at_once: int | None
    off: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """Of those that wait: who may start now; who may not yet, with how many of the scan may run; whose scan is off."""

    now: tuple[Job, ...]
    later: Mapping[str, int]
    called_off: tuple[Job, ...]


def throttle(waiting: Sequence[Job], live: Iterable[Job], known: Iterable[Throttle]) -> Turn:
    """Lets no more of a scan start than may run at once, the first rows first. Others are let be."""
    rules = {(one.scan, one.owner_id): one for one in known}
    if not rules:
        return Turn(tuple(waiting), {}, ())
    left = {key: one.at_once for key, one in rules.items() if one.at_once is not None}
    for job in live:
        if (key := _key(job)) in left:
            left[key] -= 1
    called_off = [job for job in waiting if (rule := rules.get(_key(job))) and rule.off]
    off = {job.id for job in called_off}
    later: dict[str, int] = {}
    for job in sorted(waiting, key=lambda one: (not one.front, one.place, one.queued_at, one.id)):
        key = _key(job)
        if key not in left or job.id in off:
            continue
        if left[key] > 0:
            left[key] -= 1
        else:
            later[job.id] = rules[key].at_once or 0
    now = tuple(job for job in waiting if job.id not in off and job.id not in later)
    return Turn(now, later, tuple(called_off))


def last_of_rows(jobs: Iterable[Job], start: int, stop: int) -> tuple[Job | None, ...]:
    """Of each row from ``start`` to before ``stop`` the job that was submitted for it last; None where it is not kept
    any more."""
    found: list[Job | None] = [None] * max(0, stop - start)
    for job in sorted(jobs, key=lambda one: (one.created_at, one.ended_at is None, one.id)):
        if start <= job.place < stop:
            found[job.place - start] = job
    return tuple(found)


def _key(job: Job) -> tuple[str, int | None]:
    # People choose the ids of their batches: somebody else's may have the same.
    return (job.batch or "", job.owner_id)
