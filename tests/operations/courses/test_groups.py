"""The hub's groups follow the rosters, whatever is killed and whoever else changes them; others' are never touched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import pytest
from sqlalchemy import insert

from mlmp_spawner.errors import Conflict, NotAllowed, NotFound, NotNow, Unavailable
from mlmp_spawner.hub import HubClient
from mlmp_spawner.operations.courses import courses, roster
from mlmp_spawner.operations.courses.groups import AT_ONCE, GroupKeeper
from mlmp_spawner.operations.courses.roster import Wish
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import course_yaml
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from tests.operations.conftest import NOW, ann

GROUP = "course-ml"


class PlayedHub(HubClient):
    """A hub's groups, with the refusals of the real one. ``dies_after``: so many changes, then it does not answer."""

    def __init__(self, site: Site) -> None:
        super().__init__("http://127.0.0.1:1/hub/api", "none")
        self.site = site
        self.members: dict[str, set[str]] = {}
        self.known = {"ann", "ben", "eve"}
        self.said: list[tuple[str, str]] = []
        self.dies_after: int | None = None
        self.may_make_users = True

    def _do(self, what: str, name: str, needed: Iterable[str] = ()) -> None:
        if self.dies_after is not None and len(self.said) >= self.dies_after:
            raise Unavailable("The hub does not answer just now.")
        self.said.append((what, name))
        if not set(needed) <= self.known:
            raise NotNow("No such user")

    async def group_members(self) -> dict[str, frozenset[str]]:
        return {name: frozenset(members) for name, members in self.members.items()}

    async def make_group(self, name: str) -> None:
        self._do("make", name)
        if name in self.members:
            raise Conflict(f"Group {name} already exists")
        self.members[name] = set()

    async def delete_group(self, name: str) -> None:
        self._do("delete", name)
        self.members.pop(name, None)

    async def add_to_group(self, name: str, users: Sequence[str]) -> None:
        self._do("add", name, users)
        if name not in self.members:
            raise NotFound("No such group")
        assert len(users) <= AT_ONCE
        self.members[name] |= set(users)

    async def remove_from_group(self, name: str, users: Sequence[str]) -> None:
        self._do("remove", name, users)
        self.members[name] -= set(users)

    async def make_user(self, name: str) -> None:
        self._do("user", name)
        if not self.may_make_users:
            raise NotAllowed("Action is not authorized with current scopes; requires any of [admin:users]")
        if name == "refused":
            raise NotNow("Failed to create user")
        self.logs_in(name)

    def logs_in(self, name: str) -> None:
        """Somebody becomes a user."""
        self.known.add(name)
        with transaction(self.site.engine) as connection:
            connection.execute(insert(users).values(id=100 + len(self.known), name=name))


@pytest.fixture
def hub(site: Site) -> PlayedHub:
    return PlayedHub(site)


def keeper(hub: PlayedHub, *, make_users: bool = False) -> GroupKeeper:
    return GroupKeeper(lambda: hub.site, hub, make_users=make_users)


def follow(hub: PlayedHub, *, make_users: bool = False) -> None:
    """One look of a service that was just started."""
    asyncio.run(keeper(hub, make_users=make_users).follow(NOW))


def course(site: Site, *students: str) -> None:
    said = {"name": "ml", "title": "ML", "profile": "gpu", "seats": 4, "students": list(students)}
    courses.apply(site, course_yaml.parse(said), actor=ann, now=NOW)


def test_a_course_gets_a_group_with_those_whom_the_hub_knows(site: Site, hub: PlayedHub) -> None:
    course(site, "ben", "zoe")
    follow(hub)
    assert hub.members == {GROUP: {"ann", "ben"}}
    hub.logs_in("zoe")
    follow(hub)
    assert hub.members == {GROUP: {"ann", "ben", "zoe"}}
    before = list(hub.said)
    follow(hub)
    assert hub.said == before


