"""The GPUs of the nodes: labels as NVIDIA's GPU feature discovery writes them, and counts in the nodes' status.

Nothing stands behind them: the scheduler counts them as it does a device plugin's, pods see no device.
"""

from __future__ import annotations

import json

from .console import run
from .control_plane import kubectl

_A100 = {
    "nvidia.com/gpu.present": "true",
    "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
    "nvidia.com/gpu.family": "ampere",
    "nvidia.com/gpu.memory": "81920",
    "nvidia.com/gpu.count": "4",
    "nvidia.com/gpu.replicas": "1",
    "nvidia.com/gpu.sharing-strategy": "none",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "0",
    "nvidia.com/cuda.driver-version.major": "570",
    "nvidia.com/cuda.runtime-version.major": "12",
}
#: node -> its labels.
LABELS = {
    "node-a": {**_A100, "nvidia.com/mig.capable": "true", "nvidia.com/mig.strategy": "mixed"},
    "node-b": {
        **_A100,
        "nvidia.com/mig.capable": "true",
        "nvidia.com/mig.strategy": "mixed",
        "nvidia.com/mig-3g.40gb.count": "2",
        "nvidia.com/mig-3g.40gb.memory": "40320",
        "nvidia.com/mig-3g.40gb.product": "NVIDIA-A100-SXM4-80GB-MIG-3g.40gb",
        "nvidia.com/mig-3g.40gb.replicas": "1",
    },
}
#: node -> how many it has of each.
RESOURCES = {
    "node-a": {"nvidia.com/gpu": 4},
    "node-b": {"nvidia.com/gpu": 4, "nvidia.com/mig-3g.40gb": 2},
}


def install() -> None:
    """Gives the registered nodes their labels and GPUs."""
    for node, labels in LABELS.items():
        run(*kubectl(), "label", "--overwrite", "node", node, *(f"{name}={value}" for name, value in labels.items()))
        for resource, count in RESOURCES[node].items():
            set_count(node, resource, count)


def set_count(node: str, resource: str, count: int) -> None:
    """The kubelet takes it into what is allocatable at its next report, within 5 s, and keeps it when restarted."""
    name = resource.replace("~", "~0").replace("/", "~1")
    patch = [{"op": "add", "path": f"/status/capacity/{name}", "value": str(count)}]
    run(*kubectl(), "patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(patch))
