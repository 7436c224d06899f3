"""Spark on a real cluster with a real Kueue: the driver in a user's server, the executors pods on two nodes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.models import V1Pod

from mlmp_spawner.kube import labels
from tests.cluster.hub_here import wait_for
from tests.cluster.inside import Inside
from tests.cluster.release import API as BOOKINGS
from tests.cluster.rig import images
from tests.cluster.training import UNITS, Training
from tests.helm.flows import Place, allowed
from tests.helm.test_network_policies import cyclonus
from tests.jobs.people import API, Submitter
from tests.spark.driver import EXECUTOR, Refused, Shell
from tests.spark.test_one_machine import OTHER_SECRET, SQUARES, SUM, WAITS

__all__ = ["cyclonus"]

pytestmark = pytest.mark.faults

NOTEBOOKS = Path(__file__).parents[2] / "docs" / "examples" / "spark"
GONE = 30
"""Seconds after which nothing of a session is left."""
PATIENCE = 300
BEGIN = f"spark = spark_session(executors=2, profile='executor', units={UNITS}, memory='512m', progress=False)"
"""Each executor takes all units of a node, so that they are on two."""
KILL = f"""
import pathlib, signal
for entry in pathlib.Path("/proc").iterdir():
    if entry.name.isdecimal() and "{EXECUTOR}" in (entry / "cmdline").read_bytes().decode(errors="replace"):
        os.kill(int(entry.name), signal.SIGKILL)
        say(int(entry.name))
"""
# torchrun of Debian's PyTorch 1.13 fails on Python 3.11 where it is to redirect nothing.
TORCHRUN = {"PET_REDIRECTS": "1:0", "PET_TEE": "1:0"}
LISTENING = """
rows = [row.split() for table in ("tcp", "tcp6") for row in open("/proc/net/" + table).read().splitlines()[1:]]
say(sorted({int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}))
"""
"""At which ports somebody listens in a pod."""


@dataclass
class Server:
    """Somebody's server, with Spark in its image."""

    training: Training
    booking: dict[str, Any]
    pod: V1Pod
    inside: Inside

    @property
    def owner(self) -> Submitter:
        return self.training.submitter(self.booking["owner"])

    def python(self) -> Shell:
        """A notebook's kernel, as far as Spark sees it."""
        made = Shell(self.inside.command("python3"))
        made.run("from mlmp_spawner.client import spark_session")
        return made

    def jobs(self) -> list[dict[str, Any]]:
        """Its owner's that are not over."""
        return list(self.owner.api.get(API, params={"state": "open"}).json()["items"])

    def executors(self) -> list[V1Pod]:
        """Pods of its owner's jobs, as long as there is anything of them."""
        core, selector = self.training.core, f"{labels.KIND}={labels.JOB}"
        found = core.list_namespaced_pod(self.training.users, label_selector=selector)
        return [pod for pod in found.items if pod.metadata.annotations[labels.OWNER] == self.booking["owner"]]

    def close(self) -> None:
        self.owner.api.delete(f"{BOOKINGS}/{self.booking['id']}")
        wait_for(lambda: not self.executors(), PATIENCE, "the end of the executors")


@pytest.fixture(scope="module")
def image(training: Training, namespace: str) -> str:
    """The image, on all nodes: how long that takes to fetch is not what is measured here."""
    images.build_spark()
    reference = images.spark()
    for node in training.cluster.nodes:
        container = {"name": "it", "image": reference, "command": ["true"]}
        spec = {"nodeName": node, "restartPolicy": "Never", "containers": [container]}
        training.core.create_namespaced_pod(namespace, {"metadata": {"name": f"pull-{node}"}, "spec": spec})

    def pulled() -> bool:
        pods = training.core.list_namespaced_pod(namespace).items
        return all(pod.status.phase == "Succeeded" for pod in pods)

    wait_for(pulled, 600, "the image on all nodes")
    return reference


@pytest.fixture(scope="module")
def servers(training: Training, image: str) -> Iterator[Callable[..., Server]]:
    """Makes servers, each of somebody else."""
    made: list[Server] = []

    def start(name: str) -> Server:
        booking = training.start(training.book(name, 3600, profile="driver"), seconds=PATIENCE)
        pod = training.pod_of(booking)
        assert pod is not None
        made.append(Server(training, booking, pod, Inside(training.cluster, training.users, pod.metadata.name)))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def server(servers: Callable[..., Server]) -> Server:
    """Sue's."""
    return servers("sue")


@pytest.fixture(scope="module")
def stranger(servers: Callable[..., Server]) -> Server:
    """Mallory's."""
    return servers("mallory")


