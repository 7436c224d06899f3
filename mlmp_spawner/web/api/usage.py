"""What was booked and used, and what goes on just now."""

from __future__ import annotations

from datetime import tzinfo
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mlmp_spawner.operations import usage as operation
from mlmp_spawner.operations.usage import By
from mlmp_spawner.operations.usage import Spent as Amount
from mlmp_spawner.operations.usage import Usage as Found
from mlmp_spawner.rules import days
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.units import DAY, HOUR
from mlmp_spawner.web.api.common import window_of
from mlmp_spawner.web.api.timeline import zone_of
from mlmp_spawner.web.auth import Caller
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.csv_text import MEDIA_TYPE, asked_for, csv_text
from mlmp_spawner.web.models import Instant, InstantIn, Line, Name, Request
from mlmp_spawner.web.routes import Answer, Call, Route

DEFAULT_WINDOW = 7 * DAY


class UsageQuery(Request):
    """Of which time, in which rows."""

    begin: InstantIn | None = Field(None, alias="from", description="seven days before the end, if left out")
    to: InstantIn | None = Field(None, description="now, if left out; nothing after now is counted")
    by: By = "user"
    zone: Annotated[Line, Field(max_length=60)] | None = Field(
        None, description="IANA name, for the days; the site's, if left out"
    )
    resource: Name | None = Field(None, description="units of this only; all but CPU slots, if left out")
    format: Literal["json", "csv"] | None = Field(None, description="instead of the header Accept")


class Spent(BaseModel):
    """Unit-hours."""

    booked: float
    used: float = Field(description="a server did something on them")
    idle: float = Field(description="a server ran and did nothing on them")
    not_started: float = Field(description="booked, and no server ran")
    jobs: float = Field(description="jobs ran on them, in time that nobody booked; not counted in `booked`")


class UsageRow(Spent):
    """Of one user, group, node or profile."""

    name: str | None = Field(description="null: those who are in no group")


class UsageDay(Spent):
    """Of one day in the zone, cut to the window."""

    date: str
    start: Instant
    end: Instant


class Usage(BaseModel):
    """What was booked and used of ``resources``, the most first."""

    start: Instant
    end: Instant = Field(description="now at the latest")
    zone: str
    by: By
    resources: list[str]
    mine: bool = Field(description="it is the caller's own use alone; admins see everybody's")
    items: list[UsageRow]
    next_cursor: str | None = None
    total: Spent
    house: Spent | None = Field(description="everybody's together; null where the hub does not show it")
    capacity: float | None = Field(description="unit-hours that there were to book; null as `house`")
    utilisation: float | None = Field(
        description="booked by everybody or used by jobs, as a part of the capacity; null as `house`"
    )
    days: list[UsageDay]


class UnitNow(BaseModel):
    """A unit, as the last look saw it."""

    unit: str
    node: str
    resource: str
    model: str
    simulated: bool
    utilisation: float | None = Field(description="per cent; null where the driver does not tell it")
    memory: int | None = Field(description="bytes in use; null where the driver does not tell it")
    reservation: str | None
    owner: str | None


class BookingNow(BaseModel):
    """A booking whose server runs."""

    reservation: str
    owner: str
    units: int
    busy: int = Field(description="how many of its units did something")
    by_gpu: bool = Field(description="judged by the GPU; else by the server's CPU time")
    cores: float | None = Field(description="CPU time, in cores; null at the first look")
    memory: int = Field(description="bytes, at the most")
    idle_since: Instant | None


class IntruderNow(BaseModel):
    """A process on units that belong to nobody's booking, or to somebody else's."""

    pid: int
    user: str = Field(description="of the system")
    owner: str | None = Field(description="of the server that it is part of, if it is part of one")
    command: str
    units: list[str]
    since: Instant
    stopping_at: Instant | None
    problem: str = Field(description="why it could not be stopped; else empty")


class Activity(BaseModel):
    """What the last look saw."""

    at: Instant | None = Field(description="null: nobody has looked yet")
    units: list[UnitNow]
    bookings: list[BookingNow]
    intruders: list[IntruderNow]
    stops_intruders: bool
    sees_processes: bool = Field(description="whether the driver tells which processes are on the GPUs")


