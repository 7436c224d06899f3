"""A node that is lost for good: of a job there nothing counts as ended until somebody tells the cluster so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from mlmp_spawner.jobs.pod_outcomes import how_ended
from mlmp_spawner.kube.labels import ATTEMPT, JOB, KIND
from tests.cluster.hub_here import wait_for
from tests.cluster.rig.cluster import Cluster

pytestmark = pytest.mark.faults

OUT_OF_SERVICE = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
AWAY = 120
"""Seconds until the cluster has noticed that a node is away, or what it was told of one."""


@pytest.fixture
def lost(cluster: Cluster, core: client.CoreV1Api) -> Iterator[str]:
    """A node whose power is cut in the test."""
    cluster.must_be_ours()
    name = cluster.nodes[-1]
    yield name
    core.patch_node(name, {"spec": {"taints": None}})
    cluster.node(name).start()
    wait_for(lambda: ready(core, name), AWAY, f"{name}'s return")


def ready(core: client.CoreV1Api, node: str) -> bool:
    found = core.read_node(node).status.conditions or ()
    return any(one.type == "Ready" and one.status == "True" for one in found)


def start(core: client.CoreV1Api, cluster: Cluster, namespace: str, node: str) -> None:
    """A job of one worker on a node, as Kubernetes has it."""
    labels = {KIND: JOB, ATTEMPT: "j-1"}
    pod = {
        "restartPolicy": "Never", "nodeSelector": {"kubernetes.io/hostname": node},
        "containers": [{"name": "notebook", "image": cluster.debian, "command": ["sleep", "1000"]}],
    }  # fmt: skip
    spec = {
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    job = {"metadata": {"name": "mlmp-job-j-1", "labels": labels}, "spec": spec}
    client.BatchV1Api(core.api_client).create_namespaced_job(namespace, job)


def pods(core: client.CoreV1Api, namespace: str) -> list[dict[str, Any]]:
    """As the service reads them."""
    found = core.list_namespaced_pod(namespace, label_selector=f"{KIND}={JOB}").items
    return [core.api_client.sanitize_for_serialization(one) for one in found]


def test_a_job_on_it_ends_when_an_admin_says_that_the_machine_is_off_and_not_before(
    cluster: Cluster, core: client.CoreV1Api, namespace: str, lost: str
) -> None:
    start(core, cluster, namespace, lost)
    wait_for(lambda: [one["status"]["phase"] for one in pods(core, namespace)] == ["Running"])
    cluster.node(lost).stop()
    wait_for(lambda: not ready(core, lost), AWAY, f"the loss of {lost}")
    (silent,) = pods(core, namespace)
    assert how_ended(silent) is None, "for all that anybody knows it runs"
    core.patch_node(lost, {"spec": {"taints": [OUT_OF_SERVICE]}})
    said = set()
    ends = time.monotonic() + AWAY
    while left := pods(core, namespace):
        said |= {ended.reason for one in left if (ended := how_ended(one)) is not None}
        assert time.monotonic() < ends, left
    assert said <= {"node_lost"}, said
    with suppress(ApiException):
        client.BatchV1Api(core.api_client).delete_namespaced_job("mlmp-job-j-1", namespace)
