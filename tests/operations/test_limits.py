"""The limits that hold: the catalog's, with what an admin set in their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert

from mlmp_spawner.errors import Changed, Invalid, OverLimit
from mlmp_spawner.operations import admission, availability, booking, changes, limit_settings, limits
from mlmp_spawner.operations.admission import StartOptions
from mlmp_spawner.operations.check import ToCheck, set_limits
from mlmp_spawner.operations.limit_settings import UNSET, Subject
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import LimitRules, Limits
from mlmp_spawner.store import tables
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE
from tests.operations.conftest import NOW, admin, ann, ben

EVERYBODY = Subject("everybody")
ANN = Subject("user", "ann")
LAB = Subject("group", "lab")


@pytest.fixture
def limited(site: Site) -> Site:
    """A catalog that says something for everybody, a group and ann."""
    rules = LimitRules(
        everybody=Limits(units_at_once=2, max_duration=8 * HOUR),
        groups={"lab": Limits(units_at_once=3)},
        users={"ann": Limits(open_bookings=5)},
    )
    return replace(site, catalog=site.catalog.model_copy(update={"limits": rules}))


def put(site: Site, subject: Subject, said: Limits | None, **more: object) -> limit_settings.Setting:
    return limit_settings.put(site, subject, said, actor=admin, now=NOW, **more)  # type: ignore[arg-type]


def test_what_is_set_stands_in_place_of_the_catalogs_entry_for_the_same_and_of_no_other(limited: Site):
    put(limited, LAB, Limits(units_at_once=None))
    assert limits.of_person(limited, "ben", ["lab"]).units_at_once is None
    assert limits.of_person(limited, "ben", ["lab"]).max_duration == 8 * HOUR  # as for everybody
    assert limits.of_person(limited, "ben", []).units_at_once == 2
    put(limited, ANN, Limits(units_at_once=1))
    assert limits.of_person(limited, "ann", ["lab"]) == Limits(
        units_at_once=1, max_duration=8 * HOUR, min_duration=None, hours_per_week=None, ahead=None, open_bookings=None,
        no_show_grace=None, extension=None,
    )  # fmt: skip
    put(limited, EVERYBODY, Limits())
    assert limits.of_person(limited, "eve", []).units_at_once is None


def test_resetting_leads_back_to_the_catalog(limited: Site):
    put(limited, EVERYBODY, Limits(units_at_once=9))
    assert put(limited, EVERYBODY, None).tag == UNSET
    assert limits.of_person(limited, "eve", []).units_at_once == 2


def asks_to_book(site: Site) -> object:
    return booking.book(site, BookingRequest(profile="gpu", duration=HOUR, units=2), actor=ann, now=NOW)


def asks_to_start(site: Site) -> object:
    options = StartOptions(profile="gpu", units=2, duration=HOUR)
    return admission.admit(site, actor=ann, server="", options=options, now=NOW)


def asks_for_more(site: Site) -> object:
    booked = booking.book(site, BookingRequest(profile="gpu", duration=HOUR, start=NOW + DAY), actor=ann, now=NOW)
    return changes.change(site, booked.id, changes.Changes(units=2), actor=ann, now=NOW)


@pytest.mark.parametrize("asks", [asks_to_book, asks_to_start, asks_for_more])
def test_every_way_to_units_obeys_them(site: Site, asks: Callable[[Site], object]):
    put(site, ANN, Limits(units_at_once=1))
    with pytest.raises(OverLimit) as refusal:
        asks(site)
    assert [(v["limit"], v["allowed"], v["asked"]) for v in refusal.value.data["limits"]] == [("units_at_once", 1, 2)]


def test_what_is_offered_and_how_far_one_may_extend_obey_them(site: Site):
    booked = booking.book(site, BookingRequest(profile="gpu", duration=HOUR), actor=ann, now=NOW)
    put(site, EVERYBODY, Limits(max_duration=2 * HOUR))
    offered = availability.offer(site, actor=ann, now=NOW).profiles[0]
    assert max(choice.length for choice in offered.choices) <= 2 * HOUR
    assert availability.longest_end(site, booked, groups=frozenset(), now=NOW) == NOW + 2 * HOUR


def test_the_no_show_grace_of_a_booking_is_what_held_when_it_was_made(site: Site):
    put(site, LAB, Limits(no_show_grace=20 * MINUTE))
    of_the_lab = Actor("ben", frozenset({"lab"}))

    def book(actor: Actor, ahead: int) -> int | None:
        request = BookingRequest(profile="gpu", duration=HOUR, start=NOW + ahead)
        return booking.book(site, request, actor=actor, now=NOW).no_show_grace

    assert (book(of_the_lab, HOUR), book(ben, 3 * HOUR)) == (20 * MINUTE, None)
    walk_up = admission.walk_up(site, actor=of_the_lab, server=None, options=StartOptions(profile="gpu"), now=NOW)
    put(site, LAB, Limits(no_show_grace=5 * MINUTE))
    assert changes.get(site, walk_up.id).no_show_grace == 20 * MINUTE


def test_an_entry_that_cannot_be_read_leaves_the_catalogs_in_force(limited: Site, tmp_path: Path, db_url: str):
    with transaction(limited.engine) as connection:
        broken = {"kind": "user", "name": "ann", "limits": {"units": "many"}, "changed_at": 1, "changed_by": "x"}
        connection.execute(insert(tables.limits).values(broken))
    assert limits.of_person(limited, "ann", []).open_bookings == 5
    assert asks_to_book(limited)
    (said,) = set_limits(ToCheck(data=tmp_path, catalog=tmp_path, db_url=db_url))
    assert said.wrong and "user:ann" in said.message and "mlmp limits reset" in said.hint
    _, found = limit_settings.look(limited)
    assert [(str(one.subject), one.unreadable) for one in found] == [
        ("everybody", False), ("group:lab", False), ("user:ann", True)
    ]  # fmt: skip
    assert put(limited, ANN, Limits(units_at_once=1)).unreadable is False


def test_a_change_made_meanwhile_is_noticed(limited: Site):
    first = put(limited, ANN, Limits(units_at_once=1), if_match=UNSET)
    put(limited, ANN, Limits(units_at_once=2), if_match=first.tag)
    with pytest.raises(Changed):
        put(limited, ANN, Limits(units_at_once=3), if_match=first.tag)
    assert limits.of_person(limited, "ann", []).units_at_once == 2


def test_the_history_says_who_changed_what_and_nothing_where_nothing_changed(limited: Site):
    for said in (Limits(units_at_once=1, max_duration=4 * HOUR), Limits(units_at_once=1, max_duration=4 * HOUR), None):
        put(limited, LAB, said)
    with read(limited.engine) as connection:
        rows = connection.execute(tables.history.select().where(tables.history.c.action == "limits")).all()
    assert [(row.actor, row.details) for row in rows] == [
        ("root", {"kind": "group", "name": "lab", "old": {"units_at_once": 3},
                  "new": {"units_at_once": 1, "max_duration": "4h"}}),
        ("root", {"kind": "group", "name": "lab", "old": {"units_at_once": 1, "max_duration": "4h"},
                  "new": {"units_at_once": 3}}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "ann", "users:ann", "group:", "user: ", "user:a\x00", "everybody:x", "user:" + 256 * "a"]
)
def test_what_names_nobody_is_refused(text: str):
    with pytest.raises(Invalid, match="everybody, group:NAME or user:NAME"):
        Subject.parse(text)


def test_no_booking_could_be_both_as_long_and_as_short(site: Site):
    with pytest.raises(Invalid, match="longer than max_duration"):
        put(site, EVERYBODY, Limits(min_duration=HOUR, max_duration=MINUTE))
