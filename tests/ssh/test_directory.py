"""What the gateway knows of keys and servers, on both databases."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, insert, update

from mlmp_spawner.operations import ssh_keys
from mlmp_spawner.operations.admission import StartOptions, admit, gone, keep_way, started
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import cancel
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.ssh_names import principal_of
from mlmp_spawner.ssh.directory import DatabaseDirectory, Running, Standing
from mlmp_spawner.store.tables import ssh_key, users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR
from tests.operations.conftest import NOW, ann, ben, site
from tests.rules.test_ssh_keys import ED25519

__all__ = ["site"]


def directory(site: Site, now: int = NOW) -> DatabaseDirectory:
    return DatabaseDirectory(site.engine, now=lambda: now)


def register(site: Site, owner: str) -> ssh_keys.Key:
    return ssh_keys.add(site, owner, ED25519, actor=Actor(owner), now=NOW)


def running(site: Site, actor: Actor = ann, server: str = "") -> str:
    """A booking for the next hour whose server runs."""
    booked = book(site, BookingRequest(profile="gpu", duration=HOUR, server=server), actor=actor, now=NOW)
    admit(site, actor=actor, server=booked.server, options=StartOptions(reservation=booked.id), now=NOW)
    keep_way(site, booked.id, token=f"token of {booked.id}", now=NOW)
    started(site, booked.id, now=NOW)
    return booked.id


async def test_the_login_name_decides_whose_key_it_is_since_anybody_may_register_anybodys(site: Site) -> None:
    hers, his = register(site, "ann"), register(site, "ben")
    found = [await directory(site).login(name, hers.fingerprint) for name in ("ann", "ben", "eve", "")]
    assert [one and (one.name, one.key) for one in found] == [("ann", hers.id), ("ben", his.id), None, None]
    assert await directory(site).login("ann", "SHA256:other") is None


async def test_a_name_that_no_command_line_takes_is_written_as_its_word(site: Site) -> None:
    odd = "Zoë O'Hara, physics"
    with transaction(site.engine) as connection:
        connection.execute(insert(users).values(id=7, name=odd))
    key = register(site, odd)
    for name in (odd, principal_of(odd)):
        login = await directory(site).login(name, key.fingerprint)
        assert login is not None
        assert login.name == odd


async def test_the_word_of_one_name_is_not_taken_by_who_is_called_so(site: Site) -> None:
    """Somebody who is called as another's word, and registered the other's key, does not get the other's logins."""
    odd = "Zoë"
    with transaction(site.engine) as connection:
        connection.execute(insert(users), [{"id": 7, "name": odd}, {"id": 8, "name": principal_of(odd)}])
    key = register(site, odd)
    register(site, principal_of(odd))
    login = await directory(site).login(principal_of(odd), key.fingerprint)
    assert login is not None
    assert login.name == odd


async def test_a_standing_has_the_keys_and_the_servers_that_run(site: Site) -> None:
    key = register(site, "ann")
    first = running(site)
    second = running(site, server="second")
    book(site, BookingRequest(profile="gpu", start=NOW + 2 * HOUR, duration=HOUR), actor=ann, now=NOW)
    found = await directory(site).standings({1})
    end = NOW + HOUR
    servers = {
        "": Running(first, end, token=f"token of {first}"),
        "second": Running(second, end, token=f"token of {second}"),
    }
    assert found == {1: Standing("ann", frozenset({key.fingerprint}), servers)}


async def test_a_booking_whose_server_is_not_started_gives_no_way(site: Site) -> None:
    register(site, "ann")
    book(site, BookingRequest(profile="gpu", duration=HOUR), actor=ann, now=NOW)
    assert (await directory(site).standings({1}))[1].servers == {}


async def test_a_server_on_its_way_up_is_told_from_one_that_runs(site: Site) -> None:
    register(site, "ann")
    booked = book(site, BookingRequest(profile="gpu", duration=HOUR), actor=ann, now=NOW)
    admit(site, actor=ann, server=booked.server, options=StartOptions(reservation=booked.id), now=NOW)
    assert (await directory(site).standings({1}))[1].servers[booked.server].starting


async def test_the_token_of_a_server_is_forgotten_when_the_server_is_gone(site: Site) -> None:
    register(site, "ann")
    booking = running(site)
    gone(site, booking, now=NOW + 1)
    admit(site, actor=ann, server="", options=StartOptions(reservation=booking), now=NOW + 2)
    assert (await directory(site).standings({1}))[1].servers[""].token == ""


@pytest.mark.parametrize("how", ["over", "stopped", "released"])
async def test_it_is_gone_when_the_booking_is_over_or_the_server_stopped(site: Site, how: str) -> None:
    register(site, "ann")
    booking = running(site)
    at = NOW + HOUR if how == "over" else NOW + 1
    if how == "stopped":
        gone(site, booking, now=at)
    if how == "released":
        cancel(site, booking, actor=ann, now=at)
    assert (await directory(site, at).standings({1}))[1].servers == {}


async def test_who_has_no_key_any_more_has_no_standing(site: Site) -> None:
    key = register(site, "ann")
    register(site, "ben")
    ssh_keys.remove(site, "ann", key.id, actor=ann, now=NOW)
    assert set(await directory(site).standings({1, 2, 99})) == {2}


async def test_a_namesake_of_a_deleted_user_gets_nothing_of_theirs(site: Site) -> None:
    register(site, "ann")
    running(site)
    with transaction(site.engine) as connection:
        connection.execute(delete(ssh_key).where(ssh_key.c.user_id == 1))
        connection.execute(delete(users).where(users.c.id == 1))
        connection.execute(insert(users).values(id=9, name="ann"))
    register(site, "ann")
    assert (await directory(site).standings({9}))[9].servers == {}


async def test_a_renamed_user_is_known_by_the_new_name_alone(site: Site) -> None:
    key = register(site, "ann")
    running(site)
    with transaction(site.engine) as connection:
        connection.execute(update(users).where(users.c.id == 1).values(name="anna"))
    assert await directory(site).login("ann", key.fingerprint) is None
    assert (await directory(site).standings({1}))[1] == Standing("anna", frozenset({key.fingerprint}), {})


async def test_a_login_is_noted_at_its_key(site: Site) -> None:
    key = register(site, "ben")
    login = await directory(site).login("ben", key.fingerprint)
    assert login is not None
    await directory(site, NOW + 5).used(login)
    assert ssh_keys.of_owner(site, ben.name)[0].used_at == NOW + 5


async def test_a_look_is_not_held_up_by_logins_that_wait_for_the_database(site: Site) -> None:
    register(site, "ann")
    over = threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    waiting = asyncio.create_task(asyncio.to_thread(over.wait))
    try:
        assert (await asyncio.wait_for(directory(site).standings({1}), 10)).keys() == {1}
    finally:
        over.set()
        await waiting
