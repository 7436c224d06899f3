"""From Kubernetes' own JSON to what the rules work with."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.utils.quantity import parse_quantity

from mlmp_spawner.kube.plain import node_of, pod_of, quantity
from mlmp_spawner.rules.foreign_pods import ClusterPod
from mlmp_spawner.rules.nodes import ClusterNode, Taint

NODE: dict[str, Any] = {
    "metadata": {"name": "gpu-1", "labels": {"nvidia.com/gpu.count": "4"}},
    "spec": {"unschedulable": True, "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]},
    "status": {
        "allocatable": {
            "cpu": "31850m", "memory": "24581684Ki", "pods": "110", "hugepages-2Mi": "0", "nvidia.com/gpu": "3",
            "attachable-volumes.kubernetes.io/x": "25",
        },
        "capacity": {"nvidia.com/gpu": "4"},
        "conditions": [
            {"type": "MemoryPressure", "status": "False"},
            {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."},
        ],
        "images": [{"names": ["quay.io/x@sha256:12", "quay.io/x:1"], "sizeBytes": 5}, {"names": None}],
    },
}  # fmt: skip


def pod(*containers: dict[str, str], first: tuple[dict[str, Any], ...] = (), **spec: Any) -> dict[str, Any]:
    wanted = [{"resources": {"limits": one, "requests": one}} for one in containers]
    return {
        "metadata": {"namespace": "n", "name": "p", "creationTimestamp": "1970-01-01T00:00:05Z"},
        "spec": {"nodeName": "gpu-1", "containers": wanted, "initContainers": list(first), **spec},
        "status": {"phase": "Running"},
    }


def test_a_node_is_read_with_what_pods_may_take_of_it():
    assert node_of(NODE) == ClusterNode(
        name="gpu-1", ready=False, cordoned=True, units={"nvidia.com/gpu": 3}, cpus=31.85, memory=24581684 * 1024,
        labels={"nvidia.com/gpu.count": "4"}, taints=(Taint("node.kubernetes.io/unschedulable"),),
        images=frozenset({"quay.io/x@sha256:12", "quay.io/x:1"}), message="Kubelet stopped posting node status.",
    )  # fmt: skip


@pytest.mark.parametrize("strange", [{}, {"metadata": None, "status": {}}, {"status": {"allocatable": {"cpu": "?"}}}])
def test_what_is_missing_or_strange_is_left_out(strange: dict[str, Any]):
    found = node_of(strange)
    assert (found.ready, found.units, found.cpus) == (False, {}, 0.0)
    assert pod_of(strange) is None


@pytest.mark.parametrize("text", ["0", "4", "100m", "0.5", "24581684Ki", "1e3", "2k", "1.5Gi", "3M", "1E", "7Ti"])
def test_quantities_are_read_as_the_official_client_reads_them(text: str):
    assert quantity(text) == pytest.approx(float(parse_quantity(text)))


def test_a_pod_takes_what_its_containers_take_together():
    assert pod_of(pod({"nvidia.com/gpu": "1", "cpu": "500m"}, {"nvidia.com/gpu": "2", "memory": "1Gi"})) == ClusterPod(
        "n", "p", "gpu-1", 5000, {"nvidia.com/gpu": 3}, cpus=0.5, memory=1 << 30
    )


def test_a_container_that_runs_first_counts_alone_and_one_that_stays_counts_with_the_others():
    greedy = {"resources": {"limits": {"nvidia.com/gpu": "4"}}}
    assert pod_of(pod({"nvidia.com/gpu": "1"}, first=(greedy,))).units == {"nvidia.com/gpu": 4}  # type: ignore[union-attr]
    stays = {"resources": {"limits": {"nvidia.com/gpu": "1"}}, "restartPolicy": "Always"}
    assert pod_of(pod({"nvidia.com/gpu": "1"}, first=(stays,))).units == {"nvidia.com/gpu": 2}  # type: ignore[union-attr]


def test_a_pod_that_is_over_or_has_no_node_takes_nothing():
    over = pod({"nvidia.com/gpu": "1"}) | {"status": {"phase": "Failed"}}
    assert pod_of(over) is None and pod_of(pod({"nvidia.com/gpu": "1"}, nodeName=None)) is None
