"""What the API takes and gives, as types: they check requests, write answers and become the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from mlmp_spawner.units import compact_duration, compact_size, from_iso, parse_duration, parse_size, to_iso

EARLIEST = from_iso("2000-01-01T00:00:00Z")
LATEST = from_iso("2200-01-01T00:00:00Z")
"""Instants beyond these are slips of the finger; dates on either side of them stay computable."""

ID = r"[a-z0-9]{8,30}"
MOST_BYTES = 1 << 60


def _instant(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("write a time as text with an offset, such as 2026-11-21T10:00:00Z")
    instant = from_iso(value)
    if not EARLIEST <= instant <= LATEST:
        raise ValueError("the year must be between 2000 and 2199")
    return instant


def _duration(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("write a duration as text: 90m, 4h, 2d, 30s or 1h30m")
    return parse_duration(value)


def _size(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("write a size as text: 512MiB, 64GiB or 1.5TiB")
    size = parse_size(value)
    if not 0 < size <= MOST_BYTES:
        raise ValueError("the size must be more than nothing and at most 1024 PiB")
    return size


def _line(value: object) -> object:
    if isinstance(value, str) and not value.isprintable():
        raise ValueError("only printable characters in one line")
    return value


_TIME = {"type": "string", "format": "date-time", "examples": ["2026-11-21T10:00:00Z"]}
_LENGTH = {"type": "string", "pattern": r"^\s*(\d.*)$", "examples": ["90m", "4h", "2d", "1h30m"]}
_BYTES = {"type": "string", "pattern": r"^\s*(\d.*)$", "examples": ["512MiB", "64GiB"]}

InstantIn = Annotated[int, BeforeValidator(_instant), WithJsonSchema(_TIME)]
DurationIn = Annotated[int, BeforeValidator(_duration), WithJsonSchema(_LENGTH)]
SizeIn = Annotated[int, BeforeValidator(_size), WithJsonSchema(_BYTES)]
Line = Annotated[str, BeforeValidator(_line)]
Instant = Annotated[int, PlainSerializer(to_iso, return_type=str), WithJsonSchema(_TIME)]
Duration = Annotated[int, PlainSerializer(compact_duration, return_type=str), WithJsonSchema(_LENGTH)]
Size = Annotated[int, PlainSerializer(compact_size, return_type=str), WithJsonSchema(_BYTES)]

Name = Annotated[Line, Field(min_length=1, max_length=255)]
Title = Annotated[Line, Field(max_length=200)]
Units = Annotated[int, Field(strict=True, ge=1, le=100_000)]

State = Literal["waiting", "booked", "active", "ended"]


class Request(BaseModel):
    """A body or a query: unknown members are refused, so that a slip is noticed."""

    model_config = ConfigDict(extra="forbid")


class Recurrence(Request):
    """How often, by the clock of a zone: the same time of day also when the clocks change."""

    rrule: Annotated[Line, Field(min_length=1, max_length=300)] = Field(
        description="RFC 5545 with an end, such as FREQ=WEEKLY;BYDAY=MO;UNTIL=20261218; at most 100 bookings"
    )
    zone: Annotated[Line, Field(min_length=1, max_length=64)] = Field(description="IANA name: Europe/Zurich")
    without: list[Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]] = Field(
        [], alias="except", max_length=400, description="days of the zone that are left out"
    )


class Booking(Request):
    """What to book: a profile, and from when to when, or for how long."""

    profile: Name
    start: InstantIn | None = Field(None, description="from now, if left out")
    end: InstantIn | None = None
    duration: DurationIn | None = Field(None, description="instead of an end; else the profile's default")
    node: Name | None = Field(None, description="any, if left out")
    units: Units | None = Field(None, description="on each node; the profile's, if left out")
    node_count: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 1
    title: Title = ""
    waitlist: Annotated[bool, Field(strict=True)] = Field(False, description="wait for it, if nothing is free")
    server: Annotated[Line, Field(max_length=30)] | None = Field(None, description='of the server; "" is the default')
    image: Name | None = Field(None, description="one of the profile's; the first of them, if left out")
    owner: Name | None = Field(None, description="for whom, if not for oneself (admins)")
    recurrence: Recurrence | None = Field(None, description="again and again: all dates or none")


class Change(Request):
    """What is to change; what is left out stays. ``node``: null means any; ``image``: null means the first."""

    start: InstantIn = Field(default_factory=int)
    end: InstantIn = Field(default_factory=int)
    node: Name | None = Field(default_factory=lambda: None)
    units: Units = Field(default_factory=int)
    title: Title = Field(default_factory=str)
    image: Name | None = Field(default_factory=lambda: None)


class WhichQuery(Request):
    """Of a series: this booking, this and what follows, or all that has not begun."""

    which: Literal["this", "following", "all"] = "this"


class Extension(Request):
    """The new end, or by how much longer."""

    end: InstantIn | None = None
    duration: DurationIn | None = None


class AvailabilityQuery(Request):
    """For what, and when, to look for free units."""

    profile: Name
    start: InstantIn | None = Field(None, description="now, if left out")
    end: InstantIn | None = Field(None, description="a day after the start, if left out")
    node: Name | None = None
    units: Annotated[int, Field(ge=1, le=100_000)] | None = None
    duration: DurationIn | None = Field(None, description="also answer when that much is free first")


class ReservationsQuery(Request):
    """Which bookings to list: those that overlap the window, one's own or everybody's."""

    start: InstantIn | None = None
    end: InstantIn | None = None
    owner: Name | None = None
    state: State | None = None
    kind: Literal["session", "class", "job"] | None = Field(None, description="of all but jobs, if left out")
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(max_length=500)] | None = None


class Place(BaseModel):
    """Units on one node."""

    node: str
    resource: str
    units: int


class Reservation(BaseModel):
    """A booking. Of others' bookings one sees when and where, and the owner where the hub allows it."""

    id: str
    owner: str | None
    kind: str
    parent: str | None
    profile: str
    title: str | None
    start: Instant
    end: Instant
    units: int
    node_count: int
    image: str | None = Field(description="the one that was chosen; null: the profile's first")
    state: State
    waiting_reason: str | None = Field(description="requested or capacity_lost, while it waits")
    server_state: Literal["none", "starting", "running", "stopping"]
    end_reason: str | None
    waitlist_position: int | None = Field(description="its place in the order of the waitlist, 1 is the next")
    allocations: list[Place]
    pinned: bool
    server: str | None = Field(description='name of its server, "" for the default one')
    url: str | None = Field(description="address of its server, while there is one")
    stops_at: Instant | None = Field(description="when its server begins to stop")
    warned_at: Instant | None
    started_at: Instant | None
    stopped_at: Instant | None
    series: str | None = Field(description="of which it is one booking")
    mine: bool
    etag: str = Field(description="for If-Match and If-None-Match")


