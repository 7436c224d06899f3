"""What would keep a class from beginning in time."""

from __future__ import annotations

from mlmp_spawner.rules import class_problems as rules
from mlmp_spawner.rules.nodes import ClusterNode, Taint
from mlmp_spawner.rules.preload import There


def test_a_figure_or_a_reason_that_changes_makes_no_new_problem():
    full, away = rules.of_disk("vm", 1 << 20), ["gpu-a is away."]
    assert rules.is_new(full, ()) and not rules.is_new((), full)
    assert not rules.is_new(rules.of_disk("vm", 2 << 20), full)
    assert rules.is_new(away, full) and rules.is_new([*full, *away], full) and not rules.is_new(full, [*full, *away])


def test_a_full_disk_a_node_that_is_away_and_seats_that_are_missing_are_named():
    cluster = {
        "a": ClusterNode("a", taints=(Taint("node.kubernetes.io/disk-pressure"),)),
        "b": ClusterNode("b", ready=False),
        "c": ClusterNode("c"),
        "d": ClusterNode("d", cordoned=True),
    }
    assert rules.of_nodes(["c", "a", "b", "e", "d"], cluster) == [
        "The disk of a is full.", "b is not ready in the cluster.", "d is cordoned in the cluster.",
        "e is not in the cluster.",
    ]  # fmt: skip
    assert rules.missing(20, 20) == []
    assert rules.missing(20, 16) == ["4 of 20 seats have no place: their node was lost."]
    assert rules.of_disk("n1", 5 << 30) == []
    assert rules.of_disk("n1", 300 << 20) == ["The disk of n1 is full: 300 MiB free."]


def test_an_image_that_can_t_be_pulled_is_named_with_the_reason():
    nodes = [There("a", "present"), There("b", "failed", problem="no such manifest"), There("c", "pulling")]
    assert rules.of_image("lab", nodes) == ["The image lab can't be pulled to b: no such manifest"]
