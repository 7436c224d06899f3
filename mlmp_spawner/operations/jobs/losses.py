"""Attempts that go on in the books, and not in Kueue: it has sent them away for others, or can't start them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from mlmp_spawner.kube.job_queues import flavor_name
from mlmp_spawner.kube.workloads import Workload
from mlmp_spawner.operations.jobs import ending
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import Attempt, Job, Reason
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import MINUTE

log = logging.getLogger(__name__)

START_PATIENCE = 3 * MINUTE
"""How long Kueue may know of an attempt that was let in without having let it in itself."""


@dataclass(frozen=True, slots=True)
class Lost:
    """An attempt that Kueue has sent away: why, and when (ms UTC)."""

    job: Job
    attempt: Attempt
    reason: Reason
    at: int


def lost(site: Site, known: Mapping[str, Workload], now: int) -> list[Lost]:
    """Those under way that can't go on, or begin any more, though their time is not over."""
    with read(site.engine) as connection:
        live = [(job, job.live) for job in store.live_jobs(connection) if job.live is not None]
    found = []
    for job, attempt in live:
        one = known.get(attempt.id)
        if one is not None and now < attempt.stop_at and (why := _why_lost(attempt, one, now)) is not None:
            # What asks again was evicted before, nobody knows when.
            since = one.evicted_at if one.evicted else attempt.starting_at if one.asks else None
            found.append(Lost(job, attempt, why, now if since is None else min(since, now)))
    return found


def _why_lost(attempt: Attempt, known: Workload, now: int) -> Reason | None:
    """Why an attempt whose time is not over can't go on; None where it can, or where the back-end sees its end: a
    worker that failed has the others ended by Kueue, too."""
    if known.evicted and known.evicted_for == "Preempted":
        return "preempted"
    if known.lost and attempt.started_at is None:
        return "platform"
    if known.finished or known.admitted:
        return None
    evicted_since = known.evicted_at is not None and known.evicted_at > attempt.starting_at
    if known.asks and (attempt.started_at is not None or evicted_since):
        return "preempted"
    if attempt.started_at is not None:
        return None
    nodes = known.nodes({flavor_name(node): node for node in attempt.nodes})
    if known.asks and (nodes is None or set(nodes) != set(attempt.nodes)):
        return "platform"
    return "platform" if not known.asks and now >= attempt.starting_at + START_PATIENCE else None


def send_away(site: Site, one: Lost, now: int) -> None:
    """Writes it down: it gets its grace, and its job waits again."""
    log.warning("the attempt %s was sent away by Kueue: %s", one.attempt.id, one.reason)
    ending.sent_away(site, one.job, one.attempt, one.reason, at=one.at, now=now)