@pytest.fixture(scope="module")
def shell(server: Server) -> Iterator[Shell]:
    """One kernel in it. Its first session was cold: with it Java started."""
    made = server.python()
    began = time.monotonic()
    made.run(BEGIN)
    assert made.run(SUM) == SQUARES
    print(f"\nfrom call to first task, cold: {time.monotonic() - began:.1f} s")
    yield made
    made.close()


@pytest.fixture
def session(server: Server, shell: Shell) -> Shell:
    """One with two executors, which have computed."""
    shell.run(BEGIN)
    assert shell.run(SUM) == SQUARES
    assert {pod.spec.node_name for pod in server.executors()} == set(server.training.cluster.nodes)
    return shell


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pi", "pi is about 3.14"),
        ("pipeline", "area under the curve: 0.9"),
        ("torch", "2 processes: y = 3.00 x + 1.00"),
    ],
)
def test_a_notebook_computes_with_two_executors_on_two_nodes(
    training: Training, server: Server, name: str, said: str
) -> None:
    more = {"memory": "512m", "units": UNITS, "environment": TORCHRUN}
    parameters = {"executors": 2, "profile": "executor", "more": more}
    inside = server.inside
    inside.run("sh", "-c", f"cat > ~/{name}.ipynb", stdin=(NOTEBOOKS / f"{name}.ipynb").read_text())
    words = f"cd && python3 -m papermill {name}.ipynb done.ipynb -k python3 --log-output -y '{json.dumps(parameters)}'"
    written = inside.run("sh", "-c", f"{words} 2>&1 || (cat done.ipynb; exit 1)", seconds=PATIENCE)
    assert said in written
    job = server.owner.api.get(API).json()["items"][0]
    ended = server.owner.ended(job["id"])
    assert sorted(ended["attempts"][0]["nodes"]) == sorted(training.cluster.nodes)
    by = re.findall(r"^\[(\d)\] \[executor (\d+)\]", server.owner.log(job["id"]), re.MULTILINE)
    assert {worker for worker, _ in by} == {"0", "1"}
    assert {executor for _, executor in by} >= {"0", "1"}
    wait_for(lambda: not server.executors(), GONE, "the end of the executors")


def test_a_second_session_in_a_kernel_computes_soon(server: Server, shell: Shell) -> None:
    shell.run("spark.stop()")
    wait_for(lambda: not server.executors(), GONE, "the end of the executors")
    began = time.monotonic()
    shell.run(BEGIN)
    assert shell.run(SUM) == SQUARES
    print(f"\nfrom call to first task, warm: {time.monotonic() - began:.1f} s")


@pytest.mark.usefixtures("cyclonus")
def test_driver_and_executors_reach_each_other_and_nobody_else_reaches_them(
    training: Training, server: Server, session: Shell, stranger: Server, tmp_path: Path
) -> None:
    """By the policies and pods as they are; the ports are those at which somebody listens in them."""
    places = {"driver": place(server.pod), "mallory": place(stranger.pod)}
    pods = sorted(server.executors(), key=lambda pod: str(pod.metadata.name))
    ports = {"driver": listening(training, server.pod), "mallory": [8888, 40000]}
    for number, pod in enumerate(pods):
        places[f"executor {number}"] = place(pod)
        ports[f"executor {number}"] = listening(training, pod)
    assert session.run("int(spark.sparkContext.getConf().get('spark.driver.port'))") in ports["driver"]
    assert int(session.run("spark.sparkContext.master").rpartition(":")[2]) in ports["driver"]
    assert all(ports[f"executor {number}"] for number in (0, 1))
    for part in ("hub", "proxy", "service"):
        places[part] = place(training.pods_of(part)[0])
    ours = ("driver", "executor 0", "executor 1")
    expected = {(one, other, port): True for one in ours for other in ours if one != other for port in ports[other]}
    for other in ("mallory", "hub", "service"):
        expected |= {(other, one, port): False for one in ours for port in ports[one] if port != 8888}
    expected |= {(one, "mallory", port): False for one in ours for port in ports["mallory"]}
    expected |= {("proxy", "driver", 8888): True, ("driver", "hub", 8081): True, ("executor 0", "hub", 8081): False}
    found = allowed(policies(training), list(expected), tmp_path, **places)
    assert dict(zip(expected, found, strict=True)) == expected


def test_without_the_secret_nobody_joins_a_session_that_they_can_reach(
    server: Server, session: Shell, stranger: Server
) -> None:
    """Where no network policy is enforced, Spark itself refuses."""
    mallory = stranger.python()
    try:
        mallory.run("from pyspark.sql import SparkSession")
        join = f"SparkSession.builder.master({session.run('spark.sparkContext.master')!r})"
        with pytest.raises(Refused):
            mallory.run(f"{join}{OTHER_SECRET}.getOrCreate().range(9).count()")
    finally:
        mallory.kill()
    assert session.run(SUM) == SQUARES


