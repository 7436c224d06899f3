"""What a node has of MLMP's own units, as the cluster is told it: jobs ask for them as for GPUs. Pure.

No device plugin knows of ``mlmp.dev/slot``. But Kubernetes counts whatever a node's capacity names, and the node's
kubelet lets pods take it (https://kubernetes.io/docs/tasks/administer-cluster/extended-resource-node/).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mlmp_spawner.rules.catalog import Catalog, is_own
from mlmp_spawner.rules.nodes import ClusterNode

MANAGER = "mlmp-units"
"""Our field manager, of all that is declared: what the catalog does not list any more goes with the next word."""


def to_declare(catalog: Catalog, nodes: Iterable[ClusterNode]) -> Iterator[dict[str, Any]]:
    """Of each node of the catalog that does not have yet what it lists: its units, for its status."""
    listed: dict[str, dict[str, int]] = {}
    for (name, resource), count in catalog.capacity().items():
        if is_own(resource):
            listed.setdefault(name, {})[resource] = count
    for node in nodes:
        own = listed.get(node.name, {})
        if any(node.units.get(resource) != count for resource, count in own.items()):
            capacity = {resource: str(count) for resource, count in sorted(own.items())}
            yield {
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name}, "status": {"capacity": capacity},
            }  # fmt: skip
