"""A server whose units a job still has: a real hub waits for it, longer than it waits for a former server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from kubernetes import client

from mlmp_spawner import units
from mlmp_spawner.jobs.base import Seen
from mlmp_spawner.kube.labels import ATTEMPT, JOB, KIND
from mlmp_spawner.operations.jobs.ending import ended
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog_yaml import load_catalog
from mlmp_spawner.rules.jobs import Attempt
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.units import DAY, MINUTE
from tests.cluster.hub_here import Hub, wait_for
from tests.cluster.rig.cluster import Cluster
from tests.cluster.test_spawner import resource
from tests.operations.jobs.running import run_job

__all__ = ["resource"]

PATIENCE = 2
SAVES = 15.0
"""Seconds that the job takes to make way: more than the hub gives former servers, and the scheduler's no."""


@pytest.fixture(scope="module")
def count(core: client.CoreV1Api, cluster: Cluster, resource: str) -> int:
    """All units of the node."""
    return int(core.read_node(cluster.nodes[0]).status.allocatable[resource])


@pytest.fixture(scope="module")
def hub(
    cluster: Cluster, core: client.CoreV1Api, namespace: str, resource: str, count: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Hub]:  # fmt: skip
    """One that has no patience with former servers."""
    made = Hub(
        tmp_path_factory.mktemp("hub"), core, namespace, kubeconfig=cluster.kubeconfig, image=cluster.debian,
        resource=resource, nodes={cluster.nodes[0]: count},
        settings=f"c.MLMPKubeSpawner.units_timeout = {PATIENCE}\nc.MLMP.show_owners = True",
    )  # fmt: skip
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def site(hub: Hub) -> Iterator[Site]:
    """The hub's."""
    engine = make_engine(hub.db_url)
    yield Site(engine, load_catalog(hub.root / "catalog"), cluster=True)
    engine.dispose()


def job_pod(cluster: Cluster, resource: str, count: int, attempt: Attempt) -> dict[str, object]:
    """A pod of a job with all units of the node."""
    limits = {"limits": {resource: str(count)}}
    container = {"name": "notebook", "image": cluster.debian, "command": ["sleep", "1000"], "resources": limits}
    return {
        "metadata": {"name": "mlmp-job", "labels": {KIND: JOB, ATTEMPT: attempt.id}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": cluster.nodes[0]}, "terminationGracePeriodSeconds": 1,
            "containers": [container],
        },
    }  # fmt: skip


def test_it_waits_while_the_job_saves_its_work_and_starts_then(
    hub: Hub, cluster: Cluster, core: client.CoreV1Api, namespace: str, resource: str, count: int, site: Site
) -> None:
    hub.api.post("/hub/api/users/eve")
    job = run_job(site, cluster.nodes[0], now=units.now(), units=count, grace=MINUTE)
    core.create_namespaced_pod(namespace, job_pod(cluster, resource, count, job))
    wait_for(lambda: core.read_namespaced_pod("mlmp-job", namespace).status.phase == "Running")
    assert hub.begin("ann", units=count).status_code == 202
    with ThreadPoolExecutor(1) as pool:
        steps = pool.submit(hub.steps, "ann")  # until the start is over
        time.sleep(SAVES)
        assert hub.pending("ann"), hub.log[-3000:]
        core.delete_namespaced_pod("mlmp-job", namespace)
        ended(site, job, Seen(job.id, "ended", reason="signal"), half_life=DAY, now=units.now())
        said = [event["message"] for event in steps.result(100)]
    assert hub.ready("ann"), hub.log[-3000:]
    hub.end("ann")
    assert any(one.startswith("Waiting for eve's job to make way") for one in said), said
