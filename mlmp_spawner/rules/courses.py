"""Courses: what is taught on which units, and who is in it.

What somebody writes of a course is an *entry* (``CourseEntry``, as YAML :mod:`~mlmp_spawner.rules.course_yaml`); the
program works with a ``Course``. Lengths are ms, instants ms UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from mlmp_spawner.rules.catalog import Catalog, fits
from mlmp_spawner.rules.guests import is_guest
from mlmp_spawner.rules.mistakes import Mistake
from mlmp_spawner.rules.values import Duration, Model, Name, NodeName, Text, choices, quoted
from mlmp_spawner.units import DAY, HOUR, MINUTE

Role = Literal["instructor", "student", "guest"]
ROLES: tuple[Role, ...] = ("instructor", "student", "guest")

MOST_SEATS = 2000
MOST_MEMBERS = 5000
MOST_GUESTS = 1000
LONGEST_SETUP = 6 * HOUR
LONGEST_GRACE = DAY

_SLUG = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
_PERSON = re.compile(r"\w[\w.+-]*(@[\w.-]+)?")
_LONGEST_NAME = 255
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}")
_LONGEST_URL = 500
_LONGEST_PATH = 500


def _slug(value: str) -> str:
    if not re.fullmatch(_SLUG, value):
        raise ValueError(f"{quoted(value)} is no name of a course: 1 to 40 small letters, digits and '-', such as "
                         "'deep-learning-26'")  # fmt: skip
    return value


def _git(value: str) -> str:
    """Only what anybody may clone over https: no password of anybody belongs into a course."""
    wrong = f"{quoted(value)} is no address of a git repository such as 'https://github.com/org/course'"
    if len(value) > _LONGEST_URL or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(wrong)
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(wrong) from None
    if parts.scheme != "https" or not host or not parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(wrong)
    if "@" in parts.netloc:
        raise ValueError("the address must have no user name or password: everybody in the course would see it")
    return value


def _branch(value: str) -> str:
    if not _BRANCH.fullmatch(value) or ".." in value or "//" in value or value.endswith(("/", ".", ".lock")):
        raise ValueError(f"{quoted(value)} is no branch, such as 'main' or '2026/autumn'")
    return value


def _below(value: str) -> str:
    """A directory below that of shared data; no part of it begins with a dot."""
    parts = value.split("/")
    plain = len(value) <= _LONGEST_PATH and value.isprintable() and "\\" not in value
    if not plain or any(not part or part.strip() != part or part[0] in ".~-" for part in parts):
        raise ValueError(f"{quoted(value)} is no directory of the shared data: relative, such as 'courses/ml', and no "
                         "part of it beginning with '.', '~' or '-'")  # fmt: skip
    return value


def _setup(value: int) -> int:
    if value > LONGEST_SETUP:
        raise ValueError(f"must be at most {LONGEST_SETUP // HOUR}h")
    return value


def _grace(value: int) -> int:
    if value > LONGEST_GRACE:
        raise ValueError(f"must be at most {LONGEST_GRACE // HOUR}h")
    return value


CourseName = Annotated[str, AfterValidator(_slug), WithJsonSchema({"type": "string", "pattern": _SLUG})]
GitUrl = Annotated[
    str, AfterValidator(_git), WithJsonSchema({"type": "string", "pattern": "^https://", "maxLength": _LONGEST_URL})
]
Branch = Annotated[str, AfterValidator(_branch), WithJsonSchema({"type": "string", "maxLength": 200})]
SharedPath = Annotated[
    str, AfterValidator(_below), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": _LONGEST_PATH})
]
Number = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]


class Files(Model):
    """Where the files of a course come from: exactly one of ``git`` and ``directory``."""

    git: GitUrl | None = None
    """A git repository that anybody may clone, by https."""
    branch: Branch | None = None
    """Its branch. Left out: what the repository has as its default."""
    directory: SharedPath | None = None
    """A directory of the shared data."""

    @model_validator(mode="after")
    def _one(self) -> Files:
        if (self.git is None) == (self.directory is None):
            raise ValueError("exactly one of git, directory")
        if self.branch and not self.git:
            raise ValueError("a branch is one of a git repository")
        return self


class CourseEntry(Model):
    """A course, as written under its name."""

    title: Text
    """What people see: 'Deep Learning, autumn 2026'."""
    profile: Name
    """What each seat is: a profile of the catalog."""
    image: Name | None = None
    """One of the profile's images. Left out: its first."""
    units: Number | None = None
    """Units of the profile's resource for each seat. Left out: the profile's own number."""
    seats: Annotated[int, Field(strict=True, ge=1, le=MOST_SEATS)]
    """How many seats a class has, unless it is booked with another number."""
    nodes: tuple[NodeName, ...] = ()
    """The nodes that seats may be on. Left out: any."""
    setup: Annotated[Duration, AfterValidator(_setup)] = 10 * MINUTE
    """How long before a class begins its servers are started; it is booked too."""
    grace: Annotated[Duration, AfterValidator(_grace)] = 15 * MINUTE
    """How long after a class began the seats that nobody uses are given back."""
    files: Files | None = None
    """What everybody in the course gets."""
    data: SharedPath | None = None
    """A directory of the shared data, which everybody in the course may read."""
    hand_in: bool = Field(default=False, strict=True)
    """Whether each student has a directory to hand in."""
    self_study: Annotated[float, Field(strict=True, gt=0, le=10_000, allow_inf_nan=False)] | None = None
    """Unit-hours a week that each student has outside class. Left out: what they have without the course."""
    guests: Annotated[int, Field(strict=True, ge=0, le=MOST_GUESTS)] = 0
    """How many guests there may be at most."""
    guest_jobs: Annotated[float, Field(strict=True, gt=0, le=10_000, allow_inf_nan=False)] | None = None
    """Unit-hours that each guest may use in jobs in all. Left out: guests run no jobs."""
    look_in: bool = Field(default=False, strict=True)
    """Whether instructors may look into the server of a student who agreed."""


