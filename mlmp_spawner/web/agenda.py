"""The timeline as a list: day by day, node by node, what is free and who has the rest. Whole without a script."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta, tzinfo

from mlmp_spawner.operations.timeline import Bar, Group, Timeline
from mlmp_spawner.rules import days
from mlmp_spawner.rules.catalog import Catalog, Profile
from mlmp_spawner.rules.reservations import Interval, Outage, Step, first_free
from mlmp_spawner.units import MINUTE

MOST = 300
"""How many bookings one list names; a page of thousands helps nobody."""

WORTH = 30 * MINUTE
"""What is free for a shorter time is not offered."""


@dataclass(frozen=True, slots=True)
class NodeDay:
    """One node on one day: how many units are free (now, where that is today), at least and at most, its bookings,
    when one could be had first (ms UTC; None: not on this day)."""

    group: Group
    free_now: int | None
    least: int
    most: int
    bars: tuple[Bar, ...]
    outages: tuple[Outage, ...]
    profile: Profile | None
    free_from: int | None


@dataclass(frozen=True, slots=True)
class Day:
    """One day, from ``start`` to ``end`` in ms UTC."""

    start: int
    end: int
    nodes: tuple[NodeDay, ...]


@dataclass(slots=True)
class Agenda:
    """``left_out``: how many bookings were too many to be named."""

    days: list[Day] = field(default_factory=list)
    left_out: int = 0


def agenda(
    found: Timeline, catalog: Catalog, profiles: list[Profile], window: Interval, *, zone: tzinfo, now: int
) -> Agenda:
    """The days of a window that are not over, with what is on each node."""
    made, named = Agenda(), 0
    first = days.day_of(window.start, zone)
    fitting = {(node.name, p.resource): p for p in reversed(profiles) for node in catalog.nodes_for(p)}
    bars: dict[tuple[str, str], list[Bar]] = {}
    for bar in found.bars:
        bars.setdefault((bar.node or "", bar.booking.resource), []).append(bar)
    count = 0
    while (start := days.beginning(first + timedelta(days=count), zone)) < window.end:
        end = min(days.beginning(first + timedelta(days=count + 1), zone), window.end)
        count += 1
        if end <= now or end <= start:
            continue
        nodes = []
        for group in found.groups:
            its = [b for b in bars.get((group.node, group.resource), []) if b.end > max(start, now) and b.start < end]
            shown = its[: max(0, MOST - named)]
            named += len(shown)
            made.left_out += len(its) - len(shown)
            nodes.append(_node(group, shown, Interval(start, end), fitting.get((group.node, group.resource)), now))
        made.days.append(Day(start, end, tuple(nodes)))
    return made


def _node(group: Group, bars: list[Bar], day: Interval, profile: Profile | None, now: int) -> NodeDay:
    begin = max(day.start, now)
    steps = [
        Step(max(step.start, begin), min(step.end, day.end), step.free)
        for step in group.steps
        if step.start < day.end and step.end > begin
    ]
    return NodeDay(
        group=group,
        free_now=steps[0].free if steps and day.start <= now else None,
        least=min((step.free for step in steps), default=0),
        most=max((step.free for step in steps), default=0),
        bars=tuple(bars),
        outages=tuple(one for one in group.outages if one.start < day.end and one.end > begin),
        profile=profile,
        free_from=first_free(steps, profile.units, max(WORTH, profile.min_duration)) if profile else None,
    )
