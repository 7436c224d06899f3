"""Reservations and allocations: half-open intervals, the state of a booking, what is taken when.

All instants and lengths are whole milliseconds; instants count from the Unix epoch in UTC. Intervals are half-open,
``[start, end)``: two that touch never conflict.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from mlmp_spawner.units import DAY, SECOND

LONGEST = 32 * DAY
"""The longest single allocation row; the database's range scan relies on it."""

DEFAULT_STOP_LEAD = 30 * SECOND

State = Literal["waiting", "booked", "active", "ended"]
ServerState = Literal["none", "starting", "running", "stopping"]


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """``[start, end)`` in ms UTC; ``start < end``."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise ValueError(f"an interval ends after it starts, not {self.start}..{self.end}")

    @property
    def length(self) -> int:
        """Milliseconds from start to end."""
        return self.end - self.start

    def overlaps(self, other: Interval) -> bool:
        """Whether the two share an instant; touching is not overlapping."""
        return self.start < other.end and other.start < self.end

    def at(self, start: int) -> Interval:
        """The same length from another start."""
        return Interval(start, start + self.length)


@dataclass(frozen=True, slots=True)
class Allocation:
    """Units of one resource on one node for one interval. ``root`` is set for what draws on a parent's allocation."""

    reservation: str
    node: str
    resource: str
    units: int
    start: int
    end: int
    root: str | None = None

    @property
    def interval(self) -> Interval:
        """``[start, end)``."""
        return Interval(self.start, self.end)


@dataclass(frozen=True, slots=True)
class Outage:
    """A node is away (maintenance, drain) for an interval."""

    id: str
    node: str
    start: int
    end: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A booking with its facts; what follows from them and the time is computed, never stored.

    ``units`` are per node and of ``resource``. ``warned_at`` is the last warning given. ``starting_at`` is when its
    server was last admitted, ``started_at`` when that server was up, ``stopped_at`` when it was seen gone; all three
    start anew when the owner starts the server again. ``stopping_at`` is set by the clock alone and is final.
    ``continues`` names the reservation under which the running server was started, when this one carried on with it.

    ``pinned``: the owner chose the node, ``wanted_node``; one that lost its place there takes any.

    ``image``: which of its profile's images was chosen, None for the first. ``no_show_grace`` (ms) is what held when
    it was booked. ``occurrence`` is the start that the rule of its ``series`` gave. ``announced_at``: the owner was
    told that it starts soon; ``offered_at``: that it could be extended. ``idle_since``: its server has done nothing
    from then on; ``idle_warned_at``: the owner was told.
    """

    id: str
    owner: str
    profile: str
    resource: str
    units: int
    start: int
    end: int
    kind: str = "session"
    owner_id: int | None = None
    parent: str | None = None
    title: str = ""
    node_count: int = 1
    pinned: bool = False
    wanted_node: str | None = None
    preemptible: bool = False
    image: str | None = None
    server: str = ""
    created_at: int = 0
    waitlist_position: int | None = None
    waiting_reason: str | None = None
    cancelled_at: int | None = None
    starting_at: int | None = None
    started_at: int | None = None
    warned_at: int | None = None
    stopping_at: int | None = None
    stopped_at: int | None = None
    end_reason: str | None = None
    continues: str | None = None
    no_show_grace: int | None = None
    series: str | None = None
    occurrence: int | None = None
    announced_at: int | None = None
    offered_at: int | None = None
    idle_since: int | None = None
    idle_warned_at: int | None = None
    version: int = 1
    allocations: tuple[Allocation, ...] = field(default=())

    @property
    def interval(self) -> Interval:
        """``[start, end)``."""
        return Interval(self.start, self.end)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes it is placed on, sorted; where it moved after its start, those it moved to."""
        last = max((a.end for a in self.allocations), default=0)
        return tuple(sorted({a.node for a in self.allocations if a.end == last}))

    @property
    def is_seat(self) -> bool:
        """Whether it is a seat of a class, which is its ``parent``."""
        return self.kind == "session" and self.parent is not None

    @property
    def server_id(self) -> str:
        """The reservation that its server was, or will be, started under: the first of an unbroken chain."""
        return self.continues or self.id

    def state(self, now: int) -> State:
        """What it is at ``now``. Only facts and the time decide, so that no row can be stuck in between."""
        if self.cancelled_at is not None or self.end_reason is not None or now >= self.end:
            return "ended"
        if self.waiting_reason is not None:
            return "waiting"
        return "active" if now >= self.start else "booked"

    def server_state(self) -> ServerState:
        """What its server is doing, as far as is known."""
        if self.starting_at is None or self.stopped_at is not None:
            return "none"
        if self.stopping_at is not None:
            return "stopping"
        return "starting" if self.started_at is None else "running"

    def stop_at(self, stop_lead: int = DEFAULT_STOP_LEAD) -> int:
        """When the stop of its server begins, so that the units are free *at* the end."""
        return self.end - lead(self.interval, stop_lead)


