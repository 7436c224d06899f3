"""Servers as pods, by a real hub on this machine: where they start, what is said when they can't, who survives.

What needs an installation, or breaks the cluster, is in test_fails_fast and test_crashes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.kube.labels import deadline_annotations, deadline_of
from tests.cluster.hub_here import GPUS, Hub, wait_for
from tests.cluster.rig.cluster import Cluster

SETTINGS = """
c.KubeSpawner.profile_list = [
    {"display_name": "As it is", "slug": "plain"},
    {"display_name": "Crashes", "slug": "crashes",
     "kubespawner_override": {"cmd": ["sh", "-c", "{ echo starting; echo no licence for it; } >&2; exit 7"]}},
    {"display_name": "No such command", "slug": "nonsense", "kubespawner_override": {"cmd": ["nonsense"]}},
    {"display_name": "Slow", "slug": "slow", "kubespawner_override": {"init_containers": [
        {"name": "first", "image": "DEBIAN", "command": ["sleep", "8"], "securityContext": {"runAsUser": 1000}}]}},
    {"display_name": "Greedy", "slug": "greedy", "kubespawner_override": {
        "extra_resource_limits": {"RESOURCE": "2"}, "priority_class_name": "system-node-critical",
        "automount_service_account_token": True, "environment": {"MINE": "kept", "MLMP_NODE": "elsewhere"},
        "extra_pod_config": {"nodeName": "OTHER", "hostNetwork": True},
        "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
        "volume_mounts": [{"name": "host", "mountPath": "/host"}]}},
]
"""


@pytest.fixture(scope="module")
def resource(core: client.CoreV1Api) -> str:
    """An extended resource of which every node has two at least."""
    for name in GPUS:
        if all(int(node.status.allocatable.get(name, 0)) >= 2 for node in core.list_node().items):
            return name
    pytest.skip(f"no two nodes with two of {' or '.join(GPUS)}")


@pytest.fixture(scope="module")
def hub(
    cluster: Cluster, core: client.CoreV1Api, namespace: str, resource: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    """A hub whose catalog has the first two nodes and one that is not there."""
    first, second = cluster.nodes[:2]
    settings = SETTINGS.replace("RESOURCE", resource).replace("DEBIAN", cluster.debian).replace("OTHER", first)
    made = Hub(
        tmp_path_factory.mktemp("hub"), core, namespace, kubeconfig=cluster.kubeconfig, image=cluster.debian,
        resource=resource, nodes={first: 2, second: 2, "no-such-node": 2},
        settings=settings,
    )  # fmt: skip
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def who(hub: Hub) -> Iterator[str]:
    """Somebody whose server is stopped and whose booking is over after the test."""
    name = f"u{uuid.uuid4().hex[:8]}"
    yield name
    if hub.pod(name) is not None:
        hub.end(name)
    hub.release(name)


def failure(hub: Hub, name: str) -> tuple[str, float]:
    """What the page of the start says in the end, and after how many seconds."""
    begun = time.monotonic()
    last = hub.steps(name)[-1]
    assert last.get("failed"), last
    return str(last["message"]), time.monotonic() - begun


def holder(core: client.CoreV1Api, namespace: str, node: str, image: str, resource: str, **metadata: Any) -> str:
    """A pod that holds all units of a node; its name."""
    limits = {"limits": {resource: core.read_node(node).status.allocatable[resource]}}
    body = {
        "metadata": {"name": f"holder-{uuid.uuid4().hex[:6]}"} | metadata,
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node}, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "it", "image": image, "command": ["sleep", "1000"], "resources": limits}],
        },
    }  # fmt: skip
    name = str(body["metadata"]["name"])
    core.create_namespaced_pod(namespace, body)
    wait_for(lambda: core.read_namespaced_pod(name, namespace).status.phase == "Running", 90, f"{name} to run")
    return name


def gone(core: client.CoreV1Api, namespace: str, name: str) -> bool:
    """Whether a pod is not there any more."""
    try:
        core.read_namespaced_pod(name, namespace)
    except ApiException as error:
        return bool(error.status == 404)
    return False


class TestAStart:
    def test_is_on_the_booked_node_with_what_was_booked(
        self, hub: Hub, who: str, resource: str, cluster: Cluster
    ) -> None:
        node = cluster.nodes[1]
        assert hub.begin(who, node=node, units=2).status_code == 202
        steps = [step["message"] for step in hub.steps(who)]
        assert hub.ready(who), hub.log[-3000:]
        assert f"Starting on {node}" in steps  # when it is there before anybody looks again, that is the last of it
        pod = hub.pod(who)
        assert pod is not None
        assert pod.spec.node_name == node
        server = pod.spec.containers[0]
        assert server.resources.limits[resource] == server.resources.requests[resource] == "2"
        assert server.resources.limits["cpu"] == "100m"
        environment = dict(line.split("=", 1) for line in hub.get(who).splitlines() if "=" in line)
        assert environment["MLMP_NODE"] == node
        assert environment["MLMP_RESERVATION_ID"] == pod.metadata.labels["mlmp.dev/reservation"]
        deadline = deadline_of(pod.metadata.annotations)
        assert deadline is not None
        assert pod.spec.active_deadline_seconds * 1000 > deadline.end - units.now()
        assert pod.spec.automount_service_account_token is False
        hub.end(who)

    def test_takes_no_more_than_was_booked_whatever_is_configured(
        self, hub: Hub, who: str, resource: str, cluster: Cluster
    ) -> None:
        node = cluster.nodes[1]
        hub.begin(who, node=node, kube_profile="greedy")
        hub.steps(who)
        pod = hub.pod(who)
        assert pod is not None, hub.log[-3000:]
        assert pod.spec.node_name == node
        assert pod.spec.containers[0].resources.limits[resource] == "1"
        assert not pod.spec.host_network
        assert pod.spec.priority_class_name is None
        assert not any(volume.host_path for volume in pod.spec.volumes or ())
        said = {entry.name: entry.value for entry in pod.spec.containers[0].env}
        assert (said["MINE"], said["MLMP_NODE"]) == ("kept", node)
        assert f"left out {resource}: 2 in limits" in hub.log
        hub.end(who)

    def test_of_a_choice_that_is_not_there_is_refused_with_those_that_are(self, hub: Hub, who: str) -> None:
        answer = hub.begin(who, kube_profile="plian")
        text = answer.text if answer.status_code == 400 else str(hub.steps(who)[-1])
        assert "did you mean 'plain'" in text
        assert hub.pod(who) is None

    def test_ends_by_the_hub_alone_when_its_booking_does(self, hub: Hub, who: str) -> None:
        hub.begin(who, duration="12s")
        hub.steps(who)
        pod = hub.pod(who)
        assert pod is not None
        deadline = deadline_of(pod.metadata.annotations)
        assert deadline is not None
        wait_for(lambda: hub.pod(who) is None, 30, "its end")
        assert units.now() < deadline.end + 5_000
        wait_for(lambda: not hub.ready(who), 10, "the hub to notice")


class TestFailsFast:
    def test_a_node_that_is_gone(self, hub: Hub, who: str) -> None:
        hub.begin(who, node="no-such-node")
        said, seconds = failure(hub, who)
        assert "The cluster has no node no-such-node that this server may run on" in said
        assert seconds < 10

    def test_a_server_that_crashes(self, hub: Hub, who: str) -> None:
        hub.begin(who, kube_profile="crashes")
        said, seconds = failure(hub, who)
        assert "Your server ended while it started (exit status 7). It said: no licence for it." in said
        assert seconds < 15

    def test_a_command_that_is_not_in_the_image(self, hub: Hub, who: str) -> None:
        hub.begin(who, kube_profile="nonsense")
        said, seconds = failure(hub, who)
        assert 'can\'t run the command of your server: exec: "nonsense": executable file not found' in said
        assert seconds < 15


def test_units_of_a_former_server_are_waited_for_visibly(
    hub: Hub, who: str, core: client.CoreV1Api, resource: str, cluster: Cluster
) -> None:
    node, past = cluster.nodes[1], units.now() - 60_000
    metadata = {
        "labels": {"mlmp.dev/kind": "server", "component": "singleuser-server", "mlmp.dev/reservation": "former"},
        "annotations": {"mlmp.dev/owner": "zoe"} | deadline_annotations(Deadline(past, past)),
    }
    former = holder(core, hub.namespace, node, cluster.debian, resource, **metadata)
    hub.begin(who, node=node)
    time.sleep(4)  # longer than the patience with units that are taken
    assert not hub.ready(who)
    core.delete_namespaced_pod(former, hub.namespace)
    steps = [step["message"] for step in hub.steps(who)]
    assert any(step.startswith("Waiting for zoe's server to end") for step in steps), steps
    assert hub.ready(who)
    hub.end(who)


class TestAHubThatIsKilled:
    def test_in_the_middle_of_a_start_finds_the_pod_again(self, hub: Hub, who: str) -> None:
        hub.begin(who, kube_profile="slow")
        pod = wait_for(lambda: hub.pod(who), 20, "the pod")
        assert pod.status.phase == "Pending"
        hub.kill()
        hub.start()
        wait_for(lambda: hub.ready(who), 60, "the server")
        again = hub.pod(who)
        assert again is not None
        assert again.metadata.uid == pod.metadata.uid
        assert "MLMP_NODE=" in hub.get(who)
        hub.end(who)

    def test_before_there_is_a_pod_loses_nothing_but_the_start(self, hub: Hub, who: str) -> None:
        hub.begin(who)
        hub.kill()
        hub.start()
        wait_for(lambda: hub.ready(who) or not hub.pending(who), 60, "an end of the start")
        if not hub.ready(who):
            hub.begin(who)
            hub.steps(who)
        assert hub.ready(who)
        assert hub.pod(who) is not None
        hub.end(who)
