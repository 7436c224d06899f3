"""Users' files on a real NFS server: theirs wherever they run, nobody else's, waited for when the server is away."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from kubernetes import client

from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.home_pods import Home
from mlmp_spawner.kube.homes import Homes
from mlmp_spawner.kube.outcomes import NotStarted
from mlmp_spawner.rules.storage import Folders, directory_name
from tests.cluster import nfs_claims
from tests.cluster.hub_here import Hub, wait_for
from tests.cluster.inside import Inside
from tests.cluster.rig.cluster import Cluster

GPU = "nvidia.com/gpu"
UID = 1000
AWAY = 60.0
"""Seconds without a file server."""
SETTINGS = """
c.KubeSpawner.cmd = ["jupyterhub-singleuser"]
c.MLMPKubeSpawner.storage = {{
    "claim": "homes", "folders": {{"namespace": {system!r}, "claim": "homes", "image": {image!r}}},
    "shared": {{"claim": "shared"}}, "scratch": {{"size": "64Mi"}},
}}
"""


@pytest.fixture(scope="module")
def system(core: client.CoreV1Api, namespace: str) -> Iterator[str]:
    """The namespace in which folders are made; that of the servers enforces Pod Security ``restricted``."""
    enforced = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    core.patch_namespace(namespace, enforced)
    name = f"{namespace}-system"
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


@pytest.fixture(scope="module")
def homes(cluster: Cluster, namespace: str, system: str) -> Iterator[Path]:
    """Everybody's folders, as the file server has them."""
    folder = nfs_claims.folder(cluster, "/homes", namespace)
    shared = nfs_claims.folder(cluster, "/shared", namespace)
    (shared / "data.csv").write_text("1,2\n")
    with ExitStack() as claims:
        for where in (namespace, system):
            claims.enter_context(nfs_claims.claim(cluster, where, "homes", f"/homes/{namespace}"))
        claims.enter_context(nfs_claims.claim(cluster, namespace, "shared", f"/shared/{namespace}"))
        yield folder


@pytest.fixture(scope="module")
def hub(
    cluster: Cluster, core: client.CoreV1Api, namespace: str, system: str, homes: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Hub]:  # fmt: skip
    """A hub whose users run JupyterLab, with homes, shared data and scratch."""
    made = Hub(
        tmp_path_factory.mktemp("hub"), core, namespace, kubeconfig=cluster.kubeconfig, image=cluster.images["lab"],
        resource=GPU, nodes=dict.fromkeys(cluster.nodes[:2], 4), cpus=1, memory="500MiB",
        settings=SETTINGS.format(system=system, image=cluster.images["hub"]),
    )  # fmt: skip
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture(scope="module")
def lea(hub: Hub) -> Iterator[str]:
    """Somebody whose server runs."""
    hub.begin("lea")
    steps = hub.steps("lea")
    assert steps[-1].get("ready"), (steps, hub.log[-2000:])
    yield "lea"
    hub.end("lea")
    hub.release("lea")


@pytest.fixture
def someone(hub: Hub) -> Iterator[Callable[[], str]]:
    """New users, whose servers are stopped and whose bookings are over after the test."""
    names: list[str] = []

    def new(name: str = "") -> str:
        names.append(name or f"u{uuid.uuid4().hex[:8]}")
        return names[-1]

    yield new
    for name in names:
        if hub.pod(name) is not None:
            hub.end(name)
        hub.release(name)


@pytest.fixture
def inside(hub: Hub, cluster: Cluster) -> Callable[..., Inside]:
    """Starts somebody's server, on the first node where no other is named; a way into its container."""

    def start(name: str, node: str = "") -> Inside:
        said = hub.begin(name, node=node or hub.node)
        assert said.status_code < 300, said.text
        steps = hub.steps(name)
        assert steps[-1].get("ready"), (steps, hub.log[-2000:])
        return entered(hub, cluster, name)

    return start


def entered(hub: Hub, cluster: Cluster, name: str) -> Inside:
    """A way into somebody's server."""
    pod = hub.pod(name)
    assert pod is not None
    return Inside(cluster, hub.namespace, pod.metadata.name)


