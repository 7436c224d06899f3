"""What the API takes and gives of classes, as types."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mlmp_spawner.operations.courses.running import LONGEST_MESSAGE
from mlmp_spawner.rules.class_servers import What
from mlmp_spawner.rules.class_tiles import Status
from mlmp_spawner.rules.courses import MOST_SEATS
from mlmp_spawner.web.models import DurationIn, Instant, InstantIn, Line, Recurrence, Request

Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class ClassBody(Request):
    """What to book for a class, or for all those of a term."""

    start: InstantIn = Field(description="when the (first) class begins; servers are started before")
    end: InstantIn | None = None
    duration: DurationIn | None = Field(None, description="instead of an end")
    seats: Annotated[int, Field(strict=True, ge=1, le=MOST_SEATS)] | None = Field(
        None, description="the course's number, if left out"
    )
    recurrence: Recurrence | None = Field(None, description="again and again: all dates or none")
    holidays: Annotated[list[Day], Field(max_length=400)] = Field(
        [], description="days that are left out where the recurrence gives them"
    )
    zone: Annotated[Line, Field(min_length=1, max_length=64)] = Field(
        "UTC", description="by whose days another time is looked for; that of the recurrence, where there is one"
    )


class ClassQuery(Request):
    """Whether to do it, or only to say whether it fits."""

    dry_run: bool = False


class ClassesQuery(Request):
    """Of which time."""

    start: InstantIn | None = Field(None, description="those that end after it; now, if left out")
    end: InstantIn | None = Field(None, description="those that begin before it")
    format: Literal["json", "csv"] = "json"


class ClassExtendBody(Request):
    """How much longer."""

    duration: DurationIn


class ClassMessageBody(Request):
    """What everybody in it is told."""

    text: Annotated[Line, Field(min_length=1, max_length=LONGEST_MESSAGE)]


class ClassServersBody(Request):
    """Which servers, and what with them."""

    what: What = Field(description="`start` leaves alone what runs")
    people: Annotated[list[Annotated[Line, Field(max_length=255)]], Field(max_length=MOST_SEATS)] | None = Field(
        None, description="whose; of everybody with a seat, if left out"
    )


class WhichQuery(Request):
    """Which classes of a series."""

    which: Literal["this", "following", "all"] = Field("this", description="only those that have not begun")


class Place(BaseModel):
    """Seats on a node."""

    node: str
    seats: int


class Seat(BaseModel):
    """Somebody's seat. ``problem``: why its server is not up after it was tried to start it, or takes so long."""

    reservation: str
    name: str
    node: str
    state: str
    server_state: str
    status: Status = Field(description="`in`: somebody is in its server; `ready`: it runs, and nobody came yet")
    end_reason: str | None
    seen_at: Instant | None = Field(description="when somebody was last seen in its server")
    problem: str


class Class(BaseModel):
    """A class. ``seats``: how many were booked; ``nodes``: those that it has now."""

    id: str
    course: str
    opens: Instant = Field(description="from when servers are started")
    start: Instant
    end: Instant
    state: str
    series: str | None
    seats: int
    nodes: list[Place]
    opened_at: Instant | None
    settled_at: Instant | None = Field(description="when seats that nobody used were given back")
    given: int | None = Field(description="how many seats people got; for those who run the course")
    used: int | None = Field(description="in how many of them a server ran and was used")
    unit_hours: float = Field(description="that it took, or will take")
    mine: Seat | None = Field(description="the caller's own seat")
    problems: list[str] = Field(description="what would keep it from beginning in time")


class Classes(BaseModel):
    """Classes, by start."""

    items: list[Class]


class ClassSeats(Class):
    """A class with its seats, for those who run the course; for others with their own."""

    people: list[Seat]


class Date(BaseModel):
    """One date of what was booked, or would be."""

    start: Instant
    end: Instant
    nodes: list[Place]


class ClassBooked(BaseModel):
    """What was booked, or would be; ``id`` is that of the first class."""

    dry_run: bool
    id: str | None
    series: str | None
    seats: int
    dates: list[Date]


class ClassExtended(BaseModel):
    """Until when the class goes on, and whose seats do."""

    end: Instant
    people: list[str]


class ClassTold(BaseModel):
    """Whom it is about."""

    people: list[str]


class ClassesCancelled(BaseModel):
    """What was given back."""

    cancelled: list[str]