def test_the_secret_stands_in_no_pod_and_no_log(training: Training, server: Server, session: Shell) -> None:
    session.run("from mlmp_spawner.client.spark import _drivers")
    secret = session.run("_drivers[0].secret")
    (job,) = server.jobs()
    core, answers = training.core, training.core.api_client.sanitize_for_serialization
    shown = {
        "pods": answers(core.list_namespaced_pod(training.users).items),
        "notes": answers(core.list_namespaced_config_map(training.users).items),
        "job": server.owner.look(job["id"]),
        "log": server.owner.log(job["id"]),
        "service": training.logs("service"),
        "hub": training.logs("hub"),
        "lines": [Inside(training.cluster, training.users, pod.metadata.name).run("sh", "-c", "cat /proc/*/cmdline")
                  for pod in (*server.executors(), server.pod)],
    }  # fmt: skip
    assert EXECUTOR in json.dumps(shown["lines"])
    assert "[executor " in json.dumps(shown["log"])
    assert [name for name, said in shown.items() if secret in json.dumps(said)] == []


def test_the_sum_is_right_though_executors_are_killed_at_work(
    training: Training, server: Server, session: Shell
) -> None:
    session.run(WAITS)
    server.inside.run("sh", "-c", "rm -f ~/begun ~/go")
    session.run("thread, sums = sum_in_background(spark, '/home/jovyan/begun', '/home/jovyan/go')")
    wait_for(lambda: server.inside.run("sh", "-c", "ls ~/begun", check=False), PATIENCE, "a task at work")
    for pod in server.executors():
        Inside(training.cluster, training.users, pod.metadata.name).python(KILL)
    server.inside.run("sh", "-c", "touch ~/go")
    session.run("thread.join()")
    assert session.run("sums") == [SQUARES]


def test_over_a_quota_is_refused_with_the_numbers_and_what_is_there_stays(
    training: Training, server: Server, session: Shell
) -> None:
    admin, limits = training.api("admin"), "/services/mlmp/api/v1/limits/user:sue"
    assert admin.api.put(limits, json={"open_jobs": 1}).status_code == 200
    try:
        session.run("from mlmp_spawner.client import spark_scale")
        with pytest.raises(Refused, match="OverLimit: At most 1 jobs may be open at once: 1 are"):
            session.run("spark_scale(3)")
        assert session.run(SUM) == SQUARES
        assert len(server.jobs()) == 1
    finally:
        assert admin.api.delete(limits).status_code == 200


def test_executors_are_gone_soon_after_their_server_is_stopped(
    training: Training, server: Server, session: Shell
) -> None:
    began = time.monotonic()
    assert training.api("sue").stop().status_code in (202, 204)
    they_go(server, began, "the stop")


def test_executors_are_gone_soon_after_the_booking_of_their_server(
    training: Training, servers: Callable[..., Server]
) -> None:
    olgas = servers("olga")
    kernel = olgas.python()
    try:
        kernel.run(BEGIN)
        assert len(olgas.executors()) == 2
        began = time.monotonic() + 5
        training.api("olga").end_in(olgas.booking, 5)
        they_go(olgas, began, "the end of the booking")
    finally:
        kernel.kill()


def they_go(server: Server, began: float, after: str) -> None:
    """Waits until there are no executors any more. :param began: when their server was to end (``time.monotonic``)."""
    wait_for(lambda: not server.executors() and not server.jobs(), PATIENCE, "the end of the executors")
    took = time.monotonic() - began
    print(f"\nno executor {took:.1f} s after {after}")
    assert took < GONE
    left = [one["metadata"]["name"] for one in policies(server.training)]
    assert not [name for name in left if name.startswith("mlmp-job-")], "nor a way to where there is no server"


def place(pod: V1Pod) -> Place:
    """A pod as it is."""
    return Place(pod.status.pod_ip, dict(pod.metadata.labels), pod.metadata.namespace)


def policies(training: Training) -> list[dict[str, Any]]:
    """All that hold for it."""
    api = client.NetworkingV1Api(training.core.api_client)
    found = [one for where in {training.users, training.namespace} for one in
             api.list_namespaced_network_policy(where).items]  # fmt: skip
    return [{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
             **training.core.api_client.sanitize_for_serialization(one)} for one in found]  # fmt: skip


def listening(training: Training, pod: V1Pod) -> list[int]:
    """At which ports somebody listens in a pod, but for its own programs alone."""
    return list(Inside(training.cluster, training.users, pod.metadata.name).python(LISTENING))
