"""The tests of the chart need Helm; those that ask the API server, the cluster of the cluster tests."""

from __future__ import annotations

import pytest

from tests.cluster.conftest import cluster, core, namespace
from tests.cluster.rig.cluster import Cluster
from tests.helm import chart

__all__ = ["cluster", "core", "helm", "namespace"]


@pytest.fixture(scope="session")
def helm(cluster: Cluster) -> None:
    """Helm, which comes with the test cluster."""
    if not chart.installed():
        pytest.skip("no helm here: `make test-cluster` builds one")
