"""The contract of all back-ends on pods of a real cluster, which a real Kueue lets in."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from kubernetes import client

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Changed, MLMPError, NotFound
from mlmp_spawner.jobs.base import Order
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.kube import KubeJobs
from mlmp_spawner.jobs.kueue import ClusterKueue
from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.files import Account
from mlmp_spawner.kube.job_pods import Surroundings, name_of
from mlmp_spawner.kube.job_queues import HOSTNAME, flavor_name, local_queue_name
from mlmp_spawner.kube.labels import ATTEMPT
from mlmp_spawner.kube.objects import ClusterObjects
from mlmp_spawner.kube.workloads import active, ready
from mlmp_spawner.rules.job_manifest import for_job
from mlmp_spawner.rules.jobs import PLATFORM
from mlmp_spawner.rules.storage import Storage
from mlmp_spawner.units import HOUR, SECOND
from tests.cluster.queues import Api, Queues
from tests.cluster.rig.cluster import Cluster
from tests.jobs.contract import POLITE, BackendContract, eventually, gone, printed, running_here, seen, whole_log

RESOURCE = "mlmp.dev/x-backend"
NODES = {"node-a": "node-a", "node-b": "node-b"}
LABELS = {flavor_name(node): {HOSTNAME: hostname} for node, hostname in NODES.items()}


class ClusterBench:
    """The back-end, and a look that lets in at once whatever asks."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.files = JobFiles(folder / "jobs")
        self.files.prepare()
        self.orders: dict[str, Order] = {}
        self._numbers = count(1)
        self._name = uuid.uuid4().hex[:8]
        kubeconfig = str(cluster.kubeconfig)
        self.connection, self.streams = Connection(kubeconfig), Connection(kubeconfig, streams=True)
        self.objects = ClusterObjects(namespace, self.connection, self.streams)
        self.kueue = ClusterKueue(self.objects)
        self.backend = self._connect()
        self._looks = asyncio.ensure_future(self._look())

    def _connect(self) -> KubeJobs:
        return KubeJobs(self.objects, self.files, self._surroundings, lambda attempt: "t", self.kueue)

    async def _surroundings(self, owner: str) -> Surroundings:
        home, account = Storage(claim="homes"), Account(1000, 1000)
        image = self.cluster.images["hub"]
        return Surroundings(self.namespace, "http://hub/", "http://127.0.0.1:9/", image, home, owner, account)

    async def _look(self) -> None:
        """As the queue of the service does, again and again."""
        while True:
            with suppress(MLMPError):
                await self.backend.list()
                await self._let_in()
            await asyncio.sleep(0.1)

    async def _let_in(self) -> None:
        for one in await self.kueue.workloads():
            order = self.orders.get(one.attempt)
            with suppress(Changed, NotFound):
                if order is not None and one.gated:
                    await self.kueue.ungate(one.attempt)
                elif order is not None and one.asks:
                    until = Deadline(order.stop_at, order.kill_at)
                    await self.kueue.status(ready(one, until, LABELS, now=units.now()))

    async def order(
        self,
        script: str,
        *,
        stop_in: int = HOUR,
        grace: int = 10 * SECOND,
        environment: dict[str, str] | None = None,
        secrets: dict[str, str] | None = None,
        command: list[str] | None = None,
        log_limit: int = 1 << 20,
        workers: int = 1,
    ) -> Order:
        job, stop_at = f"{self._name}{next(self._numbers)}", units.now() + stop_in
        said = {"command": command or ["sh", "-c", script], "environment": environment or {}}
        manifest = for_job(said | {"checkpoint": "c/{id}", "outputs": "o/{id}"}, job)
        order = Order(
            f"{job}-1", job, 1, "eve", manifest, (), stop_at, stop_at + grace, grace, secrets=secrets or {},
            log_limit=log_limit, resource=RESOURCE, workers=workers, nodes=frozenset(NODES), cpus=0.2,
            memory=256 << 20, length=stop_in, image=self.cluster.debian, queue=local_queue_name(RESOURCE, ""),
        )  # fmt: skip
        self.orders[order.id] = order
        return order

    async def restart(self) -> None:
        await self.backend.close()
        self.backend = self._connect()

    def running(self, order: Order) -> int:
        return running_here(order)

    async def end(self) -> None:
        self._looks.cancel()
        await self.backend.close()
        for kind in ("Job", "Pod", "Service", "NetworkPolicy", "Secret", "ConfigMap"):
            for one in await self.objects.metadata(kind, ATTEMPT):
                if one["labels"][ATTEMPT] in self.orders:
                    await self.objects.delete(kind, one["name"], grace=1)
        await self.connection.close()
        await self.streams.close()


@pytest.fixture(scope="module")
def queue(cluster: Cluster, core: client.CoreV1Api, namespace: str) -> str:
    """The namespace, with a queue of units of the module's own, and a claim for homes."""
    cluster.must_be_ours()
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    core.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": "homes"}, "spec": spec})
    for node in NODES:
        cluster.set_count(node, RESOURCE, 8)
    api = Api(namespace)
    Queues(api, RESOURCE, NODES).open(dict.fromkeys(NODES, 8))
    api.http.close()
    return namespace


