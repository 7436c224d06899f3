"""A catalog's nodes from a cluster's. The labels are those that GPU feature discovery 0.17 documents."""

from __future__ import annotations

import pytest

from mlmp_spawner.rules.catalog import Accelerator
from mlmp_spawner.rules.discovery import Discovered, discover
from mlmp_spawner.rules.foreign_pods import ClusterPod
from mlmp_spawner.rules.nodes import ClusterNode, Taint

GIB = 1 << 30
GPU = "nvidia.com/gpu"
A100 = {f"{GPU}.product": "NVIDIA-A100-SXM4-80GB", f"{GPU}.memory": "81920", f"{GPU}.count": "8"}


def node(units: dict[str, int] | None = None, labels: dict[str, str] | None = None, **more: object) -> ClusterNode:
    facts = {"cpus": 63.85, "memory": 500 * GIB + 5} | more
    return ClusterNode("gpu-1", units=units or {}, labels=labels or {}, **facts)  # type: ignore[arg-type]


def units_of(found: Discovered) -> list[Accelerator]:
    return list(found.nodes["gpu-1"].accelerators)


def test_whole_gpus_have_model_and_memory_from_their_labels() -> None:
    found = discover([node({GPU: 8}, A100)], [])
    assert units_of(found) == [Accelerator(resource=GPU, model="A100-SXM4-80GB", count=8, memory_gib=80)]
    assert (found.nodes["gpu-1"].cpus, found.nodes["gpu-1"].memory, found.notes) == (63.8, 500 * GIB, [])


def test_what_can_be_given_out_counts_not_what_is_plugged_in() -> None:
    assert units_of(discover([node({GPU: 7}, A100)], []))[0].count == 7


def test_mig_mixed_has_a_resource_and_labels_for_each_kind_of_slice() -> None:
    labels = A100 | {
        "nvidia.com/mig.strategy": "mixed",
        "nvidia.com/mig-1g.10gb.product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb",
        "nvidia.com/mig-1g.10gb.memory": "9728",
    }
    found = discover([node({GPU: 0, "nvidia.com/mig-1g.10gb": 4, "nvidia.com/mig-3g.40gb": 1}, labels)], [])
    assert units_of(found) == [
        Accelerator(resource="nvidia.com/mig-1g.10gb", model="A100-SXM4-80GB-MIG-1g.10gb", count=4, memory_gib=9.5),
        Accelerator(resource="nvidia.com/mig-3g.40gb", model="MIG 3g.40gb", count=1),
    ]
    assert found.notes == ["gpu-1 has no nvidia.com/gpu to give out just now, so none is written"]


def test_mig_single_counts_slices_under_the_name_of_whole_gpus() -> None:
    labels = {f"{GPU}.product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", f"{GPU}.memory": "9728"}
    assert units_of(discover([node({GPU: 14}, labels)], [])) == [
        Accelerator(resource=GPU, model="A100-SXM4-80GB-MIG-1g.10gb", count=14, memory_gib=9.5)
    ]


@pytest.mark.parametrize("resource", [GPU, f"{GPU}.shared"])
def test_of_shares_of_a_gpu_it_is_said_that_they_are_shares(resource: str) -> None:
    product = "NVIDIA-A100-SXM4-80GB-SHARED" if resource == GPU else "NVIDIA-A100-SXM4-80GB"
    found = discover([node({resource: 16}, A100 | {f"{GPU}.product": product, f"{GPU}.replicas": "4"})], [])
    assert units_of(found) == [Accelerator(resource=resource, model="A100-SXM4-80GB", count=16)]
    assert "4 take turns on one" in found.notes[0]


def test_amd_gpus_are_described_by_amds_labels() -> None:
    labels = {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "192G"}
    assert units_of(discover([node({"amd.com/gpu": 8}, labels)], [])) == [
        Accelerator(resource="amd.com/gpu", model="Instinct MI300X OAM", count=8, memory_gib=192)
    ]


@pytest.mark.parametrize("labels", [{}, {f"{GPU}.memory": "much"}, {f"{GPU}.memory": "-1"}, {f"{GPU}.memory": "inf"}])
def test_without_readable_labels_a_gpu_is_still_counted(labels: dict[str, str]) -> None:
    assert units_of(discover([node({GPU: 2}, labels)], [])) == [Accelerator(resource=GPU, count=2)]


def test_a_node_without_gpus_is_booked_by_its_cores() -> None:
    assert units_of(discover([node()], [])) == [Accelerator(resource="mlmp.dev/slot", model="CPU core", count=63)]


def test_other_resources_are_named_and_taken_in_when_asked_for() -> None:
    odd = node({GPU: 1, "rdma/hca": 4})
    assert discover([odd], []).notes == ["gpu-1 also has 4 rdma/hca, left out; --resource rdma/hca takes it in"]
    assert {one.resource for one in units_of(discover([odd], [], also=["rdma/hca"]))} == {GPU, "rdma/hca"}


def test_what_the_pods_of_every_node_take_is_left_to_them() -> None:
    pods = [
        ClusterPod("kube-system", "cni", "gpu-1", 0, cpus=0.25, memory=GIB, everywhere=True),
        ClusterPod("kube-system", "cni", "gpu-2", 0, cpus=9, everywhere=True),
        ClusterPod("lab", "somebody", "gpu-1", 0, cpus=30),
    ]
    found = discover([node({GPU: 1})], pods).nodes["gpu-1"]
    assert (found.cpus, found.memory) == (63.6, 499 * GIB)
    assert "lower them" in discover([node({GPU: 1})], None).notes[0]


def test_nodes_on_which_no_user_works_are_left_out_with_the_reason() -> None:
    control = ClusterNode("cp", taints=(Taint("node-role.kubernetes.io/control-plane"),))
    theirs = ClusterNode("db", taints=(Taint("team", "data", "NoExecute"),))
    found = discover([control, theirs], [])
    assert found.nodes == {}
    assert found.notes == [
        "cp is left out: it is for the control plane",
        "db is left out: it is tainted (team=data:NoExecute); users' pods need a toleration, then write it in by hand",
    ]


def test_taints_that_pass_or_that_name_the_gpu_leave_nobody_out() -> None:
    taints = (Taint("node.kubernetes.io/unschedulable"), Taint(GPU, "present"), Taint("x", "", "PreferNoSchedule"))
    found = discover([node({GPU: 1}, taints=taints, cordoned=True)], [])
    assert list(found.nodes) == ["gpu-1"] and found.notes == ["gpu-1 is cordoned in the cluster just now"]
