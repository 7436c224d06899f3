"""A class of real JupyterLabs on two nodes: there before it begins, without a pull, each with files of their own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes import client

from mlmp_spawner import units
from mlmp_spawner.kube.labels import KIND, PRELOAD
from mlmp_spawner.rules.storage import Folders
from mlmp_spawner.units import HOUR, MINUTE, SECOND, from_iso, to_iso
from tests.cluster.hub_here import Hub, free_port, wait_for
from tests.cluster.rig.cluster import Cluster
from tests.cluster.service_here import API, service, settings
from tests.cluster.test_homes import claim, inside
from tests.cluster.test_preload import buildah
from tests.cluster.test_spawner import resource
from tests.live import Person

__all__ = ["resource"]

SEATS = 6
STUDENTS = [f"s{number}" for number in range(SEATS)]
SETUP = 4 * MINUTE
NOTICE = 2 * MINUTE
"""How long before its servers may be started a class is booked: the time for its image."""

LAB = """
c.KubeSpawner.cmd = ["jupyterhub-singleuser"]
c.MLMPKubeSpawner.requested_share = 0.05
"""


@dataclass
class Site:
    """A hub and its service, and who teaches. ``image``: one that no node has."""

    hub: Hub
    teacher: Person
    cluster: Cluster
    image: str

    def course(self, name: str, seats: int) -> None:
        about = {"name": name, "title": "ML", "profile": "gpu", "seats": seats, "setup": "4m", "students": STUDENTS}
        made = self.teacher.api.post(f"{API}courses", json={"course": about})
        assert made.status_code == 201, made.text

    def book(self, course: str, start: int) -> str:
        """A class; its path."""
        path = f"{API}courses/{course}/classes"
        booked = self.teacher.api.post(path, json={"start": to_iso(start), "duration": "10m"})
        assert booked.status_code == 201, booked.text
        return f"{path}/{booked.json()['id']}"

    def get(self, path: str) -> dict[str, Any]:
        answer = self.teacher.api.get(path)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def running(self, path: str) -> bool:
        people = self.get(path)["people"]
        return len(people) == SEATS and all(one["server_state"] == "running" for one in people)

    def events(self, reason: str) -> list[client.CoreV1Event]:
        """Those of the namespace about our image."""
        found = self.hub.core.list_namespaced_event(self.hub.namespace, field_selector=f"reason={reason}").items
        return [event for event in found if self.image in (event.message or "")]


@pytest.fixture(scope="module")
def image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """JupyterLab, under a name that no node knows."""
    run = uuid.uuid4().hex[:8]
    folder = tmp_path_factory.mktemp("image")
    (folder / "run").write_text(run)
    lab = cluster.images["lab"].replace(cluster.registry, cluster.push_to, 1)
    (folder / "Dockerfile").write_text(f"FROM {lab}\nCOPY run /etc/mlmp-test-run\n")
    local = f"localhost/mlmp-class:{run}"
    buildah("bud", "--tls-verify=false", "--isolation", "chroot", "--tag", local, str(folder))
    buildah("push", "--tls-verify=false", local, f"{cluster.push_to}/mlmp/class:{run}")
    buildah("rmi", local)
    return f"{cluster.registry}/mlmp/class:{run}"


@pytest.fixture(scope="module")
def site(
    cluster: Cluster, core: client.CoreV1Api, namespace: str, resource: str, image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:  # fmt: skip
    folders = Folders(namespace=namespace, claim=claim(core, namespace), image=cluster.images["hub"], fs_group=1000)
    storage = {"claim": folders.claim, "home": "/home/jovyan", "folders": folders.model_dump()}
    port = free_port()
    nodes = {name: int(core.read_node(name).status.allocatable[resource]) for name in cluster.nodes[:2]}
    if sum(nodes.values()) < SEATS or max(nodes.values()) >= SEATS:
        pytest.skip(f"a class of {SEATS} needs both of {nodes}")
    hub = Hub(
        tmp_path_factory.mktemp("hub"), core, namespace, kubeconfig=cluster.kubeconfig, image=image,
        resource=resource, nodes=nodes, cpus=0.5, memory="512MiB",
        settings=f"{settings(port)}{LAB}c.MLMPKubeSpawner.storage = {storage!r}\n",
    )  # fmt: skip
    try:
        hub.start()
        with service(hub, port):
            teacher = Person(hub, "admin", "any")  # type: ignore[arg-type] # of a site, it asks the url only
            yield Site(hub, teacher, cluster, image)
            teacher.api.close()
            teacher.browser.close()
    finally:
        hub.close()


def test_a_full_disk_of_a_node_is_told_a_day_before_the_class(site: Site, core: client.CoreV1Api) -> None:
    if not site.cluster.ours:
        pytest.skip("another's node is not said to be full")
    site.course("early", SEATS)
    path = site.book("early", units.now() + 20 * HOUR)
    node = site.cluster.nodes[0]
    full = {"type": "DiskPressure", "status": "True", "reason": "Test", "message": "as the kubelet says it"}

    def told() -> bool:
        # The real kubelet knows better, and says so again and again.
        core.patch_node_status(node, {"status": {"conditions": [full]}})
        return f"The disk of {node} is full." in problems(site, path)

    wait_for(told, 120, "that the disk is full")
    wait_for(lambda: problems(site, path) == [], 120, "that it is no more")
    assert site.teacher.api.delete(path).status_code == 200


def problems(site: Site, path: str) -> list[str]:
    return list(site.get(path)["problems"])


def test_all_labs_run_before_the_class_and_no_pod_of_it_waited_for_its_image(
    site: Site, core: client.CoreV1Api, namespace: str
) -> None:
    site.course("ml", SEATS)
    begins = units.now() + NOTICE
    path = site.book("ml", begins + SETUP)
    booked = {one["node"] for one in site.get(path)["nodes"]}
    assert booked == set(site.cluster.nodes[:2])

    def pulled() -> bool:
        return len(site.events("Pulled")) == len(booked)

    wait_for(pulled, NOTICE / SECOND, "the image on the nodes of the class")
    pulls = core.list_namespaced_pod(namespace, label_selector=f"{KIND}={PRELOAD}").items
    assert units.now() < begins and site.hub.pods() == [], "before its servers are started"
    assert {pod.spec.node_name for pod in pulls} <= booked

    wait_for(lambda: site.running(path), (begins + SETUP - units.now()) / SECOND, "all servers before the class")
    ready = units.now()
    print(f"{SEATS} JupyterLabs: {(ready - begins) / SECOND:.1f} s after their time began, "
          f"{(begins + SETUP - ready) / SECOND:.1f} s before the class")  # fmt: skip
    pods = {pod.metadata.annotations["mlmp.dev/owner"]: pod for pod in site.hub.pods()}
    assert set(pods) == set(STUDENTS)
    assert {pod.spec.node_name for pod in pods.values()} == booked
    mine = {pod.metadata.name for pod in pods.values()}
    assert mine.isdisjoint(event.involved_object.name for event in site.events("Pulling")), "none was pulled for them"
    found = {event.involved_object.name for event in site.events("Pulled") if "already present" in event.message}
    assert mine <= found
    assert len(site.events("Pulling")) == len(booked), "once on each of its nodes"
    _files(site, {name: pod.metadata.name for name, pod in pods.items()}, namespace)
    assert from_iso(site.get(path)["start"]) > units.now(), "all of this was before the class"
    assert site.teacher.api.delete(path).status_code == 200
    wait_for(lambda: site.hub.pods() == [], 120, "the end of all servers")


def _files(site: Site, pods: dict[str, str], namespace: str) -> None:
    """What one of them wrote is in nobody else's pod, though all are one account there."""
    secret = f"thesis-{uuid.uuid4().hex}"
    inside(site.cluster, namespace, pods["s0"], f"echo {secret} > /home/jovyan/{secret}")
    assert inside(site.cluster, namespace, pods["s0"], f"cat /home/jovyan/{secret}") == secret
    look = f"find / -xdev -name {secret} 2>/dev/null; find /home /mnt /srv -name {secret} 2>/dev/null; id -u; "
    for name in STUDENTS[1:]:
        said = inside(site.cluster, namespace, pods[name], f"{look} ls -A /home/jovyan/.. /home/jovyan")
        assert secret not in said and said.splitlines()[0] == "1000", (name, said)
