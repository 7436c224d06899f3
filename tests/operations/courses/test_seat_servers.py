"""The servers of seats: started in waves, kept where somebody is, given back where nobody is."""

from __future__ import annotations

import pytest

from mlmp_spawner.errors import Conflict, TooManyRequests, Unavailable
from mlmp_spawner.operations import admission
from mlmp_spawner.operations.admission import StartOptions, admit
from mlmp_spawner.operations.courses.servers import ClassServers
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.units import MINUTE, SECOND
from tests.operations.courses.played_hub import PlayedHub, looks
from tests.operations.courses.term import BEGINS, STUDENTS, course, opened, seats, takes


class TestServers:
    def test_they_are_started_in_waves_in_the_order_of_the_roster(self, site: Site):
        course(site, seats=6)
        row = opened(site)
        hub = PlayedHub(site)
        hub.slow = True
        servers = ClassServers(lambda: site, hub, at_once=2)
        looks(servers, hub, row.start)
        looks(servers, hub, row.start + SECOND)
        assert hub.asked == ["s1", "s2"]
        for name in ("s1", "s2"):
            hub.comes_up(seats(site, row.id)[name])
        looks(servers, hub, row.start + 20 * SECOND)
        assert hub.asked == ["s1", "s2", "s3", "s4"]
        looks(servers, hub, row.start + MINUTE)
        assert len(hub.asked) == 4

    def test_one_that_fails_is_shown_and_tried_again_and_keeps_no_other_from_starting(self, site: Site):
        course(site, seats=3)
        row = opened(site)
        hub = PlayedHub(site)
        hub.refusals["s1"] = Conflict("The volume is not there.")
        servers = ClassServers(lambda: site, hub, at_once=1)
        for second in range(4):
            looks(servers, hub, row.start + second * SECOND)
        assert hub.asked == ["s1", "s2", "s3"]
        given = seats(site, row.id)
        assert servers.problem(given["s1"]) == "The volume is not there."
        assert servers.problem(given["s2"]) == ""
        looks(servers, hub, row.start + 20 * SECOND)
        assert hub.asked[3:] == ["s1"]
        hub.refusals.clear()
        looks(servers, hub, row.start + 25 * SECOND)
        looks(servers, hub, row.start + 50 * SECOND)
        assert hub.asked[4:] == ["s1"] and servers.problem(seats(site, row.id)["s1"]) == ""

    def test_a_server_that_its_owner_stopped_is_not_started_again(self, site: Site):
        course(site, seats=1)
        row = opened(site)
        hub = PlayedHub(site)
        servers = ClassServers(lambda: site, hub)
        looks(servers, hub, row.start)
        admission.gone(site, seats(site, row.id)["s1"].id, now=row.start + MINUTE)
        looks(servers, hub, row.start + 2 * MINUTE)
        assert hub.asked == ["s1"]

    def test_a_hub_that_has_too_much_to_do_is_asked_again(self, site: Site):
        course(site, seats=1)
        row = opened(site)
        hub = PlayedHub(site)
        hub.refusals["s1"] = TooManyRequests("Too many users are starting.")
        servers = ClassServers(lambda: site, hub)
        looks(servers, hub, row.start)
        hub.refusals.clear()
        looks(servers, hub, row.start + 16 * SECOND)
        assert hub.asked == ["s1", "s1"]

    def test_seats_in_which_somebody_is_are_kept_and_the_others_given_back(self, site: Site):
        course(site, seats=4)
        row = opened(site)
        hub = PlayedHub(site)
        servers = ClassServers(lambda: site, hub)
        looks(servers, hub, row.start)
        looks(servers, hub, row.start + MINUTE)
        hub.visits["s1", ""] = row.start + 4 * MINUTE  # somebody comes early
        looks(servers, hub, row.start + 5 * MINUTE)
        hub.visits["s3", ""] = BEGINS + 5 * MINUTE
        looks(servers, hub, BEGINS + 14 * MINUTE)
        assert len(seats(site, row.id, BEGINS + 14 * MINUTE)) == 4
        looks(servers, hub, BEGINS + 15 * MINUTE)
        left = seats(site, row.id, BEGINS + 15 * MINUTE)
        assert set(left) == {"s1", "s3"}
        assert servers.seen_at(left["s3"]) == BEGINS + 5 * MINUTE
        assert takes(site, row.id, BEGINS + 15 * MINUTE) == {"gpu-a": 3}

    def test_nothing_is_given_back_while_it_can_t_be_told_who_is_there(self, site: Site):
        course(site, seats=2)
        row = opened(site)
        hub = PlayedHub(site)
        looks(ClassServers(lambda: site, hub), hub, row.start)
        hub.visits["s1", ""] = BEGINS + MINUTE
        again = ClassServers(lambda: site, hub)  # the service was started again, and does not know who came before
        hub.away = True
        with pytest.raises(Unavailable):
            looks(again, hub, BEGINS + 15 * MINUTE)
        hub.away = False
        looks(again, hub, BEGINS + 16 * MINUTE)
        assert set(seats(site, row.id, BEGINS + 16 * MINUTE)) == {"s1", "s2"}
        looks(again, hub, BEGINS + 17 * MINUTE)
        assert set(seats(site, row.id, BEGINS + 17 * MINUTE)) == {"s1"}

    def test_a_seat_whose_server_is_just_being_started_is_not_called_unused(self, site: Site):
        course(site, seats=2)
        row = opened(site)
        hub = PlayedHub(site)
        servers = ClassServers(lambda: site, hub)
        hub.refusals = {name: Conflict("Not yet.") for name in STUDENTS}
        looks(servers, hub, row.start)
        now = BEGINS + 15 * MINUTE
        admit(site, actor=Actor("s2"), server="", options=StartOptions(), now=now - MINUTE)
        looks(servers, hub, now)
        assert set(seats(site, row.id, now)) == {"s2"}
