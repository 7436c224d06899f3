"""The contract on pods, in a played cluster; and what only a cluster can do to jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Invalid, MLMPError, NotFound, Unavailable
from mlmp_spawner.jobs.base import Order
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.kube import HALF_MADE_FOR, KubeJobs
from mlmp_spawner.jobs.pod_attempts import PODS_WITHIN
from mlmp_spawner.kube.files import Account
from mlmp_spawner.kube.job_pods import Surroundings
from mlmp_spawner.kube.workloads import Workload
from mlmp_spawner.rules.job_manifest import for_job
from mlmp_spawner.rules.jobs import PLATFORM
from mlmp_spawner.rules.storage import Storage
from mlmp_spawner.units import HOUR, MINUTE, SECOND
from tests.jobs.contract import (
    POLITE,
    BackendContract,
    eventually,
    gone,
    printed,
    running_here,
    seen,
    whole_log,
)
from tests.jobs.played_cluster import PlayedCluster, PlayedKueue


class KubeBench:
    """The back-end on a played cluster, which lets everything in at once, unless ``waits``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waits = False
        self.orders: dict[str, Order] = {}
        self.cluster = PlayedCluster(self._let_in)
        self.kueue = PlayedKueue(self.cluster)
        self.files = JobFiles(folder / "jobs")
        self.files.prepare()
        self.ahead = 0
        self.backend = self._connect()
        self._numbers = count(1)
        self._looks = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        """As the queue of the service does, again and again."""
        while True:
            with suppress(MLMPError):
                await self.backend.list()
            await asyncio.sleep(0.05)

    def _connect(self) -> KubeJobs:
        return KubeJobs(self.cluster, self.files, self._surroundings, lambda attempt: "t", self.kueue,
                        clock=lambda: units.now() + self.ahead)  # fmt: skip

    async def _surroundings(self, owner: str) -> Surroundings:
        home = Storage(claim="homes", home=str(self.folder / "home"))
        return Surroundings("users", "http://hub/", "http://mlmp/", "mlmp/lab:1", home, owner, Account(1000))

    def _let_in(self, attempt: str) -> Deadline | None:
        order = self.orders.get(attempt)
        return None if order is None or self.waits else Deadline(order.stop_at, order.kill_at)

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
        job, stop_at = f"pod{self.folder.name[-8:].replace('_', '')}{next(self._numbers)}", units.now() + stop_in
        said = {"command": command or ["sh", "-c", script], "environment": environment or {}}
        manifest = for_job(said | {"checkpoint": "c/{id}", "outputs": "o/{id}"}, job)
        order = Order(
            f"{job}-1", job, 1, "eve", manifest, (), stop_at, stop_at + grace, grace, secrets=secrets or {},
            log_limit=log_limit, resource="nvidia.com/gpu", workers=workers, nodes=frozenset({"here"}),
            length=stop_in, image="torch:2", queue="lq",
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
        await self.cluster.end()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[KubeBench]:
    made = KubeBench(tmp_path)
    yield made
    await made.end()


class TestKubeJobs(BackendContract):
    """The same as for every other back-end."""


# -- before it starts ---------------------------------------------------------------------------------------------


async def test_it_stands_in_the_queue_until_it_is_let_in(bench: KubeBench):
    bench.waits = True
    for workers in (1, 2):
        order = await bench.order("echo up", workers=workers)
        await bench.backend.submit(order)
        assert (await seen(bench, order, "queued")).started_at is None
        assert bench.running(order) == 0
        bench.cluster.begin(order.id, Deadline(order.stop_at, order.kill_at))
        assert (await seen(bench, order, "ended")).reason == "succeeded"


async def test_what_never_started_goes_without_a_trace_when_it_is_told_to_end(bench: KubeBench):
    bench.waits = True
    for workers in (1, 2):
        order = await bench.order("echo up", workers=workers)
        await bench.backend.submit(order)
        later = units.now() + HOUR
        await bench.backend.cancel(order.id, stop_at=later, kill_at=later)
        assert (await seen(bench, order, "queued")).id == order.id
        await bench.backend.cancel(order.id, stop_at=0, kill_at=1)
        assert await bench.backend.state(order.id) is None and not bench.cluster.left_of(order.id)


async def test_killed_between_any_two_objects_it_goes_on_making_them(bench: KubeBench):
    bench.waits = True
    order = await bench.order("echo up", workers=2)
    made = bench.cluster.create
    left = 0

    async def create(item: Mapping[str, Any]) -> bool:
        nonlocal left
        if (left := left - 1) < 0:
            raise Unavailable("killed")
        return await made(item)

    bench.cluster.create = create  # type: ignore[method-assign]
    for steps in range(5):
        left = steps
        with pytest.raises(Unavailable):
            await bench.backend.submit(order)
        assert await bench.backend.state(order.id) is None, "it is submitted again"
    left = 100
    await bench.backend.submit(order)
    assert bench.cluster.left_of(order.id) == {"Secret", "Service", "NetworkPolicy", "Pod"}
    assert len(bench.cluster.pods(order.id)) == 2


async def test_what_nobody_goes_on_making_goes(bench: KubeBench):
    order = await bench.order("echo up")
    made = bench.cluster.create

    async def create(item: Mapping[str, Any]) -> bool:
        if item["kind"] == "Job":
            raise Unavailable("killed")
        return await made(item)

    bench.cluster.create = create  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await bench.backend.submit(order)
    await bench.backend.list()
    assert bench.cluster.left_of(order.id) == {"Secret"}
    bench.ahead = HALF_MADE_FOR + MINUTE
    await bench.backend.list()
    assert not bench.cluster.left_of(order.id)


async def test_it_asks_for_nodes_by_their_host_names(bench: KubeBench):
    bench.waits = True
    order = await bench.order("echo up")
    await bench.backend.submit(order)
    job = bench.cluster.objects["Job", f"mlmp-job-{order.id}"]
    assert '"values": ["here.example"]' in json.dumps(job["spec"]["template"]["spec"]["affinity"])


async def test_without_an_image_it_is_refused(bench: KubeBench):
    with pytest.raises(Invalid, match="image"):
        await bench.backend.submit(replace(await bench.order("true"), image=""))


# -- how it ends --------------------------------------------------------------------------------------------------


async def test_sent_away_by_kueue_it_has_ended_and_never_begins_again(bench: KubeBench):
    for workers in (1, 2):
        order = await bench.order(POLITE, workers=workers)
        await bench.backend.submit(order)
        await printed(bench, order, b"up")
        await seen(bench, order, "running")
        bench.cluster.deactivate(order.id)
        ended = await seen(bench, order, "ended")
        assert ended.reason in PLATFORM and ended.ended_at is not None
        await bench.backend.submit(order)
        await bench.restart()
        assert (await bench.backend.state(order.id), bench.running(order)) == (ended, 0)
        assert b"saved\n" in (await whole_log(bench, order)).data


async def test_whose_pod_is_lost_has_vanished_and_stays_so(bench: KubeBench):
    order = await bench.order(POLITE)
    await bench.backend.submit(order)
    await printed(bench, order, b"up")
    bench.cluster.lose(order.id)
    ended = await seen(bench, order, "ended")
    assert ended.reason == "vanished"
    await bench.restart()
    await bench.backend.submit(order)
    assert await bench.backend.state(order.id) == ended and bench.running(order) == 0


async def test_a_pod_that_somebody_deletes_is_no_fault_of_the_users(bench: KubeBench):
    order = await bench.order(POLITE)
    await bench.backend.submit(order)
    await printed(bench, order, b"up")
    (pod,) = bench.cluster.pods(order.id)
    await bench.cluster.delete("Pod", pod["metadata"]["name"])
    assert (await seen(bench, order, "ended")).reason in PLATFORM, "though its program has ended with 0"


async def test_an_image_that_can_not_be_had_is_told_and_nothing_is_left(bench: KubeBench):
    bench.cluster.stuck = {"reason": "InvalidImageName", "message": "couldn't parse image name"}
    order = await bench.order("echo up")
    await bench.backend.submit(order)
    ended = await seen(bench, order, "ended")
    assert ended.reason == "image" and "torch:2" in ended.message
    assert not bench.cluster.pods(order.id)


async def test_where_the_cluster_makes_no_pod_it_is_the_platforms_failure(bench: KubeBench):
    bench.cluster.podless = True
    order = await bench.order("echo up")
    await bench.backend.submit(order)
    await seen(bench, order, "starting")
    bench.ahead = PODS_WITHIN + MINUTE
    ended = await seen(bench, order, "ended")
    assert ended.reason == "platform" and "did not make" in ended.message


async def test_a_cluster_that_does_not_answer_tells_nothing(bench: KubeBench):
    order = await bench.order(POLITE)
    await bench.backend.submit(order)
    await printed(bench, order, b"up")
    before = await seen(bench, order, "running")
    bench.cluster.silent = True
    with pytest.raises(Unavailable):
        await bench.backend.state(order.id)
    with pytest.raises(Unavailable):
        await bench.backend.list()
    bench.cluster.silent = False
    assert await bench.backend.state(order.id) == before


class NoKueue(PlayedKueue):
    """It was uninstalled, with all that it had."""

    async def workloads(self) -> list[Workload]:
        raise NotFound("the server could not find the requested resource")


async def test_its_end_does_not_wait_for_a_kueue_that_is_gone(bench: KubeBench):
    order = await bench.order(POLITE)
    await bench.backend.submit(order)
    await printed(bench, order, b"up")
    bench.kueue = NoKueue(bench.cluster)
    await bench.restart()
    now = units.now()
    await bench.backend.cancel(order.id, stop_at=now, kill_at=now + order.grace)
    assert (await seen(bench, order, "ended")).reason in PLATFORM
    assert b"saved\n" in (await whole_log(bench, order)).data, "it had its grace"


async def test_what_still_runs_is_not_forgotten_and_what_is_leaves_nothing(bench: KubeBench):
    for workers in (1, 2):
        order = await bench.order(POLITE, workers=workers)
        await bench.backend.submit(order)
        await seen(bench, order, "running")
        await bench.backend.forget(order.id)
        assert bench.cluster.pods(order.id)
        now = units.now()
        await bench.backend.cancel(order.id, stop_at=now, kill_at=now + order.grace)
        await seen(bench, order, "ended")
        await bench.backend.forget(order.id)
        assert not bench.cluster.left_of(order.id) and await bench.backend.state(order.id) is None


# -- several workers ----------------------------------------------------------------------------------------------


async def test_workers_know_each_other_and_each_line_says_whose_it_is(bench: KubeBench):
    order = await bench.order('echo "$RANK of $WORLD_SIZE by $MASTER_ADDR"', workers=2)
    await bench.backend.submit(order)
    assert (await seen(bench, order, "ended")).reason == "succeeded"
    lines = sorted((await whole_log(bench, order)).data.decode().splitlines())
    assert lines == [f"[{rank}] {rank} of 2 by w0.mlmp-job-{order.id}" for rank in range(2)]


async def test_where_one_worker_fails_the_others_end_and_its_reason_counts(bench: KubeBench):
    failing = 'until test -e "$MLMP_OUTPUT_DIR/up"; do sleep 0.05; done; exit 3'
    polite = POLITE.replace("echo up", 'echo up; touch "$MLMP_OUTPUT_DIR/up"')
    order = await bench.order(f'if test "$RANK" = 1; then {failing}; fi; {polite}', workers=2)
    await bench.backend.submit(order)
    ended = await seen(bench, order, "ended")
    assert (ended.reason, ended.exit_status) == ("exit_status", 3)
    await gone(bench, order)
    assert (await whole_log(bench, order)).data == b"[0] up\n[0] saved\n"


# -- its log ------------------------------------------------------------------------------------------------------


async def test_no_line_is_lost_or_doubled_when_connections_break_and_the_service_is_killed(bench: KubeBench):
    order = await bench.order("i=0; while test $i -lt 600; do echo line $i; i=$((i + 1)); sleep 0.002; done")
    await bench.backend.submit(order)
    bench.cluster.breaks = [1, 2, 3, 60, 70, 150, 250, 300]
    for at in (b"line 50\n", b"line 200\n", b"line 400\n"):
        await printed(bench, order, at)
        await bench.restart()
    await seen(bench, order, "ended")
    assert (await whole_log(bench, order)).data == b"".join(b"line %d\n" % i for i in range(600))


async def test_what_was_printed_last_is_there_when_it_has_ended(bench: KubeBench):
    order = await bench.order("seq 1 20000")
    await bench.backend.submit(order)
    await seen(bench, order, "ended")
    part = await bench.backend.logs(order.id, -6, 100)
    assert (part.data, part.complete) == (b"20000\n", True)


async def test_a_full_disk_keeps_no_job_from_its_end(bench: KubeBench):
    first, later = await bench.order("echo up; exit 3"), await bench.order(POLITE)
    for order in (first, later):
        bench.files.log(order.id).parent.mkdir(parents=True)
    _fill(bench, first)
    await bench.backend.submit(first)
    await bench.backend.submit(later)
    await printed(bench, later, b"up")
    _fill(bench, later)
    now = units.now()
    await bench.backend.cancel(later.id, stop_at=now, kill_at=now + later.grace)
    assert (await seen(bench, first, "ended")).exit_status == 3
    await seen(bench, later, "ended")
    assert (await whole_log(bench, later)).data == b"up\nsaved\n"


def _fill(bench: KubeBench, order: Order) -> None:
    """From now on the disk has no room for how far its log was read."""
    bench.files.following(order.id).with_name(".follow.json").symlink_to("/dev/full")


async def test_its_last_words_are_kept_though_the_service_was_killed_since(bench: KubeBench):
    much = "head -c 300000 /dev/zero | tr '\\0' x; echo"
    order = await bench.order(f"{much}; echo dropped; {POLITE}", log_limit=100_000)
    await bench.backend.submit(order)
    await eventually(lambda: _tail_is_kept(bench, order), "the last words are noted")
    await bench.restart()
    asked = bench.cluster.asked_for_logs
    await eventually(lambda: _asked_again(bench, asked), "its log is read again")
    now = units.now()
    await bench.backend.cancel(order.id, stop_at=now, kill_at=now + order.grace)
    await seen(bench, order, "ended")
    log = await whole_log(bench, order)
    assert log.data.endswith(b"dropped\nup\nsaved\n") and log.cut > 0 and log.size < 140_000


async def _tail_is_kept(bench: KubeBench, order: Order) -> bool:
    tail = bench.files.log(order.id).with_name("tail")
    return tail.exists() and b"up\n" in tail.read_bytes()


async def _asked_again(bench: KubeBench, before: int) -> bool:
    return bench.cluster.asked_for_logs > before