def test_the_roster_is_the_truth_whoever_changes_the_group(site: Site, hub: PlayedHub) -> None:
    course(site, "ben")
    follow(hub)
    hub.members[GROUP] = {"eve", "ben"}
    follow(hub)
    assert hub.members[GROUP] == {"ann", "ben"}
    del hub.members[GROUP]
    follow(hub)
    assert hub.members[GROUP] == {"ann", "ben"}


def test_who_is_taken_off_leaves_the_group_and_it_goes_with_the_course(site: Site, hub: PlayedHub) -> None:
    course(site, "ben")
    follow(hub)
    roster.change(site, "ml", Wish(remove=("ben",)), actor=ann, now=NOW)
    follow(hub)
    assert hub.members == {GROUP: {"ann"}}
    courses.remove(site, "ml", actor=ann, now=NOW)
    follow(hub)
    assert hub.members == {}
    hub.members[GROUP] = {"eve"}  # from now on it may be an admin's
    follow(hub)
    assert hub.members == {GROUP: {"eve"}}


def test_a_group_of_somebody_else_is_never_touched(site: Site, hub: PlayedHub) -> None:
    hub.members = {GROUP: {"eve"}, "course-other": {"ben"}, "lab": {"ben"}}
    before = {name: set(members) for name, members in hub.members.items()}
    assert not asyncio.run(keeper(hub).is_free(GROUP))
    assert asyncio.run(keeper(hub).is_free("course-new"))
    course(site, "ben")
    for _ in range(2):
        follow(hub)
    courses.remove(site, "ml", actor=ann, now=NOW)
    follow(hub)
    assert hub.members == before and hub.said == []


def test_one_that_somebody_makes_at_the_same_moment_is_theirs(site: Site, hub: PlayedHub) -> None:
    course(site)

    class Late(PlayedHub):
        async def group_members(self) -> dict[str, frozenset[str]]:
            seen = await super().group_members()
            self.members.setdefault(GROUP, {"eve"})
            return seen

    late = Late(site)
    follow(late)
    follow(late)
    assert late.members == {GROUP: {"eve"}}


@pytest.mark.parametrize("dies_after", range(5))
def test_killed_anywhere_the_next_look_does_the_rest(site: Site, hub: PlayedHub, dies_after: int) -> None:
    course(site, "ben")
    follow(hub)
    courses.remove(site, "ml", actor=ann, now=NOW)
    said = {"name": "new", "title": "New", "profile": "gpu", "seats": 4, "students": ["eve"]}
    courses.apply(site, course_yaml.parse(said), actor=ann, now=NOW)
    hub.said.clear()
    hub.dies_after = dies_after
    try:
        follow(hub)
    except Unavailable:
        assert dies_after < 3
    hub.dies_after = None
    follow(hub)
    assert hub.members == {"course-new": {"ann", "eve"}}
    courses.remove(site, "new", actor=ann, now=NOW)
    follow(hub)
    assert hub.members == {}


def test_a_user_who_goes_meanwhile_keeps_nobody_else_for_long(site: Site, hub: PlayedHub) -> None:
    course(site, "ben", "eve")
    hub.known.remove("eve")  # the hub deleted her after we looked
    follow(hub)
    assert hub.members == {GROUP: set()}
    hub.known.add("eve")
    follow(hub)
    assert hub.members == {GROUP: {"ann", "ben", "eve"}}


def test_people_become_users_only_where_the_site_allows_it(site: Site, hub: PlayedHub) -> None:
    course(site, "ben", "zoe", "refused", *(f"s{number}" for number in range(AT_ONCE)))
    follow(hub)
    assert hub.members[GROUP] == {"ann", "ben"}
    kept = keeper(hub, make_users=True)
    for _ in range(3):  # so many in one look and no more
        asyncio.run(kept.follow(NOW))
    assert hub.members[GROUP] == {"ann", "ben", "zoe", *(f"s{number}" for number in range(AT_ONCE))}
    assert hub.said.count(("user", "refused")) == 1


def test_without_the_right_nobody_becomes_a_user_and_the_rest_goes_on(site: Site, hub: PlayedHub) -> None:
    hub.may_make_users = False
    course(site, "ben", "zoe")
    follow(hub, make_users=True)
    assert hub.members[GROUP] == {"ann", "ben"}
