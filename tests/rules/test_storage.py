"""From a user name, which may hold anything, to one directory of its own."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlmp_spawner.rules.storage import directory_name

SAFE = re.compile(r"[a-z0-9][a-z0-9._-]*")
HOSTILE = [
    "../x",
    "Ünï code@x.org",
    "a" * 300,
    "",
    "\0",
    ".",
    "..",
    "/etc/passwd",
    "a\nb",
    "-rf",
    "\udcff",
    "~",
    "a---b",
]


@pytest.mark.parametrize("name", ["ann", "ann.lee", "a", "0", "ann-1_2.x", "a" * 60, "a--b"])
def test_a_plain_name_is_its_own_directory(name: str) -> None:
    assert directory_name(name) == name


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("../x", "x"),
        ("Ünï code@x.org", "uni-code-x-org"),
        ("a" * 300, "a" * 40),
        ("Ann", "ann"),
        ("", "user"),
        ("日本", "user"),
    ],
)
def test_any_other_name_keeps_what_can_be_read_of_it(name: str, slug: str) -> None:
    assert re.fullmatch(re.escape(slug) + "---[0-9a-f]{16}", directory_name(name))


def test_a_directory_stays_the_same_for_ever() -> None:
    assert directory_name("Ünï code@x.org") == "uni-code-x-org---49096ef12f234105"


@given(st.text() | st.sampled_from(HOSTILE) | st.text("./\\\0 -aA", max_size=8) | st.text(min_size=50, max_size=70))
@settings(max_examples=500, deadline=None)
def test_a_directory_is_one_safe_path_component(name: str) -> None:
    found = directory_name(name)
    assert SAFE.fullmatch(found)
    assert len(found) <= 60


ALIKE = st.sampled_from(HOSTILE) | st.text("aAäÄ-.@ /é", max_size=6)


@given(ALIKE, ALIKE)
@example("Ann", "ann")
@example("a b", "a/b")
@example("é", "e\u0301")
@example("a" * 300, "a" * 301)
@settings(max_examples=500, deadline=None)
def test_no_two_names_share_a_directory(one: str, other: str) -> None:
    assert (directory_name(one) == directory_name(other)) is (one == other)


@given(st.text(max_size=20))
@settings(deadline=None)
def test_nobody_can_take_the_name_of_anothers_directory(name: str) -> None:
    found = directory_name(name)
    assert found == name or directory_name(found) != found
