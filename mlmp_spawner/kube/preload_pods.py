"""The pod that pulls an image, as it is made and as the cluster describes it; and what a node tells of its images.

What the pod runs does not matter: an image without a shell can't run ``true``, but was pulled by then.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mlmp_spawner.kube.labels import ASKED_BY, KIND, PRELOAD, PROBLEM
from mlmp_spawner.kube.plain import node_of
from mlmp_spawner.rules.nodes import why_away
from mlmp_spawner.rules.preload import LISTS, NodeImages, Pull, PullPod, State, normal
from mlmp_spawner.units import SECOND, format_duration, from_iso

QUEUED = "mlmp.dev/queued"
"""The scheduling gate of a pod that was asked for and may not start yet."""
STARTED_AT = "mlmp.dev/started-at"
"""Annotation of such a pod: since when it may."""

NOBODY = 65534
LONGEST_PROBLEM = 400

AFTER_THE_PULL = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError"}
"""What a container waits for that has its image, but can't be started."""

UNPLACED = ("PodScheduled", "Unschedulable")

_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*":\s*(?:ErrImagePull:\s*)?')


@dataclass(frozen=True, slots=True)
class PullSettings:
    """How pods that pull are made. ``timeout``: ms that one may take; ``secrets``: names of image pull secrets;
    ``priority_class``: "" for the cluster's default."""

    namespace: str
    timeout: int
    secrets: tuple[str, ...] = ()
    priority_class: str = ""


def pod_name(pull: Pull) -> str:
    """The name of the pod that pulls this image to this node."""
    node, reference = pull.key
    return f"mlmp-preload-{hashlib.sha256(f'{node} {reference}'.encode()).hexdigest()[:16]}"


def manifest(pull: Pull, settings: PullSettings, *, asked_by: str = "") -> dict[str, Any]:
    """The pod that pulls an image.

    It goes through the scheduler, so that it counts as all pods do, and tolerates every taint: on which nodes nothing
    is pulled was decided before.
    """
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [pull.node]}]}
    container = {
        "name": "pull",
        "image": pull.reference,
        "imagePullPolicy": "IfNotPresent",
        "command": ["true"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"cpu": "100m", "memory": "32Mi"}},
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": max(1, settings.timeout // SECOND),
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": [{"operator": "Exists"}],
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        },
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": NOBODY,
            "runAsGroup": NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "imagePullSecrets": [{"name": name} for name in settings.secrets],
        "containers": [container],
    }
    if settings.priority_class:
        spec["priorityClassName"] = settings.priority_class
    if asked_by:
        spec["schedulingGates"] = [{"name": QUEUED}]
    annotations = {ASKED_BY: asked_by} if asked_by else {}
    metadata = {"name": pod_name(pull), "labels": {KIND: PRELOAD}, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def node_images(item: Mapping[str, Any]) -> NodeImages:
    """What a node tells of its images, and why nothing is pulled there now."""
    node, status = node_of(item), item.get("status") or {}
    full = any(
        one.get("type") == "DiskPressure" and one.get("status") == "True" for one in status.get("conditions") or ()
    )
    away = why_away(node) or ("its disk is nearly full" if full else "")
    told = len(status.get("images") or ())
    return NodeImages(node.name, away, frozenset(map(normal, node.images)), all_told=told < LISTS)


def pull_pod(item: Mapping[str, Any], timeout: int) -> PullPod | None:
    """A pod as the cluster describes it; None where that is no pod that pulls.

    :param timeout: how long one may take (ms), to say so.
    """
    metadata, spec, status = (item.get(part) or {} for part in ("metadata", "spec", "status"))
    container: Mapping[str, Any] = next(iter(spec.get("containers") or ()), {})
    node = _node(spec)
    if not metadata.get("name") or not node or not container.get("image"):
        return None
    annotations = metadata.get("annotations") or {}
    since = _instant(annotations.get(STARTED_AT)) or _instant(metadata.get("creationTimestamp")) or 0
    state, problem, over_at = _state(spec, status, timeout)
    return PullPod(
        name=metadata["name"],
        node=node,
        reference=container["image"],
        state=state,
        since=since,
        asked_by=annotations.get(ASKED_BY, ""),
        problem=(annotations.get(PROBLEM) or problem) if state == "failed" else problem,
        noted=annotations.get(PROBLEM, ""),
        over_at=over_at,
        leaves=bool(metadata.get("deletionTimestamp")),
        uid=metadata.get("uid", ""),
    )


def _node(spec: Mapping[str, Any]) -> str:
    """The node that a pod is pinned to."""
    with suppress(KeyError, IndexError, TypeError):
        required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        return str(required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])
    return ""


def _state(spec: Mapping[str, Any], status: Mapping[str, Any], timeout: int) -> tuple[State, str, int | None]:
    """How far it is, why it fails, and when it was over."""
    if spec.get("schedulingGates"):
        return "queued", "", None
    container: Mapping[str, Any] = next(iter(status.get("containerStatuses") or ()), {})
    waiting = (container.get("state") or {}).get("waiting") or {}
    terminated = (container.get("state") or {}).get("terminated") or {}
    ended = _instant(terminated.get("finishedAt")) or _changed(status.get("conditions") or ())
    if (container.get("imageID") and terminated) or waiting.get("reason") in AFTER_THE_PULL:
        return "pulled", "", ended
    if status.get("phase") == "Succeeded":
        return "pulled", "", ended
    if status.get("phase") == "Failed":
        if status.get("reason") == "DeadlineExceeded":
            return "failed", f"it took longer than {format_duration(timeout)}", ended
        return "failed", short(f"{status.get('reason', '')}: {status.get('message', '')}".strip(": ")), ended
    if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        return "failing", short(waiting.get("message") or waiting["reason"]), None
    unplaced = next(
        (c for c in status.get("conditions") or () if (c.get("type"), c.get("reason")) == UNPLACED),
        None,
    )
    if unplaced is not None:
        return "failing", short(unplaced.get("message") or "no room for a pod"), None
    return "pulling", "", None


def _changed(conditions: Iterable[Mapping[str, Any]]) -> int | None:
    """When something about a pod changed last."""
    return max((at for one in conditions if (at := _instant(one.get("lastTransitionTime")))), default=None)


def short(text: str) -> str:
    """A message of the cluster in one line, without what says nothing."""
    line = " ".join(_BACK_OFF.sub("", str(text)).split())
    return line if len(line) <= LONGEST_PROBLEM else line[: LONGEST_PROBLEM - 1] + "…"


def _instant(text: object) -> int | None:
    with suppress(ValueError):
        return from_iso(str(text)) or None
    return None