class GivenBack(Reservation):
    """A booking that was given back, and what else was."""

    cancelled: list[str] = Field(description="the ids of all bookings that were cancelled")
    undo: dict[str, Any] | None = Field(description="what to POST to reservations to have them again")


class Reservations(BaseModel):
    """One page of bookings, by start."""

    items: list[Reservation]
    next_cursor: str | None


class Entry(BaseModel):
    """One line of a booking's history."""

    at: Instant
    actor: str
    action: str
    details: dict[str, Any]


class History(BaseModel):
    """Who did what when, oldest first."""

    items: list[Entry]
    next_cursor: str | None = None


class Accelerator(BaseModel):
    """Bookable units of one resource on a node."""

    resource: str
    model: str
    count: int
    memory_gib: float | None
    simulated: bool


class Node(BaseModel):
    """A machine. ``memory`` in bytes."""

    name: str
    labels: dict[str, str]
    accelerators: list[Accelerator]
    cpus: float | None
    memory: int | None


class Image(BaseModel):
    """What a server can run."""

    name: str
    reference: str
    description: str


class Profile(BaseModel):
    """What can be booked: ``units`` of ``resource``, or as many as ``max_units``."""

    name: str
    title: str
    description: str
    resource: str
    model: str | None
    units: int
    max_units: int
    simulated: bool
    images: list[str]
    nodes: list[str]
    cpus: float | None
    memory: int | None
    ssh: bool
    min_duration: Duration
    default_duration: Duration
    max_duration: Duration


class Catalog(BaseModel):
    """What the caller may use."""

    nodes: list[Node]
    images: list[Image]
    profiles: list[Profile]
    enforced: list[str]
    """What of a booking's share the machine itself keeps to: memory, cpu, processes, devices."""
    not_enforced: dict[str, str]
    """What is kept by agreement alone, each with the reason."""


class Step(BaseModel):
    """A stretch of time over which the same number of units is free."""

    start: Instant
    end: Instant
    free: int = Field(description="units that preemptible jobs use are free: these make way for a booking")


class NodeAvailability(BaseModel):
    """Free units of one node over the window."""

    node: str
    capacity: int
    steps: list[Step]
    first_free: Instant | None = Field(description="when the wished units are free first for the wished duration")


class Availability(BaseModel):
    """Free units over a window, node by node."""

    profile: str
    resource: str
    units: int
    start: Instant
    end: Instant
    duration: Duration | None
    first_free: Instant | None
    nodes: list[NodeAvailability]


class Limits(BaseModel):
    """The rules of sharing that hold for the caller; null: no limit."""

    units_at_once: int | None
    hours_per_week: float | None
    min_duration: Duration | None
    max_duration: Duration | None
    ahead: Duration | None
    open_bookings: int | None
    no_show_grace: Duration | None
    extension: Duration | None
    job_units: int | None
    open_jobs: int | None
    job_logs: Size | None


class Used(BaseModel):
    """What of the limits is used just now."""

    units_at_once: int
    hours_per_week: float
    open_bookings: int


class Me(BaseModel):
    """Who is asking, and what they may."""

    name: str
    kind: str
    groups: list[str]
    scopes: list[str]
    admin: bool
    zone: str
    now: Instant
    limits: Limits
    used: Used


class Health(BaseModel):
    """Whether the service can do its work."""

    status: Literal["ok", "degraded", "down"]
    database: bool
    hub: bool
    cluster: bool | None = Field(description="whether the Kubernetes cluster answers; null: there is none")
    clock_age: float | None = Field(description="seconds since the clock last ticked")
    version: str


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class Alternative(BaseModel):
    """What is possible instead. ``request`` can be posted as it is."""

    kind: Literal["later", "node", "shorter", "smaller", "except"]
    request: dict[str, Any]


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str | None = None
    errors: list[FieldError] | None = None
    alternatives: list[Alternative] | None = None
    limits: list[dict[str, Any]] | None = None
    longest_end: str | None = None
    clashes: list[str] | None = Field(None, description="the days of a series on which it is not possible")
