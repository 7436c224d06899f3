"""What becomes of those who are known no more, round by round, with the hub's own database."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from jupyterhub.user import User

from mlmp_spawner.logins.watch import Watch
from tests.login.hub import Book, Hub


def watched(**settings: Any) -> tuple[Book, Hub, Watch]:
    """A login whose people lose all at the first no."""
    login = Book(**{"grace": 0, "allow_all": True} | settings)
    hub = Hub(login)
    return login, hub, Watch(login, cast(Any, hub))


async def a_round(watch: Watch) -> None:
    """As the loop does it."""
    await asyncio.wait_for(watch.ask_all(), 5)
    await asyncio.wait_for(watch.end_refused(), 5)


async def test_whoever_is_known_no_more_loses_all_and_nobody_else_does() -> None:
    login, hub, watch = watched()
    for name in ("ann", "boss", "cat"):
        hub.person(name)
    login.says = {"ann": False, "boss": True}
    await a_round(watch)
    assert [hub.has_token(name) for name in ("ann", "boss", "cat")] == [False, True, True]


async def test_a_server_whose_stop_never_returns_holds_up_nobody() -> None:
    """A pod on a dead node. The others lose their tokens in the same round, and their servers too."""
    login, hub, watch = watched()
    ann, ben = hub.person("ann", server=True), hub.person("ben", server=True)
    hub.person("boss")
    login.says = {"ann": False, "ben": False, "boss": True}
    for _ in range(2):
        await a_round(watch)
    assert [hub.has_token(name) for name in ("ann", "ben", "boss")] == [False, False, True]
    for user in (ann, ben):
        assert user.spawners[""].pending == "stop"
        assert user.spawners[""].stops == 1


async def test_a_failure_with_one_person_is_no_failure_for_the_others() -> None:
    login, hub, watch = watched()
    for name in ("ann", "ben", "boss"):
        hub.person(name)
    login.says = {"ann": False, "ben": False, "boss": True}
    login.breaks = {"ann"}
    await a_round(watch)
    assert [hub.has_token(name) for name in ("ann", "ben", "boss")] == [True, False, True]


@pytest.mark.parametrize("others", [{}, {"dan": "silence"}], ids=["all asked", "all who were answered for"])
async def test_when_all_are_gone_at_once_that_is_taken_for_a_mistake(others: dict[str, str]) -> None:
    login, hub, watch = watched()
    names = ["ann", "ben", "cat"]
    for name in [*names, *others]:
        hub.person(name)
    login.says = dict.fromkeys(names, True)
    await a_round(watch)
    login.says = dict.fromkeys(names, False)
    for _ in range(3):
        await a_round(watch)
    assert login.refused == {}
    assert all(hub.has_token(name) for name in names)


async def test_they_are_believed_to_be_gone_as_soon_as_somebody_is_known() -> None:
    login, hub, watch = watched()
    for name in ("ann", "ben", "cat"):
        hub.person(name)
    login.says = {"ann": False, "ben": False, "cat": False}
    await a_round(watch)
    hub.person("boss")
    login.says["boss"] = True
    await a_round(watch)
    assert [hub.has_token(name) for name in ("ann", "ben", "cat", "boss")] == [False, False, False, True]


async def test_accounts_that_nobody_is_asked_about_are_nobody_who_is_known() -> None:
    login, hub, watch = watched(never_asked={"robot"})
    for name in ("ann", "ben", "cat", "robot"):
        hub.person(name)
    login.says = {"ann": False, "ben": False, "cat": False}
    await a_round(watch)
    assert hub.has_token("ann")


async def test_a_no_to_a_request_starts_no_servers_and_ends_none_before_all_are_asked() -> None:
    login, hub, watch = watched()
    ann = hub.person("ann")
    hub.person("boss")
    login.says = {"ann": False, "boss": True}
    assert await login.refresh_user(ann) is False
    with pytest.raises(Exception, match="not known any more"):
        await login.pre_spawn_start(ann, ann.spawners[""])
    await watch.end_refused()
    assert hub.has_token("ann")
    await a_round(watch)
    assert not hub.has_token("ann")


async def test_whoever_logs_in_while_others_are_asked_about_is_known() -> None:
    login, hub, _ = watched()
    ann: User = hub.person("ann")
    login.says = {"ann": False}
    assert await login.look(ann) is False
    await login.run_post_auth_hook(None, {"name": "ann"})
    login.refuse(ann)
    assert login.refused == {}
