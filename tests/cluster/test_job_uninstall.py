"""The life of jobs ends with the installation that ran them, and Kueue is left as it was."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from mlmp_spawner.kube.job_queues import GROUP, VERSION
from mlmp_spawner.kube.labels import JOB, KIND
from tests.cluster.conftest import delete_namespace
from tests.cluster.release import catalog_for, new_namespace, values_for
from tests.cluster.rig.cluster import Cluster
from tests.cluster.training import Training, give_units

UNIT = "mlmp.dev/leave"
UNITS = 2
NOTES = (
    "import os, pathlib, signal, time\n"
    "def told(*_):\n"
    "    pathlib.Path.home().joinpath('told').write_text('SIGTERM'); os._exit(0)\n"
    "signal.signal(signal.SIGTERM, told)\n"
    "print('begun', flush=True)\n"
    "while True: time.sleep(1)\n"
)


@pytest.fixture
def leaving(cluster: Cluster, core: client.CoreV1Api) -> Iterator[Training]:
    """An installation with a namespace for users' pods."""
    give_units(cluster, core, UNIT, UNITS)
    namespace, users = new_namespace(core, "leaving"), new_namespace(core, "leaving-users")
    made = Training(cluster, namespace, values_for(
        cluster,
        catalog=catalog_for(cluster, UNIT),
        jobs={"enabled": True, "files": {"size": "1Gi"}},
        users={"namespace": users, "storage": {"type": "shared", "accessModes": ["ReadWriteMany"]}},
        ssh={"gateway": {"enabled": False}},
    ))  # fmt: skip
    made.install()
    yield made
    made.close()
    made.helm("uninstall", "mlmp", "--ignore-not-found", check=False)
    for name in (users, namespace):
        delete_namespace(core, name)


def left(release: Training) -> dict[str, set[str]]:
    """What there is of jobs: kind -> names."""
    core, users = release.core, release.users
    here: dict[str, Any] = {
        "pods": core.list_namespaced_pod,
        "secrets": core.list_namespaced_secret,
        "config maps": core.list_namespaced_config_map,
        "services": core.list_namespaced_service,
        "jobs": client.BatchV1Api(core.api_client).list_namespaced_job,
        "policies": client.NetworkingV1Api(core.api_client).list_namespaced_network_policy,
    }
    found = {
        kind: {one.metadata.name for one in ask(users, label_selector=f"{KIND}={JOB}").items}
        for kind, ask in here.items()
    }
    custom = client.CustomObjectsApi(core.api_client)
    for kind in ("localqueues", "workloads"):
        items = custom.list_namespaced_custom_object(GROUP, VERSION, users, kind)["items"]
        found[kind] = {one["metadata"]["name"] for one in items}
    queues = custom.list_cluster_custom_object(GROUP, VERSION, "clusterqueues")["items"]
    found["clusterqueues"] = {one["metadata"]["name"] for one in queues if users in json.dumps(one["spec"])}
    return {kind: names for kind, names in found.items() if names}


def test_an_uninstall_ends_all_jobs_and_takes_their_queues_out_of_kueue(leaving: Training) -> None:
    ann = leaving.submitter("ann")
    runs = ann.submit(command=["python3", "-c", NOTES], grace="20s")
    ann.printed(runs, "begun")
    together = ann.submit(command=["sleep", "3600"], workers=2)
    ann.until(together, "running", seconds=180)
    waits = ann.submit(command=["true"], units=UNITS)
    ann.until(waits, "queued")
    assert {"pods", "jobs", "secrets", "services", "policies", "localqueues", "clusterqueues"} <= left(leaving).keys()

    said = checked(leaving)
    assert "Nothing is wrong." in said, said

    home = leaving.home("ann")
    leaving.uninstall()
    assert left(leaving) == {}
    assert (home / "told").read_text() == "SIGTERM", "a program is told, and may save its work"
    accounts = leaving.core.list_namespaced_service_account(leaving.namespace).items
    assert "mlmp-end-jobs" not in {one.metadata.name for one in accounts}
    claims = leaving.core.list_namespaced_persistent_volume_claim(leaving.namespace).items
    assert "mlmp-jobs" in {one.metadata.name for one in claims}


def checked(release: Training) -> str:
    """What ``mlmp check --kubernetes`` says in the service's own pod."""
    command = [*release.cluster.kubectl(), "--namespace", release.namespace, "exec", "deploy/mlmp-service", "--"]
    done = subprocess.run(
        [*command, "mlmp", "check", "--kubernetes"], capture_output=True, text=True, timeout=120
    )  # fmt: skip
    return done.stdout + done.stderr
