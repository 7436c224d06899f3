"""Courses as people write them: every mistake is named at once, and what is written is read to the same."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmp_spawner.errors import Invalid
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.rules.catalog import Accelerator, Catalog, Image, Node, Profile
from mlmp_spawner.rules.courses import Course, CourseEntry, Files, misfits, person
from mlmp_spawner.units import HOUR, MINUTE

GPU = "nvidia.com/gpu"
PLAIN: dict[str, Any] = {"name": "ml", "title": "Deep Learning", "profile": "gpu", "seats": 20}


def mistakes(source: Any) -> list[tuple[int | None, str, str]]:
    """What is wrong with a course: line, field, message."""
    with pytest.raises(Invalid) as refused:
        course_yaml.parse(source)
    return [(one.get("line"), one["field"], one["message"]) for one in refused.value.data["errors"]]


def test_a_course_in_yaml_says_what_it_wants_and_the_rest_is_as_usual() -> None:
    text = """\
name: ml-26
title: "Deep Learning, autumn"
profile: gpu
seats: 20
setup: 5m
files: {git: "https://github.com/org/ml", branch: main}
students: [Ann, bob@uni.org]
"""
    found = course_yaml.parse(text)
    assert (found.setup, found.grace, found.units, found.nodes) == (5 * MINUTE, 15 * MINUTE, None, ())
    assert found.files == Files(git="https://github.com/org/ml", branch="main")
    assert (found.students, found.instructors) == (("ann", "bob@uni.org"), None)
    assert found.entry == CourseEntry(**{key: getattr(found, key) for key in CourseEntry.model_fields})


def test_every_mistake_is_named_with_its_line() -> None:
    text = "name: ML_\ntitel: x\nseats: 0\nsetup: 7h\nfiles: {}\nnodes: [a b]\nstudents:\n - ann\n - guest-1\n - Ann\n"
    found = mistakes(text)
    assert [(line, field) for line, field, _ in found] == [
        (1, "course"), (1, "course"), (1, "name"), (2, "titel"), (3, "seats"), (4, "setup"), (5, "files"),
        (6, "nodes.0"), (9, "students.1"), (10, "students.2"),
    ]  # fmt: skip
    assert "did you mean 'title'" in found[3][2]
    assert found[-1][2] == "'ann' is in students already"


@pytest.mark.parametrize(
    "url",
    [
        "http://github.com/a/b", "git@github.com:a/b", "https://user:secret@github.com/a/b", "https://github.com",
        "https://[/x", "https://h/a b", "https://h:99999999/a", "file:///etc", "https://h/a?b=c", "https://h/ä",
        "https:///x", "--upload-pack=x", "https://h/" + "a" * 500,
    ],
)  # fmt: skip
def test_only_a_repository_that_anybody_may_clone_is_one(url: str) -> None:
    assert [field for _, field, _ in mistakes({**PLAIN, "files": {"git": url}})] == ["files.git"]


@pytest.mark.parametrize("branch", ["-x", "a..b", "a b", "", "x/", "a//b", "x.lock", "a;b", "ä", "a\nb"])
def test_a_branch_is_a_branch(branch: str) -> None:
    assert mistakes({**PLAIN, "files": {"git": "https://h/a", "branch": branch}})[0][1] == "files.branch"


@pytest.mark.parametrize(
    "path", ["/etc", "../x", "a/../b", "", "a//b", ".ssh", "a/.x", "~x", "-x", "a\\b", "a\nb", " a"]
)
def test_data_is_below_that_which_is_shared(path: str) -> None:
    assert mistakes({**PLAIN, "data": path})[0][1] == "data"
    assert mistakes({**PLAIN, "files": {"directory": path}})[0][1] == "files.directory"


@pytest.mark.parametrize("name", ["ann", "Ann", " ann ", "a.b+c@uni.org", "_x", "zoë", "x-1"])
def test_names_of_users(name: str) -> None:
    assert person(name) == name.strip().lower()


@pytest.mark.parametrize(
    "name", ["", "-ann", "a b", "a/b", "a\\b", "a@b@c", "@", "guest-1", "a\u202eb", "x" * 256, "a:b"]
)
def test_what_no_user_is_called(name: str) -> None:
    with pytest.raises(ValueError):
        person(name)


ENTRIES = st.builds(
    Course,
    name=st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?\Z"),
    title=st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=100),
    profile=st.just("gpu"),
    image=st.none() | st.just("lab"),
    units=st.none() | st.integers(1, 8),
    seats=st.integers(1, 2000),
    nodes=st.lists(st.sampled_from(["n1", "n2"]), unique=True).map(tuple),
    setup=st.integers(0, 6 * HOUR),
    grace=st.integers(0, 24 * HOUR),
    files=st.none()
    | st.just(Files(directory="courses/ml"))
    | st.just(Files(git="https://h/a.git", branch="b"))
    | st.just(Files(git="https://h/a.git")),
    data=st.none() | st.just("sets/mnist"),
    hand_in=st.booleans(),
    self_study=st.none() | st.floats(0.25, 100),
    guests=st.integers(0, 1000),
    look_in=st.booleans(),
)


@settings(deadline=None)
@given(ENTRIES)
def test_what_is_written_is_read_to_the_same(course: Course) -> None:
    read = course_yaml.parse(course_yaml.as_yaml(course))
    assert Course(name=read.name, **dict(read.entry)) == course
    assert course_yaml.differences(course, read.entry) == []


@settings(deadline=None)
@given(ENTRIES, ENTRIES)
def test_the_differences_are_what_leads_from_one_to_the_other(before: Course, after: Course) -> None:
    found = course_yaml.as_written(before)
    for field, old, new in course_yaml.differences(before, after):
        assert found.get(field) == old != new
        found = {**found, field: new}
    assert {key: value for key, value in found.items() if value is not None} == course_yaml.as_written(after)


KEYS = st.sampled_from([*course_yaml.CourseFile.model_fields, "x"])
PLAIN_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@settings(deadline=None)
@given(st.recursive(PLAIN_VALUES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)))
def test_nonsense_is_refused_as_such(nonsense: Any) -> None:
    with suppress(Invalid):
        course_yaml.parse(nonsense)


def test_a_course_must_fit_the_catalog_and_who_makes_it() -> None:
    big = Node(name="big", accelerators=(Accelerator(resource=GPU, count=4),))
    small = Node(name="small", accelerators=(Accelerator(resource=GPU, count=1),))
    gpu = Profile(name="gpu", resource=GPU, max_units=4, images=("lab",))
    secret = Profile(name="secret", resource=GPU, groups=("staff",))
    images = {name: Image(name=name, reference=name) for name in ("lab", "other")}
    catalog = Catalog(nodes={"big": big, "small": small}, images=images, profiles={"gpu": gpu, "secret": secret})

    def wrong(groups: tuple[str, ...] = (), **changed: Any) -> list[str]:
        entry = CourseEntry.model_validate({"title": "T", "profile": "gpu", "seats": 5, **changed})
        return [".".join(str(part) for part in one.path) for one in misfits(entry, catalog, groups)]

    assert wrong() == wrong(units=4, nodes=("big",), image="lab") == wrong(("staff",), profile="secret") == []
    assert wrong(profile="none") == wrong(profile="secret") == ["profile"]
    assert wrong(image="other", units=5, nodes=("big", "big", "none")) == [
        "image",
        "units",
        "nodes.0",
        "nodes.1",
        "nodes.2",
    ]
    assert wrong(units=2, nodes=("small", "big")) == ["nodes.0"]
    assert wrong(look_in=True) == ["look_in"]
