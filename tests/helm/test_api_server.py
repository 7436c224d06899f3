"""Ten different values files and more, as the API server takes them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client

from tests.cluster.conftest import delete_namespace
from tests.cluster.rig.cluster import Cluster
from tests.helm.chart import VALUES, pods, render

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("helm")]

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture(scope="module")
def users(core: client.CoreV1Api, namespace: str) -> Iterator[str]:
    """A namespace for users' pods, in which all of ours would have to be restricted too."""
    name = f"{namespace}-users"
    core.create_namespace({"metadata": {"name": name, "labels": RESTRICTED}})
    yield name
    delete_namespace(core, name)


def test_there_are_ten_values_files() -> None:
    assert len(VALUES) >= 10


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.stem)
def test_the_api_server_takes_all_of_it(path: Path, cluster: Cluster, namespace: str, users: str) -> None:
    own = yaml.safe_load(path.read_text()).get("users", {}).get("namespace")
    options = ["--set", f"users.namespace={users}"] if own else []
    manifests = render(path, *options, namespace=namespace)
    for each in manifests:
        each["metadata"].setdefault("namespace", namespace)
        if each["kind"] in ("Namespace", "ClusterRole", "ClusterRoleBinding", "PriorityClass", "PersistentVolume"):
            del each["metadata"]["namespace"]
    command = [*cluster.kubectl(), "apply", "--dry-run=server", "--validate=strict", "-f", "-"]
    done = subprocess.run(command, input=yaml.safe_dump_all(manifests), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(manifests)
    warnings = [line for line in done.stderr.splitlines() if "last-applied-configuration" not in line]
    assert not warnings, done.stderr  # such as of Pod Security


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.stem)
def test_none_of_our_pods_needs_more_than_pod_security_restricted_gives(
    path: Path, cluster: Cluster, users: str
) -> None:
    made = pods(render(path))
    assert {"mlmp-hub", "mlmp-proxy", "mlmp-service"} <= made.keys()
    for name, pod in made.items():
        pod |= {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": users}}
        pod["spec"].pop("serviceAccountName", None)  # there is none here
    # A pod that the API server takes is one that Pod Security let in; nothing is made.
    command = [*cluster.kubectl(), "create", "--dry-run=server", "-f", "-"]
    done = subprocess.run(command, input=yaml.safe_dump_all(made.values()), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(made)
