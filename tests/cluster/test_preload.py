"""Images on a real cluster: there before the booking begins, so that no pod waits for a pull; why not, where not.

The images are this module's own and of this run, so that no node has them. They are made from nothing but a file:
neither a shell nor ``true`` is in them.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from kubernetes import client
from sqlalchemy import insert

from mlmp_spawner import units as clock
from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.labels import KIND, PRELOAD
from mlmp_spawner.kube.preload_pods import PullSettings
from mlmp_spawner.kube.preloading import PreloadPods
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import Changes, change
from mlmp_spawner.operations.image_states import Look, states
from mlmp_spawner.operations.preload import Preloads
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import Accelerator, Catalog, Image, Node, Profile
from mlmp_spawner.rules.preload import Pull, there
from mlmp_spawner.settings import MLMP
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE
from tests.cluster.rig.cluster import Cluster
from tests.databases import sqlite_copy

RESOURCE = "mlmp.test/gpu-preload"
WITHIN = 60
"""Seconds for a pull of next to nothing on a busy machine."""
TIMEOUT = 20
"""Seconds that one pull may take here."""
ann = Actor("ann")


@pytest.fixture(scope="module")
def images(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Three that there are, and one that there is not, by name."""
    run = uuid.uuid4().hex[:8]
    for name in ("first", "second", "third"):
        folder = tmp_path_factory.mktemp(name)
        (folder / "data").write_text(f"{name} {run}")
        (folder / "Dockerfile").write_text("FROM scratch\nCOPY data /data\n")
        local = f"localhost/mlmp-preload-{name}:{run}"
        buildah("bud", "--isolation", "chroot", "--tag", local, str(folder))
        buildah("push", "--tls-verify=false", local, f"{cluster.push_to}/mlmp/preload-{name}:{run}")
        buildah("rmi", local)
    names = ("first", "second", "third", "missing")
    return {name: f"{cluster.registry}/mlmp/preload-{name}:{run}" for name in names}


def buildah(*arguments: str) -> None:
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@dataclass
class Watched:
    """A site whose nodes are those of the cluster, and what has images there."""

    site: Site
    preloads: Preloads
    core: client.CoreV1Api
    namespace: str

    def state(self, image: str, node: str) -> str:
        """How an image is on a node, as it was seen last."""
        look, reference = self.preloads.last, self.site.catalog.images[image].reference
        return there(node, reference, look.nodes.get(node), look.pods, look.refused).state

    async def until(self, condition: Callable[[], object], within: float = WITHIN) -> Look:
        """Looks until the condition holds."""
        end = time.monotonic() + within
        while True:
            look = await self.preloads.look()
            if condition():
                return look
            told = [(one.image.name, one.nodes) for one in states(self.site, look)]
            assert time.monotonic() < end, f"it did not come to be: {look.problem} {told} {look.pods}"
            await asyncio.sleep(0.5)

    def pods(self) -> list[client.V1Pod]:
        """The pods that pull, as the official client sees them."""
        return self.core.list_namespaced_pod(self.namespace, label_selector=f"{KIND}={PRELOAD}").items

    def pulls(self) -> list[str]:
        """What the pods of the namespace had pulled, by its events."""
        found = self.core.list_namespaced_event(self.namespace, field_selector="reason=Pulling").items
        return [event.message for event in found]


@pytest.fixture
async def watched(
    monkeypatch: pytest.MonkeyPatch,
    cluster: Cluster,
    core: client.CoreV1Api,
    namespace: str,
    images: dict[str, str],
    sqlite_file: Path,
    tmp_path: Path,
) -> AsyncIterator[Watched]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    engine = make_engine(sqlite_copy(sqlite_file, tmp_path / "mlmp.sqlite"))
    with transaction(engine) as connection:
        connection.execute(insert(users), [{"id": 1, "name": "ann"}])
    gpus = Accelerator(resource=RESOURCE, count=2)
    catalog = Catalog(
        nodes={name: Node(name=name, accelerators=(gpus,)) for name in cluster.nodes[:2]},
        images={name: Image(name=name, reference=reference) for name, reference in images.items()},
        profiles={"gpu": Profile(name="gpu", title="GPU", resource=RESOURCE, max_units=2, images=tuple(images))},
    )
    site = Site(engine, catalog, images=True)
    catalog_sync.sync(site, now=clock.now())
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.patch_namespace(namespace, {"metadata": {"labels": labels}})
    connection_ = Connection()
    calls = PreloadPods(connection_, PullSettings(namespace, TIMEOUT * 1000))
    yield Watched(site, Preloads(lambda: site, MLMP(preload_timeout=TIMEOUT), calls), core, namespace)
    await connection_.close()
    engine.dispose()
    for pod in core.list_namespaced_pod(namespace).items:
        core.delete_namespaced_pod(pod.metadata.name, namespace, grace_period_seconds=0)


