"""From what Kubernetes answers, as plain dicts, to what the rules work with: the same for the service's client and the
admin's. What is missing or strange in an answer is left out, never an error: others write there too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlmp_spawner.kube.labels import KIND
from mlmp_spawner.rules.foreign_pods import ClusterPod
from mlmp_spawner.rules.nodes import ClusterNode, Taint
from mlmp_spawner.units import from_iso

_FACTORS = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def quantity(text: object) -> float:
    """A quantity as Kubernetes writes it: ``100m``, ``24581684Ki``, ``1e3``; 0 for what is none."""
    said = str(text).strip()
    number = said.rstrip("numkKMGTPEi") if not said[-1:].isdigit() else said
    try:
        return float(number) * _FACTORS[said[len(number) :]]
    except (KeyError, ValueError):
        return 0.0


def node_of(found: Mapping[str, Any]) -> ClusterNode:
    """A node, from the API's JSON."""
    metadata, spec, status = (found.get(part) or {} for part in ("metadata", "spec", "status"))
    allocatable = status.get("allocatable") or {}
    ready: Mapping[str, Any] = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), {})
    images = (name for image in status.get("images") or () for name in image.get("names") or ())
    return ClusterNode(
        name=str(metadata.get("name", "")),
        ready=ready.get("status") == "True" and not metadata.get("deletionTimestamp"),
        cordoned=bool(spec.get("unschedulable")),
        units=_extended(allocatable),
        cpus=quantity(allocatable.get("cpu", 0)),
        memory=int(quantity(allocatable.get("memory", 0))),
        labels={str(key): str(value) for key, value in (metadata.get("labels") or {}).items()},
        taints=tuple(
            Taint(str(one.get("key", "")), str(one.get("value") or ""), str(one.get("effect", "")))
            for one in spec.get("taints") or ()
        ),
        images=frozenset(images),
        message=str(ready.get("message", "") if ready.get("status") != "True" else ""),
    )


def pod_of(found: Mapping[str, Any]) -> ClusterPod | None:
    """A pod, from the API's JSON; None where it has no node, or is over."""
    metadata, spec, status = (found.get(part) or {} for part in ("metadata", "spec", "status"))
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return None
    asked = _asked(spec)
    owners = {str(one.get("kind")) for one in metadata.get("ownerReferences") or ()}
    return ClusterPod(
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        node=str(spec["nodeName"]),
        since=_instant(metadata.get("creationTimestamp")),
        units={name: round(amount) for name, amount in asked.items() if "/" in name and amount},
        kind=str((metadata.get("labels") or {}).get(KIND, "")),
        cpus=asked.get("cpu", 0.0),
        memory=int(asked.get("memory", 0)),
        everywhere=bool(owners & {"DaemonSet", "Node"}),
    )


def _asked(spec: Mapping[str, Any]) -> dict[str, float]:
    """What its containers ask for together, or one that runs before them alone, if that is more."""
    first = spec.get("initContainers") or ()
    beside = [one for one in first if one.get("restartPolicy") == "Always"]
    total = _sum([*(spec.get("containers") or ()), *beside])
    for one in first:
        for name, amount in _sum([one]).items():
            total[name] = max(total.get(name, 0.0), amount)
    return total


def _sum(containers: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for container in containers:
        resources = container.get("resources") or {}
        for name, amount in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
            total[name] = total.get(name, 0.0) + quantity(amount)
    return total


def _extended(allocatable: Mapping[str, Any]) -> dict[str, int]:
    """What device plugins give out: names with a domain, of other makers than Kubernetes itself."""
    return {
        str(name): int(quantity(amount))
        for name, amount in allocatable.items()
        if "/" in name and not name.partition("/")[0].endswith("kubernetes.io")
    }


def _instant(text: object) -> int:
    try:
        return from_iso(str(text))
    except ValueError:
        return 0
