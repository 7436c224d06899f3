"""Rosters are read from what people have, nothing in them is trusted, and a change says first what it does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmp_spawner.errors import Conflict, Invalid
from mlmp_spawner.rules import roster
from mlmp_spawner.rules.courses import MOST_MEMBERS, ROLES, Member
from mlmp_spawner.rules.roster import Change


def people(text: str, *domains: str) -> list[str]:
    """Who is in a list of which every line is understood."""
    found = roster.read(text, domains)
    assert not found.not_understood
    return list(found.people)


def wrong(text: str, *domains: str) -> list[tuple[int, str]]:
    """Which lines name nobody, and why."""
    return [(one.line, one.why) for one in roster.read(text, domains).not_understood]


@pytest.mark.parametrize(
    "text",
    ["ann\nbob\n", "ann, bob", "Ann;BOB\r\n", "\ufeffann\tbob", "\n\nann\n  bob  \n,,", "ann bob".replace(" ", "\n")],
)
def test_names_may_be_pasted_as_they_are(text: str) -> None:
    assert people(text) == ["ann", "bob"]


def test_mail_addresses_are_found_between_what_people_are_called() -> None:
    pasted = 'Ann Smith <ann@uni.org>, "Jones, Bob" <Bob.Jones@uni.org>;\nmailto:cy@uni.org (Cy)'
    assert people(pasted) == ["ann@uni.org", "bob.jones@uni.org", "cy@uni.org"]


def test_a_login_beside_an_address_is_not_passed_over() -> None:
    found = roster.read("ann@uni.org, ben\nAnn Smith ann@uni.org")
    assert list(found.people) == ["ann@uni.org"]
    assert [(one.line, one.text, one.why) for one in found.not_understood] == [
        (1, "ben", "is beside a mail address; logins go on other lines")
    ]


def test_only_addresses_of_the_own_domains_are_cut_to_the_login() -> None:
    assert people("ann@uni.org bob@elsewhere.org", "uni.org") == ["ann", "bob@elsewhere.org"]


def test_two_people_never_become_one() -> None:
    text = "ann@uni.org\nann@cs.uni.org\nann@uni.org"
    assert wrong(text, "uni.org", "@CS.uni.org") == [(2, "would be 'ann', as 'ann@uni.org' is")]


def test_nobody_is_a_student_and_an_instructor() -> None:
    text = "name,role\nann,instructor\nbob,\nann,student\nann,instructor\nbob,student\n"
    assert wrong(text) == [(4, "is on the list as instructor already")]
    assert roster.read(text).people == {"ann": "instructor", "bob": "student"}


def test_what_is_said_of_a_line_steers_no_terminal_and_no_page() -> None:
    assert all(why.isprintable() for _, why in wrong("ann\u202eben\nben\x1b[31m"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("Ann Smith", "is what somebody is called; write the login or the mail address"),
        ("guest-7", "'guest-7' would be a guest; those come by invitation"),
        ("a/b", "'a/b' can't be a user"),
        ("a@b@c", "'a@b@c' can't be a user"),
        ("@", "'@' can't be a user"),
        ("x" * 300, "can't be a user"),
        ("y" * 20_001, "is longer than 20000 characters"),
        ("=cmd()", "'=cmd()' can't be a user"),
    ],
)
def test_a_line_that_names_nobody_is_named_with_the_reason(line: str, why: str) -> None:
    found = roster.read(f"ann\n{line}\nbob")
    assert list(found.people) == ["ann", "bob"]
    assert [one.line for one in found.not_understood] == [2]
    assert why in found.not_understood[0].why


MOODLE = """First name,"Last name","ID number","Email address","Last downloaded from this course"
Ann,Smith,123,ann@uni.org,17
"Bob","de la Cruz, B.",,bob@uni.org,17
Cy,Young,,,17
"""
MOODLE_USERS = "username;firstname;lastname;email\nann;Ann;Smith;ann@gmail.com\n;Bob;Jones;bob@uni.org\n"
CANVAS = """Student,ID,SIS User ID,SIS Login ID,Section,Homework 1 (12)
,,,,,Manual Posting
    Points Possible,,,,,10
