"""The queues of jobs, as Kueue has them: what is made of the calendar for it. Pure.

Kueue hands out quota, and knows no time. So each node is a flavor of its own, whose quota is what the calendar leaves
free there (:mod:`mlmp_spawner.rules.job_admission`): which flavor a job gets says where it runs. Of each resource
there is a cohort of ClusterQueues, one for each tenant (:mod:`mlmp_spawner.rules.job_guarantees`): what one leaves
unused, the others borrow. In each of them a group of the hub has a LocalQueue, by which its jobs are counted against
it. No job starts by quota alone: the admission check is answered by MLMP.

Objects are plain JSON for server-side apply under :data:`MANAGER`: what an admin adds to them stays.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.rules.job_guarantees import FIXED, POOL, Tenant
from mlmp_spawner.units import to_iso

Json = dict[str, Any]

GROUP, VERSION = "kueue.x-k8s.io", "v1beta2"
MANAGER = "mlmp-jobs"
"""Our field manager, of all that we apply."""
CHECK = "mlmp-calendar"
"""The admission check."""
CONTROLLER = "mlmp.dev/calendar"
"""Who answers it, as the check names its controller."""
HOSTNAME = "kubernetes.io/hostname"
MOST_NODES = 64
"""As many flavors one group of resources may have."""
PRIORITIES = {"front": 2000, "high": 1000, "normal": 0, "low": -1000}
"""By name; ``front``: it was sent away and goes before all others of its queue."""

_NAMESPACE = "kubernetes.io/metadata.name"
_UNFIT = re.compile(r"[^a-z0-9]+")
_LONGEST = 46
"""Characters of a name that can be read: with the rest of it, it is short enough for a label."""


@dataclass(frozen=True, slots=True)
class NodeQuota:
    """A node with what jobs may have there. ``hostname``: its label of that name; ``units``: those of the quota;
    ``cpus`` (cores) and ``memory`` (bytes): all that the node has, since they only follow the units."""

    node: str
    hostname: str
    units: int
    cpus: float
    memory: int


def flavor_name(node: str) -> str:
    """The flavor of a node."""
    return _name(node)


def cohort_name(resource: str) -> str:
    """What the queues for a resource have together."""
    return _name(resource)


def cluster_queue_name(resource: str, tenant: Tenant = POOL) -> str:
    """The queue of a tenant's jobs for a resource."""
    if tenant == POOL:
        return _name(resource)
    return _name(f"{_slug(resource)[:20]} {tenant.kind} {tenant.group}".rstrip(), "\n", resource, "\n", tenant.kind)


def local_queue_name(resource: str, group: str, tenant: Tenant = POOL) -> str:
    """The queue of a group's jobs for a resource. A LocalQueue can't be moved to another ClusterQueue, so there is one
    for each tenant.

    :param group: the hub's, any text; "" for those in none. :param tenant: in whose queue these jobs are.
    """
    apart = () if tenant == POOL else ("\n", tenant.kind)
    return _name(f"{_slug(resource)[:20]} {group}", "\n", resource, *apart)


def priority_name(priority: str) -> str:
    """The class of a priority of :data:`PRIORITIES`."""
    return f"mlmp-{priority}"


def admission_check() -> Json:
    """The check that every job waits for."""
    return _object("AdmissionCheck", CHECK, spec={"controllerName": CONTROLLER})


def check_status(*, generation: int, now: int) -> Json:
    """That somebody answers the check; before that its queues admit nothing. For its status."""
    condition = {
        "type": "Active", "status": "True", "reason": "Ready", "message": "MLMP answers.",
        "observedGeneration": generation, "lastTransitionTime": to_iso(now),
    }  # fmt: skip
    return _object("AdmissionCheck", CHECK, status={"conditions": [condition]})


def resource_flavor(node: NodeQuota) -> Json:
    """The flavor of one node. Kueue gives its pods the label as a selector, so they can run nowhere else."""
    return _object("ResourceFlavor", flavor_name(node.node), spec={"nodeLabels": {HOSTNAME: node.hostname}})


