"""How much of the gateway one address or one person may take."""

from __future__ import annotations

import pytest

from mlmp_spawner.errors import TooManyRequests
from mlmp_spawner.ssh.limits import Limits, network
from mlmp_spawner.ssh.settings import MLMPSSHGateway


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limits(clock: Clock, **settings: float) -> Limits:
    return Limits(MLMPSSHGateway(**settings), clock=clock)


class Stranger:
    """A connection that was not turned away yet."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.told = ""

    def turn_away(self, why: str) -> None:
        self.told = why


def come(of: Limits, address: str) -> None:
    stranger = Stranger(address)
    of.came(stranger)
    of.went(stranger)


def test_failures_are_slowed_for_their_address_and_forgiven_with_time(clock: Clock) -> None:
    mine = limits(clock, failures_at_once=3, failures_per_minute=6)
    for _ in range(3):
        come(mine, "192.0.2.1")
        mine.failed("192.0.2.1")
    with pytest.raises(TooManyRequests, match="failed; try again in 10 s"):
        come(mine, "192.0.2.1")
    come(mine, "192.0.2.2")
    clock.now += 10
    come(mine, "192.0.2.1")
    mine.failed("192.0.2.1")
    with pytest.raises(TooManyRequests):
        come(mine, "192.0.2.1")


def test_logins_that_succeed_are_not_counted(clock: Clock) -> None:
    mine = limits(clock, failures_at_once=1, failures_per_minute=1)
    for _ in range(100):
        come(mine, "192.0.2.1")


def test_no_limit_is_no_limit(clock: Clock) -> None:
    mine = limits(clock, failures_at_once=1, failures_per_minute=0)
    for _ in range(100):
        come(mine, "192.0.2.1")
        mine.failed("192.0.2.1")


def test_an_address_holds_only_so_many_connections_that_have_not_logged_in(clock: Clock) -> None:
    mine = limits(clock, unknown_connections_per_address=2)
    first, second = Stranger("192.0.2.1"), Stranger("192.0.2.1")
    mine.came(first)
    mine.came(second)
    with pytest.raises(TooManyRequests, match="from this address"):
        come(mine, "192.0.2.1")
    come(mine, "192.0.2.2")
    mine.went(first)
    come(mine, "192.0.2.1")


def test_where_silent_connections_take_all_the_newcomer_is_let_in_and_the_oldest_has_to_go(clock: Clock) -> None:
    mine = limits(clock, unknown_connections=3)
    strangers = [Stranger(f"192.0.2.{number}") for number in range(5)]
    for each in strangers:
        mine.came(each)
    assert [bool(each.told) for each in strangers] == [True, True, False, False, False]


def test_who_has_to_go_is_of_the_address_that_holds_the_most(clock: Clock) -> None:
    mine = limits(clock, unknown_connections=4)
    honest = Stranger("192.0.2.1")
    mine.came(honest)
    silent = [Stranger("192.0.2.9") for _ in range(10)]
    for each in silent:
        mine.came(each)
    assert not honest.told
    assert [bool(each.told) for each in silent] == [True] * 7 + [False] * 3


def test_an_address_may_connect_only_so_often_whoever_is_behind_it(clock: Clock) -> None:
    mine = limits(clock, connections_at_once=3, connections_per_minute=6)
    for _ in range(3):
        come(mine, "192.0.2.1")
    with pytest.raises(TooManyRequests, match="too many connections from this address; try again in 10 s"):
        come(mine, "192.0.2.1")
    come(mine, "192.0.2.2")
    clock.now += 10
    come(mine, "192.0.2.1")


def test_a_class_behind_one_address_may_come_all_at_once(clock: Clock) -> None:
    mine = limits(clock)
    for _ in range(200):
        mine.came(Stranger("192.0.2.1"))


def test_one_person_holds_only_so_many_sessions_and_opens_them_only_so_fast(clock: Clock) -> None:
    mine = limits(clock, connections_per_user=2, opens_per_minute=3)
    mine.open(1)
    mine.open(1)
    with pytest.raises(TooManyRequests, match="more than 2 sessions"):
        mine.open(1)
    mine.open(2)
    for _ in range(3):
        mine.close(1)
    mine.open(1)
    mine.close(1)
    with pytest.raises(TooManyRequests, match="too many sessions a minute; try again in 20 s"):
        mine.open(1)
    mine.close(1)
    clock.now += 20
    mine.open(1)


def test_nothing_is_left_of_who_is_gone(clock: Clock) -> None:
    mine = limits(clock)
    stranger = Stranger("192.0.2.1")
    mine.came(stranger)
    mine.logged_in(1)
    mine.open(1)
    assert not mine.nothing_counted
    mine.went(stranger)
    mine.close(1)
    mine.logged_out(1)
    assert mine.nothing_counted


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("?", "?"),
    ],
)
def test_of_ipv6_a_whole_network_counts_as_one(address: str, counted: str) -> None:
    assert network(address) == counted
