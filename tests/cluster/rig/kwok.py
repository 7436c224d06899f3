"""Simulated nodes, for what only the control plane has to carry: pods that bind and turn Ready and run nowhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

from kubernetes import client

from . import binaries
from .certificates import kubeconfig
from .console import RigError, run, wait_until
from .places import BIN, RUN
from .processes import Process

ANNOTATION = "kwok.x-k8s.io/node"
#: A node's readiness, its lease, a pod's life: kwok has none of them built in.
STAGES = ("node/fast", "node/heartbeat-with-lease", "pod/fast")

process = Process("kwok")


def up(core: client.CoreV1Api, nodes: int, gpus: int, *, seconds: float = 60) -> list[str]:
    """So many more nodes, each with ``gpus`` GPUs; the names of those that are then Ready.

    They bear the label ``type: kwok``, which pods select, and the taint ``kwok.x-k8s.io/node``, which they tolerate.
    Raises RigError where kwok was not built: ``python -m tests.cluster.rig up --with-kwok``.
    """
    if not (BIN / "kwok").exists():
        raise RigError("this cluster was brought up without kwok: python -m tests.cluster.rig up --with-kwok")
    stages = RUN / "kwok.yaml"
    stages.write_text("\n---\n".join(_stages()))
    process.define(
        BIN / "kwok",
        f"--kubeconfig={kubeconfig('admin')}",
        f"--config={stages}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake",
        "--node-lease-duration-seconds=40",
    )
    process.start()
    names = [f"simulated-{number:03}" for number in range(nodes)]
    for name in names:
        core.create_node(_node(name, gpus))

    def ready() -> bool:
        process.require()
        found = core.list_node(label_selector="type=kwok").items
        return nodes == sum(
            condition.type == "Ready" and condition.status == "True"
            for node in found
            for condition in node.status.conditions or ()
        )

    wait_until(ready, f"{nodes} simulated nodes", seconds=seconds, every=0.5)
    return names


def _node(name: str, gpus: int) -> dict[str, object]:
    return {
        "metadata": {
            "name": name,
            "annotations": {ANNOTATION: "fake"},
            "labels": {"type": "kwok", "kubernetes.io/hostname": name},
        },
        "spec": {"taints": [{"key": ANNOTATION, "value": "fake", "effect": "NoSchedule"}]},
        "status": {
            "capacity": {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": str(gpus)},
            "allocatable": {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": str(gpus)},
        },
    }


def _stages() -> list[str]:
    """From the module that the program was built from."""
    env = {**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    said = run("go", "mod", "download", "-json", "sigs.k8s.io/kwok", env=env, folder=binaries.SOURCES / "kwok")
    top = Path(json.loads(said)["Dir"]) / "kustomize" / "stage"
    return [
        file.read_text()
        for stage in STAGES
        for file in sorted((top / stage).glob("*.yaml"))
        if file.name != "kustomization.yaml"
    ]
