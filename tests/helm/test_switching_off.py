"""Jobs are switched off in the right order, or not at all: the chart sees what runs."""

from __future__ import annotations

import os
from typing import Any

import pytest
from kubernetes import client

from tests.cluster.rig.cluster import Cluster
from tests.helm.chart import RefusedError, names, render

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("helm")]

HOMES = {"users": {"storage": {"type": "shared", "existingClaim": "homes"}}}
SERVER = ("--dry-run=server", "--is-upgrade")


def pod(name: str, kind: str) -> dict[str, Any]:
    """One that waits for ever: nothing here has its turn."""
    program = {"name": "main", "image": "registry.mlmp.test/debian:bookworm-slim"}
    gates = [{"name": "tests.mlmp.dev/never"}]
    return {
        "metadata": {"name": name, "labels": {"mlmp.dev/kind": kind}},
        "spec": {"containers": [program], "schedulingGates": gates},
    }


def test_they_can_not_be_taken_away_while_one_runs(
    cluster: Cluster, core: client.CoreV1Api, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "KUBECONFIG", str(cluster.kubeconfig))
    core.create_namespaced_pod(namespace, pod("jupyter-ann", "server"))
    assert names(render(HOMES, *SERVER, namespace=namespace), "Deployment")
    core.create_namespaced_pod(namespace, pod("mlmp-job-a-1-w0", "job"))
    with pytest.raises(RefusedError, match=r"jobs.enabled: 1 pods of jobs are still there, such as mlmp-job-a-1-w0"):
        render(HOMES, *SERVER, namespace=namespace)
    assert names(render(HOMES | {"jobs": {"enabled": True}}, *SERVER, namespace=namespace), "Deployment")
