"""The pod that makes a user's folder: what it may, and what it says."""

from __future__ import annotations

from typing import Any

import pytest

from mlmp_spawner.kube.home_pods import ERASE, HAND_IN, LEFT, RIGHTS, Home, is_left_over, judge, manifest, pod_name
from mlmp_spawner.kube.outcomes import Fails, Going
from mlmp_spawner.rules.storage import Folders
from mlmp_spawner.units import from_iso

ANN = Home("ann", 1000, 100)
FOLDERS = Folders(namespace="system", claim="homes", image="hub:1")


def spec(**changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = manifest(ANN, FOLDERS.model_copy(update=changed), 60)["spec"]
    return found


def test_as_root_it_keeps_only_the_rights_that_giving_a_folder_away_takes() -> None:
    made = spec()
    (container,) = made["containers"]
    assert made["securityContext"]["runAsUser"] == 0
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": RIGHTS},
    }  # fmt: skip


def test_as_the_user_it_satisfies_pod_security_restricted() -> None:
    made = spec(by="user")
    (container,) = made["containers"]
    assert made["securityContext"] == {
        "runAsUser": 1000, "runAsGroup": 100, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_it_has_no_token_sees_the_homes_and_nothing_else_and_ends_by_itself() -> None:
    made = spec()
    assert made["automountServiceAccountToken"] is False
    assert made["volumes"] == [{"name": "homes", "persistentVolumeClaim": {"claimName": "homes"}}]
    assert "subPath" not in made["containers"][0]["volumeMounts"][0]
    assert (made["activeDeadlineSeconds"], made["restartPolicy"]) == (60, "Never")


def test_the_volume_is_given_to_one_group_for_all_only_where_it_is_new_and_then_once() -> None:
    assert "fsGroup" not in spec()["securityContext"]
    given = spec(fs_group=1000)["securityContext"]  # not ann's, since ben's would change it again
    assert (given["fsGroup"], given["fsGroupChangePolicy"]) == (1000, "OnRootMismatch")


def test_one_folder_and_account_has_one_pod_whose_name_holds_nothing_of_the_users() -> None:
    names = {
        pod_name(home, FOLDERS)
        for home in (
            ANN, Home("ann", 1001, 100), Home("ann", 1000, 101), Home("a", 1000, 100), Home("ann", 1000, 100, ("x",)),
        )
    }  # fmt: skip
    assert len(names) == 5
    assert pod_name(ANN, FOLDERS) == pod_name(ANN, FOLDERS)
    assert not any("ann" in name for name in names)


def pod(phase: str, state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    containers = [{"name": "home", "state": state}] if state is not None else []
    return {
        "metadata": {}, "spec": {"nodeName": "a"}, "status": {"phase": phase, "containerStatuses": containers} | status
    }  # fmt: skip


def test_when_it_has_succeeded_the_folder_is_there() -> None:
    assert judge(pod("Succeeded", {"terminated": {"exitCode": 0}}), "hub:1") is None


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (pod("Failed", {"terminated": {"exitCode": 1, "message": "It belongs to uid 7."}}), "belongs to uid 7"),
        (pod("Failed", reason="DeadlineExceeded"), "the file server may be away"),
        (pod("Pending", {"waiting": {"reason": "ErrImagePull", "message": "hub:1: not found"}}), "no such image"),
    ],
)  # fmt: skip
def test_when_it_fails_the_reason_is_told(found: dict[str, Any], said: str) -> None:
    verdict = judge(found, "hub:1")
    assert isinstance(verdict, Fails)
    assert said in verdict.detail


def test_while_its_volume_is_not_mounted_the_file_server_is_waited_for() -> None:
    verdict = judge(pod("Pending", {"waiting": {"reason": "ContainerCreating"}}), "hub:1")
    assert isinstance(verdict, Going)
    assert "waiting for the file server" in verdict.step


def test_what_a_killed_hub_left_is_taken_away_after_a_while() -> None:
    ended = "2026-11-21T12:00:00Z"
    over = pod("Succeeded", {"terminated": {"exitCode": 0, "finishedAt": ended}})
    assert not is_left_over(over, from_iso(ended) + LEFT)
    assert is_left_over(over, from_iso(ended) + LEFT + 1)
    assert not is_left_over(pod("Running", {"running": {"startedAt": ended}}), from_iso(ended) + 10 * LEFT)
    assert not is_left_over(pod("Pending"), 0)


@pytest.mark.parametrize("by", ["root", "user"])
def test_the_pod_that_erases_differs_in_name_and_program_alone(by: str) -> None:
    folders = FOLDERS.model_copy(update={"by": by})
    erases, makes = manifest(ANN, folders, 60, ERASE), manifest(ANN, folders, 60)
    assert erases["metadata"]["name"] == pod_name(ANN, folders, ERASE) != pod_name(ANN, folders)
    assert erases["metadata"]["labels"] == makes["metadata"]["labels"]
    (container,), (other,) = erases["spec"]["containers"], makes["spec"]["containers"]
    assert container["command"][3] == ERASE.program != other["command"][3]
    container["command"][3] = other["command"][3]
    assert erases["spec"] == makes["spec"]


def test_the_place_to_hand_in_is_made_within_its_course_by_a_pod_of_its_own() -> None:
    place = Home("ann", 1000, 100, (".hand-in", "ml.17"))
    made = manifest(place, FOLDERS, 60, HAND_IN)
    assert made["spec"]["containers"][0]["command"][4:] == ["/homes", "ann", "1000", "100", ".hand-in", "ml.17"]
    assert made["metadata"]["name"].startswith("mlmp-hand-in-") and len(made["metadata"]["name"]) <= 63


def test_an_erasure_that_fails_is_not_told_as_a_folder_that_is_made() -> None:
    ended = {"state": {"terminated": {"message": "The folder ann belongs to uid 7"}}}
    verdict = judge({"status": {"phase": "Failed", "containerStatuses": [ended]}}, "hub:1", ERASE)
    assert isinstance(verdict, Fails)
    assert verdict.detail.startswith("The folder can't be erased") and "uid 7" in verdict.detail
