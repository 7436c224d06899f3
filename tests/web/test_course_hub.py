"""Courses through a real hub: who runs one, whose groups follow, who becomes a user, and after which deaths."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from mlmp_spawner.settings import shared_file
from tests.web.machine import Machine

CONFIG = """\
c.MLMP.simulate = True
c.MLMP.roster_users = True
c.MLMP.roster_domains = ["uni.example.org"]
c.JupyterHub.load_groups = {"teachers": {"users": ["ada"]}, "course-admins": {"users": ["root"]}}
c.JupyterHub.load_roles.append({"name": "teachers", "groups": ["teachers"], "scopes": ["custom:mlmp:courses"]})
"""
COURSE = "name: ml\ntitle: Deep Learning\nprofile: gpu\nseats: 4\nstudents: [ben, zoe]\n"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    data = tmp_path_factory.mktemp("machine")
    with Machine(data, shared_file("profiles"), config=CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def admin(machine: Machine) -> Iterator[httpx.Client]:
    """The hub's API, as an admin asks it."""
    with closing(machine.browser("admin")) as browser:
        token = machine.token_of(browser, "admin")
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{machine.url}hub/api/", headers=headers, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def ada(machine: Machine) -> Iterator[httpx.Client]:
    """MLMP's API, as an instructor asks it."""
    with machine.api(machine.token("ada")) as client:
        yield client


def group(hub: httpx.Client, name: str) -> set[str] | None:
    """Who is in a group of the hub; None: there is none."""
    answer = hub.get(f"groups/{name}")
    return None if answer.status_code == 404 else set(answer.json()["users"])


def until(look: Callable[[], Any], wanted: Any, machine: Machine) -> None:
    """Returns when it looks as wanted."""
    end = time.monotonic() + 60
    while (seen := look()) != wanted:
        assert time.monotonic() < end, f"{seen}, not {wanted}: {machine.log('service')[-3000:]}"
        time.sleep(0.2)


def test_the_group_of_a_course_follows_its_roster(machine: Machine, ada: httpx.Client, admin: httpx.Client) -> None:
    made = ada.post("courses", json={"course": COURSE})
    assert made.status_code == 201, made.text
    # Whoever never logged in is a user now, so that their server can be started before the class.
    until(lambda: group(admin, "course-ml"), {"ada", "ben", "zoe"}, machine)
    asked = {"text": "Eve Young <eve@uni.example.org>", "remove": ["zoe"]}
    assert ada.post("courses/ml/roster", json=asked).status_code == 200
    until(lambda: group(admin, "course-ml"), {"ada", "ben", "eve"}, machine)
    assert admin.delete("groups/course-ml").status_code == 204
    assert ada.post("courses/ml/roster", json={"add": ["zoe"]}).status_code == 200
    until(lambda: group(admin, "course-ml"), {"ada", "ben", "eve", "zoe"}, machine)


def test_a_student_knows_of_the_course_by_group_and_page(machine: Machine, ada: httpx.Client) -> None:
    ada.post("courses", json={"course": COURSE})
    with machine.api(machine.token("ben")) as ben:
        assert [one["role"] for one in ben.get("courses").json()["items"]] == ["student"]
        assert ben.get("courses/ml/roster").status_code == 403
        assert ben.post("courses", json={"course": COURSE.replace("ml", "mine")}).status_code == 403


def test_a_group_that_gives_rights_is_nobody_s_course(
    machine: Machine, ada: httpx.Client, admin: httpx.Client
) -> None:
    refused = ada.post("courses", json={"course": COURSE.replace("name: ml", "name: admins")})
    assert refused.status_code == 409 and "course-admins" in refused.json()["detail"]
    assert group(admin, "course-admins") == {"root"}


def test_a_service_that_was_killed_brings_the_groups_up_to_date(
    machine: Machine, ada: httpx.Client, admin: httpx.Client
) -> None:
    ada.post("courses", json={"course": COURSE})
    until(lambda: group(admin, "course-ml"), {"ada", "ben", "zoe"}, machine)
    machine.kill("hub")
    assert ada.post("courses/ml/roster", json={"remove": ["ben"]}).status_code == 200
    machine.kill("service")
    machine.start("hub")
    machine.start("service")
    machine.wait("hub/health")
    machine.wait("services/mlmp/api/v1/health")
    until(lambda: group(admin, "course-ml"), {"ada", "zoe"}, machine)
    assert ada.delete("courses/ml").status_code == 204
    until(lambda: group(admin, "course-ml"), None, machine)
