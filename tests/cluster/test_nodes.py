"""Nodes of a real cluster: what they lose and when they are cordoned, what bookings make of it, what admins are told.

The units are a resource of this module's own, so that no other test has to do with them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from kubernetes import client
from sqlalchemy import insert

from mlmp_spawner import units as clock
from mlmp_spawner.client.cli import cli
from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.nodes import NodeReader
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import get
from mlmp_spawner.operations.cluster_look import ClusterLook
from mlmp_spawner.operations.node_states import node_states
from mlmp_spawner.operations.node_watch import NodeWatch
from mlmp_spawner.operations.outages import get as outages_of
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import Accelerator, Catalog, Node, Profile
from mlmp_spawner.rules.nodes import CORDONED, NOT_READY
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.settings import MLMP
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE
from tests.cluster.rig.cluster import Cluster
from tests.databases import sqlite_copy

RESOURCE = "mlmp.test/gpu-nodes"
PATIENCE = 3
WITHIN = 90
"""Seconds: a node counts as not ready after 40 or 50 without a word."""


def give(core: client.CoreV1Api, node: str, count: int | None) -> None:
    """Says how many units a node has, as its device plugin would; the kubelet keeps it. None: none was ever there."""
    name = RESOURCE.replace("/", "~1")
    there = RESOURCE in core.read_node(node).status.capacity
    if count is None and not there:
        return
    what = {"op": "remove"} if count is None else {"op": "add", "value": str(count)}
    patch = [{"path": f"/status/{part}/{name}", **what} for part in ("capacity", "allocatable")]
    core.patch_node_status(node, patch)


@pytest.fixture(scope="module")
def equipped(cluster: Cluster, core: client.CoreV1Api) -> Iterator[list[str]]:
    """Two nodes with two units each."""
    nodes = cluster.nodes[:2]
    before = {node: core.read_node(node).status.capacity.get(RESOURCE) for node in nodes}
    for node in nodes:
        give(core, node, 2)
    yield nodes
    for node in nodes:
        core.patch_node(node, {"spec": {"unschedulable": None}})
        give(core, node, None if before[node] is None else int(before[node]))


@dataclass
class Watched:
    """A site whose nodes are those of the cluster, and the watch on them."""

    site: Site
    watch: NodeWatch
    connection: Connection

    def booked(self, node: str, hours: int) -> Reservation:
        request = BookingRequest("gpu", duration=HOUR, units=2, node=node, start=clock.now() + hours * HOUR)
        return book(self.site, request, actor=Actor("ann"), now=clock.now())

    async def until(self, condition: Callable[[], object], what: str) -> ClusterLook:
        """Looks as the service does, until something is so."""
        ends = clock.now() + WITHIN * 1000
        while clock.now() < ends:
            look = await self.watch.look()
            if condition():
                return look
            await asyncio.sleep(0.5)
        raise AssertionError(f"{what} did not come to be: {self.watch.last}")

    def capacity(self, node: str) -> int:
        return next(one.units[0].capacity for one in node_states(self.site, now=clock.now()) if one.name == node)

    def away(self, node: str) -> list[str]:
        return [one.reason for one in outages_of(self.site, node, now=clock.now()).outages]


def catalog_of(nodes: list[str]) -> Catalog:
    made = {name: Node(name=name, accelerators=(Accelerator(resource=RESOURCE, count=2),)) for name in nodes}
    gpu = Profile(name="gpu", title="GPU", resource=RESOURCE, max_units=2, min_duration=MINUTE)
    return Catalog(nodes=made, profiles={"gpu": gpu})


@pytest.fixture
async def watched(  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster, equipped: list[str], namespace: str, sqlite_file: Path,
    tmp_path: Path,
):  # fmt: skip
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    engine = make_engine(sqlite_copy(sqlite_file, tmp_path / "mlmp.sqlite"), pool_size=5)
    with transaction(engine) as connection:
        connection.execute(insert(users), [{"id": 1, "name": "ann"}])
    site = Site(engine, catalog_of(equipped), cluster=True)
    catalog_sync.sync(site, now=clock.now())
    settings = MLMP(backend="kubernetes", namespace=namespace, node_patience=PATIENCE, see_all_pods=True)
    connection = Connection()
    yield Watched(site, NodeWatch(lambda: site, settings, NodeReader(connection)), connection)
    await connection.close()
    engine.dispose()


async def test_units_that_a_node_loses_are_not_booked_and_are_again_when_they_are_back(
    watched: Watched, core: client.CoreV1Api, equipped: list[str]
) -> None:
    first, second = equipped
    row = watched.booked(second, hours=1)
    await watched.until(lambda: watched.watch.last.at, "the first look")
    give(core, second, 1)
    await watched.until(lambda: watched.capacity(second) == 1, "the lowered capacity")
    assert get(watched.site, row.id).nodes == (first,)
    give(core, second, 2)
    await watched.until(lambda: watched.capacity(second) == 2, "the capacity as it was")


async def test_bookings_leave_a_cordoned_node_and_it_is_bookable_again_when_it_is_not(
    watched: Watched, core: client.CoreV1Api, equipped: list[str]
) -> None:
    first, second = equipped
    row = watched.booked(second, hours=1)
    core.patch_node(second, {"spec": {"unschedulable": True}})
    try:
        await watched.until(lambda: watched.away(second), "the outage")
    finally:
        core.patch_node(second, {"spec": {"unschedulable": None}})
    assert watched.away(second) == [CORDONED]
    assert get(watched.site, row.id).nodes == (first,)
    await watched.until(lambda: not watched.away(second), "the end of the outage")
    assert watched.booked(second, hours=1).nodes == (second,)


async def test_bookings_leave_a_node_of_which_nothing_is_heard_and_its_return_is_seen(
    watched: Watched, cluster: Cluster, equipped: list[str]
) -> None:
    cluster.must_be_ours()
    first, second = equipped
    row = watched.booked(second, hours=1)
    kubelet = cluster.node(second).kubelet
    kubelet.freeze()
    try:
        await watched.until(lambda: watched.away(second), "the outage")
    finally:
        kubelet.thaw()
    assert watched.away(second) == [NOT_READY]
    assert get(watched.site, row.id).nodes == (first,)
    await watched.until(lambda: not watched.away(second), "the end of the outage")


async def test_a_pod_that_takes_units_past_the_calendar_is_seen_and_one_of_mlmps_is_not(
    watched: Watched, core: client.CoreV1Api, equipped: list[str], cluster: Cluster, namespace: str
) -> None:
    other = core.create_namespace({"metadata": {"generateName": "mlmp-foreign-"}}).metadata.name
    try:
        start_pod(core, cluster, other, "train", equipped[0])
        start_pod(core, cluster, namespace, "ours", equipped[0])
        look = await watched.until(lambda: watched.watch.last.foreign, "the foreign pod")
        (found,) = look.foreign or ()
        assert (found.namespace, found.name, found.node, found.units) == (other, "train", equipped[0], 1)
        assert (found.resource, found.short) == (RESOURCE, 0)
    finally:
        core.delete_namespace(other)


def start_pod(core: client.CoreV1Api, cluster: Cluster, namespace: str, name: str, node: str) -> None:
    """A pod that takes one unit; both bear the label that MLMP's own have."""
    core.create_namespaced_pod(
        namespace,
        {
            "metadata": {"name": name, "labels": {"mlmp.dev/kind": "server"}},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": node},
                "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": False,
                "containers": [
                    {
                        "name": "x",
                        "image": cluster.debian,
                        "command": ["sleep", "600"],
                        "resources": {"limits": {RESOURCE: "1"}},
                    }
                ],
            },
        },
    )