def failing(inside: Inside, command: str) -> str:
    """What a shell command says that must not succeed."""
    return inside.run("sh", "-c", f"if {command}; then echo DONE; fi 2>&1", check=False)


def test_what_is_written_at_home_is_there_after_a_stop_on_the_other_node_in_lab_and_in_a_shell(
    hub: Hub, cluster: Cluster, homes: Path, someone: Callable[[], str], inside: Callable[..., Inside]
) -> None:
    who = someone()
    first, second = cluster.nodes[:2]
    written = inside(who, first).run("sh", "-c", "echo by the shell > ~/shell.txt; ls -ld ~")
    assert written.startswith("drwx------")
    saved = hub.api.put(
        f"/user/{who}/api/contents/lab.txt", json={"type": "file", "format": "text", "content": "by Lab\n"}
    )
    assert saved.status_code == 201, saved.text
    hub.end(who)
    hub.release(who)

    again = inside(who, second)
    pod = hub.pod(who)
    assert pod is not None
    assert pod.spec.node_name == second
    assert again.run("sh", "-c", "cat ~/lab.txt ~/shell.txt; df --output=source ~") == (
        f"by Lab\nby the shell\nFilesystem\n{cluster.nfs.address}:/homes/{homes.name}\n"
    )
    assert hub.api.get(f"/user/{who}/api/contents/shell.txt").json()["content"] == "by the shell\n"
    kept = (homes / who / "lab.txt").stat()
    assert (kept.st_uid, (homes / who).stat().st_mode & 0o7777) == (UID, 0o700)


def test_nobody_reaches_another_s_home_whatever_they_are_called_or_put_into_their_own(
    hub: Hub, homes: Path, someone: Callable[..., str], inside: Callable[..., Inside]
) -> None:
    bob = homes / "bob"
    bob.mkdir(mode=0o700)
    (bob / "secret").write_text("bob's\n")
    for path in (bob, bob / "secret"):
        nfs_claims.give(path, UID)  # the uid of everybody here: the mounts alone keep them apart
    name = someone("..{bob}")
    planted = homes / directory_name(name)
    nfs_claims.give(planted, UID, make=True)
    for link in ("shared", "scratch", "bob"):
        (planted / link).symlink_to("../bob")

    attacker = inside(name)
    seen = [
        line
        for line in attacker.run("cat", "/proc/self/mountinfo").splitlines()
        if "fuse.nfs" in line or " nfs" in line
    ]
    assert {line.split()[4] for line in seen} == {"/home/jovyan", "/mnt/shared"}
    for path in (
        "~/../bob/secret",
        "~/bob/secret",
        "~/shared/secret",
        "/home/bob/secret",
        "/mnt/shared/../bob/secret",
    ):
        assert "DONE" not in failing(attacker, f"cat {path}"), path
    assert "DONE" not in failing(attacker, "ln -sfn ../../bob ~/up && cat ~/up/secret")
    assert "DONE" not in failing(attacker, "ls /proc/1/root/home/bob /var/lib/kubelet")
    assert attacker.run("find", "/home", "/mnt", "-name", "secret", check=False) == ""
    assert (bob / "secret").read_text() == "bob's\n"


def test_shared_data_is_read_and_not_written(hub: Hub, cluster: Cluster, lea: str) -> None:
    server = entered(hub, cluster, lea)
    assert server.run("sh", "-c", "cat ~/shared/data.csv") == "1,2\n"
    for command in ("touch ~/shared/new", "echo 3 >> ~/shared/data.csv", "rm ~/shared/data.csv"):
        assert "Read-only file system" in failing(server, command)
    assert server.run("sh", "-c", "echo x > ~/scratch/x && cat /mnt/scratch/x") == "x\n"


