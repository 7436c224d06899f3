"""The waitlist: who is earlier and fits goes first, and nobody gets more than the rules allow."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import event, text, update

from mlmp_spawner.operations import history, limit_settings, waitlist
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import cancel, get
from mlmp_spawner.operations.limit_settings import Subject
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import LimitRules, Limits
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.tables import reservation
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE, SECOND
from tests.invariant import violations
from tests.operations.conftest import NOW, admin, ann, ben, eve

LATER = NOW + MINUTE


def booked(site: Site, actor: Actor = ann, **fields: object) -> Reservation:
    request = BookingRequest(**({"profile": "gpu", "duration": HOUR, "waitlist": True} | fields))  # type: ignore[arg-type]
    return book(site, request, actor=actor, now=NOW)


def limited(site: Site, **limits: object) -> Site:
    rules = LimitRules(everybody=Limits(**limits))  # type: ignore[arg-type]
    return replace(site, catalog=site.catalog.model_copy(update={"limits": rules}))


def in_group(site: Site, *, user_id: int) -> None:
    """As the hub writes it, which tells nobody."""
    with transaction(site.engine) as connection:
        for statement in (
            "CREATE TABLE groups (id INTEGER PRIMARY KEY, name VARCHAR(255))",
            "CREATE TABLE user_group_map (user_id INTEGER, group_id INTEGER)",
            "INSERT INTO groups VALUES (7, 'lab')",
            f"INSERT INTO user_group_map VALUES ({user_id}, 7)",
        ):
            connection.execute(text(statement))


def test_nothing_is_promoted_while_there_is_no_room(site: Site):
    booked(site, units=4)
    booked(site, ben, units=4)
    before = history.latest(site.engine)
    assert waitlist.promote(site, now=LATER) == []
    assert history.latest(site.engine) == before


def test_one_person_with_many_requests_keeps_nobody_else_waiting(site: Site):
    taken = booked(site, units=4, start=NOW + HOUR)
    many = [booked(site, ben, units=4, start=NOW + HOUR, duration=n * HOUR) for n in (1, 2)]
    one = booked(site, eve, units=4, start=NOW + HOUR)
    assert list(waitlist.places(site, now=LATER)) == [many[0].id, one.id, many[1].id]
    cancel(site, taken.id, actor=ann, now=LATER)
    assert waitlist.promote(site, now=LATER) == [many[0].id]
    cancel(site, many[0].id, actor=ben, now=LATER)
    assert waitlist.promote(site, now=LATER) == [many[1].id], "his first by now: he asked before"


def test_what_does_not_fit_keeps_nobody_behind_it_waiting(site: Site):
    taken = [booked(site, units=2, node="gpu-a") for _ in range(2)] + [booked(site, units=2, node="gpu-b")]
    large, small = booked(site, ben, units=4), booked(site, eve, units=2)
    cancel(site, taken[0].id, actor=ann, now=LATER)
    assert waitlist.promote(site, now=LATER) == [small.id]
    assert get(site, large.id).state(LATER) == "waiting" and waitlist.places(site, now=LATER) == {large.id: 1}


def test_several_are_promoted_at_once_as_far_as_there_is_room(site: Site):
    taken = booked(site, units=4)
    waiting = [booked(site, who, units=2, start=NOW) for who in (ben, eve, ben)]
    other = booked(site, ann, units=2)
    assert other.state(NOW) == "waiting" or other.nodes == ("gpu-b",)
    cancel(site, taken.id, actor=ann, now=LATER)
    promoted = waitlist.promote(site, now=LATER)
    assert len(promoted) >= 2 and set(promoted) <= {row.id for row in (*waiting, other)}
    assert waitlist.promote(site, now=LATER) == [] and violations(site.engine) == []


def test_a_promoted_booking_keeps_its_end_and_begins_now_if_its_start_is_past(site: Site):
    taken = booked(site, units=4, duration=3 * HOUR)
    row = booked(site, ben, units=4, duration=2 * HOUR)
    cancel(site, taken.id, actor=ann, now=NOW + HOUR)
    assert waitlist.promote(site, now=NOW + HOUR) == [row.id]
    after = get(site, row.id)
    assert (after.start, after.end, after.waiting_reason) == (NOW + HOUR, row.end, None)
    (told,) = [entry for entry in history.of(site.engine, row.id) if entry.action == "promoted"]
    assert told.details == {"start": NOW + HOUR, "end": row.end, "nodes": ["gpu-a"]}


def test_what_is_left_shorter_than_the_shortest_booking_is_no_use(site: Site):
    profile = site.catalog.profiles["gpu"].model_copy(update={"min_duration": 30 * MINUTE})
    site = replace(site, catalog=site.catalog.model_copy(update={"profiles": {"gpu": profile}}))
    taken = booked(site, units=4)
    row = booked(site, ben, units=4)
    cancel(site, taken.id, actor=ann, now=NOW + 31 * MINUTE)
    assert waitlist.promote(site, now=NOW + 31 * MINUTE) == []
    assert get(site, row.id).state(NOW + 31 * MINUTE) == "waiting"


def test_a_wait_whose_window_is_over_ends_and_is_promoted_no_more(site: Site):
    taken = booked(site, units=4, duration=3 * HOUR)
    row = booked(site, ben, units=4)
    cancel(site, taken.id, actor=ann, now=row.end)
    assert waitlist.promote(site, now=row.end) == [] and waitlist.places(site, now=row.end) == {}
    over = get(site, row.id)
    assert over.state(row.end) == "ended" and over.end_reason is None


def test_nobody_is_promoted_over_a_limit_and_who_comes_next_is(site: Site):
    site = limited(site, units_at_once=4)
    taken = booked(site, ann, units=4)
    over, next_ = booked(site, ben, units=4), booked(site, eve, units=4)
    assert booked(site, ben, units=1, node="gpu-b").nodes == ("gpu-b",)
    cancel(site, taken.id, actor=ann, now=LATER)
    assert waitlist.promote(site, now=LATER) == [next_.id]
    assert get(site, over.id).state(LATER) == "waiting"


def test_what_a_limit_keeps_back_is_judged_again_when_something_of_its_owner_changes(site: Site):
    site = limited(site, units_at_once=4)
    taken = booked(site, ann, units=4)
    row = booked(site, ben, units=4)
    other = booked(site, ben, units=1, node="gpu-b")
    cancel(site, taken.id, actor=ann, now=LATER)
    tried = waitlist.Tried()
    assert waitlist.promote(site, now=LATER, tried=tried) == []
    cancel(site, other.id, actor=ben, now=LATER)
    assert waitlist.promote(site, now=LATER, tried=tried) == [row.id]


@pytest.mark.parametrize("what", ["a limit", "a group", "the time"])
def test_what_a_limit_keeps_back_is_judged_again_when_the_rules_or_the_time_let_it(site: Site, what: str):
    taken = booked(site, ann, units=4)
    row = booked(site, ben, units=4)
    booked(site, ben, units=1, node="gpu-b", duration=30 * MINUTE)
    rules = LimitRules(everybody=Limits(units_at_once=4), groups={"lab": Limits(units_at_once=5)})
    site = replace(site, catalog=site.catalog.model_copy(update={"limits": rules}))
    cancel(site, taken.id, actor=ann, now=LATER)
    tried = waitlist.Tried()
    assert waitlist.promote(site, now=LATER, tried=tried) == []
    now = LATER + 1
    if what == "a limit":
        limit_settings.put(site, Subject("user", "ben"), Limits(units_at_once=5), actor=admin, now=now)
    elif what == "a group":
        in_group(site, user_id=2)
        now = LATER + waitlist.JUDGED_AGAIN
    else:
        now = NOW + 30 * MINUTE
    assert waitlist.promote(site, now=now, tried=tried) == [row.id]


def test_what_a_limit_keeps_back_costs_next_to_nothing_at_the_following_ticks(site: Site):
    site = limited(site, units_at_once=4)
    taken = booked(site, ann, units=4)
    for who in (ben, eve):
        for hours in (1, 2, 3, 4):
            assert booked(site, who, units=4, start=NOW, duration=hours * HOUR).state(NOW) == "waiting"
        booked(site, who, units=1, node="gpu-b", duration=2 * HOUR)
    cancel(site, taken.id, actor=ann, now=LATER)
    tried = waitlist.Tried()
    asked: list[str] = []
    event.listen(site.engine, "before_cursor_execute", lambda *about: asked.append(about[2]))
    waitlist.promote(site, now=LATER, tried=tried)
    first = len(asked)
    waitlist.promote(site, now=LATER + SECOND, tried=tried)
    assert len(asked) - first < 15 < first, "one question for all, none for each"


def test_the_limits_of_the_groups_that_the_hub_has_the_owner_in_hold(site: Site):
    taken = booked(site, ann, units=4)
    row = booked(site, ben, units=4)
    rules = LimitRules(everybody=Limits(units_at_once=1), groups={"lab": Limits(units_at_once=4)})
    site = replace(site, catalog=site.catalog.model_copy(update={"limits": rules}))
    cancel(site, taken.id, actor=ann, now=LATER)
    assert waitlist.promote(site, now=LATER) == []
    in_group(site, user_id=2)
    assert waitlist.promote(site, now=LATER) == [row.id]


def test_it_gets_a_server_that_no_other_booking_of_its_owner_uses_by_then(site: Site):
    taken = booked(site, ann, units=4)
    row = booked(site, ben, units=4)
    other = booked(site, ben, units=1, node="gpu-b")
    with transaction(site.engine) as connection:  # as after a move of the other one
        connection.execute(update(reservation).where(reservation.c.id == other.id).values(server=row.server))
    cancel(site, taken.id, actor=ann, now=LATER)
    assert waitlist.promote(site, now=LATER) == [row.id]
    assert get(site, row.id).server == row.id


def test_who_asked_for_a_node_waits_for_that_node(site: Site):
    booked(site, ann, units=4)
    both = booked(site, ann, units=2)
    row = booked(site, ben, units=2, node="gpu-a")
    cancel(site, both.id, actor=ann, now=LATER)
    assert waitlist.promote(site, now=LATER) == []
    assert get(site, row.id).state(LATER) == "waiting"


def test_who_waits_for_a_time_far_ahead_is_asked_as_well(site: Site):
    taken = booked(site, ann, units=4, start=NOW + 100 * DAY)
    row = booked(site, ben, units=4, start=NOW + 100 * DAY)
    cancel(site, taken.id, actor=ann, now=LATER)
    assert waitlist.promote(site, now=LATER) == [row.id]
