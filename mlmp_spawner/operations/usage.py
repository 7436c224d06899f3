"""What was booked, and what of it was used: by user, group, node or profile, and day by day.

Everything is counted in unit-ms of what lies in the past. *Booked* is what the allocations took, to the millisecond.
*Used* and *idle* are what was seen of running servers, in steps that count from their beginning; the rest of what was
booked was *not started*. What *jobs* had is counted apart.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta, tzinfo
from itertools import accumulate, pairwise
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, case, func, select

from mlmp_spawner.errors import Invalid
from mlmp_spawner.machine import SLOT
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import days
from mlmp_spawner.rules.reservations import LONGEST, Interval
from mlmp_spawner.store.tables import allocation, capacity, job_attempt, outage, reservation, use
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY, MINUTE

By = Literal["user", "group", "node", "profile"]

LONGEST_WINDOW = 400 * DAY
NO_GROUP = ""
"""Who is in no group."""

INDEXED = 60 * DAY
"""Up to which length of a window the index of ranges is quicker than the table, where the bookings are needed too."""

_PARENT = reservation.alias("parent")
_whose = case((_PARENT.c.kind == "class", _PARENT.c.owner), else_=reservation.c.owner)
"""Whose the use of a server is: that of a seat is its course's, which booked it."""

_SLOT = 15 * MINUTE  # days begin at multiples of it, wherever one is


@dataclass(frozen=True, slots=True)
class Spent:
    """Unit-ms: ``booked``, ``used`` (a server did something), ``idle`` (it ran and did nothing); apart from these
    ``jobs``, which jobs had of the unbooked time."""

    booked: int = 0
    used: int = 0
    idle: int = 0
    jobs: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.booked + other.booked, self.used + other.used, self.idle + other.idle, self.jobs + other.jobs
        )

    @property
    def taken(self) -> int:
        """Booked, or used by jobs."""
        return self.booked + self.jobs

    @property
    def not_started(self) -> int:
        """Booked, and no server ran."""
        return max(0, self.booked - self.used - self.idle)


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the viewer's calendar, cut to the window."""

    start: int
    end: int
    spent: Spent


@dataclass(frozen=True, slots=True)
class Usage:
    """``rows``: name and what it spent, the most first. ``capacity``: unit-ms that there were, without outages and by
    the units of today. ``window`` ends now at the latest; None where all of it is still to come."""

    window: Interval | None
    resources: tuple[str, ...]
    rows: list[tuple[str, Spent]] = field(default_factory=list)
    total: Spent = Spent()
    house: Spent = Spent()
    capacity: int = 0
    days: list[Day] = field(default_factory=list)


def usage(
    site: Site,
    window: Interval,
    *,
    by: By,
    zone: tzinfo,
    now: int,
    owner: str | None = None,
    groups: Mapping[str, Collection[str]] | None = None,
    resource: str | None = None,
) -> Usage:
    """What was spent in ``window``.

    :param owner: only that user's. :param groups: of each user, for ``by="group"``. :param resource: None for all but
        CPU slots, which are not to be added up with GPUs.
    :raises Invalid: the window is too long, or there is no such resource.
    """
    if window.length > LONGEST_WINDOW:
        raise Invalid.field("to", f"at most {LONGEST_WINDOW // DAY} days at once")
    resources = chosen(site, resource)
    if window.start >= now or not resources:
        return Usage(None, resources)
    window = Interval(window.start, min(window.end, now))
    with read(site.engine) as connection:
        what = _What(connection, window, resources, owner)
        column = {"node": None, "profile": reservation.c.profile}.get(by, reservation.c.owner)
        found = what.by_node() if by == "node" else what.by(column)
        per_day = what.by_day(zone)
        units = _capacity(connection, window, resources)
        house = _sum(found.values()) if owner is None else _What(connection, window, resources, None).whole()
    rows = _grouped(found, groups or {}) if by == "group" else found
    ordered = sorted(rows.items(), key=lambda item: (-item[1].taken, item[0]))
    return Usage(window, resources, ordered, _sum(found.values()), house, units, per_day)


def chosen(site: Site, resource: str | None) -> tuple[str, ...]:
    """The resources to count.

    :raises Invalid: nothing of that name can be booked.
    """
    known = tuple(dict.fromkeys(a.resource for node in site.catalog.nodes.values() for a in node.accelerators))
    if resource is None:
        return tuple(name for name in known if name != SLOT) or known
    if resource not in known:
        raise Invalid.field("resource", f"there is no {resource[:60]!r} here; there is {', '.join(known)}")
    return (resource,)


