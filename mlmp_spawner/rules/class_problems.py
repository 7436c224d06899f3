"""What would keep a class from beginning in time, as far as it can be seen before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mlmp_spawner.rules.nodes import ClusterNode, why_away
from mlmp_spawner.rules.preload import There
from mlmp_spawner.units import format_size

DISK_PRESSURE = "node.kubernetes.io/disk-pressure"
"""The taint of a node whose disk is full: its kubelet deletes images and evicts pods."""

LITTLE = 1 << 30
"""Bytes that are free on a disk which counts as full."""


def is_new(said: Iterable[str], before: Iterable[str]) -> bool:
    """Whether there is a problem that was not told before. What stands after a colon, a figure or a reason, changes
    from look to look."""
    told = {problem.partition(":")[0] for problem in before}
    return any(problem.partition(":")[0] not in told for problem in said)


def missing(seats: int, there: int) -> list[str]:
    """That seats have no place."""
    return [f"{seats - there} of {seats} seats have no place: their node was lost."] if there < seats else []


def of_nodes(nodes: Iterable[str], cluster: Mapping[str, ClusterNode]) -> list[str]:
    """What is wrong with the nodes that a class is on, as the cluster has them."""
    found = []
    for name in sorted(nodes):
        node = cluster.get(name)
        if away := why_away(node):
            found.append(f"{name} is {away}.")
        elif node is not None and any(taint.key == DISK_PRESSURE for taint in node.taints):
            found.append(f"The disk of {name} is full.")
    return found


def of_image(image: str, nodes: Iterable[There]) -> list[str]:
    """On which nodes the image of a class can't be had."""
    failed = [one for one in nodes if one.state == "failed"]
    return [
        f"The image {image} can't be pulled to {one.node}: {one.problem or 'no reason is known'}" for one in failed
    ]


def of_disk(place: str, free: int) -> list[str]:
    """That there is too little room for everybody's files. :param free: bytes."""
    return [f"The disk of {place} is full: {format_size(free)} free."] if free < LITTLE else []
