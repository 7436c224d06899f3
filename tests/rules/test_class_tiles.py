"""How a seat is, as who teaches sees it; what they want of its server."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules import class_servers, class_tiles
from mlmp_spawner.rules.class_servers import What, Wish
from mlmp_spawner.units import MINUTE
from tests.rules.test_class_servers import FACTS, NOW, SEAT

WISHES = st.none() | st.builds(Wish, st.sampled_from(get_args(What)), st.integers(NOW - 5, NOW))
RUNNING = replace(SEAT, starting_at=NOW - 4 * MINUTE, started_at=NOW - 3 * MINUTE)


@given(FACTS, WISHES, st.booleans(), st.text(max_size=5))
def test_every_seat_is_something_and_what_is_stuck_has_a_reason(facts, wish, came, problem):
    seat = replace(SEAT, **facts)
    status, why = class_tiles.status_of(NOW, seat, came=came, problem=problem, wish=wish)
    assert status in class_tiles.STATUSES
    assert bool(why) == (status == "stuck")
    assert not (class_servers.is_to_start(seat, wish) and class_servers.is_to_stop(seat, wish))


def test_how_a_seat_is_in_words():
    def status(seat, **more):
        return class_tiles.status_of(NOW, seat, **more)[0]

    assert status(SEAT) == "waiting"
    assert class_tiles.status_of(NOW, SEAT, problem="No image.") == ("stuck", "No image.")
    assert status(replace(SEAT, starting_at=NOW - MINUTE)) == "starting"
    assert class_tiles.status_of(NOW, replace(SEAT, starting_at=NOW - 4 * MINUTE)) == (
        "stuck", "It has been starting for 4 min."
    )  # fmt: skip
    assert (status(RUNNING), status(RUNNING, came=True)) == ("ready", "in")
    assert status(RUNNING, came=True, wish=Wish("restart", NOW)) == "stopping"
    gone = replace(RUNNING, stopped_at=NOW - 1)
    assert (status(gone), status(gone, wish=Wish("restart", NOW))) == ("down", "waiting")
    assert status(SEAT, wish=Wish("stop", NOW)) == "down"
    assert status(replace(RUNNING, end_reason="no_show")) == "over"


def test_a_wish_is_over_when_the_server_was_started_later():
    assert Wish("stop", RUNNING.starting_at).is_open(RUNNING)
    assert not Wish("stop", RUNNING.starting_at - 1).is_open(RUNNING)
    assert Wish("stop", NOW).is_open(SEAT)


def test_they_are_counted_in_their_order():
    assert list(class_tiles.counts(["stuck", "in", "stuck"]).items()) == [("in", 1), ("stuck", 2)]