async def get_usage(call: Call) -> Answer:
    """What was spent in a window."""
    query: UsageQuery = call.query
    handler = call.handler
    zone = zone_of(query.zone, handler.context)
    end = handler.now if query.to is None else query.to
    window = window_of(end - DEFAULT_WINDOW if query.begin is None else query.begin, end)
    found = await spent(
        handler.context, handler.me, window, by=query.by, zone=zone, now=handler.now, resource=query.resource
    )
    body = _body(found, window, query.by, zone, handler.me, handler.context)
    vary = {"Vary": "Accept"}
    if (query.format or asked_for(handler.request.headers.get("Accept", ""))) == "json":
        return Answer(body, headers=vary)
    parts = ("booked", "used", "idle", "not_started", "jobs")
    rows = [[row.name or "(no group)", *(getattr(row, part) for part in parts)] for row in body.items]
    text = csv_text([query.by, *(f"{part}_hours" for part in parts)], rows)
    first, last = (days.day_of(at, zone) for at in (window.start, window.end - 1))
    name = {"Content-Disposition": f'attachment; filename="usage-by-{query.by}-{first}-{last}.csv"'}
    return Answer(None, text=text, media_type=f"{MEDIA_TYPE}; charset=utf-8; header=present", headers=vary | name)


async def spent(
    context: Context, caller: Caller, window: Interval, *, by: By, zone: tzinfo, now: int, resource: str | None = None
) -> Found:
    """What was spent, as far as the caller may see it: an admin everybody's, others their own.

    :raises Invalid: the window, the zone or the resource. :raises Unavailable: the hub does not tell the groups.
    """
    groups: dict[str, frozenset[str]] = {caller.name: caller.groups}
    if by == "group" and caller.is_admin:
        groups = await context.hub.groups()
    owner = None if caller.is_admin else caller.name
    found: Found = await context.run(
        operation.usage, context.site, window, by=by, zone=zone, now=now, owner=owner, groups=groups, resource=resource
    )
    return found


def _hours(amount: Amount) -> dict[str, float]:
    parts = ("booked", "used", "idle", "not_started", "jobs")
    return {name: round(getattr(amount, name) / HOUR, 3) for name in parts}


def _body(found: Found, asked: Interval, by: By, zone: tzinfo, caller: Caller, context: Context) -> Usage:
    window = found.window or Interval(asked.start, asked.start + 1)
    shows = caller.is_admin or context.settings.show_owners
    return Usage(
        start=window.start,
        end=window.end if found.window else asked.start,
        zone=str(zone),
        by=by,
        resources=list(found.resources),
        mine=not caller.is_admin,
        items=[UsageRow(name=name or None, **_hours(amount)) for name, amount in found.rows],
        total=Spent(**_hours(found.total)),
        house=Spent(**_hours(found.house)) if shows else None,
        capacity=round(found.capacity / HOUR, 3) if shows else None,
        utilisation=round(found.house.taken / found.capacity, 4) if shows and found.capacity else None,
        days=[
            UsageDay(date=days.day_of(day.start, zone).isoformat(), start=day.start, end=day.end, **_hours(day.spent))
            for day in found.days
        ],
    )


async def get_activity(call: Call) -> Answer:
    """What the last look saw."""
    seen = call.handler.context.activity()
    return Answer(
        Activity(
            at=seen.at,
            units=[
                UnitNow(
                    unit=one.id, node=one.node, resource=one.resource, model=one.model, simulated=one.simulated,
                    utilisation=one.utilisation, memory=one.memory, reservation=one.holder, owner=one.owner,
                )
                for one in seen.units
            ],
            bookings=[
                BookingNow(
                    reservation=one.reservation, owner=one.owner, units=one.units, busy=one.busy, by_gpu=one.by_gpu,
                    cores=one.cores, memory=one.memory, idle_since=one.idle_since,
                )
                for one in seen.bookings
            ],
            intruders=[
                IntruderNow(
                    pid=one.pid, user=one.user, owner=seen.owners.get(one.server_id or ""), command=one.command,
                    units=list(one.units), since=one.since, stopping_at=one.stopping_at, problem=one.problem,
                )
                for one in seen.intruders
            ],
            stops_intruders=seen.stops_intruders,
            sees_processes=seen.sees_processes,
        )
    )  # fmt: skip


TABLE: tuple[Route, ...] = (
    Route(
        "GET", "usage", "usage", "what was booked and used, by user, group, node or profile, and day by day", "access",
        get_usage, query=UsageQuery, answer=Usage, also=(MEDIA_TYPE,),
        headers={"Accept": "text/csv for a table", "If-None-Match": "the etag that you have; 304 if it is still that"},
        statuses={304: "not modified"},
        description="An admin sees everybody's, others their own. What was used counts in steps of five minutes, "
        "of an hour where it is old.",
    ),
    Route(
        "GET", "activity", "activity", "what units, servers and intruders do just now", "admin", get_activity,
        answer=Activity,
    ),
)  # fmt: skip
