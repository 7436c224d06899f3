"""What Kueue really does: all that the queues of jobs rest on (:mod:`mlmp_spawner.kube.workloads`)."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from mlmp_spawner.kube.files import Account
from mlmp_spawner.kube.job_pods import Surroundings, Work, name_of, objects
from mlmp_spawner.kube.job_queues import local_queue_name
from mlmp_spawner.rules.job_guarantees import FIXED, Tenant
from mlmp_spawner.rules.storage import Storage
from mlmp_spawner.units import SECOND, from_iso
from tests.cluster.conftest import delete_namespace
from tests.cluster.hub_here import wait_for
from tests.cluster.queues import MEET, POLITE, Api, Queues
from tests.cluster.release import new_namespace
from tests.cluster.rig import kueue
from tests.cluster.rig.cluster import Cluster

RESOURCE = "mlmp.dev/kueue-test"
"""A unit that no other test uses."""
QUEUE = local_queue_name(RESOURCE, "")


@pytest.fixture(scope="module")
def queues(cluster: Cluster, core: client.CoreV1Api) -> Iterator[Queues]:
    """A queue of the module's own, in a namespace that holds pods to Pod Security ``restricted``."""
    cluster.must_be_ours()
    if not kueue.installed():
        pytest.skip("the test cluster has no Kueue: python -m tests.cluster.rig up --with-kueue")
    if not kueue.answers():
        kueue.up()
    for node in cluster.nodes:
        cluster.set_count(node, RESOURCE, 2)

    def counted() -> bool:
        return all(one.status.allocatable.get(RESOURCE) == "2" for one in core.list_node().items)

    wait_for(counted, 60, f"{RESOURCE} on all nodes")
    namespace = new_namespace(core, "kueue-test")
    core.create_namespaced_persistent_volume_claim(
        namespace,
        {"metadata": {"name": "homes"},
         "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}},
    )  # fmt: skip
    hostnames = {one.metadata.name: one.metadata.labels["kubernetes.io/hostname"] for one in core.list_node().items}
    made = Queues(Api(namespace), RESOURCE, {node: hostnames[node] for node in cluster.nodes})
    made.open(dict.fromkeys(cluster.nodes, 2))
    yield made
    made.api.http.close()
    if "MLMP_TEST_KEEP" not in os.environ:
        delete_namespace(core, namespace)


@pytest.fixture
def asked(cluster: Cluster, queues: Queues, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Makes the objects of an attempt that the test names; they are gone before the next test."""
    made: list[dict[str, Any]] = []

    def ask(name: str, program: str = POLITE, **changed: Any) -> list[dict[str, Any]]:
        manifest = {"command": ["python3", "-c", program], "checkpoint": "~/c", "outputs": "~/o"}
        known: dict[str, Any] = {
            "id": f"{name}-1", "job": name, "number": 1, "owner": "ann@x.org", "manifest": manifest,
            "image": cluster.images["hub"], "resource": RESOURCE, "units": 1, "workers": 1, "queue": QUEUE,
            "hostnames": frozenset(queues.nodes.values()), "length": 600 * SECOND, "grace": 10 * SECOND,
            "cpus": 0.1, "memory": 128 << 20,
        }  # fmt: skip
        around = Surroundings(
            queues.api.namespace, "http://hub/", "http://mlmp.invalid/", cluster.images["hub"],
            Storage(claim="homes"), "ann", Account(1000, 1000),
        )  # fmt: skip
        found = objects(Work(**known | changed), around, {}, "token")
        made.extend(found)
        return found

    queues.give(dict.fromkeys(queues.nodes, 2))
    yield ask
    for one in made:
        queues.api.http.request("DELETE", queues.api.place(one), json={"propagationPolicy": "Background"})
    ids = {one["metadata"]["labels"]["mlmp.dev/attempt"] for one in made}
    wait_for(lambda: not any(queues.api.pods(one) or queues.of(one) for one in ids), 90, "the end of what was made")


def runs(queues: Queues, attempt: str, workers: int = 1) -> list[str]:
    """Waits until so many of its pods have begun; their names."""

    def begun() -> list[str]:
        names = [pod["metadata"]["name"] for pod in queues.api.pods(attempt)]
        return names if len(names) == workers and all("runs" in queues.api.log(name) for name in names) else []

    return list(wait_for(begun, 120, f"{workers} running pods of {attempt}"))


def state(pod: dict[str, Any]) -> str:
    """Running, Succeeded …"""
    return str(pod["status"].get("phase"))


# -- from the queue to the end -------------------------------------------------------------------------------------


def test_a_job_does_not_ask_before_it_may_and_runs_where_its_quota_is_until_it_was_told(
    queues: Queues, asked: Any
) -> None:
    a, b = sorted(queues.nodes)
    queues.give({a: 0, b: 2})
    queues.submit(asked("one"), wake=False)
    assert queues.known("one-1").gated
    assert not queues.known("one-1").reserved
    queues.ungate(name_of("one-1"))
    queues.wait_asks("one-1")
    assert queues.node_of("one-1") == [b]
    assert not queues.api.pods("one-1"), "nothing starts by quota alone"
    deadline = queues.answer("one-1")
    (pod,) = runs(queues, "one-1")
    (said,) = [line for line in queues.api.log(pod).splitlines() if line.startswith("runs")]
    assert from_iso(said.split()[2]) == deadline.stop_at
    assert said.split()[-1] == b
    assert queues.known("one-1").admitted


def test_two_workers_get_two_nodes_at_once_or_nothing_and_find_each_other(queues: Queues, asked: Any) -> None:
    a, b = sorted(queues.nodes)
    queues.give({a: 2, b: 0})
    queues.submit(asked("two", MEET, workers=2, units=2))
    known = queues.known("two-1")
    time.sleep(3)  # it would have been given what there is
    assert not queues.known("two-1").reserved
    assert [state(pod) for pod in queues.api.pods("two-1")] == ["Pending", "Pending"]
    assert len(known.pod_sets) == 2
    queues.give({a: 2, b: 2})
    queues.answer("two-1")
    wait_for(lambda: [state(pod) for pod in queues.api.pods("two-1")] == ["Succeeded"] * 2, 120, "the end of both")
    first, second = (queues.api.log(pod["metadata"]["name"]) for pod in queues.api.pods("two-1"))
    nodes = {text.splitlines()[-1].split()[-1] for text in (first, second)}
    assert nodes == {a, b}
    assert f"met 1 of 2 on {second.splitlines()[-1].split()[-1]}" in first
    wait_for(lambda: queues.known("two-1").finished, 30, "the Workload's end")


def test_cores_and_memory_come_from_the_node_of_the_units_and_are_counted(queues: Queues, asked: Any) -> None:
    a, b = sorted(queues.nodes)
    queues.give({a: 2, b: 2}, memory=1 << 30)
    queues.submit(asked("large", memory=2 << 30))
    queues.submit(asked("small", memory=256 << 20))
    queues.wait_asks("small-1")
    assert not queues.known("large-1").reserved
    (assigned,) = queues.raw("small-1")["status"]["admission"]["podSetAssignments"]
    assert set(assigned["flavors"]) == {RESOURCE, "cpu", "memory"}
    assert len(set(assigned["flavors"].values())) == 1


# -- called back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_made_inactive_has_its_grace_and_then_leaves_its_quota_to_the_next(
    cluster: Cluster, queues: Queues, asked: Any, workers: int
) -> None:
    name = f"back{workers}"
    queues.submit(asked(name, workers=workers, units=2))
    queues.answer(f"{name}-1")
    pods = runs(queues, f"{name}-1", workers)
    # What is called back is gone within half a second of its end: only who follows reads its last lines.
    logs = [*cluster.kubectl(), f"--namespace={queues.api.namespace}", "logs", "--follow", "--container=notebook"]
    follow = [subprocess.Popen([*logs, pod], stdout=subprocess.PIPE, text=True) for pod in pods]
    queues.activate(f"{name}-1", False)
    # Of a group of pods the Workload holds its quota until the last has ended, and then goes with them.
    wait_for(lambda: (one := queues.of(f"{name}-1")) is None or not one.reserved, 30, "the quota back")
    said = [one.communicate(timeout=60)[0] for one in follow]
    assert all(text.splitlines()[-2:] == ["told", "saved"] for text in said), said
    wait_for(lambda: not queues.api.pods(f"{name}-1"), 30, "the end of its pods")
    queues.submit(asked("next"))
    queues.wait_asks("next-1")


def test_lowering_a_quota_below_what_runs_ends_nothing(queues: Queues, asked: Any) -> None:
    queues.submit(asked("stays"))
    queues.answer("stays-1")
    (pod,) = runs(queues, "stays-1")
    queues.give(dict.fromkeys(queues.nodes, 0))
    queues.submit(asked("waits"))
    time.sleep(3)
    assert "told" not in queues.api.log(pod)
    assert queues.known("stays-1").counted
    assert not queues.known("waits-1").reserved


def test_one_that_is_called_back_at_the_front_goes_before_those_that_wait(queues: Queues, asked: Any) -> None:
    a, b = sorted(queues.nodes)
    queues.give({a: 0, b: 0})
    queues.submit(asked("early"))
    queues.known("early-1")
    queues.submit(asked("front", priority="front"))
    queues.known("front-1")
    queues.give({a: 1, b: 0})
    queues.wait_asks("front-1")
    assert not queues.known("early-1").reserved


# -- tenants -------------------------------------------------------------------------------------------------------


@pytest.fixture
def guaranteed(queues: Queues) -> Iterator[Tenant]:
    """A group whose queue has the two units of the first node; all others share those of the second."""
    a, b = sorted(queues.nodes)
    group = Tenant("own", "red")
    queues.give({a: 2, b: 0}, tenant=group)
    queues.give({a: 0, b: 2})
    queues.give({a: 0, b: 0}, tenant=FIXED)
    yield group
    queues.give({a: 0, b: 0}, tenant=group)
    queues.give({a: 0, b: 0}, tenant=FIXED)


def test_what_a_group_leaves_unused_others_borrow_and_give_back(
    queues: Queues, asked: Any, guaranteed: Tenant
) -> None:
    a, _ = sorted(queues.nodes)
    for name in ("first", "borrows"):
        queues.submit(asked(name, units=2))
        queues.answer(f"{name}-1")
        runs(queues, f"{name}-1")
    (borrower,) = [name for name in ("first-1", "borrows-1") if queues.node_of(name) == [a]]
    queues.submit(asked("owns", units=2, queue=local_queue_name(RESOURCE, "red", guaranteed)))
    queues.wait_asks("owns-1")
    assert queues.node_of("owns-1") == [a]
    assert not queues.known(borrower).counted
    (stays,) = {"first-1", "borrows-1"} - {borrower}
    assert queues.known(stays).counted
    queues.activate(borrower, False)  # as MLMP does with what Kueue has evicted: another attempt is another Workload
    queues.answer("owns-1")
    runs(queues, "owns-1")


def test_what_must_not_be_sent_away_neither_borrows_nor_is_reclaimed(
    queues: Queues, asked: Any, guaranteed: Tenant
) -> None:
    a, b = sorted(queues.nodes)
    fixed = local_queue_name(RESOURCE, "", FIXED)
    queues.submit(asked("fixed", units=2, queue=fixed))
    time.sleep(3)
    assert not queues.known("fixed-1").reserved, "it has no quota, and there is enough to borrow"
    queues.give({a: 0, b: 0})
    queues.give({a: 0, b: 2}, tenant=FIXED)
    queues.answer("fixed-1")
    runs(queues, "fixed-1")
    for name in ("owns", "wants"):
        queues.submit(asked(name, units=2, queue=local_queue_name(RESOURCE, "red", guaranteed)))
    wait_for(lambda: any(queues.known(f"{name}-1").asks for name in ("owns", "wants")), 30, "what is guaranteed")
    time.sleep(3)
    assert sum(queues.known(f"{name}-1").reserved for name in ("owns", "wants")) == 1
    assert queues.known("fixed-1").counted


# -- what is never said, and why -----------------------------------------------------------------------------------


def test_a_question_without_an_answer_keeps_others_out_until_it_is_held(queues: Queues, asked: Any) -> None:
    a, b = sorted(queues.nodes)
    queues.give({a: 1, b: 0})
    queues.submit(asked("silent"))
    queues.wait_asks("silent-1")
    queues.submit(asked("behind"))
    time.sleep(3)
    assert not queues.known("behind-1").reserved
    queues.activate("silent-1", False)
    queues.wait_asks("behind-1")
    queues.activate("behind-1", False)
    queues.activate("silent-1", True)
    queues.wait_asks("silent-1")


def test_a_rejected_one_is_seen_as_lost(queues: Queues, asked: Any) -> None:
    queues.submit(asked("no"))
    queues.say("no-1", state="Rejected")
    wait_for(lambda: queues.known("no-1").lost, 30, "what Kueue makes of it")
    assert not queues.known("no-1").asks


def test_an_answer_that_points_to_another_node_is_seen_as_lost(queues: Queues, asked: Any) -> None:
    queues.submit(asked("torn"))
    (worker,) = queues.wait_asks("torn-1").pod_sets
    elsewhere = [{"name": worker.name, "nodeSelector": {"kubernetes.io/hostname": "elsewhere"}}]
    queues.say("torn-1", podSetUpdates=elsewhere)
    assert wait_for(lambda: queues.known("torn-1").lost, 30, "what Kueue makes of it")
    assert not queues.api.pods("torn-1")


def test_one_that_kueue_itself_ended_at_a_time_limit_is_seen_as_lost(queues: Queues, asked: Any) -> None:
    made = asked("limit")
    for one in made:
        if one["kind"] == "Job":
            one["metadata"]["labels"]["kueue.x-k8s.io/max-exec-time-seconds"] = "15"  # its pod starts within that
    queues.submit(made)
    queues.answer("limit-1")
    (pod,) = runs(queues, "limit-1")
    wait_for(lambda: "told" in queues.api.log(pod) or not queues.api.pods("limit-1"), 60, "the limit")
    lost = wait_for(lambda: queues.known("limit-1").lost, 30, "what Kueue makes of it")
    assert lost.startswith("DeactivatedDueTo")
    with pytest.raises(ValueError, match="can't start any more"):
        queues.activate("limit-1", True)


def test_an_answer_to_come_later_keeps_the_quota_until_then(queues: Queues, asked: Any) -> None:
    a, b = sorted(queues.nodes)
    queues.give({a: 1, b: 0})
    queues.submit(asked("later"))
    queues.say("later-1", state="Retry", requeueAfterSeconds=600, podSetUpdates=[])
    queues.submit(asked("other"))
    time.sleep(3)
    assert not queues.known("other-1").reserved
    queues.activate("later-1", False)
    queues.wait_asks("other-1")


# -- while Kueue is away -------------------------------------------------------------------------------------------


def test_without_kueue_jobs_run_on_none_begins_and_nobody_elses_pod_is_kept_waiting(
    cluster: Cluster, queues: Queues, asked: Any, core: client.CoreV1Api, namespace: str
) -> None:
    queues.submit(asked("before"))
    queues.answer("before-1")
    (running,) = runs(queues, "before-1")
    queues.submit(asked("asking"))
    asking = queues.wait_asks("asking-1")
    cluster.kueue.stop()
    try:
        plain = {"name": "main", "image": cluster.debian, "command": ["true"]}
        core.create_namespaced_pod(
            namespace, {"metadata": {"name": "plain"}, "spec": {"restartPolicy": "Never", "containers": [plain]}}
        )
        template = {"spec": {"restartPolicy": "Never", "containers": [plain]}}
        client.BatchV1Api(core.api_client).create_namespaced_job(
            namespace, {"metadata": {"name": "plain-job"}, "spec": {"template": template}}
        )
        refused = [queues.api.create(one) for one in asked("during") if one["kind"] == "Job"]
        assert [one.status_code for one in refused] == [500], "nothing that names a queue is made"
        assert "failed calling webhook" in json.dumps(refused[0].json())

        def done() -> bool:
            pods = core.list_namespaced_pod(namespace).items
            return len(pods) == 2 and all(pod.status.phase == "Succeeded" for pod in pods)

        wait_for(done, 60, "a pod and a Job of somebody else")
        assert "told" not in queues.api.log(running)
        assert queues.known("asking-1").asks
        assert not queues.api.pods("asking-1")
    finally:
        cluster.kueue.start()
    assert queues.known("asking-1").uid == asking.uid
    queues.answer("asking-1")
    runs(queues, "asking-1")
    assert "told" not in queues.api.log(running)


def test_an_upgrade_of_kueue_leaves_its_webhooks_to_queued_objects(queues: Queues) -> None:
    kueue.install()
    place = "/apis/admissionregistration.k8s.io/v1"
    found = {}
    for kind in ("mutating", "validating"):
        made = queues.api.ask("GET", f"{place}/{kind}webhookconfigurations/kueue-{kind}-webhook-configuration")
        found |= {one["name"]: one.get("objectSelector") for one in made["webhooks"]}
    queued = {"matchExpressions": [{"key": "kueue.x-k8s.io/queue-name", "operator": "Exists"}]}
    assert all(found[name] == queued for name in ("mpod.kb.io", "vpod.kb.io", "mjob.kb.io", "vjob.kb.io"))


def test_what_a_test_has_broken_of_it_is_put_back(queues: Queues) -> None:
    place = "/apis/apps/v1/namespaces/kueue-system/deployments/kueue-controller-manager"
    queues.api.ask("DELETE", place)
    wait_for(lambda: not kueue.answers(), 60, "its end")
    kueue.up()
    assert kueue.answers()