@pytest.fixture
async def bench(cluster: Cluster, queue: str, tmp_path: Path) -> AsyncIterator[ClusterBench]:
    made = ClusterBench(cluster, queue, tmp_path)
    yield made
    await made.end()


class TestKubeJobsForReal(BackendContract):
    """The same as for every other back-end."""


async def test_sent_away_by_kueue_it_has_ended_and_never_begins_again(bench: ClusterBench) -> None:
    for workers in (1, 2):
        order = await bench.order(POLITE, workers=workers)
        await bench.backend.submit(order)
        await printed(bench, order, b"up")
        await seen(bench, order, "running")
        await eventually(partial(_deactivated, bench, order), "Kueue takes it back")
        ended = await seen(bench, order, "ended")
        assert ended.reason in PLATFORM and ended.ended_at is not None
        await gone(bench, order)
        await bench.backend.submit(order)
        await bench.restart()
        assert (await bench.backend.state(order.id), bench.running(order)) == (ended, 0)
        assert b"saved\n" in (await whole_log(bench, order)).data
        await bench.backend.forget(order.id)
        await eventually(partial(_nothing_left, bench, order), "all objects are gone")


async def test_where_one_worker_fails_the_others_end_and_its_reason_counts(bench: ClusterBench) -> None:
    failing = 'until test -e "$MLMP_OUTPUT_DIR/up"; do sleep 0.05; done; exit 3'
    polite = POLITE.replace("echo up", 'echo up; touch "$MLMP_OUTPUT_DIR/up"')
    order = await bench.order(f'if test "$RANK" = 1; then {failing}; fi; {polite}', workers=2)
    await bench.backend.submit(order)
    ended = await seen(bench, order, "ended")
    assert (ended.reason, ended.exit_status) == ("exit_status", 3)
    assert (await whole_log(bench, order)).data == b"[0] up\n[0] saved\n"


async def test_what_never_started_goes_without_a_trace(bench: ClusterBench) -> None:
    for workers in (1, 2):
        order = await bench.order("echo up", workers=workers)
        del bench.orders[order.id]  # nobody answers
        await bench.backend.submit(order)
        assert (await seen(bench, order, "queued")).started_at is None
        await bench.backend.cancel(order.id, stop_at=0, kill_at=1)
        await eventually(partial(_nothing_left, bench, order), "all objects are gone")
        assert await bench.backend.state(order.id) is None


async def test_an_image_that_is_not_there_is_told(bench: ClusterBench) -> None:
    order = await bench.order("echo up")
    order = bench.orders[order.id] = replace(order, image="registry.mlmp.test/no/such:thing")
    await bench.backend.submit(order)
    ended = await seen(bench, order, "ended")
    assert ended.reason == "image" and "registry.mlmp.test/no/such:thing" in ended.message


async def test_no_line_is_lost_or_doubled_though_the_service_is_killed_again_and_again(bench: ClusterBench) -> None:
    order = await bench.order("i=0; while test $i -lt 1500; do echo line $i; i=$((i + 1)); sleep 0.004; done")
    await bench.backend.submit(order)
    for at in (b"line 100\n", b"line 500\n", b"line 900\n"):
        await printed(bench, order, at)
        await bench.restart()
    await seen(bench, order, "ended")
    assert (await whole_log(bench, order)).data == b"".join(b"line %d\n" % i for i in range(1500))


async def test_an_object_is_made_once_and_changed_only_as_the_one_that_is_meant(bench: ClusterBench) -> None:
    name = name_of(f"{uuid.uuid4().hex[:8]}-1")
    item = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"a": "b"}}
    assert await bench.objects.create(item) and not await bench.objects.create(item)
    patch = {"apiVersion": "v1", "kind": "Secret"}
    made = await bench.objects.patch({**patch, "metadata": {"name": name, "annotations": {"x.y/z": "1"}}})
    assert made["metadata"]["annotations"] == {"x.y/z": "1"}
    for other in ({"uid": str(uuid.uuid4())}, {"resourceVersion": "1"}):
        with pytest.raises(Changed):
            await bench.objects.patch({**patch, "metadata": {"name": name, **other}})
    await bench.objects.delete("Secret", name, uid=str(uuid.uuid4()))
    assert name in {one["name"] for one in await bench.objects.metadata("Secret")}
    await bench.objects.delete("Secret", name)
    await bench.objects.delete("Secret", name)
    with pytest.raises(NotFound):
        await bench.objects.patch({**patch, "metadata": {"name": name}})
    with pytest.raises(NotFound):
        await anext(bench.objects.log(name, "main"))


async def _deactivated(bench: ClusterBench, order: Order) -> bool:
    (one,) = [one for one in await bench.kueue.workloads() if one.attempt == order.id]
    with suppress(Changed):
        await bench.kueue.change(active(one, False))
        return True
    return False


async def _nothing_left(bench: ClusterBench, order: Order) -> bool:
    kinds = ("Job", "Pod", "Service", "NetworkPolicy", "Secret", "ConfigMap")
    found = [await bench.objects.metadata(kind, f"{ATTEMPT}={order.id}") for kind in kinds]
    return not any(found) and all(one.attempt != order.id for one in await bench.kueue.workloads())
