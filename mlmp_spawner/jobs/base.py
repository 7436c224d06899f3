"""The seam between jobs and the place where they run: five verbs that every back-end has.

A back-end runs *attempts* (:class:`mlmp_spawner.rules.jobs.Attempt`) and knows them by their id. Every verb may be
called again with the same arguments after a crash, and then changes nothing: ``submit`` of an attempt that runs or has
ended starts nothing, ``cancel`` of one that is gone does nothing.

A back-end with a queue of its own (``queues``) is given a job when it is submitted and says itself when it starts it;
to one without, an attempt is given when its units are free, and starts at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mlmp_spawner.rules.jobs import Reason

Phase = Literal["queued", "starting", "running", "ended"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one worker of an attempt runs. ``units``: the physical ones, by their ids; empty where none are told
    apart. ``cpus`` in cores, ``memory`` in bytes; None: not known, not limited."""

    node: str
    units: tuple[str, ...] = ()
    cpus: float | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """An attempt to run, whole: a back-end needs nothing else.

    ``manifest``: the job's, checked and complete. ``secrets``: environment that is never shown. ``code``: the SHA-256
    of its snapshot, None where it has none. ``stop_at``, ``kill_at``: ms UTC. ``log_limit``: bytes of its log
    that are kept.

    While it waits in the queue of a back-end that has one, nobody knows yet where and until when: ``places`` is
    empty, ``stop_at`` and ``kill_at`` are 0. What it wants is known: ``units`` of ``resource`` for each of
    ``workers``, on ``nodes`` (those that its profile fits on, as the catalog calls them), ``cpus`` (cores) and
    ``memory`` (bytes; None: not known, not limited) of each worker, the least that go with its units on any of them;
    ``length`` and ``grace`` in ms. ``group``: for whose share it counts, "" for none. ``priority``: one of
    :data:`mlmp_spawner.kube.job_queues.PRIORITIES`. ``image``: the reference of the image to run in, "" for that in
    which servers run where nothing else is said. ``queue``: the name of that where it stands, as the back-end's queue
    has them; "" for a job inside a booking, which stands in none. ``server``: under which reservation the server was
    started that its workers talk with, "" for none.
    """

    id: str
    job: str
    number: int
    owner: str
    manifest: dict[str, Any]
    places: tuple[Place, ...]
    stop_at: int
    kill_at: int
    grace: int
    code: str | None = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    log_limit: int = 64 << 20
    resource: str = ""
    units: int = 1
    workers: int = 1
    nodes: frozenset[str] = frozenset()
    cpus: float | None = None
    memory: int | None = None
    length: int = 0
    group: str = ""
    priority: str = "normal"
    preemptible: bool = True
    image: str = ""
    queue: str = ""
    server: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a back-end sees of an attempt. ``reason``, ``exit_status`` and ``message`` once it has ended."""

    id: str
    phase: Phase
    started_at: int | None = None
    ended_at: int | None = None
    reason: Reason | None = None
    exit_status: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class LogPart:
    """A piece of an attempt's log. ``start``, ``end``: its bytes; ``size``: of the whole so far; ``complete``: nothing
    will be added. ``cut``: bytes that were left out since the quota was used up."""

    data: bytes
    start: int
    end: int
    size: int
    complete: bool
    cut: int = 0


class Backend(Protocol):
    """A place where jobs run. What can't be told or done just now raises
    :class:`~mlmp_spawner.errors.MLMPError`, and is asked again."""

    @property
    def queues(self) -> bool:
        """Whether it has a queue of its own."""

    async def submit(self, order: Order) -> None:
        """Begins the attempt, or queues it; returns when that will survive a crash."""

    async def state(self, attempt: str) -> Seen | None:
        """What it sees of one; None where it knows nothing of it (and nothing of it runs)."""

    async def logs(self, attempt: str, start: int, limit: int) -> LogPart:
        """A part of the log, from byte ``start`` on (negative: counted from its end), ``limit`` bytes at most."""

    async def cancel(self, attempt: str, *, stop_at: int, kill_at: int) -> None:
        """Ends it: SIGTERM at ``stop_at``, nothing left at ``kill_at`` (ms UTC). A later call may only bring both
        forward."""

    async def list(self) -> dict[str, Seen]:
        """All that it knows, by attempt id; those that ended until :meth:`forget`."""

    async def forget(self, attempt: str) -> None:
        """An ended attempt was written down: what is kept of it, but the log, may go."""