class Course(CourseEntry):
    """A course. ``version`` rises with each change of it or of its roster."""

    name: CourseName
    created_at: int = 0
    version: int = 1

    @property
    def group(self) -> str:
        """The group of the hub that everybody in it is in."""
        return f"course-{self.name}"

    @property
    def owner(self) -> str:
        """Whose the bookings of its classes are: no user has a ':' in the name."""
        return f"course:{self.name}"

    def units_of(self, catalog: Catalog) -> int:
        """Units of each seat: its own number, else the profile's; 1 where the profile is gone."""
        profile = catalog.profiles.get(self.profile)
        return self.units or (profile.units if profile else 1)


ENTRY_FIELDS = tuple(CourseEntry.model_fields)


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody on a roster, who need not have logged in yet. ``agreed_at``: since when instructors may look in."""

    course: str
    name: str
    role: Role
    added_at: int
    agreed_at: int | None = None


def person(text: str) -> str:
    """The name of a user as the hub has it: without spaces around, in small letters.

    :raises ValueError: it can't be one, or only a guest's.
    """
    name = text.strip().lower()
    if len(name) > _LONGEST_NAME or not _PERSON.fullmatch(name):
        raise ValueError(f"{quoted(text)} can't be a user: a letter or digit, then such and '._+-', or a mail address")
    if is_guest(name):
        raise ValueError(f"{quoted(text)} would be a guest; those come by invitation")
    return name


def misfits(entry: CourseEntry, catalog: Catalog, groups: Iterable[str]) -> Iterator[Mistake]:
    """Everything in which a course does not fit the catalog. :param groups: of who makes it."""
    if entry.look_in:
        yield Mistake(("look_in",), "nobody can look into students' servers; leave it out")
    usable = {profile.name for profile in catalog.profiles_for(groups)}
    profile = catalog.profiles.get(entry.profile)
    if profile is None or profile.name not in usable:
        yield Mistake(
            ("profile",), f"{quoted(entry.profile)} is none that you may use; {choices(entry.profile, usable)}"
        )
        return
    if entry.image is not None and entry.image not in profile.images:
        said = choices(entry.image, profile.images)
        yield Mistake(("image",), f"{quoted(entry.image)} is none of profile {quoted(profile.name)}; {said}")
    if entry.units is not None and entry.units > profile.max_units:
        yield Mistake(("units",), f"{entry.units} are more than one may have of it; at most {profile.max_units}")
    for number, name in enumerate(entry.nodes):
        node = catalog.nodes.get(name)
        if node is None:
            yield Mistake(("nodes", number), f"{quoted(name)} is unknown; {choices(name, catalog.nodes)}")
        elif name in entry.nodes[:number]:
            yield Mistake(("nodes", number), f"{quoted(name)} is there twice")
        elif not fits(profile, node) or node.units(profile.resource) < (entry.units or profile.units):
            yield Mistake(
                ("nodes", number), f"{quoted(name)} has no room for a seat of profile {quoted(profile.name)}"
            )
