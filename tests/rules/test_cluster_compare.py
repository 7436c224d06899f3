"""Catalog against cluster, in words."""

from __future__ import annotations

import pytest

from mlmp_spawner.rules.catalog import Accelerator, Catalog, Image, Node, Profile
from mlmp_spawner.rules.cluster_compare import Difference, compare, images, quotas, tolerates
from mlmp_spawner.rules.foreign_pods import ClusterPod
from mlmp_spawner.rules.nodes import ClusterNode, Taint

GPU, SLOT = "nvidia.com/gpu", "mlmp.dev/slot"
GIB = 1 << 30


def catalog(profile: dict[str, object] | None = None, count: int = 4, **images: str) -> Catalog:
    node = Node(name="a", cpus=8, memory=64 * GIB, accelerators=(
        Accelerator(resource=GPU, count=count), Accelerator(resource=SLOT, count=8),
    ))  # fmt: skip
    gpu = Profile.model_validate({"name": "gpu", "resource": GPU, "cpus": 1, "memory": GIB} | (profile or {}))
    named = {name: Image(name=name, reference=reference) for name, reference in images.items()}
    return Catalog(nodes={"a": node}, profiles={"gpu": gpu}, images=named)


def there(name: str = "a", units: int = 4, **more: object) -> ClusterNode:
    facts = {"units": {GPU: units}, "cpus": 8.0, "memory": 64 * GIB} | more
    return ClusterNode(name, **facts)  # type: ignore[arg-type]


def said(found: list[Difference]) -> list[tuple[str, str, bool]]:
    return [(one.node, one.message, one.wrong) for one in found]


def test_where_both_say_the_same_there_is_nothing_to_say():
    assert compare(catalog(), [there()]) == []


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([there("b", 0)], ("a", "it is not in the cluster", True)),
        ([there(cordoned=True)], ("a", "it is cordoned in the cluster", False)),
        (
            [there(ready=False, message="Kubelet stopped posting node status.")],
            ("a", "it is not ready in the cluster: Kubelet stopped posting node status.", True),
        ),
        ([there(units=3)], ("a", "4 nvidia.com/gpu in the catalog, 3 in the cluster", True)),
        ([there(units=5)], ("a", "4 nvidia.com/gpu in the catalog, 5 in the cluster", False)),
        ([ClusterNode("a", cpus=8, memory=64 * GIB)], ("a", "the cluster knows no nvidia.com/gpu on it", True)),
        ([there(taints=(Taint("team", "x"),))], ("a", "its taint team=x:NoSchedule keeps users' pods off", True)),
        ([there(), there("z", 2)], ("z", "it has 2 nvidia.com/gpu and is not in the catalog", False)),
    ],
)
def test_each_difference_is_said_once(nodes: list[ClusterNode], expected: tuple[str, str, bool]):
    assert said(compare(catalog(), nodes)) == [expected]


def test_what_the_nodes_own_pods_take_is_not_there_for_a_profile():
    own = ClusterPod("kube-system", "cni", "a", 0, cpus=0.5, memory=2 * GIB, everywhere=True)
    (none,) = compare(catalog({"units": 4, "cpus": 8}), [there()], [own])
    assert none.wrong and none.message == "profile 'gpu' fits no node: on a it asks for 8 cores of 7.5"
    (last,) = compare(catalog({"memory": 16 * GIB}), [there()], [own])
    assert not last.wrong and "the last can't start: it asks for 64 GiB of 62 GiB memory" in last.message


@pytest.mark.parametrize(
    ("toleration", "yes"),
    [
        ({"key": "team", "value": "x"}, True),
        ({"key": "team", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "team", "value": "y"}, False),
        ({"key": "team", "operator": "Exists", "effect": "NoExecute"}, False),
        ({}, False),
    ],
)
def test_a_toleration_opens_what_it_names(toleration: dict[str, object], yes: bool):
    assert tolerates(toleration, Taint("team", "x")) is yes
    assert (compare(catalog(), [there(taints=(Taint("team", "x"),))], (), [toleration]) == []) is yes


@pytest.mark.parametrize(
    "reference",
    [
        "debian:12",
        "quay.io/jupyter/base-notebook:2026-01-01",
        "localhost:5000/a/b_c@sha256:" + "0" * 64,
        "a/b-c.d:X_1",
    ],
)
def test_names_of_images_that_kubernetes_takes_are_right(reference: str):
    assert list(images(catalog(lab=reference))) == []


@pytest.mark.parametrize(
    "reference", ["Upper/Case:1", "a b", "https://quay.io/x:1", "x:", "x@sha256:12", "/x:1", "a//b:1"]
)
def test_other_names_of_images_are_wrong(reference: str):
    (found,) = images(catalog(lab=reference))
    assert found.wrong and repr(reference) in found.message


def test_a_name_that_may_mean_another_image_tomorrow_is_remarked_and_no_image_is_wrong():
    assert [one.wrong for name in ("quay.io/x", "quay.io/x:latest") for one in images(catalog(lab=name))] == [
        False
    ] * 2
    assert [one.message for one in images(catalog())] == ["profile 'gpu' has no image"]


@pytest.mark.parametrize(
    ("hard", "expected"),
    [
        ({"requests.nvidia.com/gpu": 1.0}, [True, False]),
        ({"requests.nvidia.com/gpu": 2.0}, [False]),
        ({"limits.memory": 1.0 * GIB}, [True]),
        ({"requests.cpu": 2.0, "pods": 5.0}, []),
    ],
)
def test_quotas_that_keep_a_profile_from_starting_are_wrong(hard: dict[str, float], expected: list[bool]):
    wanted = catalog({"units": 2, "cpus": 2, "memory": 2 * GIB})
    assert [one.wrong for one in quotas(wanted, {"q": hard})] == expected
