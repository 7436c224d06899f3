"""Who somebody is by what they type, with a real directory; and a directory that says nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ldapauthenticator.ldapauthenticator import TlsStrategy
from tornado import web

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.logins.ldap import LDAPLogin
from tests.login.directory import BASE, READER, Directory
from tests.login.provider import free_port

ANN = cast(Any, SimpleNamespace(name="ann"))
STARTTLS_DONE = bytes.fromhex("7807 0a0100 0400 0400")


@pytest.fixture(scope="module")
def directory() -> Iterator[Directory]:
    made = Directory()
    made.person("ann", "ann's own", "gpu-users")
    yield made
    made.close()


@pytest.fixture
def login(directory: Directory) -> LDAPLogin:
    return LDAPLogin(
        server_address="localhost", server_port=directory.port, lookup_dn_search_user=READER,
        lookup_dn_search_password="the reader's", user_search_base=f"ou=people,{BASE}",
        group_search_base=f"ou=groups,{BASE}", allow_all=True,
        tls_kwargs={"validate": ssl.CERT_REQUIRED, "ca_certs_file": str(directory.ca)},
    )  # fmt: skip


async def name_of(login: LDAPLogin, typed: str, password: str = "ann's own") -> str | None:
    """The hub's name of whoever logs in so."""
    found = await login.get_authenticated_user(None, {"username": typed, "password": password})
    return found and found["name"]


@pytest.mark.parametrize("typed", ["ann", "Ann"])
async def test_somebody_is_called_as_the_directory_has_them(typed: str, login: LDAPLogin) -> None:
    assert await name_of(login, typed) == "ann"


@pytest.mark.parametrize("typed", ["ann ", "  ann", "ａｎｎ"], ids=["space", "spaces before", "wide"])
async def test_what_is_only_the_same_to_the_directory_is_nobody(typed: str, login: LDAPLogin) -> None:
    """Else one person would be many here, each with limits of their own."""
    assert await name_of(login, typed) is None


async def test_of_several_names_that_in_the_entrys_dn_counts(login: LDAPLogin, directory: Directory) -> None:
    directory.person("ben", "ben's own")
    directory.also("ben", "aben")
    assert await name_of(login, "ben", "ben's own") == "ben"
    assert await name_of(login, "aben", "ben's own") is None


async def test_names_that_cannot_be_read_say_nothing_of_anybody(login: LDAPLogin, directory: Directory) -> None:
    directory.also("ann", "ann", "employeeNumber")
    login.user_attribute = "employeeNumber"
    with pytest.raises(Unavailable, match="read 'employeeNumber'"):
        await login.ask(ANN)


async def test_a_directory_that_is_away_is_no_no_and_a_503_to_who_logs_in(login: LDAPLogin) -> None:
    login.server_port = free_port()
    with pytest.raises(Unavailable, match="does not answer"):
        await login.ask(ANN)
    with pytest.raises(web.HTTPError, match=r"HTTP 503.*directory does not answer"):
        await name_of(login, "ann")


@pytest.fixture
def silent(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of one that takes every connection and says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def take() -> None:
        try:
            while True:
                taken.append(listener.accept()[0])
                if request.param != "nothing":
                    asked = taken[-1].recv(1024)
                    number = asked[2 : 4 + asked[3]]  # with its type and length
                    if request.param == "an answer to nobody":
                        number = bytes([2, 1, (number[-1] + 1) % 128])
                    taken[-1].sendall(bytes([0x30, len(number + STARTTLS_DONE)]) + number + STARTTLS_DONE)
        except OSError:
            return

    threading.Thread(target=take, daemon=True).start()
    yield int(listener.getsockname()[1])
    listener.shutdown(socket.SHUT_RDWR)
    for one in [listener, *taken]:
        one.close()


@pytest.mark.parametrize(
    ("strategy", "silent"),
    [
        *[(strategy, "nothing") for strategy in TlsStrategy],
        (TlsStrategy.before_bind, "nothing after StartTLS"),
        (TlsStrategy.before_bind, "an answer to nobody"),
    ],
    indirect=["silent"],
)
async def test_logins_go_on_after_a_time_of_silence(strategy: TlsStrategy, silent: int) -> None:
    login = LDAPLogin(server_address="127.0.0.1", server_port=silent, tls_strategy=strategy, timeout=1)
    answers = await asyncio.gather(*[login.ask(ANN) for _ in range(4)], return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable] * 4
    assert await asyncio.wait_for(login._within(lambda: "an answer"), 2) == "an answer"
