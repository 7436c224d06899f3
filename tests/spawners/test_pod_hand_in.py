"""What a server's pod sees of what is handed in: a student, their own folder; who teaches a course, all of that."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.kube.home_pods import Home
from mlmp_spawner.rules.courses import Course, Member, Role
from mlmp_spawner.rules.storage import directory_name
from mlmp_spawner.spawners import pod_files
from mlmp_spawner.spawners.hand_in import Place
from mlmp_spawner.spawners.kube import MLMPKubeSpawner
from mlmp_spawner.store import courses
from mlmp_spawner.store.transaction import transaction
from tests.spawners.pod_manifests import kubeconfig, made, manifest

__all__ = ["kubeconfig"]

ANN = directory_name("ann@x.org")
STORAGE = {"claim": "homes", "folders": {"namespace": "system", "claim": "homes", "image": "hub:1"}}
WHERE = (".hand-in", "ml.17")


class PlayedHomes:
    """The folders of the claim. ``refusing``: why none is made."""

    def __init__(self) -> None:
        self.made: list[Home] = []
        self.refusing: Unavailable | None = None

    async def make_hand_in(self, home: Home, _: Callable[[int, str], None]) -> None:
        if self.refusing is not None:
            raise self.refusing
        self.made.append(home)


@pytest.fixture
def homes(monkeypatch: pytest.MonkeyPatch) -> PlayedHomes:
    """Takes the place of the pods that make folders."""
    played = PlayedHomes()
    monkeypatch.setattr(pod_files, "Homes", lambda *_: played)
    return played


def place(role: Role, name: str = "ml") -> Place:
    course = Course(name=name, title="Deep Learning", profile="gpu", seats=4, hand_in=True, created_at=17)
    return Place(course, role, ("eva",))


async def server(*places: Place, spawner: MLMPKubeSpawner | None = None, **config: Any) -> dict[str, Any]:
    """The container of ann's server: its mounts below ``/mnt/hand-in`` by their place, and its environment."""
    spawner = spawner or made({"storage": STORAGE, **config})
    spawner._places = places
    await spawner._run_as_their_account()
    await spawner._make_hand_in()
    (found,) = (await manifest(spawner))["spec"]["containers"]
    mounts = {one["mountPath"]: one for one in found["volumeMounts"] if one["mountPath"].startswith("/mnt/hand-in")}
    environment = {one["name"]: one.get("value") for one in found["env"]}
    return {"mounts": mounts, "told": json.loads(environment.get("MLMP_HAND_IN") or "{}")}


async def test_a_student_has_a_folder_of_their_own_and_nothing_of_others(homes: PlayedHomes) -> None:
    found = await server(place("student"))
    (mount,) = found["mounts"].values()
    assert mount == {"name": "home", "mountPath": "/mnt/hand-in/ml", "subPath": f".hand-in/ml.17/{ANN}"}
    assert found["told"] == {"ml": "/mnt/hand-in/ml"}
    assert homes.made == [Home(ANN, 1000, 1000, WHERE)]


async def test_who_teaches_reads_all_of_that_course_and_of_a_course_where_they_learn_only_their_own(
    homes: PlayedHomes,
) -> None:
    mounts = (await server(place("instructor"), place("student", "vision")))["mounts"]
    assert (mounts["/mnt/hand-in/ml"]["subPath"], mounts["/mnt/hand-in/ml"]["readOnly"]) == (".hand-in/ml.17", True)
    assert mounts["/mnt/hand-in/vision"]["subPath"] == f".hand-in/vision.17/{ANN}"
    assert homes.made == [Home("", 1000, 1000, WHERE), Home(ANN, 1000, 1000, (".hand-in", "vision.17"))]


async def test_who_teaches_no_more_or_left_the_course_sees_nothing_from_the_next_start_on(homes: PlayedHomes) -> None:
    spawner = made({"storage": STORAGE})
    assert (await server(place("instructor"), spawner=spawner))["mounts"]
    assert await server(spawner=spawner) == {"mounts": {}, "told": {}}


async def test_a_place_is_made_once_and_that_is_remembered_over_restarts_of_the_hub(homes: PlayedHomes) -> None:
    first, again = made({"storage": STORAGE}), made({"storage": STORAGE})
    await server(place("student"), spawner=first)
    again.load_state({**first.get_state(), "kubespawner_version": "7"})
    assert (await server(place("student"), spawner=again))["mounts"]
    assert len(homes.made) == 1


async def test_a_place_that_can_t_be_made_keeps_no_server_from_starting(homes: PlayedHomes) -> None:
    homes.refusing = Unavailable("The file server is away.")
    assert await server(place("student")) == {"mounts": {}, "told": {}}


@pytest.mark.parametrize(
    "config", [{"storage": {}}, {"storage": {"claim": "homes"}}, {"uid_from": "uid"}], ids=["own", "theirs", "login"]
)
async def test_where_not_only_pods_lead_there_nothing_is_handed_in(homes: PlayedHomes, config: dict[str, Any]) -> None:
    spawner = made({"storage": STORAGE, **config})
    assert not spawner.hands_in
    spawner._places = [place("student")]
    await spawner._make_hand_in()
    assert (spawner._hand_in, homes.made) == ((), [])


async def test_at_each_start_the_rosters_say_where_somebody_hands_in(engine: Engine, homes: PlayedHomes) -> None:
    ml, vision = place("student").course, place("student", "vision").course
    roster = [Member("ml", "ann@x.org", "student", 0), Member("ml", "eva", "instructor", 0)]
    with transaction(engine) as connection:
        for course in (ml, vision, ml.model_copy(update={"name": "without", "hand_in": False})):
            courses.insert_course(connection, course)
        courses.put_members(connection, "ml", roster)
        courses.put_members(connection, "vision", [Member("vision", "ann@x.org", "guest", 0)])
        courses.put_members(connection, "without", [Member("without", "ann@x.org", "student", 0)])
    site = SimpleNamespace(engine=engine, catalog=SimpleNamespace(profiles={}, image_of=lambda *_: None))
    spawner = made({"storage": STORAGE})

    async def ask(question: Callable[[Any], Any]) -> Any:
        return question(site)

    spawner._ask = ask  # type: ignore[method-assign]
    assert spawner._admitted is not None
    await spawner.prepare(spawner._admitted)
    assert [(one.course.name, one.role) for one in spawner._places] == [("ml", "student")]
    assert (await server(*spawner._places, spawner=spawner))["told"] == {"ml": "/mnt/hand-in/ml"}