def share_of_last(site: Site, ids: Sequence[str], *, now: int, span: int) -> dict[str, float]:
    """How much of the last ``span`` ms (as far as it was watched) the units of each booking were busy, 0 to 1."""
    rule = (use.c.reservation.in_(ids), use.c.at >= now - span)
    query = select(use.c.reservation, func.sum(use.c.busy).label("busy"), func.sum(use.c.watched).label("watched"))
    with read(site.engine) as connection:
        rows = connection.execute(query.where(*rule).group_by(use.c.reservation)).all()
    return {row.reservation: int(row.busy) / int(row.watched) for row in rows if row.watched}


class _What:
    """The queries over one window."""

    def __init__(
        self, connection: Connection, window: Interval, resources: tuple[str, ...], owner: str | None
    ) -> None:
        self.connection, self.window, self.owner = connection, window, owner
        a = allocation.c
        self._taken = [
            a.root.is_(None), a.resource.in_(resources),
            a.start > window.start - LONGEST, a.start < window.end, a.end > window.start,
        ]  # fmt: skip
        self._seen = [
            use.c.at >= window.start, use.c.at < window.end, reservation.c.resource.in_(resources),
        ]  # fmt: skip
        nodes = connection.execute(select(capacity.c.node).distinct()).scalars().all()
        self._by_index = a.node.in_(nodes)  # all of them: for the index of ranges, which begins with the node
        self.start = case((a.start < window.start, window.start), else_=a.start) - window.start
        self.end = case((a.end > window.end, window.end), else_=a.end) - window.start
        length = a.units * (self.end - self.start)
        self.spent = (func.sum(length), func.sum(_of_jobs(length)))

    def by(self, column: Any) -> dict[str, Spent]:
        """By a column of the booking."""
        taken = self._allocations(column, *self.spent, join=True).group_by(column)
        whose = _whose if column is reservation.c.owner else column
        seen = self._uses(whose).group_by(whose)
        return self._joined(taken, seen)

    def by_node(self) -> dict[str, Spent]:
        """By node."""
        taken = self._allocations(allocation.c.node, *self.spent).group_by(allocation.c.node)
        return self._joined(taken, self._uses(use.c.node).group_by(use.c.node))

    def whole(self) -> Spent:
        """All of it."""
        return _sum(self.by_node().values())

    def by_day(self, zone: tzinfo) -> list[Day]:
        """Day by day: a booking counts in each day with its part of it."""
        edges = _edges(self.window, zone)
        begun, over = self._amounts(self.start, edges), self._amounts(self.end, edges)
        # Those that began before an edge give (edge - start), those that ended take (edge - end).
        totals, jobs = ([a - b for a, b in zip(*pair, strict=True)] for pair in zip(begun, over, strict=True))
        slot = (use.c.at - use.c.at % _SLOT).label("slot")
        seen = [Spent()] * (len(edges) - 1)
        for row in self.connection.execute(self._uses(slot).group_by(slot)):
            at = min(max(bisect_right(edges, row[0]) - 1, 0), len(seen) - 1)
            seen[at] = seen[at] + Spent(0, int(row.busy), int(row.watched) - int(row.busy))
        return [
            Day(start, end, _apart(totals[n + 1] - totals[n], jobs[n + 1] - jobs[n]) + seen[n])
            for n, (start, end) in enumerate(pairwise(edges))
        ]

    def _amounts(self, instant: ColumnElement[int], edges: list[int]) -> tuple[list[int], list[int]]:
        """For each edge the sum of units x (edge - instant) over the allocations whose instant is before it; and of
        jobs' alone."""
        first = self.window.start % _SLOT
        slot = (instant + first - (instant + first) % _SLOT).label("slot")  # from the slot that the window begins in
        units = allocation.c.units
        sums = [func.sum(what) for what in (units, units * instant, _of_jobs(units), _of_jobs(units * instant))]
        inside = [edge - self.window.start for edge in edges[1:]]
        found = [[0] * len(inside) for _ in sums]
        for row in self.connection.execute(self._allocations(slot, *sums).group_by(slot)):
            at = bisect_right(inside, row[0] - first)
            if at < len(inside):
                for column, amount in zip(found, row[1:], strict=True):
                    column[at] += int(amount)
        counts, moments, of_jobs, moments_of_jobs = (accumulate(column) for column in found)
        return _over(inside, counts, moments), _over(inside, of_jobs, moments_of_jobs)

    def _allocations(self, *columns: Any, join: bool = False) -> Select[Any]:
        query = select(*columns).select_from(allocation).where(*self._taken)
        if join or self.owner is not None:
            query = query.join(reservation, allocation.c.reservation == reservation.c.id)
        if self.owner is not None:
            return query.where(self._mine())
        # With the booking beside each, to go through all of the table is quicker from some length on.
        return query.where(self._by_index) if not join or self.window.length < INDEXED else query

    def _uses(self, column: Any) -> Select[Any]:
        sums = (func.sum(use.c.busy).label("busy"), func.sum(use.c.watched).label("watched"))
        joined = use.join(reservation, use.c.reservation == reservation.c.id)
        joined = joined.outerjoin(_PARENT, _PARENT.c.id == reservation.c.parent)
        query = select(column, *sums).select_from(joined).where(*self._seen)
        return query if self.owner is None else query.where(self._mine(), _whose == self.owner)

    def _mine(self) -> ColumnElement[bool]:
        mine = (reservation.c.owner == self.owner) & reservation.c.owner_id.is_not(None)
        return mine & (reservation.c.end > self.window.start)

    def _joined(self, taken: Select[Any], seen: Select[Any]) -> dict[str, Spent]:
        found = {row[0]: _apart(int(row[1]), int(row[2])) for row in self.connection.execute(taken)}
        for row in self.connection.execute(seen):
            used = Spent(0, int(row.busy), int(row.watched) - int(row.busy))
            found[row[0]] = found.get(row[0], Spent()) + used
        return found


