"""What is read from a pod as the cluster describes it, and how long a stop may take."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kubernetes_asyncio.client.exceptions import ApiException

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Unavailable
from mlmp_spawner.kube.client import answer
from mlmp_spawner.kube.labels import (
    ATTEMPT,
    ENDS_AT,
    KIND,
    OWNER,
    RESERVATION,
    SERVER_NAME,
    STOPS_AT,
    deadline_annotations,
)
from mlmp_spawner.kube.pods import grace, on_its_way, server_pod
from tests.kube.pods import a_pod

NOW = 1_800_000_000_000
DEADLINE = Deadline(NOW, NOW + 30_000)


def described(**metadata: Any) -> dict[str, Any]:
    known = {"name": "jupyter-ann", "uid": "u1", "resourceVersion": "7", "labels": {KIND: "server", RESERVATION: "r1"}}
    return {
        "metadata": known | metadata,
        "spec": {"nodeName": "node-b"},
        "status": {"phase": "Running"},
    }


def test_a_pod_says_whose_server_it_is_and_until_when():
    annotations = {OWNER: "ann@x.org", SERVER_NAME: "two", **deadline_annotations(DEADLINE)}
    pod = server_pod(described(annotations=annotations))
    assert pod is not None
    assert (pod.server_id, pod.owner, pod.server, pod.node) == ("r1", "ann@x.org", "two", "node-b")
    assert pod.deadline == DEADLINE and not pod.finished and pod.deleting_at is None


@pytest.mark.parametrize(
    "annotations",
    [
        None,
        {},
        {STOPS_AT: "2027-01-15T08:00:00Z"},
        {STOPS_AT: "soon", ENDS_AT: "2027-01-15T08:00:00Z"},
        {STOPS_AT: "2027-01-15T08:00:00", ENDS_AT: "2027-01-15T08:00:30"},
        {STOPS_AT: "", ENDS_AT: "9" * 5000},
    ],
)
def test_what_is_missing_or_garbled_is_no_deadline(annotations: dict[str, str] | None):
    pod = server_pod(described(annotations=annotations))
    assert pod is not None and pod.deadline is None and pod.server_id == "r1"


def test_a_pod_without_anything_but_a_name_is_read_all_the_same():
    pod = server_pod({"metadata": {"name": "p", "uid": "u", "labels": None}, "spec": None, "status": None})
    assert pod is not None and (pod.server_id, pod.owner, pod.phase, pod.node) == ("", "", "", "")


def test_a_pod_of_a_job_says_of_which_attempt_it_is():
    pod = server_pod(described(labels={KIND: "job", ATTEMPT: "abc-2"}))
    assert pod is not None and (pod.attempt, pod.server_id) == ("abc-2", "")


@pytest.mark.parametrize("item", [{}, {"metadata": None}, {"metadata": {"name": "p"}}])
def test_what_has_no_identity_is_no_pod(item: dict[str, Any]):
    assert server_pod(item) is None


def test_a_pod_that_is_being_deleted_says_until_when():
    pod = server_pod(described(deletionTimestamp="2027-01-15T08:00:00Z"))
    assert pod is not None and pod.deleting_at == NOW


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_finished(phase: str):
    pod = server_pod(described() | {"status": {"phase": phase}})
    assert pod is not None and pod.finished


def test_a_stop_gets_what_is_left_until_the_end_and_a_second_at_least():
    assert grace(DEADLINE, NOW) == 29
    assert grace(DEADLINE, NOW + 27_500) == 1
    assert grace(DEADLINE, NOW + 3_600_000) == 1


def test_a_deletion_with_more_grace_than_is_left_is_not_on_its_way():
    assert not on_its_way(a_pod(), DEADLINE, NOW)
    assert on_its_way(a_pod(deleting_at=NOW + 29_000), DEADLINE, NOW)
    assert not on_its_way(a_pod(deleting_at=NOW + 600_000), DEADLINE, NOW)
    assert on_its_way(a_pod(deleting_at=NOW - 600_000), DEADLINE, NOW), "long over: a node that does not end it"


async def test_a_cluster_that_hangs_is_away():
    with pytest.raises(Unavailable, match="has not answered"):
        await answer(asyncio.Event().wait(), patience=0.01)


@pytest.mark.parametrize("status", [429, 500, 503, 504])
async def test_a_cluster_that_can_not_just_now_is_away(status: int):
    async def refused() -> None:
        raise ApiException(status=status, reason="busy")

    with pytest.raises(Unavailable):
        await answer(refused())


async def test_a_refusal_is_told_apart_from_an_outage():
    async def refused() -> None:
        raise ApiException(status=403, reason="Forbidden")

    with pytest.raises(ApiException):
        await answer(refused())
