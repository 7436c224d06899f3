"""Book, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlmp_spawner.errors import Conflict, Invalid, NoCapacity, NotAllowed, NotFound, OverLimit
from mlmp_spawner.operations import history
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import cancel, get
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import LimitRules, Limits
from mlmp_spawner.units import DAY, HOUR, MINUTE, from_iso, parse_duration
from tests.invariant import violations
from tests.operations.conftest import NOW, admin, ann, ben


def ask(**fields: object) -> BookingRequest:
    return BookingRequest(**({"profile": "gpu", "duration": HOUR} | fields))  # type: ignore[arg-type]


def test_a_booking_begins_now_and_lands_where_it_fits_best(site: Site):
    booked = book(site, ask(units=2), actor=ann, now=NOW)
    assert booked.state(NOW) == "active" and booked.interval.length == HOUR
    assert booked.nodes == ("gpu-b",) and booked.allocations[0].units == 2
    assert booked == replace(get(site, booked.id), allocations=booked.allocations)
    assert [entry.action for entry in history.of(site.engine, booked.id)] == ["booked"]


def test_a_refusal_carries_alternatives_that_work_when_posted_back(site: Site):
    book(site, ask(units=4, node="gpu-a", start=NOW + HOUR), actor=ann, now=NOW)
    book(site, ask(units=1, node="gpu-b", duration=6 * HOUR), actor=ann, now=NOW)
    with pytest.raises(NoCapacity) as refusal:
        book(site, ask(units=2, duration=4 * HOUR), actor=ben, now=NOW)
    offered = {a["kind"]: a["request"] for a in refusal.value.data["alternatives"]}
    assert set(offered) == {"later", "shorter", "smaller"}
    for body in offered.values():
        again = book(site, request_of(body), actor=ben, now=NOW)
        cancel(site, again.id, actor=ben, now=NOW)


def request_of(body: dict[str, object]) -> BookingRequest:
    """What the API makes of a posted body."""
    fields = dict(body)
    for name in {"start", "end"} & set(fields):
        fields[name] = from_iso(str(fields[name]))
    if "duration" in fields:
        fields["duration"] = parse_duration(str(fields["duration"]))
    return BookingRequest(**fields)  # type: ignore[arg-type]


def test_what_has_not_begun_moves_to_make_room(site: Site):
    first = book(site, ask(units=1, start=NOW + HOUR), actor=ann, now=NOW)
    second = book(site, ask(units=2, start=NOW + HOUR), actor=ann, now=NOW)
    assert (first.nodes, second.nodes) == (("gpu-b",), ("gpu-a",))
    cancel(site, first.id, actor=ann, now=NOW)
    whole = book(site, ask(units=4, start=NOW + HOUR), actor=ben, now=NOW)
    assert whole.nodes == ("gpu-a",) and get(site, second.id).nodes == ("gpu-b",)
    assert [e.action for e in history.of(site.engine, second.id)] == ["booked", "moved"]
    assert violations(site.engine) == []


def test_a_pinned_booking_is_never_moved(site: Site):
    book(site, ask(units=2, start=NOW + HOUR, node="gpu-a"), actor=ann, now=NOW)
    with pytest.raises(NoCapacity):
        book(site, ask(units=4, start=NOW + HOUR), actor=ben, now=NOW)


def test_a_link_of_a_chain_is_never_moved(site: Site):
    book(site, ask(units=2, start=NOW + HOUR, node="gpu-a"), actor=ann, now=NOW)
    book(site, ask(units=2, start=NOW + 2 * HOUR), actor=ann, now=NOW)
    with pytest.raises(NoCapacity):
        book(site, ask(units=4, start=NOW + 2 * HOUR), actor=ben, now=NOW)


def test_several_nodes_are_all_or_nothing(site: Site):
    both = book(site, ask(units=2, node_count=2), actor=ann, now=NOW)
    assert both.nodes == ("gpu-a", "gpu-b")
    with pytest.raises(NoCapacity):
        book(site, ask(units=2, node_count=2), actor=ben, now=NOW)
    assert violations(site.engine) == []


def test_the_next_booking_keeps_node_and_server(site: Site):
    first = book(site, ask(units=1, node="gpu-a"), actor=ann, now=NOW)
    book(site, ask(units=1, duration=3 * HOUR), actor=ann, now=NOW)
    second = book(site, ask(units=1, start=first.end), actor=ann, now=NOW)
    assert second.nodes == ("gpu-a",) and second.server == first.server == ""


def test_bookings_at_the_same_time_have_servers_of_their_own(site: Site):
    first, second = (book(site, ask(), actor=ann, now=NOW) for _ in range(2))
    assert first.server == "" and second.server == second.id
    with pytest.raises(Conflict):
        book(site, ask(server=""), actor=ann, now=NOW)


def test_a_booking_longer_than_a_row_is_several_that_touch(site: Site):
    long = book(site, ask(duration=40 * DAY), actor=ann, now=NOW)
    rows = get(site, long.id).allocations
    assert [(rows[0].start, rows[-1].end, len(rows))] == [(long.start, long.end, 2)] and rows[0].end == rows[1].start


def test_the_same_key_books_once(site: Site):
    first = book(site, ask(), actor=ann, now=NOW, idempotency_key="k")
    assert book(site, ask(), actor=ann, now=NOW + MINUTE, idempotency_key="k").id == first.id
    assert book(site, ask(), actor=ben, now=NOW, idempotency_key="k").id != first.id
    with pytest.raises(Conflict):
        book(site, ask(units=2), actor=ann, now=NOW, idempotency_key="k")
    assert book(site, ask(), actor=ann, now=NOW + DAY, idempotency_key="k").id != first.id


def test_what_does_not_fit_waits_where_one_asks_for_it(site: Site):
    book(site, ask(units=4), actor=ann, now=NOW)
    waiting = book(site, ask(units=4, waitlist=True), actor=ben, now=NOW)
    assert waiting.state(NOW) == "waiting" and waiting.allocations == () and waiting.waitlist_position == 1


def test_limits_refuse_with_their_numbers(site: Site):
    limited = replace(site, catalog=site.catalog.model_copy(
        update={"limits": LimitRules(everybody=Limits(units_at_once=3, open_bookings=2))}))  # fmt: skip
    book(limited, ask(units=2), actor=ann, now=NOW)
    with pytest.raises(OverLimit) as refusal:
        book(limited, ask(units=2), actor=ann, now=NOW)
    assert [(v["limit"], v["allowed"], v["used"], v["asked"]) for v in refusal.value.data["limits"]] == [
        ("units_at_once", 3, 2, 2)
    ]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"profile": "tpu"}, Invalid),
        ({"units": 5}, Invalid),
        ({"units": 0}, Invalid),
        ({"units": -1}, Invalid),
        ({"node": "gpu-z"}, Invalid),
        ({"node_count": 3}, Invalid),
        ({"start": NOW - HOUR}, Invalid),
        ({"duration": 0}, Invalid),
        ({"duration": -HOUR}, Invalid),
        ({"end": NOW + HOUR}, Invalid),
        ({"start": NOW + 10**15}, Invalid),
        ({"server": "../x"}, Invalid),
        ({"owner": "ben"}, NotAllowed),
    ],
)
def test_nonsense_is_refused_and_books_nothing(site: Site, fields: dict[str, object], error: type[Exception]):
    before = history.latest(site.engine)
    with pytest.raises(error):
        book(site, ask(**fields), actor=ann, now=NOW)
    assert history.latest(site.engine) == before


def test_an_admin_books_for_people_the_hub_knows(site: Site):
    assert book(site, ask(owner="ben"), actor=admin, now=NOW).owner == "ben"
    with pytest.raises(NotFound):
        book(site, ask(owner="nobody"), actor=admin, now=NOW)
