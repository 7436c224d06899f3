"""What a pod may take, held against whatever was configured for it: the booking says so, and is applied last.

Pure: works on the plain JSON that the API would get, since that alone counts. What profile_list, group overrides or a
hook ask for beyond the booking is taken out again and named. What the admin's own settings say (not what a choice of
the user or a hook makes of them) is in ``Granted``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

SERVER = "notebook"
"""The container of the server, as KubeSpawner names it."""
GPU_TAINT = "nvidia.com/gpu"
"""What nodes with GPUs are usually tainted with."""

_DEVICES, _NVIDIA = "NVIDIA_VISIBLE_DEVICES", "nvidia.com/"
# NVIDIA's runtime shows all GPUs of the node to a container with "all" here, which many images say by themselves; and
# what the device plugin says does not win over what the pod says.
_HOST = ("hostNetwork", "hostPID", "hostIPC")
_NEVER = ("nodeName", "resourceClaims", "resources", "ephemeralContainers", "priority")


@dataclass(frozen=True, slots=True)
class Granted:
    """What the admin's own settings let pods have of their node: directories, ``hostNetwork`` and the like, and the
    names of containers that are privileged."""

    host_paths: frozenset[str] = frozenset()
    host: frozenset[str] = frozenset()
    privileged: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Terms:
    """What was booked, as a pod has it.

    :param node: "" where the cluster's own queue picks it, and pins the pod by a selector.
    :param resources: units by the name of the extended resource; empty where none goes with the booking.
    :param limits: cores and memory at most, :param requests: and what is set aside of them.
    :param live_for: seconds after which the cluster itself ends the pod. :param grace: those between its two signals.
    :param runtime_class: what runs its containers, whatever else asks for another; empty: whatever is configured.
    """

    name: str
    namespace: str
    node: str
    resources: Mapping[str, int]
    limits: Mapping[str, str]
    requests: Mapping[str, str]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    environment: Mapping[str, str]
    live_for: int
    grace: int
    priority_class: str = ""
    runtime_class: str = ""
    granted: Granted = field(default=Granted())


def confine(pod: Mapping[str, Any], terms: Terms) -> tuple[Json, list[str]]:
    """The pod as it may be, and what it tried beyond that."""
    made = copy.deepcopy(dict(pod))
    spec = made.setdefault("spec", {})
    beyond: list[str] = []
    _name(made, terms, beyond)
    _spec(spec, terms, beyond)
    _volumes(spec, terms.granted, beyond)
    if terms.node:
        spec["affinity"] = pinned(spec.get("affinity"), terms.node)
    spec["tolerations"] = tolerating(spec.get("tolerations"), terms.resources)
    server = next((one for one in spec.get("containers") or () if one.get("name") == SERVER), None)
    for container in containers(spec):
        _container(container, terms, beyond, is_server=container is server)
    return made, beyond


def containers(spec: Mapping[str, Any]) -> Iterator[Json]:
    """Every container of a pod, those that run before the others too."""
    for kind in ("initContainers", "containers"):
        yield from spec.get(kind) or ()


def granted(containers: Sequence[Mapping[str, Any]], volumes: Sequence[Mapping[str, Any]], pod: Json) -> Granted:
    """What the admin's own settings grant.

    :param containers: all of them with ``name`` and ``securityContext``. :param pod: further fields of the pod's spec.
    """
    paths = [(volume.get("hostPath") or {}).get("path") for volume in [*volumes, *(pod.get("volumes") or ())]]
    return Granted(
        host_paths=frozenset(path for path in paths if path),
        host=frozenset(name for name in _HOST if pod.get(name)),
        privileged=frozenset(str(one.get("name")) for one in containers if _is_privileged(one)),
    )


def _is_privileged(container: Mapping[str, Any]) -> bool:
    return bool((container.get("securityContext") or {}).get("privileged"))


def _name(made: Json, terms: Terms, beyond: list[str]) -> None:
    metadata = made.get("metadata") or {}
    for name in ("finalizers", "generateName", "ownerReferences"):
        if metadata.get(name):
            beyond.append(f"metadata.{name}: the pod is the hub's, and goes when it ends")
    made["metadata"] = {
        "name": terms.name,
        "namespace": terms.namespace,
        "labels": {**(metadata.get("labels") or {}), **terms.labels},
        "annotations": {**(metadata.get("annotations") or {}), **terms.annotations},
    }


def _spec(spec: Json, terms: Terms, beyond: list[str]) -> None:
    for name in _NEVER:
        if spec.pop(name, None):
            beyond.append(f"{name}: node, units and priority come from the booking and from the settings")
    for name in _HOST:
        if spec.get(name) and name not in terms.granted.host:
            del spec[name]
            beyond.append(f"{name}: only c.KubeSpawner.extra_pod_config may say that")
    if spec.get("automountServiceAccountToken"):
        beyond.append("automountServiceAccountToken: no user's pod gets a token of the cluster")
    if spec.get("priorityClassName") not in (None, "", terms.priority_class):
        beyond.append(f"priorityClassName {spec['priorityClassName']}: only c.KubeSpawner.priority_class_name says it")
    spec.pop("priorityClassName", None)
    if terms.priority_class:
        spec["priorityClassName"] = terms.priority_class
    if terms.runtime_class:
        if spec.get("runtimeClassName") not in (None, "", terms.runtime_class):
            beyond.append(f"runtimeClassName {spec['runtimeClassName']}: only c.MLMPKubeSpawner.runtime_class says it")
        spec["runtimeClassName"] = terms.runtime_class
    if spec.get("activeDeadlineSeconds") is not None and spec["activeDeadlineSeconds"] != terms.live_for:
        beyond.append("activeDeadlineSeconds: the end comes from the booking")
    spec.update(
        automountServiceAccountToken=False,
        activeDeadlineSeconds=terms.live_for,
        terminationGracePeriodSeconds=terms.grace,
    )


def _volumes(spec: Json, may: Granted, beyond: list[str]) -> None:
    gone = set()
    for volume in spec.get("volumes") or ():
        path = (volume.get("hostPath") or {}).get("path")
        if path is not None and path not in may.host_paths:
            gone.add(volume.get("name"))
            beyond.append(f"hostPath {path}: only c.KubeSpawner.volumes may mount a directory of the node")
        sources = (volume.get("projected") or {}).get("sources") or []
        kept = [source for source in sources if "serviceAccountToken" not in source]
        if len(kept) < len(sources):
            volume["projected"]["sources"] = kept
            beyond.append(
                f"serviceAccountToken in volume {volume.get('name')}: no user's pod gets a token of the cluster"
            )
    if not gone:
        return
    spec["volumes"] = [volume for volume in spec["volumes"] if volume.get("name") not in gone]
    for container in containers(spec):
        mounts = container.get("volumeMounts") or []
        container["volumeMounts"] = [mount for mount in mounts if mount.get("name") not in gone]


def pinned(affinity: Any, node: str) -> Json:
    """The affinity with the node in it, by its name: labels can be those of several nodes.

    Kubernetes takes any one of the required terms, so each of them gets the node beside its own conditions.
    """
    made: Json = copy.deepcopy(affinity) if isinstance(affinity, dict) else {}
    of_node = made.get("nodeAffinity") or {}
    required = of_node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    here = [{"key": "metadata.name", "operator": "In", "values": [node]}]
    # A term without conditions matches nothing, and must not match the node now.
    terms = [term for term in required.get("nodeSelectorTerms") or () if term.get("matchExpressions")]
    made["nodeAffinity"] = {
        **of_node,
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchExpressions": term["matchExpressions"], "matchFields": here} for term in terms
            ]
            or [{"matchFields": here}]
        },
    }
    return made


def tolerating(tolerations: Any, resources: Mapping[str, int]) -> list[Json]:
    """The admin's tolerations, and those that units need: their nodes are often kept free of everything else."""
    made = [dict(one) for one in tolerations or ()]
    for key in (GPU_TAINT, *(name for name in resources if name != GPU_TAINT)):
        wanted = {"key": key, "operator": "Exists", "effect": "NoSchedule"}
        if wanted not in made:
            made.append(wanted)
    return made