# -- the admin's commands ------------------------------------------------------------------------------------------


def mlmp(monkeypatch: pytest.MonkeyPatch, kubeconfig: Path, *arguments: str) -> Result:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return CliRunner().invoke(cli, list(arguments))


def test_what_is_discovered_is_a_catalog_with_which_nothing_is_wrong(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster, core: client.CoreV1Api, equipped: list[str], namespace: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    discovered = ("catalog", "discover", "--kubernetes", "--resource", RESOURCE)
    written = mlmp(monkeypatch, cluster.kubeconfig, *discovered, "--output", str(tmp_path / "nodes.yaml"))
    assert written.exit_code == 0, written.output
    nodes = yaml.safe_load((tmp_path / "nodes.yaml").read_text())["nodes"]
    assert set(nodes) == set(equipped)
    for name in equipped:
        has = {one["resource"]: one for one in nodes[name]["accelerators"]}
        status = core.read_node(name).status.allocatable
        assert has[RESOURCE]["count"] == 2 and has["nvidia.com/gpu"]["count"] == int(status["nvidia.com/gpu"])
        if cluster.ours:  # its nodes bear the labels of GPU feature discovery
            assert has["nvidia.com/gpu"]["model"] == "A100-SXM4-80GB" and has["nvidia.com/gpu"]["memory_gib"] == 80
    (tmp_path / "profiles.yaml").write_text(
        f"images: {{lab: {{reference: 'registry.example.org/lab:1'}}}}\n"
        f"profiles: {{gpu: {{resource: {RESOURCE}, cpus: 0.1, memory: 64MiB}}}}\n"
    )
    core.patch_namespace(namespace, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    checked = mlmp(
        monkeypatch, cluster.kubeconfig, "check", "--kubernetes", "--catalog", str(tmp_path), "--namespace", namespace
    )
    assert checked.exit_code == 0, checked.output


def test_everything_that_is_wrong_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster, core: client.CoreV1Api, equipped: list[str], tmp_path: Path
) -> None:
    name = core.create_namespace({"metadata": {"generateName": "mlmp-check-"}}).metadata.name
    core.create_namespaced_resource_quota(
        name, {"metadata": {"name": "small"}, "spec": {"hard": {f"requests.{RESOURCE}": "1"}}}
    )
    (tmp_path / "all.yaml").write_text(
        f"nodes: {{{equipped[0]}: {{accelerators: [{{resource: {RESOURCE}, count: 3}}]}},"
        f" gone: {{accelerators: [{{resource: {RESOURCE}, count: 1}}]}}}}\n"
        f"profiles: {{gpu: {{resource: {RESOURCE}, units: 2, memory: 100TiB}}}}\n"
    )
    config = tmp_path / "jupyterhub_config.py"
    config.write_text(
        "c.KubeSpawner.priority_class_name = 'nobody-made-it'\n"
        "c.KubeSpawner.volumes = [{'name': 'h', 'persistentVolumeClaim': {'claimName': 'homes'}}]\n"
        "folders = {'namespace': 'no-such-namespace', 'claim': 'system', 'image': 'hub'}\n"
        "c.MLMPKubeSpawner.storage = {'claim': 'all', 'folders': folders}\n"
        "c.MLMP.see_all_pod = True\n"
    )
    try:
        result = mlmp(
            monkeypatch, cluster.kubeconfig, "check", "--kubernetes", "--json", "--catalog", str(tmp_path),
            "--config", str(config), "--namespace", name,
        )  # fmt: skip
    finally:
        core.delete_namespace(name)
    assert result.exit_code == 2, result.output
    said = {(one["subject"], one["message"].partition(":")[0]) for one in json.loads(result.stdout)["wrong"]}
    assert said == {
        ("configuration", str(config)),
        ("images", "profile 'gpu' has no image"),
        ("namespace", name),
        ("nodes", equipped[0]),
        ("nodes", "gone"),
        ("nodes", "profile 'gpu' fits no node"),
        ("priority class", "there is no PriorityClass nobody-made-it, which users' pods ask for"),
        ("quota", "quota 'small' lets profile 'gpu' never start"),
        ("volumes", f"there is no PersistentVolumeClaim homes in {name}, which users' pods mount"),
        ("volumes", f"there is no PersistentVolumeClaim all in {name}, which users' pods mount"),
        ("volumes", "there is no PersistentVolumeClaim system in no-such-namespace, where folders are made"),
    }


def test_with_the_rights_of_the_service_what_it_may_not_see_is_a_remark(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster, core: client.CoreV1Api, equipped: list[str], namespace: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    with as_account(cluster, core, namespace, tmp_path) as kubeconfig:
        found = mlmp(monkeypatch, kubeconfig, "catalog", "discover", "--kubernetes")
        assert found.exit_code == 0 and "may not be listed" in found.stderr
        (tmp_path / "nodes.yaml").write_text(found.stdout)
        (tmp_path / "profiles.yaml").write_text(
            "images: {lab: {reference: 'registry.example.org/lab:1'}}\nprofiles: {gpu: {resource: nvidia.com/gpu}}\n"
        )
        options = ("--json", "--catalog", str(tmp_path), "--namespace", namespace)
        checked = mlmp(monkeypatch, kubeconfig, "check", "--kubernetes", *options)
    assert checked.exit_code == 0, checked.output
    messages = [one["message"] for one in json.loads(checked.stdout)["remarks"] if one["subject"] == "rights"]
    assert any("may not read the namespace" in message and "list the quotas" in message for message in messages)


@contextmanager
def as_account(cluster: Cluster, core: client.CoreV1Api, namespace: str, folder: Path) -> Iterator[Path]:
    """A kubeconfig of an account that may see nodes, and nothing else."""
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "service"}})
    rbac = client.RbacAuthorizationV1Api(core.api_client)
    rule = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}
    rbac.create_cluster_role({"metadata": {"name": namespace}, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": "service", "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace}
    rbac.create_cluster_role_binding({"metadata": {"name": namespace}, "roleRef": role, "subjects": [subject]})
    wanted = {"spec": {"expirationSeconds": 600}}
    token = core.create_namespaced_service_account_token("service", namespace, wanted).status.token
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    for user in document["users"]:
        user["user"] = {"token": token}
    made = folder / "kubeconfig"
    made.write_text(yaml.safe_dump(document))
    try:
        yield made
    finally:
        rbac.delete_cluster_role_binding(namespace)
        rbac.delete_cluster_role(namespace)