def cluster_queue(resource: str, nodes: Sequence[NodeQuota], namespace: str, tenant: Tenant = POOL) -> Json:
    """The queue of a tenant's jobs for a resource.

    It lends what it does not use, and borrows. Who is guaranteed units gets them back, and nobody else is ever evicted
    for another by Kueue: the calendar says what there is, and MLMP who goes. What must not be evicted does not borrow.
    Whose turn it is follows from what each LocalQueue has used, where Kueue is configured for that.

    :param nodes: with the tenant's quota. :param namespace: that of users' pods, the only one whose jobs it takes.
    :raises ConfigurationError: Kueue can't tell so many nodes apart.
    """
    if len(nodes) > MOST_NODES:
        raise ConfigurationError(
            [f"{resource}: jobs can use {MOST_NODES} nodes at most, as Kueue has it; there are {len(nodes)}"]
        )
    flavors = [
        {"name": flavor_name(node.node), "resources": _quotas(resource, node, tenant)}
        for node in sorted(nodes, key=lambda one: one.node)
    ]
    groups = [{"coveredResources": [resource, "cpu", "memory"], "flavors": flavors}] if flavors else []
    reclaims = "Any" if tenant.kind == "own" else "Never"
    spec = {
        "cohortName": cohort_name(resource),
        "namespaceSelector": _only(namespace),
        "queueingStrategy": "BestEffortFIFO",
        "preemption": {"reclaimWithinCohort": reclaims, "withinClusterQueue": "Never"},
        "admissionScope": {"admissionMode": "UsageBasedAdmissionFairSharing"},
        "admissionChecksStrategy": {"admissionChecks": [{"name": CHECK}]},
        "resourceGroups": groups,
    }
    return _object("ClusterQueue", cluster_queue_name(resource, tenant), spec=spec)


def retired_queue(name: str, namespace: str) -> Json:
    """A ClusterQueue that nobody stands in any more: it has no quota, and what runs goes on."""
    spec = {"namespaceSelector": _only(namespace), "stopPolicy": "Hold", "resourceGroups": []}
    return _object("ClusterQueue", name, spec=spec)


def in_use(item: Json, namespace: str) -> str | None:
    """The name of a ClusterQueue that we made for this namespace and that is not retired; None for any other."""
    metadata, spec = item.get("metadata") or {}, item.get("spec") or {}
    if not made_by_us(item) or spec.get("namespaceSelector") != _only(namespace) or not spec.get("resourceGroups"):
        return None
    return str(metadata.get("name") or "") or None


def made_by_us(item: Mapping[str, Any]) -> bool:
    """Whether an object was applied by MLMP: this one, or another."""
    fields = (item.get("metadata") or {}).get("managedFields") or ()
    return any(entry.get("manager") == MANAGER for entry in fields)


def takes_from(item: Mapping[str, Any]) -> str:
    """The only namespace whose jobs a ClusterQueue takes; "" where it says no such thing."""
    selector = (item.get("spec") or {}).get("namespaceSelector") or {}
    return str((selector.get("matchLabels") or {}).get(_NAMESPACE) or "")


def _only(namespace: str) -> Json:
    return {"matchLabels": {_NAMESPACE: namespace}}


def _quotas(resource: str, node: NodeQuota, tenant: Tenant) -> list[Json]:
    units: Json = {"name": resource, "nominalQuota": str(node.units)}
    if tenant == FIXED:
        units["borrowingLimit"] = "0"
    return [
        units,
        {"name": "cpu", "nominalQuota": f"{round(node.cpus * 1000)}m"},
        {"name": "memory", "nominalQuota": str(node.memory)},
    ]


def local_queue(resource: str, group: str, namespace: str, tenant: Tenant = POOL, *, weight: float = 1) -> Json:
    """The queue of a group's jobs. :param weight: its share beside the others of the same tenant."""
    spec = {
        "clusterQueue": cluster_queue_name(resource, tenant),
        "fairSharing": {"weight": f"{round(weight * 1000)}m"},
    }
    return _object("LocalQueue", local_queue_name(resource, group, tenant), namespace=namespace, spec=spec)


def priority_classes() -> Iterable[Json]:
    """The classes that order the jobs of one queue. They have nothing to do with the priority of pods."""
    for name, value in PRIORITIES.items():
        yield _object("WorkloadPriorityClass", priority_name(name)) | {
            "value": value, "description": "Which of a group's jobs go first, made by MLMP.",
        }  # fmt: skip


def _object(kind: str, name: str, *, namespace: str | None = None, **parts: Any) -> Json:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata, **parts}


def _name(text: str, *rest: str) -> str:
    """A name of Kubernetes for any text: what can be read of it, and what tells it from every other."""
    digest = hashlib.sha256("".join((text, *rest)).encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return "-".join(part for part in ("mlmp", _slug(text), digest) if part)


def _slug(text: str) -> str:
    return _UNFIT.sub("-", text[:200].lower()).strip("-")[:_LONGEST].strip("-")
