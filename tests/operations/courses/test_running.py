"""What who teaches does to a class: more time, a word to everybody, servers started and stopped."""

from __future__ import annotations

import pytest

from mlmp_spawner.errors import Invalid, NoCapacity, NotAllowed, NotFound, NotNow, TooLate
from mlmp_spawner.operations import admission, booking, changes, history, notices
from mlmp_spawner.operations.courses import classes, opening, running
from mlmp_spawner.operations.courses.servers import ClassServers
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store.tables import reservation
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE, SECOND, to_iso
from tests.invariant import violations
from tests.operations.conftest import ann
from tests.operations.courses.played_hub import PlayedHub, looks
from tests.operations.courses.term import TEACHER, a_class, course, seats


class Hub(PlayedHub):
    """Also stops servers; what it stopped is seen gone at once."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.stopped: list[str] = []
        self.stops_slowly = False

    async def stop_server(self, user: str, server: str, *, remove: bool = False) -> bool:
        self.stopped.append(user)
        if not self.stops_slowly:
            self.is_gone(user)
        return not self.stops_slowly

    def is_gone(self, user: str) -> None:
        c = reservation.c
        mine = (c.owner == user, c.starting_at.is_not(None), c.stopped_at.is_(None))
        with transaction(self.site.engine) as connection:
            connection.execute(reservation.update().where(*mine).values(stopped_at=self.now))


@pytest.fixture
def row(site: Site) -> Reservation:
    """A class of four seats, opened for s1, s2, s3 and who teaches it."""
    course(site, seats=4, students=("s1", "s2", "s3"))
    made = a_class(site)
    opening.look(site, made.start)
    return changes.get(site, made.id)


class TestExtend:
    def test_the_class_and_its_seats_go_on(self, site: Site, row: Reservation):
        now = row.start + HOUR
        longer, theirs = running.extend(site, "ml", row.id, 15 * MINUTE, actor=TEACHER, now=now)
        assert longer.end == row.end + 15 * MINUTE
        assert {one.owner for one in theirs} == {"s1", "s2", "s3", "teacher"}
        for seat in seats(site, row.id, now).values():
            assert seat.end == longer.end and {part.end for part in seat.allocations} == {longer.end}
        assert {part.end for part in longer.allocations} == {longer.end}
        assert violations(site.engine) == []

    def test_what_somebody_else_has_then_is_said_and_nothing_is_changed(self, site: Site, row: Reservation):
        node = row.nodes[0]
        taken = BookingRequest("gpu", start=row.end + 5 * MINUTE, duration=HOUR, units=1, node=node)
        booking.book(site, taken, actor=ann, now=row.start)
        with pytest.raises(NoCapacity) as refused:
            running.extend(site, "ml", row.id, 15 * MINUTE, actor=TEACHER, now=row.start)
        assert node in refused.value.detail and "5" in refused.value.detail
        assert refused.value.data["longest_end"] == to_iso(row.end + 5 * MINUTE)
        assert changes.get(site, row.id).end == row.end
        assert {one.end for one in seats(site, row.id).values()} == {row.end}
        running.extend(site, "ml", row.id, 5 * MINUTE, actor=TEACHER, now=row.start)
        assert violations(site.engine) == []

    def test_a_seat_that_was_given_back_stays_so(self, site: Site, row: Reservation):
        mine = seats(site, row.id)["s1"]
        changes.cancel(site, mine.id, actor=Actor("s1"), now=row.start + MINUTE)
        running.extend(site, "ml", row.id, 15 * MINUTE, actor=TEACHER, now=row.start + HOUR)
        assert seats(site, row.id)["s1"].end == row.start + MINUTE
        assert violations(site.engine) == []

    def test_too_late_too_long_and_others(self, site: Site, row: Reservation):
        for now in (row.end - 10 * SECOND, row.end + HOUR):
            with pytest.raises(TooLate):
                running.extend(site, "ml", row.id, MINUTE, actor=TEACHER, now=now)
        for duration in (0, -MINUTE, 5 * HOUR):
            with pytest.raises(Invalid):
                running.extend(site, "ml", row.id, duration, actor=TEACHER, now=row.start)
        with pytest.raises(NotAllowed):
            running.extend(site, "ml", row.id, MINUTE, actor=Actor("s1"), now=row.start)
        with pytest.raises(NotFound):
            running.extend(site, "ml", row.id, MINUTE, actor=Actor("stranger"), now=row.start)
        course(site, "other", students=())
        with pytest.raises(NotFound):
            running.extend(site, "other", row.id, MINUTE, actor=TEACHER, now=row.start)


class TestSay:
    def test_everybody_with_a_seat_is_told(self, site: Site, row: Reservation):
        told = running.say(site, "ml", row.id, " Break until ten ", actor=TEACHER, now=row.start + HOUR)
        assert told == ["s1", "s2", "s3", "teacher"]
        (one,) = [each for each in notices.page(site.engine, "s1").items if each.kind == "message"]
        assert (one.details["message"], one.details["by"]) == ("Break until ten", "teacher")

    @pytest.mark.parametrize("text", ["", "  ", "x" * 301, "two\nlines", "bell\a", "back \u202ewards"])
    def test_what_can_t_be_said(self, site: Site, row: Reservation, text: str):
        with pytest.raises(Invalid):
            running.say(site, "ml", row.id, text, actor=TEACHER, now=row.start)

    def test_nobody_is_there_to_be_told(self, site: Site):
        course(site)
        made = a_class(site)
        with pytest.raises(NotNow):
            running.say(site, "ml", made.id, "Hello", actor=TEACHER, now=made.start - HOUR)


class TestServers:
    def test_those_that_are_wanted_stop_and_start_again_and_the_others_go_on(self, site: Site, row: Reservation):
        hub, now = Hub(site), row.start + MINUTE
        servers = ClassServers(lambda: site, hub)
        looks(servers, hub, now)
        assert sorted(hub.asked) == ["s1", "s2", "s3", "teacher"]
        hub.asked.clear()
        running.servers(site, "ml", row.id, "restart", ["s1"], actor=TEACHER, now=now + MINUTE)
        looks(servers, hub, now + MINUTE + 1)
        assert (hub.stopped, hub.asked) == (["s1"], [])
        looks(servers, hub, now + MINUTE + 2)
        assert (hub.stopped, hub.asked) == (["s1"], ["s1"])
        looks(servers, hub, now + 2 * MINUTE)
        assert (hub.stopped, hub.asked) == (["s1"], ["s1"]), "once was enough"

    def test_a_stop_holds_until_somebody_starts_it(self, site: Site, row: Reservation):
        hub, now = Hub(site), row.start + MINUTE
        servers = ClassServers(lambda: site, hub)
        running.servers(site, "ml", row.id, "stop", ["s2"], actor=TEACHER, now=now)
        looks(servers, hub, now + 1)
        assert sorted(hub.asked) == ["s1", "s3", "teacher"], "what was not up is not started"
        admission.admit(
            site, actor=Actor("s2"), server="", now=now + MINUTE,
            options=admission.StartOptions(reservation=seats(site, row.id)["s2"].id),
        )  # fmt: skip
        looks(servers, hub, now + 2 * MINUTE)
        assert hub.stopped == []
        running.servers(site, "ml", row.id, "stop", actor=TEACHER, now=now + 3 * MINUTE)
        looks(servers, hub, now + 3 * MINUTE + 1)
        assert sorted(hub.stopped) == ["s1", "s2", "s3", "teacher"]
        running.servers(site, "ml", row.id, "start", actor=TEACHER, now=now + 4 * MINUTE)
        hub.asked.clear()
        looks(servers, hub, now + 4 * MINUTE + 1)
        assert sorted(hub.asked) == ["s1", "s2", "s3", "teacher"]

    def test_what_was_wanted_is_done_by_a_service_that_was_started_again(self, site: Site, row: Reservation):
        hub, now = Hub(site), row.start + MINUTE
        looks(ClassServers(lambda: site, hub), hub, now)
        running.servers(site, "ml", row.id, "restart", ["s1"], actor=TEACHER, now=now + MINUTE)
        looks(ClassServers(lambda: site, hub), hub, now + MINUTE + 1)
        hub.asked.clear()
        looks(ClassServers(lambda: site, hub), hub, now + MINUTE + 2)
        assert hub.asked == ["s1"]

    def test_a_slow_stop_is_asked_for_again_only_after_a_while(self, site: Site, row: Reservation):
        hub, now = Hub(site), row.start + MINUTE
        servers = ClassServers(lambda: site, hub)
        looks(servers, hub, now)
        hub.stops_slowly = True
        running.servers(site, "ml", row.id, "stop", ["s1"], actor=TEACHER, now=now + MINUTE)
        for later in (1, SECOND, 2 * SECOND):
            looks(servers, hub, now + MINUTE + later)
        assert hub.stopped == ["s1"]
        looks(servers, hub, now + MINUTE + 20 * SECOND)
        assert hub.stopped == ["s1", "s1"]

    def test_never_more_at_once_than_the_machine_bears(self, site: Site, row: Reservation):
        hub, now = Hub(site), row.start + MINUTE
        servers = ClassServers(lambda: site, hub, at_once=10)
        looks(servers, hub, now)
        running.servers(site, "ml", row.id, "stop", actor=TEACHER, now=now + MINUTE)
        few = ClassServers(lambda: site, hub, at_once=2)
        looks(few, hub, now + MINUTE + 1)
        assert len(hub.stopped) == 2

    def test_who_is_restarted_as_the_class_settles_keeps_the_seat(self, site: Site, row: Reservation):
        hub = Hub(site)
        servers = ClassServers(lambda: site, hub)
        looks(servers, hub, row.start)
        settles = classes.get(site, "ml", row.id)[0].settles
        hub.visits |= {key: settles - 3 * MINUTE for key in hub.visits if key[0] == "s1"}
        looks(servers, hub, settles - 2 * MINUTE)
        running.servers(site, "ml", row.id, "restart", ["s1"], actor=TEACHER, now=settles - 1)
        looks(servers, hub, settles)
        looks(servers, hub, settles + SECOND)
        assert "s1" in seats(site, row.id, settles + SECOND)

    def test_whom_it_can_t_be_done_to(self, site: Site, row: Reservation):
        with pytest.raises(Invalid, match="zoe"):
            running.servers(site, "ml", row.id, "stop", ["s1", "zoe"], actor=TEACHER, now=row.start)
        with pytest.raises(NotNow):
            running.servers(site, "ml", row.id, "restart", actor=TEACHER, now=row.end - 4 * MINUTE)
        assert not [one for one in history.of(site.engine, row.id) if one.action == "class_servers"]


def test_who_has_no_seat_is_named_and_whether_the_hub_knows_them(site: Site, row: Reservation):
    changes.cancel(site, seats(site, row.id)["s3"].id, actor=Actor("s3"), now=row.start + MINUTE)
    found = running.look(site, "ml", row.id, actor=TEACHER, now=row.start + 2 * MINUTE)
    assert found.without == {"s3": True} and sum(found.free.values()) == 1
    with pytest.raises(NotAllowed):
        running.look(site, "ml", row.id, actor=Actor("s1"), now=row.start)
