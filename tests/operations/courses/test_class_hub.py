"""A class on a real hub: servers are up before anybody signs in, and who comes is seen in the proxy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mlmp_spawner import units
from mlmp_spawner.units import MINUTE
from tests.live import Person, Site, wait_for

API = "/services/mlmp/api/v1/"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = "c.MLMP.roster_users = True\nc.MLMP.class_starts_at_once = 2\n"
    made = Site(tmp_path_factory.mktemp("class"), settings=settings)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture(scope="module")
def teacher(site: Site) -> Person:
    return site.person("admin")


def begun(teacher: Person, name: str, grace: str, *students: str) -> str:
    """A course with a class that begins now; the path of that class."""
    course = {"name": name, "title": "ML", "profile": "gpu", "seats": len(students), "grace": grace,
              "students": list(students)}  # fmt: skip
    made = teacher.api.post(f"{API}courses", json={"course": course})
    assert made.status_code == 201, made.text
    body = {"start": units.to_iso(units.now()), "duration": "10m"}
    booked = teacher.api.post(f"{API}courses/{name}/classes", json=body)
    assert booked.status_code == 201, booked.text
    return f"{API}courses/{name}/classes/{booked.json()['id']}"


def people(teacher: Person, path: str) -> dict[str, Any]:
    answer = teacher.api.get(path)
    assert answer.status_code == 200, answer.text
    return {one["name"]: one for one in answer.json()["people"]}


def all_up(teacher: Person, path: str, names: set[str]) -> dict[str, Any] | None:
    found = people(teacher, path)
    up = {name for name, one in found.items() if one["server_state"] == "running"}
    return found if up == names else None


def test_servers_run_before_anybody_signed_in_and_who_comes_is_seen(site: Site, teacher: Person):
    path = begun(teacher, "ml", "15m", "ann", "zoe")
    found = wait_for(lambda: all_up(teacher, path, {"ann", "zoe"}), 60, "the start of all servers")
    assert {one["problem"] for one in found.values()} == {""}
    assert {record.owner for record in site.servers()} == {"ann", "zoe"}
    ann = site.person("ann")
    assert ann.environment()["MLMP_RESERVATION_ID"] == found["ann"]["reservation"], "she signs in to a running server"
    # The first look at the proxy is the one that the later ones are compared with.
    wait_for(lambda: ann.environment() and people(teacher, path)["ann"]["seen_at"], 60, "that she is seen")
    assert people(teacher, path)["zoe"]["seen_at"] is None
    gone = teacher.api.delete(path)
    assert gone.status_code == 200, gone.text
    wait_for(lambda: not site.servers(), 60, "the end of all servers")


@pytest.mark.faults
def test_unused_seats_go_back_and_their_servers_end_while_who_is_there_goes_on(site: Site, teacher: Person):
    path = begun(teacher, "dl", "150s", "ben", "eve", "joe", "kim")
    wait_for(lambda: all_up(teacher, path, {"ben", "eve", "joe", "kim"}), 90, "the start of all servers")
    ben = site.person("ben")

    def settled() -> Any:
        assert ben.environment()
        return teacher.api.get(path).json()["settled_at"]

    wait_for(settled, 5 * MINUTE / 1000, "the end of the grace")
    wait_for(lambda: {record.owner for record in site.servers()} == {"ben"}, 60, "the end of unused servers")
    whole = teacher.api.get(path).json()
    assert [(one["node"], one["seats"]) for one in whole["nodes"]] == [(whole["nodes"][0]["node"], 2)]
    assert whole["used"] == 1
    late = site.person("eve")
    assert late.start().status_code in (201, 202)
    wait_for(lambda: "eve" in {record.owner for record in site.servers()}, 30, "a seat for who comes late")
    assert site.person("ann").book(60)["units"] == 1, "others have what was given back"
    assert teacher.api.delete(path).status_code == 200
