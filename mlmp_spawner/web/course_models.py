"""What the API takes and gives of courses, as types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from mlmp_spawner.rules import roster
from mlmp_spawner.rules.course_yaml import LARGEST
from mlmp_spawner.rules.courses import MOST_MEMBERS
from mlmp_spawner.web.models import Duration, Instant, Line, Request

MOST_TOLD = 200
"""Lines of a list that are told as not understood."""

Role = Literal["instructor", "student", "guest"]
Given = Literal["instructor", "student"]
Person = Annotated[Line, Field(min_length=1, max_length=255)]
Domain = Annotated[Line, Field(min_length=1, max_length=255)]


class CourseBody(Request):
    """A course as it is to be."""

    course: dict[str, Any] | Annotated[str, Field(max_length=LARGEST)] = Field(
        description="as an object, or as YAML text; keys: name, title, profile, seats, and others with a default"
    )


class ApplyQuery(Request):
    """Whether to do it, or only to say what would change."""

    dry_run: bool = False


class RosterBody(Request):
    """Whom to put on a roster and whom to take off."""

    text: Annotated[str, Field(max_length=roster.LARGEST)] = Field(
        "", description="pasted names or mail addresses, CSV, an export of Moodle or Canvas"
    )
    add: Annotated[list[Person], Field(max_length=MOST_MEMBERS)] = Field([], description="names of users")
    remove: Annotated[list[Person], Field(max_length=MOST_MEMBERS)] = Field([], description="names of users")
    role: Given | None = Field(
        None, description="of all that are put on it; if left out, new ones are students and others stay what they are"
    )
    whole: Annotated[bool, Field(strict=True)] = Field(
        False, description="students that are in neither `text` nor `add` are taken off"
    )
    domains: Annotated[list[Domain], Field(max_length=100)] | None = Field(
        None, description="of mail addresses whose part before the @ is the user's name; the site's, if left out"
    )


class RosterQuery(Request):
    """In which form."""

    format: Literal["json", "csv"] = "json"


class Files(BaseModel):
    """Where the files of a course come from."""

    git: str | None
    branch: str | None
    directory: str | None


class Course(BaseModel):
    """A course, as the caller sees it."""

    name: str
    title: str
    profile: str
    image: str | None
    units: int = Field(description="of the profile's resource, for each seat")
    seats: int
    nodes: list[str] = Field(description="where seats may be; empty: anywhere")
    setup: Duration
    grace: Duration
    files: Files | None
    data: str | None
    hand_in: bool
    self_study: float | None = Field(description="unit-hours a week outside class")
    guests: int = Field(description="how many there may be")
    guest_jobs: float | None = Field(description="unit-hours that each guest may use in jobs; null: no jobs")
    look_in: bool
    group: str = Field(description="of the hub, with all of its roster")
    role: Role | None = Field(description="what the caller is in it; null: nothing, as an admin may be")
    runs: bool = Field(description="whether the caller may change it")
    members: dict[str, int] | None = Field(description="how many there are of each role; for those who run it")
    yaml: str | None = Field(description="as it can be applied again, without its roster; for those who run it")
    created_at: Instant
    etag: str


class Courses(BaseModel):
    """Those that the caller is in; an admin sees all."""

    items: list[Course]
    next_cursor: str | None = None


class OwnCourse(BaseModel):
    """A course that the caller is in: what it brings into their server."""

    name: str
    title: str
    role: Role
    files: Files | None
    data: str | None = Field(description="a directory of the shared data")
    hand_in: bool = Field(description="whether students have a directory to hand in")


class OwnCourses(BaseModel):
    """Those that the caller is in, nobody else's."""

    items: list[OwnCourse]


class Difference(BaseModel):
    """A key that changes."""

    field: str
    old: Any
    new: Any


class Put(BaseModel):
    """Somebody who is put on a roster, or given another role."""

    name: str
    role: Role
    known: bool = Field(description="whether the hub knows them already")


class NotUnderstood(BaseModel):
    """A line of a list that names nobody."""

    line: int
    text: str
    why: str


class RosterChange(BaseModel):
    """What was done to a roster, or would be."""

    added: list[Put]
    changed: list[Put]
    removed: list[str]
    kept: int
    not_understood: list[NotUnderstood] = Field(description="the first of them")
    not_understood_count: int
    dry_run: bool


class Applied(BaseModel):
    """What was done, or would be."""

    created: bool
    changes: list[Difference]
    roster: RosterChange
    dry_run: bool
    course: Course


class Member(BaseModel):
    """Somebody on a roster."""

    name: str
    role: Role
    added_at: Instant
    known: bool = Field(description="whether the hub knows them; until then they can have no server")
    agreed: bool = Field(description="whether they agreed to be looked into")


class Roster(BaseModel):
    """Who is in a course, in the order in which they were put on its roster."""

    items: list[Member]
    next_cursor: str | None = None
