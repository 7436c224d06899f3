"""Tokens of the pods of an attempt."""

from __future__ import annotations

import pytest

from mlmp_spawner.jobs.pod_tokens import PodTokens


def test_a_token_is_good_for_its_attempt_alone_and_after_a_restart_too():
    token = PodTokens(b"of the service").make("abc-1")
    assert PodTokens(b"of the service").good("abc-1", token)
    assert not PodTokens(b"of the service").good("abc-2", token)
    assert not PodTokens(b"of the service").good("abc-11", token)


@pytest.mark.parametrize("token", ["", "0" * 64, "\udcff", "ä" * 64, "x" * 100_000])
def test_what_somebody_made_up_is_not_good(token):
    assert not PodTokens(b"of the service").good("abc-1", token)


def test_the_token_of_another_service_is_not_good():
    assert not PodTokens(b"of the service").good("abc-1", PodTokens(b"of another").make("abc-1"))


def test_without_a_secret_there_are_no_tokens():
    with pytest.raises(ValueError, match="anybody"):
        PodTokens(b"")
