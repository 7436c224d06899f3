"""Jobs: a program that runs unattended for some hours; what it is at a moment follows from facts and the time.

A job is tried one or more times; each try is an :class:`Attempt`, which holds units by a reservation of kind ``job``.
A job ends once: it succeeded, failed, or was cancelled. An attempt that ended for the platform's sake (its node was
lost, a booking came) is no fault of the user's: the job goes back into the queue.

All instants are ms UTC, all lengths ms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["queued", "starting", "running", "stopping", "ended"]
Outcome = Literal["succeeded", "failed", "cancelled"]

Reason = Literal[
    "succeeded",  # exit status 0
    "exit_status",  # another one
    "signal",  # ended by a signal that nobody here sent
    "out_of_memory",
    "image",  # its image can't be pulled or run
    "start",  # its program can't be started: not found, not executable, wrong notebook
    "time_limit",  # its hours were over
    "cancelled",  # its owner, or an admin
    "preempted",  # a booking came
    "node_lost",
    "vanished",  # its processes are gone and left no exit status
    "platform",  # our own fault
]

PLATFORM: frozenset[str] = frozenset({"preempted", "node_lost", "vanished", "platform"})
"""Reasons that are not the user's doing: tried again for free."""

GRACE = 60_000
"""How long a job gets between SIGTERM and SIGKILL unless it says otherwise."""

LONGEST_GRACE = 600_000
"""How long it may say that this is."""

FREE_TRIES = 20
"""How often the platform may fail a job (preemption aside) before that counts as a failure: no job runs in circles."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. ``number`` counts from 1; ``reservation`` holds its units.

    ``stop_at``: when it is asked to end by SIGTERM; ``kill_at``: when nothing of it may be left. Both only ever move
    to an earlier time while it lives. ``stop_reason``: why it is asked to end before it does so by itself.
    """

    job: str
    number: int
    reservation: str
    nodes: tuple[str, ...]
    stop_at: int
    kill_at: int
    starting_at: int
    started_at: int | None = None
    stopping_at: int | None = None
    stop_reason: Reason | None = None
    ended_at: int | None = None
    reason: Reason | None = None
    exit_status: int | None = None
    message: str = ""

    @property
    def id(self) -> str:
        """What back-ends know it by: ``JOB-NUMBER``."""
        return f"{self.job}-{self.number}"

    def state(self) -> Literal["starting", "running", "stopping", "ended"]:
        """What it is doing, as far as is known."""
        if self.ended_at is not None:
            return "ended"
        if self.stopping_at is not None:
            return "stopping"
        return "starting" if self.started_at is None else "running"


@dataclass(frozen=True, slots=True)
class Job:
    """A job with its facts.

    ``units`` are per worker and of ``resource``; each worker runs on a node of its own or beside another. ``length``
    is its stated time, of each attempt, ``grace`` what it gets after SIGTERM. ``inside``: the booking of
    its owner in which it runs. ``group``: the hub group for whose share it counts, "" for none. ``code``: the SHA-256
    of its snapshot, None where it has none. ``retries``: how often a failure of the user's own is tried again;
    ``failures``: how often it failed so, ``faults``: how often the platform did. ``front``: it goes before all others
    of its owner, whatever their priority, since it was sent away.
    """

    id: str
    owner: str
    name: str
    profile: str
    resource: str
    units: int
    workers: int
    length: int
    manifest: dict[str, Any]
    owner_id: int | None = None
    group: str = ""
    batch: str | None = None
    place: int = 0
    grace: int = GRACE
    retries: int = 0
    priority: int = 0
    preemptible: bool = True
    inside: str | None = None
    code: str | None = None
    created_at: int = 0
    queued_at: int = 0
    front: bool = False
    failures: int = 0
    faults: int = 0
    cancel_asked_at: int | None = None
    cancelled_by: str | None = None
    ended_at: int | None = None
    outcome: Outcome | None = None
    reason: Reason | None = None
    exit_status: int | None = None
    message: str = ""
    version: int = 1
    attempts: tuple[Attempt, ...] = field(default=())

    @property
    def live(self) -> Attempt | None:
        """The attempt under way."""
        return self.attempts[-1] if self.attempts and self.attempts[-1].ended_at is None else None

    def state(self) -> State:
        """What it is doing, as far as is known."""
        if self.ended_at is not None:
            return "ended"
        return "queued" if self.live is None else self.live.state()


@dataclass(frozen=True, slots=True)
class Ended:
    """The job is over."""

    outcome: Outcome
    reason: Reason


@dataclass(frozen=True, slots=True)
class Again:
    """The job goes back into the queue; ``front``: before the others. ``fault``: the platform failed it, ``failure``:
    its own program did; both false where it made way for a booking."""

    front: bool
    failure: bool = False
    fault: bool = False


def after(job: Job, reason: Reason) -> Ended | Again:
    """What becomes of ``job`` whose attempt ended for ``reason``. A wish to cancel wins over all but success."""
    if reason == "succeeded":
        return Ended("succeeded", reason)
    if reason == "cancelled" or job.cancel_asked_at is not None:
        return Ended("cancelled", "cancelled")
    if reason == "preempted":
        return Again(front=True)
    if reason in PLATFORM:
        return Again(front=True, fault=True) if job.faults < FREE_TRIES else Ended("failed", reason)
    if reason in ("exit_status", "signal", "out_of_memory") and job.failures < job.retries:
        return Again(front=False, failure=True)
    return Ended("failed", reason)


def why_stopped(job: Job, attempt: Attempt) -> Reason:
    """Why an attempt has to end at its ``stop_at``: as was said, or its hours are over, or it had less than those from
    its start on, since a booking follows it. Hours in which it did not run are none of its own."""
    if attempt.stop_reason is not None:
        return attempt.stop_reason
    if attempt.stop_at - attempt.starting_at < job.length:
        return "preempted"
    return "platform" if attempt.started_at is None else "time_limit"


def why_ended(job: Job, attempt: Attempt, seen: Reason | None, ended_at: int) -> Reason:
    """Why an attempt ended, from what its back-end saw.

    What ended after it was told to did so for that reason, whatever its exit status: a program that writes its
    checkpoint upon SIGTERM and ends with 0 has not done its work.
    """
    if ended_at >= attempt.stop_at and seen not in ("image", "start"):
        return why_stopped(job, attempt)
    return seen or "vanished"
