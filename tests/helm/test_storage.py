"""The volumes that the chart makes for a file server are bound by the claims that they are for, in both namespaces."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
import yaml
from kubernetes import client

from tests.cluster.conftest import delete_namespace
from tests.cluster.hub_here import wait_for
from tests.cluster.rig.cluster import Cluster
from tests.helm.chart import Manifest, render

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("helm")]


@pytest.fixture
def made(cluster: Cluster, core: client.CoreV1Api, namespace: str) -> Iterator[list[Manifest]]:
    """Volumes and claims, as `helm install` would make them."""
    users = f"{namespace}-users"
    core.create_namespace({"metadata": {"name": users}})
    server = {"server": "192.0.2.1", "path": "/exports/homes"}
    shared = {"nfs": {**server, "path": "/exports/shared"}}
    values = {"namespace": users, "storage": {"type": "nfs", "nfs": server, "shared": shared}}
    manifests = [each for each in render({"users": values}, namespace=namespace) if "Persistent" in each["kind"]]
    command = [*cluster.kubectl(), "apply", "-f", "-"]
    subprocess.run(command, input=yaml.safe_dump_all(manifests), text=True, check=True, timeout=60)
    yield manifests
    delete_namespace(core, users)
    for each in manifests:
        if each["kind"] == "PersistentVolume":
            core.delete_persistent_volume(each["metadata"]["name"])


def test_each_claim_gets_the_volume_that_is_for_it(core: client.CoreV1Api, made: list[Manifest]) -> None:
    claims = [each for each in made if each["kind"] == "PersistentVolumeClaim"]
    assert len(claims) == 3
    for each in claims:
        where = (each["metadata"]["name"], each["metadata"]["namespace"])
        wait_for(
            lambda where=where: core.read_namespaced_persistent_volume_claim(*where).status.phase == "Bound",
            30,
            where[0],
        )
        bound = core.read_namespaced_persistent_volume_claim(*where)
        assert bound.spec.volume_name == each["spec"]["volumeName"]
