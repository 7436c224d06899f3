"""A course as somebody writes it, in YAML or a form: read with every mistake named at once, and what it would change.

The roster may stand in it: lists that are there are the whole list; one that is left out changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import AfterValidator, Field, ValidationError

from mlmp_spawner.rules import written
from mlmp_spawner.rules.courses import ENTRY_FIELDS, MOST_MEMBERS, Course, CourseEntry, CourseName, Files, person
from mlmp_spawner.rules.mistakes import Mistake, mistakes
from mlmp_spawner.rules.values import AS_WRITTEN, quoted
from mlmp_spawner.rules.yaml_lines import YamlPath

LARGEST = 512 << 10
"""Bytes of a course, its roster included."""

Person = Annotated[str, AfterValidator(person)]
People = Annotated[tuple[Person, ...], Field(max_length=MOST_MEMBERS)]


class CourseFile(CourseEntry):
    """A course with its name, and who is in it."""

    name: CourseName
    """By which it is known: small letters, digits and '-'. Its group of the hub is course-NAME."""
    instructors: People | None = None
    """Who runs it: names of users. Left out: who is, and at first who makes it."""
    students: People | None = None
    """Who is taught: names of users. Left out: who is."""

    @property
    def entry(self) -> CourseEntry:
        """Without the roster."""
        return CourseEntry.model_validate({name: getattr(self, name) for name in ENTRY_FIELDS})


class Difference(NamedTuple):
    """A key that says something else than before; values as they are written, None: it says nothing."""

    field: str
    old: Any
    new: Any


def parse(source: str | Mapping[str, Any]) -> CourseFile:
    """The course in YAML (or JSON) text, or in what JSON was read to.

    :raises Invalid: with every mistake, each with its line where it came as text.
    """
    data = written.read(source, "course", lambda found: [*_checked(found), *_twice(found)], LARGEST)
    return CourseFile.model_validate(data, context=AS_WRITTEN)


def as_written(entry: CourseEntry) -> dict[str, Any]:
    """What it says under its name, defaults left out, lengths as text."""
    return entry.model_dump(mode="json", include=set(ENTRY_FIELDS), exclude_defaults=True, context=AS_WRITTEN)


def as_yaml(course: Course) -> str:
    """As YAML, which :func:`parse` reads to the same course; without its roster."""
    return yaml.safe_dump({"name": course.name, **as_written(course)}, sort_keys=False, allow_unicode=True, width=110)


def differences(before: CourseEntry | None, after: CourseEntry) -> list[Difference]:
    """Each key that changes, in order."""
    old = {} if before is None else as_written(before)
    new = as_written(after)
    return [Difference(name, old.get(name), new.get(name)) for name in ENTRY_FIELDS if old.get(name) != new.get(name)]


def _checked(data: Mapping[str, Any]) -> Iterator[Mistake]:
    try:
        CourseFile.model_validate(data, context=AS_WRITTEN)
    except ValidationError as error:
        yield from mistakes(error, (), _keys)


def _keys(path: YamlPath) -> Iterable[str]:
    return Files.model_fields if path[:1] == ("files",) else CourseFile.model_fields


def _twice(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """Who stands in both lists, or in one more than once."""
    seen: dict[str, str] = {}
    for role in ("instructors", "students"):
        listed = data.get(role)
        for number, name in enumerate(listed if isinstance(listed, (list, tuple)) else ()):
            plain = name.strip().lower() if isinstance(name, str) else ""
            if plain and plain in seen:
                yield Mistake((role, number), f"{quoted(plain)} is in {seen[plain]} already")
            seen.setdefault(plain, role)
