"""Codes of guests: one person each, nothing told about those that can't be used, and what a guest may."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from mlmp_spawner.errors import Conflict, Invalid, NotAllowed, NotFound
from mlmp_spawner.operations import availability, history
from mlmp_spawner.operations.courses import guests
from mlmp_spawner.operations.requests import usable_profile
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules import guest_codes
from mlmp_spawner.rules.catalog import Profile
from mlmp_spawner.store import guests as store
from mlmp_spawner.store.guest_tables import guest_code
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY, HOUR
from tests.operations.conftest import GPU, NOW, admin, ann, ben
from tests.operations.courses.test_courses import apply, roles

DELAY = DAY
END = NOW + 7 * DAY


@pytest.fixture
def course(site: Site) -> Site:
    """A site with a course of ann's that may have five guests; ben is a student."""
    apply(site, guests=5, students=["ben"])
    return site


def codes(site: Site, count: int = 1, *, by: Actor = ann, until: int = END) -> list[str]:
    return guests.new_codes(site.engine, "ml", count, until=until, actor=by, now=NOW)


def redeem(site: Site, code: str, at: int = NOW) -> store.Guest | None:
    return guests.redeem(site.engine, code, erase_after=DELAY, now=at)


def test_a_code_makes_a_guest_on_the_roster_with_a_name_of_its_own(course: Site) -> None:
    (code,) = codes(course)
    guest = redeem(course, code.lower().replace("-", " "))
    assert guest is not None
    assert guest.name.startswith("guest-")
    assert (guest.course, guest.expires_at, guest.erase_at) == ("ml", END, END + DELAY)
    assert roles(course)[guest.name] == "guest"
    assert guests.is_let_in(course.engine, guest.name, now=NOW)


def test_no_code_is_kept(course: Site) -> None:
    (code,) = codes(course)
    plain = guest_codes.read(code)
    with read(course.engine) as connection:
        rows = [str(row) for row in connection.execute(select(guest_code))]
    told = str(history.since(course.engine, 0))
    assert rows and plain is not None
    assert not any(plain in text or code in text for text in [*rows, told])


def test_a_code_is_good_once(course: Site) -> None:
    (code,) = codes(course)
    assert redeem(course, code) is not None
    assert redeem(course, code) is None


def test_of_many_at_once_one_gets_in_by_a_code(course: Site) -> None:
    (code,) = codes(course)
    start = threading.Barrier(6, timeout=60)

    def race() -> store.Guest | None:
        start.wait()
        return redeem(course, code)

    with ThreadPoolExecutor(6) as pool:
        found = [one.result() for one in [pool.submit(race) for _ in range(6)]]
    assert len([one for one in found if one is not None]) == 1
    assert list(roles(course).values()).count("guest") == 1


def test_a_code_of_nobody_and_one_that_is_over_are_refused_alike(course: Site) -> None:
    (code,) = codes(course, until=NOW + HOUR)
    assert redeem(course, guest_codes.new()) is None
    assert redeem(course, "nonsense") is None
    assert redeem(course, "") is None
    assert redeem(course, code, at=NOW + HOUR) is None
    assert redeem(course, code, at=NOW + HOUR - 1) is not None


def test_only_those_who_run_the_course_make_see_and_withdraw_codes(course: Site) -> None:
    codes(course, by=admin)
    for who, error in ((ben, NotAllowed), (Actor("zoe"), NotFound)):
        with pytest.raises(error):
            codes(course, by=who)
        with pytest.raises(error):
            guests.of(course.engine, "ml", actor=who, now=NOW)
        with pytest.raises(error):
            guests.withdraw(course.engine, "ml", actor=who, now=NOW)


def test_codes_and_guests_together_are_not_more_than_the_course_may_have(course: Site) -> None:
    made = codes(course, 4)
    assert redeem(course, made[0]) is not None
    with pytest.raises(Conflict) as refused:
        codes(course, 2)
    assert refused.value.data["free"] == 1
    codes(course, 1)


def test_withdrawn_codes_are_useless_and_make_room(course: Site) -> None:
    made = codes(course, 5)
    assert redeem(course, made[0]) is not None
    assert guests.withdraw(course.engine, "ml", actor=ann, now=NOW) == 4
    assert redeem(course, made[1]) is None
    assert len(codes(course, 4)) == 4


@pytest.mark.parametrize(("count", "until"), [(0, END), (201, END), (1, NOW), (1, NOW + 181 * DAY)])
def test_what_makes_no_sense_is_refused(course: Site, count: int, until: int) -> None:
    with pytest.raises(Invalid):
        codes(course, count, until=until)


def test_who_runs_the_course_sees_who_came_and_how_many_can(course: Site) -> None:
    made = codes(course, 3)
    guest = redeem(course, made[0])
    seen = guests.of(course.engine, "ml", actor=ann, now=NOW)
    assert guest is not None
    assert [one.name for one in seen.guests] == [guest.name]
    assert len(seen.codes) == 2


def test_a_guest_uses_the_profile_of_the_course_and_nothing_that_is_for_everybody(course: Site) -> None:
    others = {
        "big": Profile(name="big", title="Big", resource=GPU),
        "club": Profile(name="club", title="Club", resource=GPU, groups=("chess",)),
        "ours": Profile(name="ours", title="Ours", resource=GPU, groups=("course-ml",)),
    }
    catalog = course.catalog.model_copy(update={"profiles": {**course.catalog.profiles, **others}})
    wider = Site(course.engine, catalog, ssh=course.ssh)
    (code,) = codes(course)
    guest = redeem(course, code)
    assert guest is not None
    known = guests.as_known(wider, Actor(guest.name))
    assert [one.name for one in catalog.profiles_for(known.groups)] == ["gpu", "ours"]
    assert [one.profile.name for one in availability.offer(wider, actor=known, now=NOW).profiles] == ["gpu", "ours"]
    with pytest.raises(NotAllowed):
        usable_profile(wider, "big", known.groups)


def test_nobody_else_is_taken_for_a_guest(course: Site) -> None:
    assert guests.as_known(course, ben) is ben


def test_a_guest_of_no_course_may_use_nothing(course: Site) -> None:
    known = guests.as_known(course, Actor("guest-0000000000"))
    assert course.catalog.profiles_for(known.groups) == []
    assert not guests.is_let_in(course.engine, "guest-0000000000", now=NOW)


def test_a_guest_s_time_can_be_ended(course: Site) -> None:
    (code,) = codes(course)
    guest = redeem(course, code)
    assert guest is not None
    with pytest.raises(NotFound):
        guests.end(course.engine, "ml", "guest-0000000000", erase_after=DELAY, actor=ann, now=NOW)
    ended = guests.end(course.engine, "ml", guest.name, erase_after=DELAY, actor=ann, now=NOW + HOUR)
    assert (ended.expires_at, ended.erase_at) == (NOW + HOUR, NOW + HOUR + DELAY)
    assert not guests.is_let_in(course.engine, guest.name, now=NOW + HOUR)
    again = guests.end(course.engine, "ml", guest.name, erase_after=DELAY, actor=ann, now=NOW + 2 * HOUR)
    assert again.expires_at == NOW + HOUR
