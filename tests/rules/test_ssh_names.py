"""Host names and principals of people's servers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.rules.ssh_names import host_of, principal_of, server_of

NAMES = st.one_of(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True), st.text(min_size=1, max_size=30))
SERVERS = st.one_of(st.just(""), st.from_regex(r"[a-z0-9]+(-[a-z0-9]+){0,3}", fullmatch=True))


def test_a_plain_name_is_its_own_host():
    assert host_of("ann") == "ann"
    assert host_of("ann", "abcd2345") == "ann--abcd2345"


@given(NAMES, SERVERS)
def test_a_host_leads_back_to_its_server(user: str, server: str):
    assert server_of(user, host_of(user, server)) == server


@given(NAMES, NAMES, SERVERS)
def test_a_host_is_nobody_else_s(user: str, other: str, server: str):
    if principal_of(user) == user and not user.startswith(f"{principal_of(other)}--"):
        assert user == other or server_of(other, host_of(user, server)) is None


@given(NAMES, SERVERS)
def test_a_host_is_one_plain_word(user: str, server: str):
    """Nothing that a shell, ssh's patterns or a list of principals reads another way."""
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", host_of(user, server))
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", principal_of(user))


@pytest.mark.parametrize(
    "host", ["", "ben", "ann-", "ann--", "ann---x", "ann--A", "ann--x y", "ann--x--y", "xann", "ann\n"]
)
def test_what_is_no_server_of_hers(host: str):
    assert server_of("ann", host) is None


def test_who_is_called_like_a_server_of_somebody_else_has_a_server_of_their_own():
    assert host_of("ann--x") == host_of("ann", "x") == "ann--x"
    assert server_of("ann--x", "ann--x") == "" and server_of("ann", "ann--x") == "x"
    # So the login decides whose it is, and the principals keep the two apart.
    assert principal_of("ann--x") != principal_of("ann")


@pytest.mark.parametrize("server", ["A", "a b", "a--b", "-a", "a*"])
def test_a_server_that_no_host_name_can_hold(server: str):
    with pytest.raises(ValueError, match="host name"):
        host_of("ann", server)
