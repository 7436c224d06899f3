"""Handing in on a real cluster, where all servers run as the same account: what a pod mounts keeps people apart."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from kubernetes import client

from mlmp_spawner.rules.courses import Course, Member
from mlmp_spawner.rules.storage import Folders
from mlmp_spawner.store import courses
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import transaction
from tests.cluster import nfs_claims
from tests.cluster.hub_here import Hub
from tests.cluster.inside import Inside
from tests.cluster.rig.cluster import Cluster
from tests.cluster.test_homes import SPACE
from tests.cluster.test_spawner import resource

__all__ = ["resource"]

ROSTERS = {"ml": {"ann": "student", "ben": "student", "eva": "instructor"}, "vision": {"max": "instructor"}}
PLACE = "/mnt/hand-in"


@dataclass
class Class:
    """Servers of everybody on :data:`ROSTERS`."""

    hub: Hub
    cluster: Cluster

    def start(self, name: str, node: int = 0) -> None:
        """Starts somebody's server."""
        said = self.hub.begin(name, node=self.cluster.nodes[node])
        assert said.status_code < 300, said.text
        steps = self.hub.steps(name)
        assert steps[-1].get("ready"), (steps, self.hub.log[-3000:])

    def end(self, name: str) -> None:
        """Ends it, with its booking."""
        if self.hub.pod(name) is not None:
            self.hub.end(name)
        self.hub.release(name)

    def shell(self, name: str, command: str) -> str:
        """What a command says in somebody's server, errors too."""
        pod = self.hub.pod(name)
        assert pod is not None
        inside = Inside(self.cluster, self.hub.namespace, pod.metadata.name)
        return inside.run("sh", "-c", f"exec 2>&1; {command}; true").strip()

    def put(self, course: str, name: str, role: str) -> None:
        """Puts somebody on a roster."""
        engine = make_engine(self.hub.db_url)
        with transaction(engine) as connection:
            courses.put_members(connection, course, [Member(course, name, role, 0)])  # type: ignore[arg-type]
        engine.dispose()


def enroll(hub: Hub) -> None:
    """Makes the courses."""
    engine = make_engine(hub.db_url)
    with transaction(engine) as connection:
        for name, roster in ROSTERS.items():
            course = Course(name=name, title=name, profile="gpu", seats=2, hand_in=True, created_at=17)
            courses.insert_course(connection, course)
            members = [Member(name, person, role, 0) for person, role in roster.items()]  # type: ignore[arg-type]
            courses.put_members(connection, name, members)
    engine.dispose()


@pytest.fixture(scope="module", params=["volume", "squashed"])
def room(
    request: pytest.FixtureRequest, cluster: Cluster, core: client.CoreV1Api, namespace: str, resource: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Class]:  # fmt: skip
    """A class whose homes are in a volume of the cluster's, or on a file server that takes root's rights away."""
    name = f"homes-{uuid.uuid4().hex[:6]}"
    with ExitStack() as stack:
        if request.param == "volume":
            core.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": name}, "spec": SPACE})
        else:
            nfs_claims.folder(cluster, "/squashed", name, 0o1777)
            stack.enter_context(nfs_claims.claim(cluster, namespace, name, f"/squashed/{name}"))
        folders = Folders(namespace=namespace, claim=name, image=cluster.images["hub"])
        storage = {"claim": name, "home": "/home/jovyan", "folders": folders.model_dump()}
        hub = Hub(
            tmp_path_factory.mktemp("hub"), core, namespace, kubeconfig=cluster.kubeconfig, image=cluster.debian,
            resource=resource, nodes=dict.fromkeys(cluster.nodes[:2], 2),
            settings=f"c.MLMPKubeSpawner.storage = {storage!r}\n",
        )  # fmt: skip
        stack.callback(hub.close)
        enroll(hub)
        hub.start()
        found = Class(hub, cluster)
        try:
            for number, person in enumerate(("ann", "ben", "eva", "max")):
                found.start(person, number % 2)
            yield found
        finally:
            for person in ("ann", "ben", "eva", "max"):
                found.end(person)


def test_only_who_hands_in_and_who_teaches_that_course_come_to_it_though_all_are_one_account(room: Class) -> None:
    assert {room.shell(name, "id -u") for name in ("ann", "ben", "eva", "max")} == {"1000"}
    assert room.shell("ann", f"umask 077; echo mine > {PLACE}/ml/one.ipynb; ls -a {PLACE}") == ".\n..\nml"
    assert room.shell("eva", f"cat {PLACE}/ml/ann/one.ipynb; ls {PLACE}/ml") == "mine\nann\nben"
    assert room.shell("ben", f"ls -A {PLACE}/ml {PLACE}") == f"{PLACE}:\nml\n\n{PLACE}/ml:"
    assert room.shell("max", f"ls -A {PLACE} {PLACE}/vision") == f"{PLACE}:\nvision\n\n{PLACE}/vision:"
    for other in ("ben", "max"):
        assert room.shell(other, "find / -xdev -name one.ipynb 2>/dev/null; find /mnt /home -name one.ipynb") == ""


def test_who_teaches_changes_nothing_of_it(room: Class) -> None:
    room.shell("ann", f"echo mine > {PLACE}/ml/two.ipynb")
    tried = f"echo x > {PLACE}/ml/ann/two.ipynb; rm {PLACE}/ml/ann/two.ipynb; mkdir {PLACE}/ml/new"
    assert room.shell("eva", tried).count("Read-only file system") == 3
    assert room.shell("ann", f"cat {PLACE}/ml/two.ipynb") == "mine"


def test_who_comes_to_teach_reads_what_is_there_from_the_next_start_on(room: Class) -> None:
    room.shell("ben", f"echo later > {PLACE}/ml/three.ipynb")
    room.put("ml", "max", "instructor")
    assert room.shell("max", f"ls {PLACE}") == "vision"
    room.end("max")
    room.start("max", 1)
    assert room.shell("max", f"cat {PLACE}/ml/ben/three.ipynb") == "later"


def test_a_link_that_a_student_hands_in_leads_nowhere_but_within_the_reader_s_own_server(room: Class) -> None:
    room.shell("ben", "echo ben > /home/jovyan/secret")
    room.shell("ann", f"cd {PLACE}/ml; ln -s ../ben/ up; ln -s /home/jovyan/secret home; ln -s ../../.. top")
    assert "No such file" in room.shell("ann", f"cat {PLACE}/ml/up/x")
    assert "No such file" in room.shell("eva", f"cat {PLACE}/ml/ann/home")
    for name in ("ann", "max"):
        room.end(name)
    room.start("ann", 1)  # on the other node, as it was left
    assert (
        room.shell("ann", f"ls -A {PLACE}; cat {PLACE}/ml/home")
        == f"ml\ncat: {PLACE}/ml/home: No such file or directory"
    )