def starts(core: client.CoreV1Api, namespace: str, node: str, reference: str) -> list[str]:
    """Starts a pod as a user's would be; what the node says of its image."""
    secured = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    body = {
        "metadata": {"generateName": "server-"},
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": {"kubernetes.io/hostname": node},
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{"name": "server", "image": reference, "command": ["/data"], "securityContext": secured}],
        },
    }  # fmt: skip
    name = core.create_namespaced_pod(namespace, body).metadata.name
    end = time.monotonic() + WITHIN
    while time.monotonic() < end:
        events = core.list_namespaced_event(namespace, field_selector=f"involvedObject.name={name}").items
        told = [event.message for event in events if event.reason in ("Pulling", "Pulled")]
        if any(event.reason == "Pulled" for event in events):
            return told
        time.sleep(0.3)
    raise AssertionError(f"{name} did not come as far as its image")


async def test_the_pod_of_a_booking_finds_its_image_on_the_booked_node(
    watched: Watched, cluster: Cluster, images: dict[str, str]
) -> None:
    here, elsewhere = cluster.nodes[0], cluster.nodes[1]
    now = clock.now()
    request = BookingRequest("gpu", start=now + 5 * MINUTE, duration=HOUR, node=here, image="first")
    row = book(watched.site, request, actor=ann, now=now)
    await watched.until(lambda: watched.state("first", here) == "present")
    assert (watched.state("first", elsewhere), len(watched.pulls())) == ("absent", 1)
    (told,) = await asyncio.to_thread(starts, watched.core, watched.namespace, here, images["first"])
    assert "already present on machine" in told
    # When the node tells of it, its pod has no more to tell; and nothing is pulled for a booking that has it.
    await watched.until(lambda: not watched.pods())
    assert len(watched.pulls()) == 1

    change(watched.site, row.id, Changes(node=elsewhere), actor=ann, now=clock.now())
    await watched.until(lambda: watched.state("first", elsewhere) == "present")
    (told,) = await asyncio.to_thread(starts, watched.core, watched.namespace, elsewhere, images["first"])
    assert "already present on machine" in told


async def test_one_that_was_asked_for_by_hand_waits_its_turn_also_while_no_service_runs(
    watched: Watched, cluster: Cluster, images: dict[str, str]
) -> None:
    node = cluster.nodes[0]
    pull = Pull(node, images["second"])
    await watched.preloads.calls.create(pull, asked_by="root")  # and then the service dies
    (pod,) = watched.pods()
    assert pod.spec.scheduling_gates
    assert pod.status.phase == "Pending"
    await watched.until(lambda: watched.state("second", node) == "present")
    assert watched.state("second", cluster.nodes[1]) == "absent"
    await watched.preloads.ask("second", None, asked_by="root")
    await watched.until(lambda: watched.state("second", cluster.nodes[1]) == "present")


async def test_an_image_that_there_is_not_fails_with_the_reason_and_that_is_kept_when_it_is_given_up(
    watched: Watched, cluster: Cluster, images: dict[str, str]
) -> None:
    node = cluster.nodes[0]
    await watched.preloads.ask("missing", [node], asked_by="root")

    def failed() -> bool:
        return watched.state("missing", node) == "failed" and bool(watched.preloads.last.pods[0].noted)

    look = await watched.until(failed)
    (pod,) = look.pods
    assert images["missing"] in pod.problem
    look = await watched.until(lambda: watched.preloads.last.pods[0].state == "failed", within=TIMEOUT + WITHIN)
    (pod,) = look.pods
    assert images["missing"] in pod.problem
    assert pod.over_at is not None
    await watched.preloads.cancel("missing", None, asked_by="root")
    assert watched.pods() == []


async def test_nothing_is_pulled_to_a_node_that_is_cordoned(
    watched: Watched, cluster: Cluster, core: client.CoreV1Api
) -> None:
    if not cluster.ours:
        pytest.skip("another's node is not cordoned")
    node = cluster.nodes[1]
    core.patch_node(node, {"spec": {"unschedulable": True}})
    try:
        await watched.preloads.ask("third", [node], asked_by="root")
        await watched.preloads.look()
        assert watched.state("third", node) == "queued"
        assert watched.preloads.last.nodes[node].away
    finally:
        core.patch_node(node, {"spec": {"unschedulable": None}})
    await watched.until(lambda: watched.state("third", node) == "present")


async def test_a_quota_that_leaves_no_room_is_told(watched: Watched, cluster: Cluster, core: client.CoreV1Api) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    core.create_namespaced_resource_quota(watched.namespace, quota)
    try:
        end = time.monotonic() + WITHIN
        while not (core.read_namespaced_resource_quota("none", watched.namespace).status.hard or {}):
            assert time.monotonic() < end
            await asyncio.sleep(0.2)
        await watched.preloads.ask("third", [cluster.nodes[0]], asked_by="root")
        (refused,) = watched.preloads.last.refused.values()
        assert "exceeded quota: none" in refused
    finally:
        core.delete_namespaced_resource_quota("none", watched.namespace)
