"""Courses are made and changed to what is wanted, by those who run them, and removed when nothing hangs on them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import insert, update

from mlmp_spawner.errors import Changed, Conflict, Invalid, MLMPError, NotAllowed, NotFound
from mlmp_spawner.operations import history
from mlmp_spawner.operations.courses import courses, roster
from mlmp_spawner.operations.courses.courses import Applied
from mlmp_spawner.operations.courses.roster import Wish
from mlmp_spawner.operations.history import Entry
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.rules.courses import Member
from mlmp_spawner.store import courses as store
from mlmp_spawner.store.tables import reservation
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import HOUR
from tests.operations.conftest import NOW, admin, ann, ben, eve

PLAIN: dict[str, Any] = {"name": "ml", "title": "Deep Learning", "profile": "gpu", "seats": 4}


def apply(site: Site, by: Actor = ann, *, at: int = NOW, dry_run: bool = False, **said: Any) -> Applied:
    """Makes or changes the course "ml"."""
    options = {name: said.pop(name) for name in ("if_match", "only_new") if name in said}
    wanted = course_yaml.parse({**PLAIN, **said})
    return courses.apply(site, wanted, actor=by, now=at, dry_run=dry_run, **options)


def roles(site: Site, name: str = "ml") -> dict[str, str]:
    """Who is in a course."""
    with read(site.engine) as connection:
        return {member.name: member.role for member in store.members(connection, name)}


def told(site: Site) -> list[Entry]:
    """The history since the site was made."""
    return [entry for entry in history.since(site.engine, 0) if entry.action != "capacity"]


def test_who_makes_a_course_runs_it(site: Site) -> None:
    done = apply(site)
    assert done.created and done.course.version == 1 and done.course.created_at == NOW
    assert roles(site) == {"ann": "instructor"}
    seen = courses.get(site, "ml", actor=ann)
    assert seen.course == done.course and seen.runs and seen.counts == {"instructor": 1}


def test_the_same_again_changes_nothing(site: Site) -> None:
    apply(site, students=["ben", "zoe"])
    before = told(site)
    again = apply(site, at=NOW + 1, students=["ben", "zoe"])
    assert again.nothing and again.course.version == 1
    assert told(site) == before


def test_what_would_change_is_shown_and_not_done(site: Site) -> None:
    made = apply(site, dry_run=True)
    assert made.created and dict(made.roster.added) == {"ann": "instructor"}
    with pytest.raises(NotFound):
        courses.get(site, "ml", actor=ann)
    apply(site, students=["ben", "eve"])
    would = apply(site, dry_run=True, seats=6, setup="5m", students=["eve", "zoe"])
    assert [tuple(one) for one in would.differences] == [("seats", 4, 6), ("setup", None, "5m")]
    assert (dict(would.roster.added), would.roster.removed) == ({"zoe": "student"}, ("ben",))
    assert courses.get(site, "ml", actor=ann).course.seats == 4
    done = apply(site, at=NOW + HOUR, seats=6, setup="5m", students=["eve", "zoe"])
    assert (done.differences, done.roster) == (would.differences, would.roster)
    assert done.course.version == 2 and done.course.created_at == NOW
    assert roles(site) == {"ann": "instructor", "eve": "student", "zoe": "student"}


def test_lists_are_the_whole_list_and_those_left_out_change_nothing(site: Site) -> None:
    apply(site, instructors=["ann", "ben"], students=["eve"])
    apply(site, title="Other")
    assert roles(site) == {"ann": "instructor", "ben": "instructor", "eve": "student"}
    apply(site, instructors=["ann"])
    assert roles(site) == {"ann": "instructor", "eve": "student"}


def test_nobody_shuts_themselves_out_or_leaves_a_course_to_nobody(site: Site) -> None:
    apply(site)
    for instructors in (["ben"], []):
        with pytest.raises(Conflict, match="You would not run"):
            apply(site, instructors=instructors)
    with pytest.raises(Conflict, match="Nobody would run"):
        apply(site, admin, instructors=[])


def test_a_course_is_changed_by_those_who_run_it_and_admins(site: Site) -> None:
    apply(site, students=["ben"])
    for stranger in (ben, eve):
        with pytest.raises(NotAllowed):
            apply(site, stranger, seats=9)
    with pytest.raises(NotAllowed):
        courses.remove(site, "ml", actor=ben, now=NOW)
    with pytest.raises(NotFound):
        courses.remove(site, "ml", actor=eve, now=NOW)
    assert apply(site, admin, seats=9).course.seats == 9


def test_a_student_sees_the_course_and_nobody_in_it(site: Site) -> None:
    apply(site, students=["ben"])
    seen = courses.get(site, "ml", actor=ben)
    assert seen.member == Member("ml", "ben", "student", NOW) and not seen.runs and seen.counts == {}
    with pytest.raises(NotAllowed):
        roster.look(site, "ml", actor=ben)
    with pytest.raises(NotFound):
        courses.get(site, "ml", actor=eve)
    assert [one.course.name for one in courses.mine(site, actor=ben)] == ["ml"]
    assert courses.mine(site, actor=eve) == []
    assert [(one.course.name, one.runs) for one in courses.mine(site, actor=admin)] == [("ml", True)]


def test_a_course_must_fit_the_catalog(site: Site) -> None:
    with pytest.raises(Invalid) as refused:
        apply(site, profile="tpu", nodes=["gpu-a"])
    assert [one["field"] for one in refused.value.data["errors"]] == ["profile"]
    with pytest.raises(Invalid):
        apply(site, units=5)


def test_a_change_made_meanwhile_is_noticed(site: Site) -> None:
    apply(site, if_match=None, only_new=True)
    apply(site, seats=5, if_match=1)
    with pytest.raises(Changed):
        apply(site, seats=6, if_match=1)
    with pytest.raises(Changed):
        courses.remove(site, "ml", actor=ann, now=NOW, if_match=1)
    with pytest.raises(Changed):
        apply(site, name="other", if_match=1)
    with pytest.raises(Conflict, match="There is a course"):
        apply(site, only_new=True)


def test_of_many_who_make_it_at_once_one_does(site: Site) -> None:
    def make(number: int) -> str:
        try:
            apply(site, Actor(f"t{number}"), only_new=True)
        except MLMPError as error:
            return error.code
        return "made"

    with ThreadPoolExecutor(6) as threads:
        answers = sorted(threads.map(make, range(6)))
    assert answers == ["conflict"] * 5 + ["made"]
    assert len(roles(site)) == 1


def test_a_course_is_removed_with_its_roster(site: Site) -> None:
    apply(site, students=["ben"])
    courses.remove(site, "ml", actor=ann, now=NOW)
    assert roles(site) == {} and courses.mine(site, actor=ann) == []
    assert [entry.action for entry in told(site)][-1] == "course_removed"
    with pytest.raises(NotFound):
        courses.remove(site, "ml", actor=ann, now=NOW)


def test_a_course_with_classes_ahead_or_with_guests_stays(site: Site) -> None:
    apply(site)
    row = {"id": "class0000001", "owner": "course:ml", "kind": "class", "profile": "gpu", "resource": "nvidia.com/gpu",
           "units": 1, "start": NOW - HOUR, "end": NOW + HOUR, "pinned": False, "preemptible": False,
           "created_at": NOW}  # fmt: skip
    with transaction(site.engine) as connection:
        connection.execute(insert(reservation).values(row))
        store.put_members(connection, "ml", [Member("ml", "guest-1", "guest", NOW)])
    with pytest.raises(Conflict, match="1 of its classes"):
        courses.remove(site, "ml", actor=ann, now=NOW)
    with transaction(site.engine) as connection:
        connection.execute(update(reservation).values(cancelled_at=NOW))
    with pytest.raises(Conflict, match="1 guests"):
        courses.remove(site, "ml", actor=ann, now=NOW)
    with transaction(site.engine) as connection:
        store.remove_members(connection, "ml", ["guest-1"])
    assert courses.remove(site, "ml", actor=ann, now=NOW).name == "ml"


# -- the roster -----------------------------------------------------------------------------------------------------


def test_a_list_is_shown_first_and_then_put_on_the_roster(site: Site) -> None:
    apply(site)
    wish = Wish("ann@x.org\nZoë Li\nzoe@uni.org\nben", domains=("uni.org",))
    would = roster.change(site, "ml", wish, actor=ann, now=NOW, dry_run=True)
    assert dict(would.outcome.added) == {"ann@x.org": "student", "ben": "student", "zoe": "student"}
    assert would.unknown == {"ann@x.org", "zoe"}
    assert [(one.line, one.text) for one in would.not_understood] == [(2, "Zoë Li")]
    assert roles(site) == {"ann": "instructor"}
    done = roster.change(site, "ml", wish, actor=ann, now=NOW + 1)
    assert done == would
    assert roles(site) == {"ann": "instructor", "ann@x.org": "student", "ben": "student", "zoe": "student"}
    assert roster.change(site, "ml", wish, actor=ann, now=NOW + 2).outcome.nothing


def test_the_domains_of_the_site_hold_unless_others_are_named(site: Site) -> None:
    apply(site)
    done = roster.change(site, "ml", Wish("zoe@uni.org"), actor=ann, now=NOW, dry_run=True)
    assert dict(done.outcome.added) == {"zoe@uni.org": "student"}


def test_a_whole_list_takes_off_the_rest_unless_a_line_of_it_names_nobody(site: Site) -> None:
    apply(site, students=["ben", "eve"])
    whole = Wish("ben\nEve Young", whole=True)
    assert roster.change(site, "ml", whole, actor=ann, now=NOW, dry_run=True).outcome.removed == ("eve",)
    with pytest.raises(Conflict, match="1 lines of the list name nobody"):
        roster.change(site, "ml", whole, actor=ann, now=NOW)
    with pytest.raises(Invalid, match="names nobody"):
        roster.change(site, "ml", Wish("\n", whole=True), actor=ann, now=NOW)
    roster.change(site, "ml", Wish("ben", whole=True), actor=ann, now=NOW)
    assert roles(site) == {"ann": "instructor", "ben": "student"}


def test_names_are_added_removed_and_given_another_role(site: Site) -> None:
    apply(site, students=["ben"])
    roster.change(site, "ml", Wish(add=("Eve", "ben"), role="instructor"), actor=ann, now=NOW)
    assert roles(site) == {"ann": "instructor", "ben": "instructor", "eve": "instructor"}
    roster.change(site, "ml", Wish(add=("zoe",), remove=("ben", "ann")), actor=eve, now=NOW)
    assert roles(site) == {"eve": "instructor", "zoe": "student"}
    with pytest.raises(Invalid, match="can't be a user"):
        roster.change(site, "ml", Wish(add=("a b",)), actor=eve, now=NOW)
    with pytest.raises(NotFound):
        roster.change(site, "ml", Wish(add=("ann",)), actor=ann, now=NOW)


def test_since_when_somebody_is_in_it_and_agreed_stays_through_changes(site: Site) -> None:
    apply(site, students=["ben"])
    with transaction(site.engine) as connection:
        assert store.set_agreed(connection, "ml", "ben", NOW + 5)
    apply(site, at=NOW + HOUR, instructors=["ann", "ben"])
    _, members, known = roster.look(site, "ml", actor=ann)
    assert Member("ml", "ben", "instructor", NOW, NOW + 5) in members and known == {"ann", "ben"}


def test_the_history_keeps_who_runs_a_course_and_no_student_by_name(site: Site) -> None:
    apply(site, students=["zoe", "ben"])
    roster.change(site, "ml", Wish(add=("ben",), role="instructor"), actor=ann, now=NOW)
    roster.change(site, "ml", Wish(remove=("zoe", "ben")), actor=ann, now=NOW)
    kept = [entry.details for entry in told(site) if entry.action == "roster"]
    assert "zoe" not in str(kept)
    assert [(one["instructors"], one["former_instructors"]) for one in kept] == [
        (["ann"], []),
        (["ben"], []),
        ([], ["ben"]),
    ]
    assert [(one["added"], one["changed"], one["removed"]) for one in kept] == [(3, 0, 0), (0, 1, 0), (0, 0, 2)]