def lead(interval: Interval, stop_lead: int = DEFAULT_STOP_LEAD) -> int:
    """How long before the end the stop begins: ``stop_lead``, or a tenth of a short booking."""
    return min(stop_lead, interval.length // 10)


def continues(first: Reservation, second: Reservation) -> bool:
    """Whether ``second`` carries on with the server of ``first`` without a restart.

    The same owner, server, profile and units on the same nodes, no other image wished for, not a moment in
    between, and the stop has not begun. A job has no server.
    """
    return (
        "job" not in (first.kind, second.kind)
        and first.owner == second.owner
        and first.server == second.server
        and first.profile == second.profile
        and first.units == second.units
        and second.image in (None, first.image)
        and first.end == second.start
        and bool(first.nodes)
        and first.nodes == second.nodes
        and first.cancelled_at is None
        and first.stopping_at is None
        and second.cancelled_at is None
        and second.end_reason is None
    )


def chain_end(first: Reservation, others: Iterable[Reservation]) -> Reservation:
    """The last booking of the unbroken chain that begins with ``first``."""
    by_start = {
        other.start: other
        for other in others
        if other.id != first.id
        and other.owner == first.owner
        and other.server == first.server
        and other.waiting_reason is None
    }
    last = first
    while (following := by_start.get(last.end)) is not None and continues(last, following):
        last = following
    return last


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of time over which the same number of units is free."""

    start: int
    end: int
    free: int


def peak_use(taken: Iterable[tuple[int, int, int]], window: Interval) -> int:
    """The most units taken at any instant of ``window``; ``taken`` holds ``(start, end, units)``."""
    edges: list[tuple[int, int]] = []
    for start, end, units in taken:
        if start < window.end and end > window.start:
            edges.append((max(start, window.start), units))
            edges.append((end, -units))
    edges.sort()
    peak = level = 0
    for _, change in edges:
        level += change
        peak = max(peak, level)
    return peak


def free_steps(
    capacity: int, taken: Iterable[tuple[int, int, int]], outages: Iterable[Interval], window: Interval
) -> tuple[Step, ...]:
    """How many units are free over ``window``, as adjoining steps; none during an outage, never below zero."""
    edges: dict[int, list[int]] = {window.start: [0, 0], window.end: [0, 0]}

    def change(start: int, end: int, which: int, amount: int) -> None:
        if start < window.end and end > window.start:
            edges.setdefault(max(start, window.start), [0, 0])[which] += amount
            edges.setdefault(min(end, window.end), [0, 0])[which] -= amount

    for start, end, units in taken:
        change(start, end, 0, units)
    for outage in outages:
        change(outage.start, outage.end, 1, 1)

    steps: list[Step] = []
    used = away = 0
    instants = sorted(edges)
    for instant, following in pairwise(instants):
        used += edges[instant][0]
        away += edges[instant][1]
        free = 0 if away else max(0, capacity - used)
        if steps and steps[-1].free == free:
            steps[-1] = Step(steps[-1].start, following, free)
        else:
            steps.append(Step(instant, following, free))
    return tuple(steps)


def first_free(steps: Iterable[Step], units: int, length: int) -> int | None:
    """The earliest start in ``steps`` from which ``units`` stay free for ``length``; None if there is none."""
    start: int | None = None
    for step in steps:
        if step.free < units:
            start = None
            continue
        if start is None:
            start = step.start
        if step.end - start >= length:
            return start
    return None
