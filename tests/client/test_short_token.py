"""What `mlmp ssh` sends to a server: nothing that is worth keeping."""

from __future__ import annotations

import pytest

from mlmp_spawner.client.config import Access
from mlmp_spawner.client.problems import NotReachable
from mlmp_spawner.client.short_token import SECONDS, short_token
from tests.client.standin import Answer, StandIn

TOKENS = "POST /hub/api/users/ann/tokens"


def mine(server: StandIn) -> Access:
    return Access(server.url, "all-powerful", "the test")


def test_a_token_for_this_one_server_is_asked_for_and_used(server: StandIn) -> None:
    server.on[TOKENS] = Answer(201, {"token": "short"})
    assert short_token(mine(server), "ann", "train") == "short"
    (asked,) = server.asked
    assert asked.body["scopes"] == ["access:servers!server=ann/train"]
    assert asked.body["expires_in"] == SECONDS


@pytest.mark.parametrize("status", [400, 403, 404])
def test_one_that_may_make_no_others_is_used_itself(server: StandIn, status: int) -> None:
    server.on[TOKENS] = Answer(status, {"message": "no"})
    assert short_token(mine(server), "ann", "") == "all-powerful"


@pytest.mark.parametrize("answer", [Answer(503, "away"), Answer(429, {}), Answer(drop=True), Answer(201, "no JSON")])
def test_while_the_hub_is_away_nothing_stronger_is_sent_instead(server: StandIn, answer: Answer) -> None:
    server.on[TOKENS] = answer
    with pytest.raises(NotReachable):
        short_token(mine(server), "ann", "")
