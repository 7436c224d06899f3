"""The timeline: what is taken on every node over a window, each booking in the rows that it is drawn in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from sqlalchemy import Connection

from mlmp_spawner.errors import Invalid
from mlmp_spawner.operations.availability import WIDEST
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import rows
from mlmp_spawner.rules.catalog import Profile, is_in_cluster
from mlmp_spawner.rules.reservations import Allocation, Interval, Outage, Reservation, Step, free_steps
from mlmp_spawner.store import calendar
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import reservation as table
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY


@dataclass(frozen=True, slots=True)
class Bar:
    """A booking on one node, from ``start`` to ``end`` (ms UTC; not cut to the window), in the rows that it is drawn
    in. A booking that waits has no node and no rows."""

    booking: Reservation
    key: str
    node: str | None
    start: int
    end: int
    units: int
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Units of one resource on one node: ``capacity`` of them, drawn in ``rows`` rows (more where some were lost).
    ``steps``: how many are free when; those of preemptible jobs are."""

    node: str
    resource: str
    model: str
    simulated: bool
    capacity: int
    rows: int
    outages: tuple[Outage, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """All units of one resource that are shown, and how many of them are free when; ``name``: what people call it."""

    name: str
    capacity: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """All of it. ``totals``: how many of all units shown are free when; ``kinds``: the same of each resource."""

    groups: tuple[Group, ...]
    bars: tuple[Bar, ...]
    waiting: tuple[Bar, ...]
    capacity: int
    totals: tuple[Step, ...]
    kinds: tuple[Kind, ...]


def timeline(
    site: Site,
    window: Interval,
    *,
    viewer: str,
    profiles: Collection[Profile],
    model: str | None = None,
    only: Collection[str] | None = None,
) -> Timeline:
    """What there is over a window, in one read.

    :param viewer: whose waiting bookings are shown too.
    :param profiles: what the viewer may use: the nodes and resources that these need are shown.
    :param model: only units of this model.
    :param only: groups and bars of these nodes only; the totals count all.
    :raises Invalid: a window that is too wide.
    """
    if window.length > WIDEST:
        raise Invalid.field("end", f"the window is wider than {WIDEST // DAY} days")
    shown = _shown(site, profiles, model)
    nodes = {node for node, _ in shown}
    with read(site.engine) as connection:
        capacities = calendar.capacities(connection)
        placed = [pair for pair in calendar.placed(connection, nodes, window) if _place(pair[1]) in shown]
        outages = store.outages(connection, window, nodes)
        waiting = _waiting(connection, viewer, window, {profile.name for profile in profiles})
    drawn: dict[tuple[str, str], list[Bar]] = {}
    for bar in _bars(placed):
        drawn.setdefault((bar.node or "", bar.booking.resource), []).append(bar)
    groups: list[Group] = []
    bars: list[Bar] = []
    for place, (label, simulated) in shown.items():
        away = tuple(outage for outage in outages if outage.node == place[0])
        group, its = _group(place, label, simulated, capacities.get(place, 0), drawn.get(place, []), away, window)
        groups.append(group)
        bars += its
    totals = _sum([group.steps for group in groups], window)
    total = sum(group.capacity for group in groups)
    kinds = _kinds(groups, profiles, window)
    if only is not None:
        groups = [group for group in groups if group.node in only]
        bars = [bar for bar in bars if bar.node in only]
    return Timeline(tuple(groups), tuple(bars), tuple(waiting), total, totals, kinds)


def models(site: Site, profiles: Iterable[Profile]) -> list[str]:
    """The models among the units that these profiles need."""
    return sorted({model for model, _ in _shown(site, profiles, None).values() if model})


def _place(row: Allocation) -> tuple[str, str]:
    return row.node, row.resource


def _kinds(groups: Collection[Group], profiles: Iterable[Profile], window: Interval) -> tuple[Kind, ...]:
    """Each resource, in the order of the profiles; by its profile's title, or where several share it by its models."""
    titles: dict[str, list[str]] = {}
    for profile in profiles:
        titles.setdefault(profile.resource, []).append(profile.title)
    found = []
    for resource, said in titles.items():
        its = [group for group in groups if group.resource == resource]
        name = said[0] if len(said) == 1 else ", ".join(sorted({group.model or resource for group in its}))
        if its:
            steps = _sum([group.steps for group in its], window)
            found.append(Kind(name, sum(group.capacity for group in its), steps))
    return tuple(found)


def _shown(site: Site, profiles: Iterable[Profile], model: str | None) -> dict[tuple[str, str], tuple[str, bool]]:
    """``(node, resource): (model, simulated)`` of what these profiles need, like beside like; devices before what is
    only counted, such as cores."""
    found: dict[tuple[str, str], tuple[str, bool]] = {}
    for profile in profiles:
        for node in site.catalog.nodes_for(profile):
            accelerator = node.accelerator(profile.resource)
            if accelerator is not None and model in (None, accelerator.model):
                found[(node.name, profile.resource)] = (accelerator.model, accelerator.simulated)

    def order(place: tuple[str, str]) -> tuple[bool, str, str, str]:
        node, resource = place
        return not is_in_cluster(resource), resource, found[place][0], node

    return {place: found[place] for place in sorted(found, key=order)}


def _waiting(connection: Connection, viewer: str, window: Interval, profiles: Collection[str]) -> list[Bar]:
    mine = store.select_where(
        connection,
        store.owned_by(viewer),
        store.overlapping(window),
        store.not_given_back(),
        table.c.waiting_reason.is_not(None),
    )
    return [Bar(row, row.id, None, row.start, row.end, row.units, ()) for row in mine if row.profile in profiles]


def _bars(placed: Iterable[tuple[Reservation, Allocation]]) -> list[Bar]:
    """One bar for each booking and node; rows of the database that touch are one."""
    found: dict[tuple[str, str, str], list[Bar]] = {}
    for booking, row in placed:
        there = found.setdefault((booking.id, row.node, row.resource), [])
        if there and there[-1].end == row.start and there[-1].units == row.units:
            there[-1] = replace(there[-1], end=row.end)
        else:
            key = ".".join([booking.id, row.node, *([str(len(there))] if there else [])])
            there.append(Bar(booking, key, row.node, row.start, row.end, row.units, ()))
    return [bar for bars in found.values() for bar in bars]


def _group(
    place: tuple[str, str],
    model: str,
    simulated: bool,
    capacity: int,
    bars: list[Bar],
    outages: tuple[Outage, ...],
    window: Interval,
) -> tuple[Group, list[Bar]]:
    placed = [rows.Placed(bar.key, bar.units, Interval(bar.start, bar.end), bar.booking.created_at) for bar in bars]
    assigned: Mapping[str, tuple[int, ...]] = rows.assign(placed, capacity)
    last = max((row for taken in assigned.values() for row in taken), default=-1)
    steps = free_steps(
        capacity,
        ((bar.start, bar.end, bar.units) for bar in bars if not _makes_way(bar.booking)),
        (Interval(outage.start, outage.end) for outage in outages),
        window,
    )
    group = Group(*place, model, simulated, capacity, max(capacity, last + 1), outages, steps)
    return group, [replace(bar, rows=assigned[bar.key]) for bar in bars]


def _makes_way(booking: Reservation) -> bool:
    """Whether its units count as free: a booking takes them when it wants to."""
    return booking.kind == "job" and booking.preemptible


def _sum(parts: Iterable[tuple[Step, ...]], window: Interval) -> tuple[Step, ...]:
    """Steps of several nodes as those of all together."""
    changes: dict[int, int] = {window.start: 0, window.end: 0}
    for steps in parts:
        before = 0
        for step in steps:
            changes[step.start] = changes.get(step.start, 0) + step.free - before
            before = step.free
    found: list[Step] = []
    instants = sorted(changes)
    free = 0
    for at, following in pairwise(instants):
        free += changes[at]
        if found and found[-1].free == free:
            found[-1] = Step(found[-1].start, following, free)
        else:
            found.append(Step(at, following, free))
    return tuple(found)
