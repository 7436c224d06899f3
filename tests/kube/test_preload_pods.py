"""The pod that pulls: as it is made, and what the cluster's words about it mean (as a real cluster said them)."""

from __future__ import annotations

from typing import Any

import pytest

from mlmp_spawner.kube.labels import ASKED_BY, KIND, PRELOAD, PROBLEM
from mlmp_spawner.kube.preload_pods import PullSettings, manifest, node_images, pod_name, pull_pod
from mlmp_spawner.rules.preload import LISTS, Pull, PullPod
from mlmp_spawner.units import MINUTE, SECOND, from_iso

PULL = Pull("node-b", "registry.example.org/lab:1")
SETTINGS = PullSettings("users", 30 * MINUTE)
MADE = "2026-11-21T17:24:46Z"
ENDED = "2026-11-21T17:24:47Z"
NO_SHELL = 'exec: "true": executable file not found in $PATH: unknown'


def seen(state: dict[str, Any] | None = None, *, asked_by: str = "", **status: Any) -> PullPod:
    """The pod as the cluster describes it. :param state: of its container."""
    made = manifest(PULL, SETTINGS, asked_by=asked_by)
    made["metadata"] |= {"uid": "u", "creationTimestamp": MADE}
    image = status.pop("imageID", "")
    annotations = status.pop("annotations", {})
    made["metadata"]["annotations"] |= annotations
    if not status.pop("gated", False):
        made["spec"].pop("schedulingGates", None)
    container = {"name": "pull", "imageID": image, "state": state or {}}
    found = pull_pod(made | {"status": {"containerStatuses": [container], **status}}, SETTINGS.timeout)
    assert found is not None
    return found


def test_a_pod_says_to_which_node_it_pulls_what():
    pod = seen({"waiting": {"reason": "ContainerCreating"}}, phase="Pending")
    assert (pod.name, pod.node, pod.reference, pod.uid) == (pod_name(PULL), PULL.node, PULL.reference, "u")
    assert (pod.state, pod.since, pod.asked_by) == ("pulling", from_iso(MADE), "")


def test_image_and_node_make_its_name_however_the_image_is_written():
    assert pod_name(Pull("a", "python")) == pod_name(Pull("a", "docker.io/library/python:latest"))
    assert len({pod_name(Pull(node, image)) for node in "ab" for image in ("lab:1", "lab:2")}) == 4
    assert len(pod_name(Pull("n" * 253, "r" * 300))) <= 63


@pytest.mark.parametrize(
    "ended",
    [
        {"reason": "Completed", "exitCode": 0, "finishedAt": ENDED},
        {"reason": "StartError", "exitCode": 128, "message": NO_SHELL, "finishedAt": ENDED},
        {"reason": "OOMKilled", "exitCode": 137, "finishedAt": ENDED},
    ],
)
def test_whatever_became_of_its_container_the_image_was_pulled(ended: dict[str, Any]):
    phase = "Failed" if ended["exitCode"] else "Succeeded"
    pod = seen({"terminated": ended}, phase=phase, imageID="registry.example.org/lab@sha256:98ce")
    assert (pod.state, pod.problem, pod.over_at) == ("pulled", "", from_iso(ENDED))


def test_a_container_that_can_not_be_made_has_its_image():
    assert seen({"waiting": {"reason": "CreateContainerError", "message": "x"}}, phase="Pending").state == "pulled"


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ErrImagePull", "manifest unknown"),
        ("ImagePullBackOff", 'Back-off pulling image "registry.example.org/lab:1": ErrImagePull: manifest\n unknown'),
    ],
)
def test_what_is_tried_again_fails_with_the_reason_alone(reason: str, message: str):
    pod = seen({"waiting": {"reason": reason, "message": message}}, phase="Pending")
    assert (pod.state, pod.problem) == ("failing", "manifest unknown")


def test_no_room_on_the_node_is_told_and_waiting_its_turn_is_none():
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Too many pods."}
    assert (seen(conditions=[condition]).state, seen(conditions=[condition]).problem) == ("failing", "Too many pods.")
    gated = condition | {"reason": "SchedulingGated", "message": "Scheduling is blocked"}
    assert seen(conditions=[gated], asked_by="root", gated=True).state == "queued"
    assert seen(conditions=[gated], asked_by="root").state == "pulling"  # it was let start a moment ago


def test_one_that_was_given_up_has_the_reason_that_was_noted():
    ended = {"waiting": {"reason": "ImagePullBackOff"}}
    late = {"phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active on the node longer than"}
    assert (seen(ended, **late).state, seen(ended, **late).problem) == ("failed", "it took longer than 30 min")
    noted = seen(ended, **late, annotations={PROBLEM: "manifest unknown"})
    assert (noted.problem, noted.noted) == ("manifest unknown", "manifest unknown")
    evicted = seen({}, phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage.")
    assert evicted.problem == "Evicted: The node was low on resource: ephemeral-storage."


def test_a_long_message_is_cut():
    pod = seen({"waiting": {"reason": "ErrImagePull", "message": "x" * 10_000}})
    assert len(pod.problem) <= 400


def test_it_is_small_pinned_and_allowed_under_restricted():
    made = manifest(PULL, PullSettings("users", 90 * SECOND, ("secret",), "low"), asked_by="root")
    assert made["metadata"]["labels"] == {KIND: PRELOAD}
    assert made["metadata"]["annotations"] == {ASKED_BY: "root"}
    spec = made["spec"]
    assert (spec["activeDeadlineSeconds"], spec["priorityClassName"]) == (90, "low")
    assert spec["imagePullSecrets"] == [{"name": "secret"}]
    assert not spec["automountServiceAccountToken"]
    assert set(spec["containers"][0]["resources"]["requests"]) == {"cpu", "memory"}


@pytest.mark.parametrize(
    "item", [{}, {"metadata": {"name": "x"}}, {"metadata": {"name": "x"}, "spec": {"affinity": 3}}]
)
def test_what_is_no_pod_of_ours_is_left_out(item: dict[str, Any]):
    assert pull_pod(item, 1) is None


def node(*names: str, **conditions: str) -> dict[str, Any]:
    told = {"Ready": "True", **conditions}
    return {
        "metadata": {"name": "a"},
        "status": {
            "images": [{"names": [name]} for name in names],
            "conditions": [{"type": kind, "status": is_} for kind, is_ in told.items()],
        },
    }


def test_a_node_tells_of_its_images_in_their_normal_form():
    found = node_images(node("docker.io/library/python:3", "quay.io/x/y@sha256:1"))
    assert found.images == {"docker.io/library/python:3", "quay.io/x/y@sha256:1"}
    assert found.all_told
    assert not node_images(node(*(f"example.org/{number}:1" for number in range(LISTS)))).all_told


def test_nothing_is_pulled_to_a_node_whose_disk_is_nearly_full_or_that_is_not_ready_or_cordoned():
    assert node_images(node()).away == ""
    assert node_images(node(DiskPressure="True")).away == "its disk is nearly full"
    assert node_images(node(Ready="False")).away
    assert node_images(node() | {"spec": {"unschedulable": True}}).away
