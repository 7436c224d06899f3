"""Guests beside whatever login there is: it stays as it is for all others, and can make nobody a guest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from jupyterhub.app import JupyterHub
from jupyterhub.auth import Authenticator, DummyAuthenticator
from jupyterhub.spawner import SpawnException
from sqlalchemy import Engine, insert
from tornado import web
from traitlets.config import Config

from mlmp_spawner.errors import TooManyRequests, Unavailable
from mlmp_spawner.logins.beside import WITH_GUESTS, beside
from mlmp_spawner.logins.guest_tries import LATELY, OF_ALL, OF_ONE, Tries, network_of
from mlmp_spawner.logins.guests import GuestLogin
from mlmp_spawner.logins.pam import PAMLogin
from mlmp_spawner.store import guests as store
from mlmp_spawner.store.course_tables import course
from mlmp_spawner.store.guests import Guest
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, now
from tests.login.hub import Book, Hub, Stuck

LOGINS: list[Any] = [
    "dummy", "shared-password", "pam", "mlmp_spawner.logins.pam.PAMLogin", "mlmp_spawner.logins.ldap.LDAPLogin",
    "mlmp_spawner.logins.oauth.OIDCLogin", "github", "jupyterhub.auth.NullAuthenticator", DummyAuthenticator, Book,
]  # fmt: skip
IN, OVER, NOBODY = "guest-aaaaaaaaaa", "guest-bbbbbbbbbb", "guest-cccccccccc"


def wrapped(login: Any, engine: Engine | None = None, **settings: Any) -> Any:
    """The class that a hub would have with this login."""
    c = Config()
    c.JupyterHub.authenticator_class = login
    c.MLMP.guest_isolation = "account"
    if engine is not None:
        c.MLMP.db_url = engine.url.render_as_string(hide_password=False)
    c.update(Config(settings))
    beside(c)
    beside(c)  # whoever calls it again changes nothing
    assert c.JupyterHub.authenticator_class == WITH_GUESTS
    return JupyterHub(config=c).authenticator_class(config=c)


@pytest.fixture
def hub(database: Engine) -> Iterator[Callable[[Any], Hub]]:
    """Makes a hub with a login."""
    made: list[Any] = []

    def make(login: Any) -> Hub:
        made.append(wrapped(login, database))
        return Hub(made[-1])

    yield make
    for one in made:
        one.close()


@pytest.fixture
def database(engine: Engine) -> Engine:
    """One with a guest who is in, and one whose time is over."""
    with transaction(engine) as connection:
        connection.execute(insert(course).values(
            name="ml", title="ML", profile="gpu", seats=1, nodes=[], setup=0, grace=0, hand_in=False, guests=5,
            look_in=False, created_at=0, version=1))  # fmt: skip
        for name, until in ((IN, now() + HOUR), (OVER, now() - 1)):
            store.add(connection, Guest(name, "ml", now() - HOUR, until, until + HOUR, entered_at=now() - HOUR))
    return engine


@pytest.mark.parametrize("login", LOGINS, ids=str)
def test_any_login_gets_the_guests_page_and_stays_what_it_was(login: Any) -> None:
    made = wrapped(login)
    assert isinstance(made, GuestLogin)
    theirs = type(made).__mro__[2]
    assert issubclass(theirs, Authenticator) and made.login_service == theirs().login_service


def test_where_nothing_isolates_guests_the_login_stays_as_it_is() -> None:
    c = Config()
    c.JupyterHub.authenticator_class = "dummy"
    beside(c)
    assert c.JupyterHub.authenticator_class == "dummy"


def test_the_settings_of_the_login_still_hold() -> None:
    shared = wrapped("shared-password", SharedPasswordAuthenticator={"user_password": "a password"})
    assert shared.user_password == "a password"
    assert wrapped(PAMLogin, PAMAuthenticator={"allowed_groups": {"lab"}}).allowed_groups == {"lab"}
    assert wrapped("dummy", Authenticator={"admin_users": {"ann"}}).admin_users == {"ann"}


async def test_no_login_makes_anybody_a_guest() -> None:
    made = wrapped("dummy", Authenticator={"allow_all": True})
    assert (await made.get_authenticated_user(None, {"username": "ann", "password": ""}))["name"] == "ann"
    for name in (IN, IN.upper(), "guest-", "guest-of-ann"):
        assert await made.get_authenticated_user(None, {"username": name, "password": ""}) is None
    mapped = wrapped("dummy", Authenticator={"allow_all": True, "username_map": {"ann": IN}})
    assert await mapped.get_authenticated_user(None, {"username": "ann", "password": ""}) is None
    assert not made.validate_username(IN) and made.validate_username("ann")


async def test_a_guest_is_known_until_the_end_of_their_time(hub: Callable[[Any], Hub]) -> None:
    here = hub(Book)
    known = [await here.login.refresh_user(here.person(name)) for name in (IN, OVER, NOBODY)]
    assert known == [True, False, False]
    await here.login.pre_spawn_start(here.users[IN], here.users[IN].spawners[""])
    with pytest.raises(SpawnException, match="time as a guest is over"):
        await here.login.pre_spawn_start(here.users[OVER], here.users[OVER].spawners[""])


async def test_a_login_that_asks_again_and_again_is_not_asked_about_guests(hub: Callable[[Any], Hub]) -> None:
    here = hub(Book)
    assert [await here.login.came_from_here(here.person(name)) for name in (IN, "ann")] == [False, True]
    here.login.says = {"ann": False}
    assert await here.login.refresh_user(here.users["ann"]) is False


async def test_a_guest_needs_no_account_of_the_login_before_there_is_a_server(hub: Callable[[Any], Hub]) -> None:
    here = hub(PAMLogin)
    await here.login.add_user(here.person(IN))  # PAM's would want the account to be there


class Erasing(Stuck):
    """A server that knows how to erase; ``left``: whose files are there."""

    left: ClassVar[set[str]] = set()
    held: ClassVar[bool] = False

    async def erase_guest(self) -> None:
        """As a file server that is away does it, where it is ``held``."""
        if self.held:
            raise Unavailable("The file server is away, 100% of it.")
        self.left.discard(self.user.name)


async def test_whoever_deletes_a_guest_in_the_hub_erases_what_is_left_before(hub: Callable[[Any], Hub]) -> None:
    here = hub(Book)
    here.users.settings["spawner_class"] = Erasing
    guest, other = here.person(IN), here.person("ann")
    Erasing.left, Erasing.held = {IN, "ann"}, True
    with pytest.raises(web.HTTPError) as refused:
        await here.login.delete_user(guest)
    assert refused.value.status_code == 503 and Erasing.left == {IN, "ann"}
    Erasing.held = False
    await here.login.delete_user(guest)
    await here.login.delete_user(other)
    assert Erasing.left == {"ann"}


async def test_a_spawner_that_can_erase_nothing_says_so(hub: Callable[[Any], Hub]) -> None:
    here = hub(Book)
    guest = here.person(IN)
    with pytest.raises(web.HTTPError, match="does not know how to erase"):
        await here.login.delete_user(guest)


# -- how often codes may be tried -----------------------------------------------------------------------------------


class Clock:
    """Seconds, as a test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def refused(tries: Tries, address: str) -> bool:
    try:
        tries.take(address)
    except TooManyRequests:
        return True
    return False


def test_a_class_behind_one_address_gets_in_at_once_and_a_guesser_waits(clock: Clock) -> None:
    tries = Tries(clock)
    assert not any(refused(tries, "192.0.2.1") for _ in range(OF_ONE[1]))
    assert refused(tries, "192.0.2.1")
    assert not refused(tries, "192.0.2.2")
    clock.now += 1
    assert not refused(tries, "192.0.2.1")


def test_many_guessers_stop_themselves_and_nobody_else(clock: Clock) -> None:
    tries = Tries(clock)
    guessers = [f"198.51.{n // 250}.{n % 250}" for n in range(OF_ALL[1])]
    for address in guessers:
        assert not refused(tries, address)
        tries.was_wrong(address)
    assert all(refused(tries, address) for address in guessers[:20])
    assert not refused(tries, "192.0.2.1")
    clock.now += LATELY
    assert not refused(tries, guessers[0])


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"), ("", ""), ("unix", "unix"), ("x" * 500, "x" * 64),
    ],
)  # fmt: skip
def test_of_ipv6_a_whole_network_counts_as_one_address(address: str, counts_as: str) -> None:
    assert network_of(address) == counts_as