def _container(container: Json, terms: Terms, beyond: list[str], *, is_server: bool) -> None:
    name = str(container.get("name"))
    asked = container.get("resources") or {}
    if asked.get("claims"):
        beyond.append(f"resources.claims of the container {name}: units come from the booking")
    container["resources"] = _server_resources(asked, terms, beyond) if is_server else _others(name, asked, beyond)
    if _is_privileged(container) and name not in terms.granted.privileged:
        del container["securityContext"]["privileged"]
        beyond.append(f"privileged of the container {name}: it would see every unit of the node")
    if "hostNetwork" not in terms.granted.host:
        for port in container.get("ports") or ():
            if port.pop("hostPort", None) is not None:
                beyond.append(f"hostPort of the container {name}: the ports of the node are not the users'")
    # With units of NVIDIA's their plugin says which; beside those of others, on a node with both, nobody does.
    devices = {} if is_server and any(name.startswith(_NVIDIA) for name in terms.resources) else {_DEVICES: "void"}
    said = {**(terms.environment if is_server else {}), **devices}
    kept = [entry for entry in container.get("env") or () if entry.get("name") not in {*said, _DEVICES}]
    if any(entry.get("name") == _DEVICES and entry.get("value") != "void" for entry in container.get("env") or ()):
        beyond.append(f"{_DEVICES} of the container {name}: it would see units that are not booked")
    container["env"] = kept + [{"name": key, "value": value} for key, value in said.items()]


def _server_resources(asked: Json, terms: Terms, beyond: list[str]) -> Json:
    units = {name: str(count) for name, count in terms.resources.items()}
    made = {}
    for kind, own in (("limits", terms.limits), ("requests", terms.requests)):
        given = asked.get(kind) or {}
        for name, value in given.items():
            if "/" in name and str(value) != units.get(name):
                beyond.append(f"{name}: {value} in {kind}: units come from the booking")
        # Of what no booking speaks of, such as space on the node's disk, the settings do.
        others = {name: value for name, value in given.items() if "/" not in name and name not in ("cpu", "memory")}
        made[kind] = {**others, **own, **units}
    return made


def _others(container: str, asked: Json, beyond: list[str]) -> Json:
    made = {}
    for kind in ("limits", "requests"):
        given = asked.get(kind) or {}
        for name, value in given.items():
            if "/" in name:
                beyond.append(f"{name}: {value} of the container {container}: units are the server's alone")
        kept = {name: value for name, value in given.items() if "/" not in name}
        if kept:
            made[kind] = kept
    return made
