"""Users' folders on a real cluster: made once, before the first server, by a pod in which users have no part."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
import zlib
from collections.abc import Iterator

import pytest
from kubernetes import client

from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.home_pods import Home, manifest, pod_name
from mlmp_spawner.kube.homes import Homes
from mlmp_spawner.kube.outcomes import NotStarted
from mlmp_spawner.rules.courses import Course, Member
from mlmp_spawner.rules.storage import Folders, directory_name
from mlmp_spawner.store import courses
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import transaction
from tests.cluster.conftest import delete_namespace
from tests.cluster.hub_here import Hub, wait_for
from tests.cluster.rig.cluster import Cluster
from tests.cluster.test_spawner import resource

__all__ = ["resource"]

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SPACE = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}


def claim(core: client.CoreV1Api, namespace: str) -> str:
    """A new claim; its volume's root lets everybody write."""
    name = f"homes-{uuid.uuid4().hex[:6]}"
    core.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": name}, "spec": SPACE})
    return name


def inside(cluster: Cluster, namespace: str, pod: str, command: str) -> str:
    """What a shell in a server says, stderr too."""
    call = [*cluster.kubectl(), "exec", f"--namespace={namespace}", pod, "--container=notebook", "--", "sh", "-c"]
    done = subprocess.run([*call, f"exec 2>&1; {command}; true"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -- the folders by themselves ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def restricted(core: client.CoreV1Api, namespace: str) -> Iterator[str]:
    """A namespace as users' pods have it."""
    name = f"{namespace}-users"
    core.create_namespace({"metadata": {"name": name, "labels": RESTRICTED}})
    yield name
    delete_namespace(core, name)


async def make(
    cluster: Cluster, folders: Folders, *homes: Home, patience: float = 60
) -> list[tuple[BaseException | None, list[str]]]:
    """What became of each, and the steps that were told; all at once."""
    connection = Connection(str(cluster.kubeconfig))
    maker = Homes(folders, connection, patience)
    told: list[list[str]] = [[] for _ in homes]
    try:
        made = await asyncio.gather(
            *(maker.make(home, lambda _, step, to=to: to.append(step)) for home, to in zip(homes, told, strict=True)),
            return_exceptions=True,
        )
    finally:
        await connection.close()
    return list(zip(made, told, strict=True))


def reason(found: list[tuple[BaseException | None, list[str]]]) -> NotStarted:
    """Why the only one was not made."""
    ((error, _),) = found
    assert isinstance(error, NotStarted), error
    return error


def made_by(core: client.CoreV1Api, namespace: str, home: Home, folders: Folders) -> int:
    """How many pods have been started for a folder, by the scheduler's events."""
    about = f"involvedObject.name={pod_name(home, folders)}"
    events = core.list_namespaced_event(namespace, field_selector=about).items
    return len({one.involved_object.uid for one in events if one.reason == "Scheduled"})


async def test_a_pod_as_the_user_makes_it_where_pod_security_is_restricted(
    cluster: Cluster, core: client.CoreV1Api, restricted: str
) -> None:
    folders = Folders(
        namespace=restricted, claim=claim(core, restricted), image=cluster.images["hub"], by="user", fs_group=1000
    )
    home = Home("ann", 1000, 1000)
    assert (await make(cluster, folders, home))[0][0] is None
    assert (await make(cluster, folders, home))[0][0] is None  # as after a restart of the hub


async def test_root_is_refused_where_pod_security_is_restricted_with_what_to_do(
    cluster: Cluster, core: client.CoreV1Api, restricted: str
) -> None:
    folders = Folders(namespace=restricted, claim=claim(core, restricted), image=cluster.images["hub"], by="root")
    error = reason(await make(cluster, folders, Home("ann", 1000, 1000)))
    assert "rules of security forbid" in error.detail
    assert error.hint is not None and "`baseline`" in error.hint and "folders.by" in error.hint


async def test_two_starts_at_once_make_one_folder_and_leave_no_pod(
    cluster: Cluster, core: client.CoreV1Api, namespace: str
) -> None:
    folders = Folders(namespace=namespace, claim=claim(core, namespace), image=cluster.images["hub"])
    home = Home("ann", 1000, 1000)
    assert [error for error, _ in await make(cluster, folders, home, home)] == [None, None]
    left = core.list_namespaced_pod(namespace, label_selector="mlmp.dev/kind=home").items
    assert [pod.metadata.name for pod in left if not pod.metadata.deletion_timestamp] == []


async def test_a_failed_pod_that_a_killed_hub_left_behind_stands_in_nobodys_way(
    cluster: Cluster, core: client.CoreV1Api, namespace: str
) -> None:
    folders = Folders(namespace=namespace, claim=claim(core, namespace), image=cluster.images["hub"])
    home = Home("ann", 1000, 1000)
    broken = manifest(home, folders, 60)
    broken["spec"]["containers"][0]["command"] = ["false"]
    core.create_namespaced_pod(namespace, broken)
    wait_for(lambda: core.read_namespaced_pod(pod_name(home, folders), namespace).status.phase == "Failed")
    assert (await make(cluster, folders, home))[0][0] is None


async def test_a_folder_of_somebody_else_is_never_given_away(
    cluster: Cluster, core: client.CoreV1Api, namespace: str
) -> None:
    folders = Folders(namespace=namespace, claim=claim(core, namespace), image=cluster.images["hub"])
    assert (await make(cluster, folders, Home("ann", 1000, 1000)))[0][0] is None
    by_user = folders.model_copy(update={"by": "user"})
    error = reason(await make(cluster, by_user, Home("ann", 2000, 2000)))
    assert "belongs to uid 1000, and its user is uid 2000" in error.detail


async def test_an_image_that_is_not_there_and_a_claim_that_is_not_there_are_said(
    cluster: Cluster, core: client.CoreV1Api, namespace: str
) -> None:
    missing = Folders(namespace=namespace, claim=claim(core, namespace), image=f"{cluster.registry}/no-such:1")
    assert "no-such" in reason(await make(cluster, missing, Home("ann", 1000, 1000))).detail
    nowhere = Folders(namespace=namespace, claim="no-such-claim", image=cluster.images["hub"])
    error = reason(await make(cluster, nowhere, Home("ann", 1000, 1000), patience=4))
    assert "no-such-claim" in error.detail
    assert "within 4 s" in error.detail


@pytest.mark.parametrize("by", ["root", "user"])
async def test_a_folder_is_erased_with_all_that_is_in_it_and_no_other_is(
    cluster: Cluster, core: client.CoreV1Api, namespace: str, by: str
) -> None:
    folders = Folders(
        namespace=namespace, claim=claim(core, namespace), image=cluster.images["hub"], by=by, fs_group=1000
    )
    guest, other = Home("guest", 1000, 1000), Home("other", 1000, 1000)
    assert [error for error, _ in await make(cluster, folders, guest, other)] == [None, None]
    connection = Connection(str(cluster.kubeconfig))
    try:
        eraser = Homes(folders, connection, 60)
        await asyncio.gather(eraser.erase(guest), eraser.erase(guest))
        await eraser.erase(guest)  # as after a restart of the hub
        with pytest.raises(NotStarted, match="belongs to uid 1000"):
            await eraser.erase(Home("other", 2000, 2000))
    finally:
        await connection.close()
    pods = core.list_namespaced_pod(namespace, label_selector="mlmp.dev/kind=home").items
    mine = [pod for pod in pods if folders.claim in str(pod.spec.volumes)]  # others wait for a claim there never is
    assert [pod.metadata.name for pod in mine if not pod.metadata.deletion_timestamp] == []
    by_user = folders.model_copy(update={"by": "user"})
    assert (await make(cluster, by_user, Home("guest", 2000, 2000)))[0][0] is None  # there was none any more
    assert "belongs to uid 1000" in reason(await make(cluster, by_user, Home("other", 2000, 2000))).detail


# -- with a server ------------------------------------------------------------------------------------------------


NUMBERED = """
c.Authenticator.enable_auth_state = True
c.CryptKeeper.keys = [b"0" * 32]
c.MLMPKubeSpawner.uid_from = "user.uid"
c.MLMPKubeSpawner.guest_uid = 64999
"""


def uid_of(name: str) -> int:
    """As the login says it."""
    return 2000 + zlib.crc32(name.encode()) % 1000


@pytest.fixture(scope="module")
def folders(cluster: Cluster, core: client.CoreV1Api, namespace: str) -> Folders:
    """How the hub makes them."""
    return Folders(namespace=namespace, claim=claim(core, namespace), image=cluster.images["hub"])


@pytest.fixture(scope="module")
def hub(
    cluster: Cluster, core: client.CoreV1Api, namespace: str, resource: str, folders: Folders,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Hub]:  # fmt: skip
    """A hub whose users have homes in one claim, data in another, and scratch."""
    data = claim(core, namespace)
    storage = {
        "claim": folders.claim, "home": "/home/jovyan", "folders": folders.model_dump(),
        "shared": {"claim": data}, "scratch": {"size": "16Mi"},
    }  # fmt: skip
    made = Hub(
        tmp_path_factory.mktemp("hub"), core, namespace, kubeconfig=cluster.kubeconfig, image=cluster.debian,
        resource=resource, nodes=dict.fromkeys(cluster.nodes[:2], 2),
        settings=f"c.MLMPKubeSpawner.storage = {storage!r}\n{NUMBERED}",
    )  # fmt: skip
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def people(hub: Hub) -> Iterator[list[str]]:
    """Names whose servers are stopped after the test, one of them no name of a folder."""
    names = [f"u{uuid.uuid4().hex[:6]}", f"Ünï..{uuid.uuid4().hex[:6]}@x.org"]
    yield names
    for name in names:
        if hub.pod(name) is not None:
            hub.end(name)
        hub.release(name)


def pod_of(hub: Hub, name: str, node: str) -> str:
    """The pod of somebody's server, running."""
    hub.api.post(f"/hub/api/users/{name}")
    said = hub.api.patch(f"/hub/api/users/{name}", json={"auth_state": {"user": {"uid": uid_of(name)}}})
    assert said.status_code == 200, said.text
    hub.begin(name, node=node)
    steps = hub.steps(name)
    assert hub.ready(name), (steps[-1:], hub.log[-3000:])
    pod = hub.pod(name)
    assert pod is not None
    return str(pod.metadata.name)


def test_each_has_a_home_of_their_own_that_is_there_on_the_other_node_after_a_stop(
    hub: Hub, people: list[str], core: client.CoreV1Api, namespace: str, cluster: Cluster, folders: Folders
) -> None:
    ann, other = people
    first, second = (pod_of(hub, name, cluster.nodes[0]) for name in people)
    for pod, name in ((first, ann), (second, other)):
        uid = uid_of(name)
        assert inside(cluster, namespace, pod, "stat -c '%u:%g %a' ~jovyan; id -un") == f"{uid}:{uid} 700\njovyan"
    inside(cluster, namespace, first, "echo kept > /home/jovyan/file")
    assert "No such file" in inside(cluster, namespace, second, "cat /home/jovyan/file")
    hub.end(ann)
    hub.release(ann)
    hub.kill()
    hub.start()
    again = pod_of(hub, ann, cluster.nodes[1])
    assert inside(cluster, namespace, again, "cat /home/jovyan/file") == "kept"
    for name in people:  # remembered, over a restart of the hub too
        home = Home(directory_name(name), uid_of(name), uid_of(name))
        assert made_by(core, namespace, home, folders) == 1


def test_a_guest_whom_no_login_knows_has_a_home_as_the_number_of_guests(
    hub: Hub, namespace: str, cluster: Cluster
) -> None:
    guest, engine = f"guest-{uuid.uuid4().hex[:10]}", make_engine(hub.db_url)
    with transaction(engine) as connection:
        courses.insert_course(
            connection, Course(name="ml", title="ML", profile="gpu", seats=1, guests=1, created_at=1)
        )
        courses.put_members(connection, "ml", [Member("ml", guest, "guest", 1)])
    engine.dispose()
    try:
        assert hub.begin(guest, node=cluster.nodes[0]).status_code < 300
        steps = hub.steps(guest)
        assert steps[-1].get("ready"), (steps, hub.log[-3000:])
        pod = hub.pod(guest)
        assert pod is not None
        told = inside(cluster, namespace, pod.metadata.name, "stat -c '%u:%g %a' ~jovyan; touch ~jovyan/x; id -u")
        assert told == "64999:64999 700\n64999"
    finally:
        if hub.pod(guest) is not None:
            hub.end(guest)
        hub.release(guest)


def test_shared_data_can_be_read_and_scratch_written(
    hub: Hub, people: list[str], namespace: str, cluster: Cluster
) -> None:
    pod = pod_of(hub, people[0], cluster.nodes[0])
    links = "cd /home/jovyan; readlink shared scratch"
    wait_for(lambda: inside(cluster, namespace, pod, links), 20, "the links")
    tried = f"{links}; ls shared/; touch shared/x; echo y > scratch/y; cat scratch/y"
    said = inside(cluster, namespace, pod, tried).splitlines()
    assert said[:2] == ["/mnt/shared", "/mnt/scratch"]
    assert said[-1] == "y"
    assert any("Read-only file system" in line for line in said)


def test_a_link_in_a_home_leads_nowhere_but_within_the_users_own_server(
    hub: Hub, people: list[str], namespace: str, cluster: Cluster
) -> None:
    """Nothing is mounted at a path within a home: there its user decides what a name means."""
    name = people[0]
    pod = pod_of(hub, name, cluster.nodes[0])
    inside(
        cluster, namespace, pod, "cd /home/jovyan; rm shared; ln -s / shared; echo x > scratch; rm scratch; > scratch"
    )
    hub.end(name)
    hub.release(name)
    again = pod_of(hub, name, cluster.nodes[0])
    assert inside(cluster, namespace, again, "readlink /home/jovyan/shared") == "/"
    assert inside(cluster, namespace, again, "touch /mnt/shared/x").endswith("Read-only file system")
    assert inside(cluster, namespace, again, "touch /mnt/scratch/x /home/jovyan/x") == ""