"Smith, Ann",8,s8,ann@uni.org,A,9.5
"Jones, Bob",9,s9,bob,A,
"Student, Test",,,,,
"""


def test_an_export_of_moodle_is_understood() -> None:
    found = roster.read(MOODLE, ["uni.org"])
    assert list(found.people) == ["ann", "bob"]
    assert [(one.line, one.text, one.why) for one in found.not_understood] == [
        (4, "Cy, Young, 17", "has neither a login nor a mail address")
    ]
    assert people(MOODLE_USERS) == ["ann", "bob@uni.org"]


def test_an_export_of_canvas_is_understood() -> None:
    assert people(CANVAS, "uni.org") == ["ann", "bob"]


def test_a_table_of_our_own_says_roles() -> None:
    found = roster.read("name,role\nann,instructor\nbob,student\ncy,\ndan,dean\n")
    assert found.people == {"ann": "instructor", "bob": "student", "cy": None}
    assert wrong("name,role\ndan,dean") == [(2, "has the role 'dean'; valid: student, instructor")]


def test_a_quote_that_does_not_end_is_said_with_its_line() -> None:
    found = roster.read('name,role\nann,student\n"bob,student\ncy,student')
    assert list(found.people) == ["ann"]
    assert [(one.line, one.why) for one in found.not_understood] == [
        (3, "is no CSV from here on: unexpected end of data")
    ]


@pytest.mark.parametrize("text", ["x" * (roster.LARGEST + 1), "\n" * (roster.MOST_LINES + 1)])
def test_a_list_has_an_end(text: str) -> None:
    with pytest.raises(Invalid, match="at most"):
        roster.read(text)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec=None) | st.sampled_from("\n\n,;@\"'<> \tabc\x00\ud800name"), max_size=300))
def test_whatever_is_in_a_list_every_line_is_understood_or_named(text: str) -> None:
    found = roster.read(text, ["uni.org"])
    lines = len(text.splitlines())
    assert all(1 <= one.line <= lines and one.text.isprintable() for one in found.not_understood)
    assert all(name == name.lower() and "\n" not in name and len(name) <= 255 for name in found.people)
    again = roster.read("\n".join(found.people))
    assert list(again.people) == list(found.people) or roster._delimiter(next(iter(found.people))) is not None


# -- what a change does ---------------------------------------------------------------------------------------------


def members(**roles: str) -> list[Member]:
    """The roster of a course."""
    return [Member("ml", name, role, 0) for name, role in roles.items()]  # type: ignore[arg-type]


NOW = members(ada="instructor", bob="student", cy="student", **{"guest-1": "guest"})


def test_who_is_imported_is_a_student_unless_they_are_something_already() -> None:
    done = roster.plan(NOW, Change({"ada": None, "bob": None, "dan": None}))
    assert (dict(done.added), dict(done.changed), done.removed, done.kept) == ({"dan": "student"}, {}, (), 4)


def test_a_whole_list_takes_off_who_is_not_in_it_but_no_instructor_and_no_guest() -> None:
    done = roster.plan(NOW, Change({"bob": None}, only=frozenset({"student"})))
    assert done.removed == ("cy",)


def test_a_role_that_is_said_is_taken() -> None:
    done = roster.plan(NOW, Change({"bob": "instructor", "ada": "student"}))
    assert done.changed == {"bob": "instructor", "ada": "student"}


def test_somebody_always_runs_the_course() -> None:
    nobody = (Change(remove=frozenset({"ada"})), Change({"ada": "student"}), Change(only=frozenset({"instructor"})))
    for change in nobody:
        with pytest.raises(Conflict, match="Nobody would run"):
            roster.plan(NOW, change)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (Change(remove=frozenset({"zoe"})), "'zoe' is not on the roster"),
        (Change({"bob": None}, remove=frozenset({"bob"})), "'bob' is to be put on the roster, too"),
        (Change(remove=frozenset({"guest-1"})), "'guest-1' is a guest"),
    ],
)
def test_what_makes_no_sense_changes_nothing(change: Change, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        roster.plan(NOW, change)


def test_a_roster_has_an_end() -> None:
    with pytest.raises(Conflict, match="at most"):
        roster.plan(NOW, Change({f"s{number}": None for number in range(MOST_MEMBERS)}))


NAMES = st.sampled_from(["ada", "bob", "cy", "dan", "eve"])
ROLE = st.sampled_from(ROLES[:2])


@settings(deadline=None)
@given(
    st.dictionaries(NAMES, ROLE),
    st.dictionaries(NAMES, st.none() | ROLE),
    st.frozensets(NAMES),
    st.frozensets(ROLE),
)  # fmt: skip
def test_a_change_done_twice_does_nothing_the_second_time(
    before: dict[str, str], put: dict[str, str | None], remove: frozenset[str], only: frozenset[str]
) -> None:
    change = Change(put, remove, only)  # type: ignore[arg-type]
    try:
        done = roster.plan(members(**before), change)
    except (Conflict, Invalid):
        return
    after = {name: role for name, role in {**before, **done.changed, **done.added}.items() if name not in done.removed}
    assert "instructor" in after.values() and set(put) <= set(after) and not remove & set(after)
    assert done.kept == sum(1 for name, role in before.items() if after.get(name) == role)
    assert roster.plan(members(**after), Change(put, frozenset(), only)).nothing  # type: ignore[arg-type]
