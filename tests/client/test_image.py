"""``mlmp image``: which image is where, and pulling one."""

from __future__ import annotations

from typing import Any

import pytest

from mlmp_spawner.client.commands import image
from tests.client.answers import at
from tests.client.conftest import CommandLine
from tests.client.standin import Answer, StandIn, problem

PRELOAD = "images/torch/preload"


def there(node: str, state: str, **facts: Any) -> dict[str, Any]:
    return {"node": node, "state": state, "since": None, "problem": "", "retries": False, "asked_by": "", **facts}


def images(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One image on these nodes; it is offered on ``a`` and ``b``."""
    torch = {"name": "torch", "reference": "example.org/torch:1", "description": "", "preload": False}
    away = [{"name": one["node"], "away": None} for one in nodes]
    items = [{**torch, "offered": ["a", "b"], "nodes": list(nodes)}]
    return {"items": items, "nodes": away, "seen_at": at(0), "problem": None, **more}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "STEP", 0.01)


def test_it_lists_what_is_where(mlmp: CommandLine, server: StandIn) -> None:
    failed = there("b", "failed", problem="manifest unknown \x1b[31m", retries=True)
    server.on["GET images"] = Answer(200, images(there("a", "present"), failed, there("c", "absent")))
    ran = mlmp("image", "ls")
    assert ran.status == 0, ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["torch", "a", "there"] in lines
    assert "failed; it is tried again" in ran.out and "manifest unknown" in ran.out
    assert "\x1b[31m" not in ran.out
    assert not any("c" in line for line in lines)  # no profile offers it there


def test_json_is_the_answer_of_the_service(mlmp: CommandLine, server: StandIn) -> None:
    answer = images(there("a", "present"))
    server.on["GET images"] = Answer(200, answer)
    assert mlmp("image", "ls", "--json").json == answer


def test_what_keeps_it_from_being_right_is_said_beside_it(mlmp: CommandLine, server: StandIn) -> None:
    answer = images(there("a", "present"), problem="The Kubernetes cluster does not answer.")
    answer["nodes"][0]["away"] = "its disk is nearly full"
    server.on["GET images"] = Answer(200, answer)
    ran = mlmp("image", "ls")
    assert "does not answer" in ran.err
    assert "a: its disk is nearly full; nothing is pulled there now" in ran.err


def test_an_image_is_asked_for_everywhere_or_on_some_nodes(mlmp: CommandLine, server: StandIn) -> None:
    server.on[f"POST {PRELOAD}"] = Answer(202, images(there("a", "pulling", since=at(0)), there("b", "present")))
    ran = mlmp("image", "preload", "torch")
    assert ran.status == 0, ran.err
    assert server.asked[0].body == {"nodes": None}
    assert "a  pulling  since" in ran.out
    assert "mlmp image ls" in ran.out
    mlmp("image", "preload", "torch", "--node", "a", "--node", "b")
    assert server.asked[1].body == {"nodes": ["a", "b"]}


def test_with_wait_it_returns_when_it_is_on_all_that_were_meant(mlmp: CommandLine, server: StandIn) -> None:
    server.on[f"POST {PRELOAD}"] = Answer(202, images(there("a", "queued"), there("b", "absent")))
    server.on["GET images"] = [
        Answer(200, images(there("a", "pulling"), there("b", "absent"))),
        Answer(200, images(there("a", "present"), there("b", "absent"))),
    ]
    ran = mlmp("image", "preload", "torch", "--node", "a", "--wait")
    assert (ran.status, ran.out.split()) == (0, ["a", "there"])
    assert server.times("GET", "images") == 2


def test_with_wait_a_failure_is_told_with_its_reason(mlmp: CommandLine, server: StandIn) -> None:
    server.on[f"POST {PRELOAD}"] = Answer(202, images(there("a", "pulling"), there("b", "present")))
    server.on["GET images"] = Answer(200, images(there("a", "failed", problem="no such tag", retries=True)))
    ran = mlmp("image", "preload", "torch", "--wait")
    assert ran.status == 1
    assert "torch could not be pulled to a: no such tag" in ran.err
    assert "tried again" in ran.err


def test_it_is_called_off(mlmp: CommandLine, server: StandIn) -> None:
    server.on[f"DELETE {PRELOAD}"] = Answer(200, images(there("a", "absent")))
    assert mlmp("image", "cancel", "torch").status == 0
    assert mlmp("image", "cancel", "torch", "--node", "a").status == 0
    assert [one.query for one in server.asked] == [{}, {"node": "a"}]


def test_a_refusal_has_its_exit_status(mlmp: CommandLine, server: StandIn) -> None:
    server.on["GET images"] = problem(404, "not_found", "Servers are processes of this machine here.")
    ran = mlmp("image", "ls")
    assert ran.status == 1
    assert "processes of this machine" in ran.err
    server.on["GET images"] = problem(403, "no_access", "Your token lacks the scope custom:mlmp:courses.")
    assert mlmp("image", "ls").status == 3
