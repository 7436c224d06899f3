"""What the last look at a Kubernetes cluster saw, for the pages and answers that show it."""

from __future__ import annotations

from dataclasses import dataclass

from mlmp_spawner.rules.foreign_pods import Foreigner
from mlmp_spawner.rules.nodes import ClusterNode


@dataclass(frozen=True, slots=True)
class ClusterLook:
    """What was seen at ``at`` (ms UTC; None: nothing yet).

    ``foreign``: pods on units that people book, which are not MLMP's; None where nobody looks at them.
    ``problem``: why the latest look failed, where it did; then the rest is from before.
    """

    at: int | None = None
    nodes: tuple[ClusterNode, ...] = ()
    foreign: tuple[Foreigner, ...] | None = None
    problem: str = ""
