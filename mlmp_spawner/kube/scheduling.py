"""Why the scheduler finds no place for a pod that may run on one node only. Pure.

The hub may not look at nodes, and need not: the scheduler says what is wrong with the one that was booked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlmp_spawner.kube.outcomes import OTHER_NODE, Fails, Going, Waiting, sentence

Json = Mapping[str, Any]

SETTLES = 2.0
"""Seconds that the scheduler's no must hold: it may not have heard yet of a pod that has just ended."""
LACKING = frozenset({"units_taken", "node_full"})
"""The codes of what somebody else has on the node."""
STORAGE = 60.0
"""Seconds that a volume may take to be made and mounted."""

_OTHER_NODES = re.compile(
    r"node\(s\) didn't (satisfy plugin\(s\) \[NodeAffinity\]|match Pod's node affinity/selector)"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pod shall run: the node, the resource it asks for ("" for none), and whose servers still end there."""

    node: str
    resource: str = ""
    former: tuple[str, ...] = ()


def judge(status: Json, place: Place) -> Going | Waiting | Fails | None:
    """What the pod's status says about its scheduling; None where it has a place, or nothing is said yet."""
    condition = next((one for one in status.get("conditions") or () if one.get("type") == "PodScheduled"), None)
    if condition is None or condition.get("status") == "True":
        return None
    if condition.get("reason") == "SchedulingGated":
        return Going(45, "Waiting in the cluster's queue")
    if condition.get("reason") != "Unschedulable":
        return None
    return unschedulable(str(condition.get("message") or ""), place)


def unschedulable(message: str, place: Place) -> Waiting | Fails:
    """What it means that the scheduler finds no place."""
    reasons = about_the_node(message)
    lacking = [reason.removeprefix("Insufficient ") for reason in reasons if reason.startswith("Insufficient ")]
    if lacking and place.former:
        return Waiting(place.former)
    found = _away(reasons, place) or _full(lacking, place) or _storage(reasons, place)
    if found is not None:
        return found
    if not reasons:
        what = f"The cluster has no node {place.node} that this server may run on."
        return Fails("node_gone", what, hint=OTHER_NODE, patience=SETTLES)
    what = f"{place.node} can't take your server: {sentence(', '.join(reasons))}."
    return Fails("unschedulable", what, hint=OTHER_NODE, patience=SETTLES)


def about_the_node(message: str) -> list[str]:
    """What the scheduler says of the booked node: all but that other nodes are not that one."""
    body = message.partition(" preemption:")[0].partition(". ")[0]
    body = body.partition("nodes are available: ")[2] or body
    parts = [re.sub(r"^\d+ ", "", part).rstrip(".") for part in body.split(", ")]
    return [part for part in parts if part and not _OTHER_NODES.match(part)]


def _away(reasons: Sequence[str], place: Place) -> Fails | None:
    for reason in reasons:
        if "unschedulable" in reason:
            what = f"{place.node} takes no new servers just now: it was taken out of use (cordoned)."
            return Fails("node_cordoned", what, hint=OTHER_NODE, patience=SETTLES)
        if "node.kubernetes.io/not-ready" in reason or "node.kubernetes.io/unreachable" in reason:
            what = f"{place.node} is not ready: the cluster does not reach it just now."
            return Fails("node_not_ready", what, hint=f"Try again in a minute. {OTHER_NODE}", patience=SETTLES)
    return None


def _full(lacking: Sequence[str], place: Place) -> Fails | None:
    if place.resource and place.resource in lacking:
        what = f"{place.node} has too little {place.resource} left: something that was not booked here uses it."
        return Fails("units_taken", what, hint=OTHER_NODE, patience=SETTLES)
    if lacking:
        short = " and ".join(lacking)
        what = f"{place.node} has too little {short} left for what was booked, beside what else runs there."
        return Fails("node_full", what, hint=OTHER_NODE, patience=SETTLES)
    return None


def _storage(reasons: Sequence[str], place: Place) -> Fails | None:
    for reason in reasons:
        if "persistentvolumeclaim" in reason.lower() or "volume" in reason.lower():
            what = f"Your files can't be brought to {place.node}: {sentence(reason)}."
            return Fails("storage", what, patience=STORAGE, step="Waiting for your storage")
    return None
