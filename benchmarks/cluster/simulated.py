"""Simulated nodes, on this machine's own test cluster only: in another they might be in somebody's way."""

from __future__ import annotations

from benchmarks.cluster.place import Place
from benchmarks.common import note
from tests.cluster.rig import kwok

NODES, GPUS = 100, 8


def nodes(place: Place) -> bool:
    """Whether there are simulated nodes now."""
    if not place.cluster.ours:
        note("simulated nodes are added only to this machine's own test cluster (unset KUBECONFIG)")
        return False
    if not place.core.list_node(label_selector="type=kwok").items:
        kwok.up(place.core, NODES, GPUS)
    return True
