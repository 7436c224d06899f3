"""MLMP with jobs on the cluster, installed by Helm beside a real Kueue, for tests of whole jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from mlmp_spawner.kube import labels
from tests.cluster.hub_here import wait_for
from tests.cluster.inside import Inside
from tests.cluster.release import Release, catalog_for, new_namespace, values_for
from tests.cluster.rig import images, kueue, volumes
from tests.cluster.rig.cluster import Cluster
from tests.jobs.people import Submitter

UNIT = "mlmp.dev/train"
"""What jobs of these tests use: queues of Kueue are the cluster's, and those of another unit are other queues."""
UNITS = 2
"""Of each node."""


class Training(Release):
    """One installation, its people and their jobs."""

    def submitter(self, name: str) -> Submitter:
        """Somebody who submits jobs."""
        return Submitter(self.api(name))

    def server(self, name: str, *, node: str | None = None) -> Inside:
        """Somebody's running server, without a unit of jobs: their terminal."""
        where = {} if node is None else {"node": node}
        booking = self.start(self.book(name, 3600, profile="cpu", **where), seconds=180)
        pod = self.pod_of(booking)
        assert pod is not None
        return Inside(self.cluster, self.users, pod.metadata.name)

    def home(self, name: str) -> Path:
        """Where somebody's files are on this machine."""
        claim = self.core.read_namespaced_persistent_volume_claim(f"{self.name}-homes", self.users)
        return volumes.FOLDERS / str(claim.spec.volume_name) / name

    def pods(self, job: str) -> list[client.V1Pod]:
        """Those of all attempts of a job, by name."""
        found = self.core.list_namespaced_pod(self.users, label_selector=f"{labels.KIND}={labels.JOB}").items
        mine = [pod for pod in found if pod.metadata.labels.get(labels.ATTEMPT, "").rpartition("-")[0] == job]
        return sorted(mine, key=lambda pod: str(pod.metadata.name))


def give_units(cluster: Cluster, core: client.CoreV1Api, unit: str, count: int) -> None:
    """Gives each node so many units; returns when the scheduler may hand them out."""
    for node in cluster.nodes:
        cluster.set_count(node, unit, count)
    wait_for_units(core, unit, count)


def wait_for_units(core: client.CoreV1Api, unit: str, count: int) -> None:
    """Until the scheduler may hand out so many of each node."""

    def counted() -> bool:
        return all((one.status.allocatable or {}).get(unit) == str(count) for one in core.list_node().items)

    wait_for(counted, 60, f"{unit} on all nodes")


def catalog(cluster: Cluster) -> dict[str, Any]:
    """Nodes with units of MLMP's own to train on, and images that have PyTorch and Spark."""
    made = catalog_for(cluster)
    for node in made["nodes"].values():
        node["accelerators"][0] |= {"resource": UNIT, "count": UNITS}
    made["profiles"]["gpu"]["resource"] = UNIT
    made["images"]["pytorch"] = {"reference": images.pytorch()}
    made["profiles"]["gpu"]["images"] = ["lab", "pytorch", "missing"]
    # A driver of Spark in somebody's server, and an executor; that image is built by those who test with it.
    made["images"]["spark"] = {"reference": images.spark()}
    made["profiles"]["driver"] = made["profiles"]["cpu"] | {"title": "Spark", "images": ["spark"], "memory": "2GiB"}
    made["profiles"]["executor"] = made["profiles"]["gpu"] | {
        "title": "Executor", "images": ["spark"], "memory": "1600MiB",
    }  # fmt: skip
    return made


@pytest.fixture(scope="session")
def training(cluster: Cluster, core: client.CoreV1Api) -> Iterator[Training]:
    """MLMP with jobs for the whole run."""
    cluster.must_be_ours()
    if not kueue.installed():
        pytest.skip("the test cluster has no Kueue: python -m tests.cluster.rig up --with-kueue")
    if not kueue.answers():
        kueue.up()
    namespace = new_namespace(core, "training")
    values = values_for(
        cluster,
        catalog=catalog(cluster),
        jobs={"enabled": True, "declareUnits": True, "files": {"size": "1Gi"}},
        users={"storage": {"type": "shared", "accessModes": ["ReadWriteMany"]}},
        ssh={"gateway": {"enabled": False}},
    )
    # One node can fail, and those who look can still be reached.
    for part in (values["hub"], *(values.setdefault(name, {}) for name in ("service", "proxy", "enforcer")),
                 values["database"]["postgresql"]):  # fmt: skip
        part["nodeSelector"] = {"kubernetes.io/hostname": cluster.nodes[0]}
    values["hub"]["config"]["MLMP"] |= {"job_guarantees": {"red": {UNIT: 2}}, "job_sample_every": 1.0}
    made = Training(cluster, namespace, values)
    made.install()
    wait_for_units(core, UNIT, UNITS)
    yield made
    made.close()
    if "MLMP_TEST_KEEP" not in os.environ:
        made.uninstall()
        core.delete_namespace(namespace)
