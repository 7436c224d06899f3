"""From a user name, which may hold anything, to one directory of its own."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlmp_spawner.errors import ConfigurationError, NotAllowed
from mlmp_spawner.rules.storage import directory_name, folder_of, number_of, parse

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


# -- on a cluster ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"claims": "homes"}, "claims"),
        ({"claim": "Homes!"}, "claim"),
        ({"claim": "homes", "home": "home"}, "home"),
        ({"shared": {"claim": "data", "path": "../homes"}}, "shared.path"),
        ({"shared": {"claim": "data", "path": "/homes"}}, "shared.path"),
        ({"scratch": {"size": "much"}}, "scratch.size"),
        ({"claim": "homes", "folders": {"namespace": "a", "claim": "b", "image": "c", "by": "me"}}, "folders.by"),
    ],
)
def test_storage_that_makes_no_sense_is_refused_by_the_name_of_what_is_wrong(
    given: dict[str, object], where: str
) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        parse(given)
    assert any(f"c.MLMPKubeSpawner.storage: {where}" in problem for problem in wrong.value.problems)


@pytest.mark.parametrize("said", [1234, "1234", " 1234 ", ["1234"], [1234]])
def test_a_number_of_the_login_is_read_as_the_login_writes_it(said: object) -> None:
    assert number_of({"user": {"uid": said}}, "user.uid", user="ann") == 1234


@pytest.mark.parametrize(
    "said", [None, 0, "0", -1, "-1", "1e3", "", "root", True, 1.5, [], [1, 2], 65534, 1 << 32, "١٢", {"uid": 1}]
)
def test_no_server_runs_as_root_or_as_nobody_or_as_what_is_no_number(said: object) -> None:
    with pytest.raises(NotAllowed, match="uid"):
        number_of({"user": {"uid": said}}, "user.uid", user="ann")


@pytest.mark.parametrize("about", [None, {}, {"user": None}, {"user": "x"}])
def test_what_the_login_does_not_say_is_told(about: dict[str, object] | None) -> None:
    with pytest.raises(NotAllowed, match="no number for user"):
        number_of(about, "user.uid", user="ann")


def test_a_user_who_is_called_as_the_folder_of_shared_data_has_another() -> None:
    known = parse({"claim": "homes", "shared": {"claim": "homes", "path": "shared/sets"}})
    assert re.fullmatch("shared---[0-9a-f]{16}", folder_of(known, "shared"))
    assert folder_of(known, "sets") == "sets"
    elsewhere = parse({"claim": "homes", "shared": {"claim": "data", "path": "shared"}})
    assert folder_of(elsewhere, "shared") == folder_of(parse({"claim": "homes"}), "shared") == "shared"


def test_the_homes_of_all_are_not_shown_to_everybody() -> None:
    with pytest.raises(ConfigurationError, match="homes is the claim of all homes"):
        parse({"claim": "homes", "shared": {"claim": "homes"}})