def _of_jobs(amount: ColumnElement[int]) -> ColumnElement[int]:
    """What is summed of an allocation, where a job had it."""
    return case((allocation.c.reservation.in_(select(job_attempt.c.reservation)), amount), else_=0)


def _over(edges: Iterable[int], counts: Iterable[int], moments: Iterable[int]) -> list[int]:
    return [0, *(count * edge - moment for edge, count, moment in zip(edges, counts, moments, strict=True))]


def _apart(taken: int, jobs: int) -> Spent:
    return Spent(booked=taken - jobs, jobs=jobs)


def _edges(window: Interval, zone: tzinfo) -> list[int]:
    """The window's start, the beginnings of its days, its end."""
    edges, day = [window.start], days.day_of(window.start, zone) + timedelta(days=1)
    while (at := days.beginning(day, zone)) < window.end:
        if at > edges[-1]:
            edges.append(at)
        day += timedelta(days=1)
    return [*edges, window.end]


def _grouped(users: Mapping[str, Spent], groups: Mapping[str, Collection[str]]) -> dict[str, Spent]:
    """By group: who is in several counts in each."""
    found: dict[str, Spent] = {}
    for name, spent in users.items():
        for group in sorted(groups.get(name, ())) or [_course_group(name)]:
            found[group] = found.get(group, Spent()) + spent
    return found


def _course_group(name: str) -> str:
    """What who is in no group of the hub counts under: a course under its own."""
    return name.replace("course:", "course-", 1) if name.startswith("course:") else NO_GROUP


def _capacity(connection: Connection, window: Interval, resources: tuple[str, ...]) -> int:
    """Unit-ms that there were; of outages that overlap, each instant is away once."""
    units = select(capacity.c.node, func.sum(capacity.c.units).label("units")).group_by(capacity.c.node)
    here = {r.node: int(r.units) for r in connection.execute(units.where(capacity.c.resource.in_(resources)))}
    o = outage.c
    query = select(o.node, o.start, o.end).where(o.start < window.end, o.end > window.start).order_by(o.node, o.start)
    total = sum(here.values()) * window.length
    until: dict[str, int] = {}
    for row in connection.execute(query):
        start = max(row.start, window.start, until.get(row.node, 0))
        end = min(row.end, window.end)
        if end > start:
            total -= here.get(row.node, 0) * (end - start)
            until[row.node] = end
    return total


def _sum(spent: Iterable[Spent]) -> Spent:
    return sum(spent, Spent())