class TestAnExportThatSquashesRoot:
    @pytest.fixture
    def export(self, cluster: Cluster, system: str) -> Iterator[Path]:
        """A folder of it, claimed where folders are made."""
        folder = nfs_claims.folder(cluster, "/squashed", f"{system}-{uuid.uuid4().hex[:6]}")
        with nfs_claims.claim(cluster, system, folder.name[-40:].strip("-"), f"/squashed/{folder.name}"):
            yield folder

    def test_has_folders_made_by_their_users_where_everybody_may(
        self, cluster: Cluster, system: str, export: Path
    ) -> None:
        export.chmod(0o1777)
        for by in ("root", "user"):
            make_home(cluster, system, export, Home(f"ann-{by}", 1234, 1234), by)
            made = (export / f"ann-{by}").stat()
            assert (made.st_uid, made.st_gid, made.st_mode & 0o7777) == (1234, 1234, 0o700)

    def test_is_refused_with_the_reason_where_only_root_may_make_folders(
        self, cluster: Cluster, system: str, export: Path
    ) -> None:
        with pytest.raises(NotStarted) as refused:
            make_home(cluster, system, export, Home("ann", 1234, 1234), "root")
        assert "root_squash" in str(refused.value)
        assert "chmod 1777" in str(refused.value)
        assert list(export.iterdir()) == []


def make_home(cluster: Cluster, system: str, export: Path, home: Home, by: str) -> None:
    """As the hub does before somebody's first server."""
    folders = Folders.model_validate(
        {"namespace": system, "claim": export.name[-40:].strip("-"), "image": cluster.images["hub"], "by": by}
    )

    async def made() -> None:
        connection = Connection(str(cluster.kubeconfig))
        try:
            await Homes(folders, connection, 90).make(home, lambda progress, step: None)
        finally:
            await connection.close()

    asyncio.run(made())


def test_without_the_file_server_for_a_minute_servers_wait_and_go_on_and_the_hub_answers(
    hub: Hub, cluster: Cluster, homes: Path, lea: str, someone: Callable[[], str]
) -> None:
    starting, log = someone(), homes / lea / "log"
    steps: list[str] = []
    watching = threading.Thread(target=lambda: steps.extend(step["message"] for step in hub.steps(starting)))
    with cluster.nfs.away():
        writing = shell(hub, cluster, lea, "for i in $(seq 20); do echo $i >> ~/log; done")
        assert hub.begin(starting, node=cluster.nodes[1]).status_code < 300
        watching.start()
        with pytest.raises(httpx.TimeoutException):
            hub.api.get(f"/user/{lea}/api/contents/log", timeout=2)
        assert slowest_answer(hub, lea, AWAY) < 5
        assert writing.poll() is None
        assert not log.exists()

    assert writing.wait(60) == 0
    assert log.read_text().split() == [str(number) for number in range(1, 21)]
    watching.join(120)
    assert hub.ready(starting), steps
    assert any("waiting for the file server" in step for step in steps), steps
    wait_for(lambda: answers(hub, lea), 60, "Lab's answer")


def slowest_answer(hub: Hub, running: str, seconds: float) -> float:
    """How long the hub took at most to show a page and to tell of a server, over so many seconds."""
    ends, slowest = time.monotonic() + seconds, 0.0
    while (asked := time.monotonic()) < ends:
        assert hub.ready(running)
        assert hub.api.get("/hub/login").status_code == 200
        slowest = max(slowest, time.monotonic() - asked)
        time.sleep(0.5)
    return slowest


def shell(hub: Hub, cluster: Cluster, name: str, command: str) -> subprocess.Popen[bytes]:
    """A shell command in somebody's server, which goes on while others look."""
    pod = hub.pod(name)
    assert pod is not None
    words = ["--namespace", hub.namespace, "exec", pod.metadata.name, "-c", "notebook", "--", "sh", "-c", command]
    return subprocess.Popen([*cluster.kubectl(), *words])


def answers(hub: Hub, name: str) -> bool:
    """Whether somebody's Lab shows its files."""
    try:
        return hub.api.get(f"/user/{name}/api/contents/log", timeout=5).status_code == 200
    except httpx.TimeoutException:
        return False
