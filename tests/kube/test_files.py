"""A server's pod gets its user's files, whatever was configured before."""

from __future__ import annotations

from typing import Any

import pytest

from mlmp_spawner.kube.files import with_files
from mlmp_spawner.rules.hand_in import InPod
from mlmp_spawner.rules.storage import parse

STORAGE = parse(
    {"claim": "homes", "home": "/home/jovyan", "shared": {"claim": "data", "path": "sets"}, "scratch": {"size": "1Gi"}}
)


def pod(**server: Any) -> dict[str, Any]:
    return {
        "spec": {
            "securityContext": {"fsGroup": 1000, "runAsNonRoot": True},
            "volumes": [{"name": "mine", "emptyDir": {}}],
            "initContainers": [{"name": "first"}],
            "containers": [{"name": "notebook", "volumeMounts": [{"name": "mine", "mountPath": "/mine"}]} | server],
        }
    }


def mounts(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of the server, by their place."""
    return {one["mountPath"]: one for one in made["spec"]["containers"][0]["volumeMounts"]}


def test_a_server_sees_its_users_folder_the_shared_data_and_scratch_beside_what_is_configured() -> None:
    made = with_files(pod(), STORAGE, "ann")
    found = mounts(made)
    assert found["/home/jovyan"] == {"name": "home", "mountPath": "/home/jovyan", "subPath": "ann"}
    assert found["/mnt/shared"]["readOnly"] is True
    assert found["/mnt/shared"]["subPath"] == "sets"
    assert set(found) == {"/home/jovyan", "/mnt/shared", "/mnt/scratch", "/mine"}
    by_name = {volume["name"]: volume for volume in made["spec"]["volumes"]}
    assert by_name["shared"]["persistentVolumeClaim"] == {"claimName": "data", "readOnly": True}
    assert by_name["scratch"] == {"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}


def test_no_container_but_the_server_gets_them() -> None:
    given = pod()
    given["spec"]["initContainers"][0]["volumeMounts"] = [{"name": "home", "mountPath": "/all", "subPath": "bob"}]
    made = with_files(given, STORAGE, "ann")
    assert made["spec"]["initContainers"][0]["volumeMounts"] == []


@pytest.mark.parametrize(
    ("volume", "mount"),
    [
        ({"name": "home", "persistentVolumeClaim": {"claimName": "other"}}, {"name": "home", "mountPath": "/x"}),
        ({"name": "x", "persistentVolumeClaim": {"claimName": "other"}}, {"name": "x", "mountPath": "/home/jovyan"}),
    ],
    ids=["under its name", "at its place"],
)
def test_nothing_else_stands_in_the_place_of_the_home(volume: dict[str, Any], mount: dict[str, Any]) -> None:
    given = pod(volumeMounts=[mount])
    given["spec"]["volumes"].append(volume)
    made = with_files(given, STORAGE, "ann")
    assert mounts(made)["/home/jovyan"]["subPath"] == "ann"
    assert [one["name"] for one in made["spec"]["containers"][0]["volumeMounts"]].count("home") == 1
    assert len({one["name"] for one in made["spec"]["volumes"]}) == len(made["spec"]["volumes"])


def test_the_homes_of_all_are_in_no_container_under_another_name() -> None:
    given = pod(volumeMounts=[{"name": "all", "mountPath": "/all"}])
    given["spec"]["volumes"].append({"name": "all", "persistentVolumeClaim": {"claimName": "homes"}})
    given["spec"]["initContainers"][0]["volumeMounts"] = [{"name": "all", "mountPath": "/all"}]
    made = with_files(given, STORAGE, "ann")
    assert "/all" not in mounts(made)
    assert made["spec"]["initContainers"][0]["volumeMounts"] == []
    assert [one["name"] for one in made["spec"]["volumes"]] == ["mine", "home", "shared", "scratch"]


WHERE = (".hand-in", "ml.17")


def test_a_student_hands_in_at_a_folder_of_their_own_and_who_teaches_reads_all_of_the_course() -> None:
    student = mounts(with_files(pod(), STORAGE, "ann", [InPod("ml", WHERE, "ann")]))["/mnt/hand-in/ml"]
    assert student == {"name": "home", "mountPath": "/mnt/hand-in/ml", "subPath": ".hand-in/ml.17/ann"}
    teacher = mounts(with_files(pod(), STORAGE, "eva", [InPod("ml", WHERE, "")]))["/mnt/hand-in/ml"]
    assert (teacher["subPath"], teacher["readOnly"]) == (".hand-in/ml.17", True)


def test_nothing_that_is_configured_stands_where_things_are_handed_in() -> None:
    given = pod(volumeMounts=[{"name": "mine", "mountPath": "/mnt/hand-in/ml"}])
    made = with_files(given, STORAGE, "ann", [InPod("ml", WHERE, "ann")])
    assert mounts(made)["/mnt/hand-in/ml"]["subPath"] == ".hand-in/ml.17/ann"
    assert [one["mountPath"] for one in made["spec"]["containers"][0]["volumeMounts"]].count("/mnt/hand-in/ml") == 1


def test_nobodys_homes_are_given_to_the_group_of_one_server() -> None:
    assert "fsGroup" not in with_files(pod(), STORAGE, "ann")["spec"]["securityContext"]


@pytest.mark.parametrize("storage", [{}, {"scratch": {"size": "1Gi", "type": "claim"}}], ids=["own claim", "scratch"])
def test_a_volume_of_the_servers_own_is_given_to_its_group_by_a_look_at_its_root(storage: dict[str, Any]) -> None:
    context = with_files(pod(), parse(storage), "ann")["spec"]["securityContext"]
    assert (context["fsGroup"], context["fsGroupChangePolicy"]) == (1000, "OnRootMismatch")


def test_links_are_made_in_the_home_unless_a_hook_of_the_admins_is_there() -> None:
    hook = {"exec": {"command": ["true"]}}
    made = with_files(pod(), STORAGE, "ann")["spec"]["containers"][0]
    assert "/home/jovyan/shared" in made["lifecycle"]["postStart"]["exec"]["command"][-1]
    kept = with_files(pod(lifecycle={"postStart": hook}), STORAGE, "ann")["spec"]["containers"][0]
    assert kept["lifecycle"] == {"postStart": hook}
    assert "lifecycle" not in with_files(pod(), parse({"claim": "homes"}), "ann")["spec"]["containers"][0]


def test_where_nothing_is_configured_nothing_is_added() -> None:
    given = pod()
    made = with_files(given, parse({}), "ann")
    assert made["spec"]["volumes"] == given["spec"]["volumes"]
    assert mounts(made) == {"/mine": {"name": "mine", "mountPath": "/mine"}}
