"""Pods that take units of the catalog past the calendar."""

from __future__ import annotations

from mlmp_spawner.rules.catalog import Accelerator, Catalog, Node
from mlmp_spawner.rules.foreign_pods import ClusterPod, Foreigner, foreigners

GPU = "nvidia.com/gpu"
CATALOG = Catalog(nodes={"a": Node(name="a", accelerators=(Accelerator(resource=GPU, count=4),))})


def pod(name: str, namespace: str = "research", units: int = 1, **more: object) -> ClusterPod:
    known = {"node": "a", "since": 5, "units": {GPU: units}} | more
    return ClusterPod(namespace, name, **known)  # type: ignore[arg-type]


def found(*pods: ClusterPod, booked: int = 0) -> list[Foreigner]:
    return foreigners(pods, CATALOG, namespace="lab", booked={("a", GPU): booked})


def test_a_pod_of_somebody_else_on_units_of_the_catalog_is_one():
    assert found(pod("train", units=2)) == [Foreigner("research", "train", "a", GPU, 2, 5, short=0)]


def test_mlmps_own_pods_are_none_but_a_label_that_anybody_can_write_makes_none_its_own():
    assert found(pod("jupyter-ann", "lab", kind="server"), pod("mlmp-job-j-1-w0", "lab", kind="job")) == []
    assert [one.name for one in found(pod("sly", "research", kind="server"), pod("by-hand", "lab"))] == [
        "by-hand", "sly",
    ]  # fmt: skip


def test_what_takes_nothing_that_can_be_booked_is_none():
    net = ClusterPod("n", "net", "a", 5, {"rdma/hca": 1})
    assert found(pod("elsewhere", node="z"), pod("web", units=0), net) == []


def test_it_is_said_how_many_booked_units_are_missing_by_all_of_them_together():
    assert [(one.name, one.short) for one in found(pod("x", since=2, units=2), pod("y", since=1), booked=2)] == [
        ("y", 1), ("x", 1),
    ]  # fmt: skip
