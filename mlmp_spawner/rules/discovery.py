"""A catalog's nodes from those of a cluster: from what the kubelet says can be taken, and the labels that GPU feature
discovery (NVIDIA) and the node labeller (AMD) write."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from mlmp_spawner.rules.catalog import OWN_RESOURCES, Accelerator, Node
from mlmp_spawner.rules.foreign_pods import ClusterPod
from mlmp_spawner.rules.nodes import ClusterNode, Taint, why_away

SLOT = f"{OWN_RESOURCES}slot"
MIB, GIB = 1 << 20, 1 << 30

MAKERS = ("nvidia.com/", "amd.com/gpu", "gpu.intel.com/", "habana.ai/", "google.com/tpu", "aws.amazon.com/neuron")
"""How the resources begin that are written without being asked for."""

_OWN_TAINTS = "node.kubernetes.io/"
"""Of the cluster itself: not ready, cordoned, short of memory. They pass."""

_LABELS = ("topology.kubernetes.io/zone", "node.kubernetes.io/instance-type")


@dataclass
class Discovered:
    """The nodes that can be booked, and what people should know about them, one sentence each."""

    nodes: dict[str, Node] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def discover(
    nodes: Iterable[ClusterNode], pods: Collection[ClusterPod] | None, *, also: Collection[str] = ()
) -> Discovered:
    """What could be booked on a cluster.

    :param pods: all that run, so that what each node's own pods take is left to them; None: they may not be seen.
    :param also: further resources that people book, by name.
    """
    found = Discovered()
    for node in sorted(nodes, key=lambda one: one.name):
        if why := _left_out(node):
            found.notes.append(f"{node.name} is left out: {why}")
            continue
        accelerators = _accelerators(node, also, found.notes)
        cpus, memory = room(node, pods or ())
        if not accelerators:
            accelerators = [Accelerator(resource=SLOT, model="CPU core", count=max(1, int(cpus)))]
        if away := why_away(node):
            found.notes.append(f"{node.name} is {away} just now")
        found.nodes[node.name] = Node(
            name=node.name,
            labels={key: node.labels[key] for key in _LABELS if key in node.labels},
            accelerators=tuple(accelerators),
            cpus=cpus or None,
            memory=memory or None,
        )
    if pods is None and found.nodes:
        found.notes.append(
            "the pods that run on every node (DaemonSets) may not be listed, so that cpus and memory still hold what "
            "they take; lower them by that"
        )
    return found


def room(node: ClusterNode, pods: Iterable[ClusterPod]) -> tuple[float, int]:
    """CPU cores (to a tenth) and bytes of memory (to 64 MiB) that are left beside the pods that every node has."""
    own = [pod for pod in pods if pod.node == node.name and pod.everywhere]
    cpus = max(0.0, node.cpus - sum(pod.cpus for pod in own))
    memory = max(0, node.memory - sum(pod.memory for pod in own))
    return int(round(cpus * 10, 6)) / 10, memory // (64 * MIB) * (64 * MIB)


def keeps_off(node: ClusterNode) -> list[Taint]:
    """The taints that keep users' pods off, other than the cluster's own passing ones and those that are named like a
    resource of the node (which say: only for pods that ask for it)."""
    return [
        taint
        for taint in node.taints
        if taint.effect in ("NoSchedule", "NoExecute")
        and not taint.key.startswith(_OWN_TAINTS)
        and taint.key not in node.units
    ]


def _left_out(node: ClusterNode) -> str:
    taints = keeps_off(node)
    if any(taint.key.startswith("node-role.kubernetes.io/") for taint in taints):
        return "it is for the control plane"
    if taints:
        said = ", ".join(f"{t.key}={t.value}:{t.effect}" if t.value else f"{t.key}:{t.effect}" for t in taints)
        return f"it is tainted ({said}); users' pods need a toleration, then write it in by hand"
    return ""


def _accelerators(node: ClusterNode, also: Collection[str], notes: list[str]) -> list[Accelerator]:
    found = []
    for resource, count in sorted(node.units.items()):
        if not resource.startswith(MAKERS) and resource not in also:
            if count:
                notes.append(f"{node.name} also has {count} {resource}, left out; --resource {resource} takes it in")
        elif count:
            found.append(_accelerator(node, resource, count, notes))
        elif resource.startswith(MAKERS):
            notes.append(f"{node.name} has no {resource} to give out just now, so none is written")
    return found


def _accelerator(node: ClusterNode, resource: str, count: int, notes: list[str]) -> Accelerator:
    model, memory, shared = _described(node.labels, resource)
    if shared:
        notes.append(
            f"{node.name}: each unit of {resource} is a share of a GPU ({shared} take turns on one), whose memory is "
            "not kept apart; 'memory_gib' is left out"
        )
        memory = None
    return Accelerator(resource=resource, model=model, count=count, memory_gib=memory)


def _described(labels: Mapping[str, str], resource: str) -> tuple[str, float | None, int]:
    """Model, GiB of one unit, and how many units share a GPU (0: they don't), as far as labels say it."""
    if resource.startswith("nvidia.com/"):
        # In MIG's mixed strategy each kind of slice has labels of its own, in all other cases there is one set. Shared
        # units may have a name of their own, while the labels keep the first.
        named = resource.removesuffix(".shared")
        product = labels.get(f"{named}.product", "")
        replicas = int(_number(labels.get(f"{named}.replicas"))) if f"{named}.replicas" in labels else 1
        shared = max(replicas, 2) if product.endswith("-SHARED") or resource.endswith(".shared") else replicas
        model = product.removesuffix("-SHARED").removeprefix("NVIDIA-")
        memory = _number(labels.get(f"{named}.memory")) * MIB / GIB
        return model or _slice(resource), round(memory, 1) or None, shared if shared > 1 else 0
    if resource.startswith("amd.com/gpu"):
        model = labels.get("amd.com/gpu.product-name", "").replace("_", " ").removeprefix("AMD ")
        memory = _number(labels.get("amd.com/gpu.vram", "").removesuffix("G"))
        return model, memory or None, 0
    return "", None, 0


def _slice(resource: str) -> str:
    """ "MIG 1g.10gb" from the resource's own name, where no label says more."""
    return f"MIG {resource.partition('/mig-')[2]}" if "/mig-" in resource else ""


def _number(text: str | None) -> float:
    try:
        number = float(text or 0)
    except ValueError:
        return 0.0
    return number if 0 <= number < 1e9 else 0.0
