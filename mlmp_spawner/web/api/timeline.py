"""The timeline: everything that a calendar of all nodes draws, in one call."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import date, tzinfo
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mlmp_spawner.errors import Invalid
from mlmp_spawner.operations import timeline as operation
from mlmp_spawner.operations.requests import usable_profile
from mlmp_spawner.operations.timeline import Bar as Drawn
from mlmp_spawner.rules import days
from mlmp_spawner.rules.catalog import Profile
from mlmp_spawner.rules.reservations import Interval, Step
from mlmp_spawner.units import DAY
from mlmp_spawner.web import models
from mlmp_spawner.web.api.common import groups_of, window_of
from mlmp_spawner.web.auth import Caller
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.models import Instant, InstantIn, Line, Name, Request
from mlmp_spawner.web.routes import Answer, Call, Route
from mlmp_spawner.web.times import find_zone, said

_LINES = ((2 * DAY, 1), (4 * DAY, 3), (8 * DAY, 6))
"""Up to which length of a window every how many hours there is a line; beyond, only days."""

DAY_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"


class TimelineQuery(Request):
    """Which window: from ``start`` to ``end``, or ``days`` days from ``date`` on; today, if nothing is said."""

    start: InstantIn | None = None
    end: InstantIn | None = None
    date: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")] | None = Field(
        None, description="a day in the zone"
    )
    days: Annotated[int, Field(ge=1, le=31)] = 1
    profile: Name | None = Field(None, description="only what this profile fits on")
    model: Name | None = Field(None, description="only units of this model")
    zone: Annotated[Line, Field(max_length=60)] | None = Field(None, description="IANA name; the site's, if left out")
    nodes: Annotated[Line, Field(max_length=20_000)] | None = Field(
        None, description="groups and bars of these nodes only, separated by commas; the totals count all"
    )


class Tick(BaseModel):
    """A line of the calendar, where a day or an hour begins, with what it is called in the zone."""

    at: Instant
    kind: Literal["day", "hour"]
    label: str


class Away(BaseModel):
    """A node is away: maintenance, drain."""

    id: str
    start: Instant
    end: Instant
    reason: str


class Group(BaseModel):
    """Units of one resource on one node. ``rows``: in how many rows its bars are drawn, as many as its capacity, or
    more where capacity was lost under bookings."""

    node: str
    resource: str
    model: str
    simulated: bool
    capacity: int
    rows: int
    outages: list[Away]


class Bar(BaseModel):
    """A booking on one node, and the rows (from 0) that it is drawn in; the row says nothing of the physical unit."""

    key: str = Field(description="the same as long as it is the same booking on the same node")
    id: str = Field(description="of the booking")
    node: str | None = Field(description="null while it waits")
    resource: str
    profile: str
    units: int
    rows: list[int]
    start: Instant
    end: Instant
    owner: str | None = Field(description="null where the hub does not show it")
    mine: bool
    kind: str
    preemptible: bool = Field(description="a job that makes way for bookings: its units count as free")
    state: models.State
    title: str | None = Field(description="of one's own only")
    pinned: bool
    stopping: bool = Field(description="its server is being stopped: its end is final")
    etag: str | None = Field(description="for If-Match; of one's own only")


class Timeline(BaseModel):
    """A window of the calendar of all nodes that the caller may use."""

    start: Instant
    end: Instant
    now: Instant
    zone: str
    date: str
    ticks: list[Tick]
    groups: list[Group]
    bars: list[Bar]
    waiting: list[Bar] = Field(description="one's own bookings that wait for a place")
    capacity: int
    totals: list[models.Step] = Field(
        description="how many of all units shown are free, those of preemptible jobs among them"
    )
    summary: str


async def get_timeline(call: Call) -> Answer:
    """The timeline of a window."""
    query: TimelineQuery = call.query
    context = call.handler.context
    zone = zone_of(query.zone, context)
    window = _window(query, zone, call.handler.now)
    body = await drawn(
        context, call.handler.me, window, zone, now=call.handler.now, groups=groups_of(call), profile=query.profile,
        model=query.model, nodes=None if query.nodes is None else set(query.nodes.split(",")),
    )  # fmt: skip
    # Not the time of the answer, only what it says: so that "not modified" can be answered.
    digest = hashlib.sha256(body.model_dump_json(exclude={"now"}).encode()).hexdigest()[:20]
    return Answer(body, etag=f'"{digest}"')


def zone_of(name: str | None, context: Context) -> tzinfo:
    """The zone that is asked for, else the site's.

    :raises Invalid: there is no such zone.
    """
    if name is None:
        return find_zone(context.settings.zone) or _known("UTC")
    return _known(name)


def _known(name: str) -> tzinfo:
    found = find_zone(name)
    if found is None:
        raise Invalid.field("zone", f"{name!r} is not a zone; write its IANA name, such as Europe/Zurich")
    return found


def _window(query: TimelineQuery, zone: tzinfo, now: int) -> Interval:
    if query.start is not None and query.end is not None:
        if query.date is not None:
            raise Invalid.field("date", "give a start and an end, or a date")
        return window_of(query.start, query.end)
    if query.start is not None or query.end is not None:
        raise Invalid.field("end", "give both the start and the end, or a date")
    return days.window(day_from(query.date, zone, now), query.days, zone)


def day_from(text: str | None, zone: tzinfo, now: int) -> date:
    """A day as it is written in addresses; today for none.

    :raises Invalid: there is no such day, or it is centuries away.
    """
    if text is None:
        return days.day_of(now, zone)
    try:
        found = date.fromisoformat(text)
    except ValueError as error:
        raise Invalid.field("date", "write a day as 2026-11-24") from error
    if not 2000 <= found.year < 2199:
        raise Invalid.field("date", "the year must be between 2000 and 2198")
    return found


async def drawn(
    context: Context,
    caller: Caller,
    window: Interval,
    zone: tzinfo,
    *,
    now: int,
    groups: frozenset[str],
    profile: str | None = None,
    model: str | None = None,
    nodes: Collection[str] | None = None,
) -> Timeline:
    """The timeline as ``caller`` may see it.

    :raises Invalid: no such profile, or a window that is too wide.
    """
    site = context.site
    profiles: list[Profile] = (
        site.catalog.profiles_for(groups) if profile is None else [usable_profile(site, profile, groups)]
    )
    found = await context.run(
        operation.timeline, site, window, viewer=caller.name, profiles=profiles, model=model, only=nodes
    )
    every = next((hours for length, hours in _LINES if window.length <= length), 24)
    return Timeline(
        start=window.start,
        end=window.end,
        now=now,
        zone=str(zone),
        date=days.day_of(window.start, zone).isoformat(),
        ticks=[Tick(at=t.at, kind=t.kind, label=t.label) for t in days.ticks(window, zone, every=every)],
        groups=[
            Group(
                node=one.node, resource=one.resource, model=one.model, simulated=one.simulated, capacity=one.capacity,
                rows=one.rows, outages=[Away(id=o.id, start=o.start, end=o.end, reason=o.reason) for o in one.outages],
            )
            for one in found.groups
        ],
        bars=[_bar(one, caller, context.settings.show_owners, now) for one in found.bars],
        waiting=[_bar(one, caller, context.settings.show_owners, now) for one in found.waiting],
        capacity=found.capacity,
        totals=[models.Step(start=step.start, end=step.end, free=step.free) for step in found.totals],
        summary=in_a_line(found, now=now, zone=zone),
    )  # fmt: skip


def _bar(one: Drawn, caller: Caller, show_owners: bool, now: int) -> Bar:
    booking = one.booking
    mine = booking.owner == caller.name
    # What was checked when it was written; to check thousands again would take longer than to read them.
    return Bar.model_construct(
        key=one.key,
        id=booking.id,
        node=one.node,
        resource=booking.resource,
        profile=booking.profile,
        units=one.units,
        rows=list(one.rows),
        start=one.start,
        end=one.end,
        owner=booking.owner if mine or caller.is_admin or show_owners else None,
        mine=mine,
        kind=booking.kind,
        preemptible=booking.preemptible,
        state=booking.state(now),
        title=booking.title if mine or booking.kind == "class" else None,
        pinned=booking.pinned,
        stopping=booking.server_state() == "stopping",
        etag=f'"{booking.version}"' if mine else None,
    )


def in_a_line(found: operation.Timeline, *, now: int, zone: tzinfo) -> str:
    """What is free; of several resources each alone, since a free core is no free GPU."""
    if len(found.kinds) < 2:
        return summary(found.totals, found.capacity, now=now, zone=zone)
    return " · ".join(f"{kind.name}: {summary(kind.steps, kind.capacity, now=now, zone=zone)}" for kind in found.kinds)


def summary(totals: Collection[Step], capacity: int, *, now: int, zone: tzinfo) -> str:
    """What is free, in a line: "5 of 16 free now, 11 from 18:00"; of a window that is not now, the range."""
    steps = list(totals)
    current = next((at for at, step in enumerate(steps) if step.start <= now < step.end), None)
    if current is None:
        least, most = min((step.free for step in steps), default=0), max((step.free for step in steps), default=0)
        return f"{least} of {capacity} free" if least == most else f"{least} to {most} of {capacity} free"
    text = f"{steps[current].free} of {capacity} free now"
    if current + 1 < len(steps):
        following = steps[current + 1]
        text += f", {following.free} from {said(following.start, 'clock', now=now, zone=zone)}"
    return text


_IF_NONE = {"If-None-Match": "the etag that you have; 304 if it is still that"}

TABLE: tuple[Route, ...] = (
    Route(
        "GET", "timeline", "timeline", "a window of the calendar of all nodes, ready to be drawn", "access",
        get_timeline, query=TimelineQuery, answer=Timeline, headers=_IF_NONE, statuses={304: "not modified"},
    ),
)  # fmt: skip
