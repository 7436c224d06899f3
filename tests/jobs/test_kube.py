"""The contract on pods, in a played cluster; and what only a cluster can do to jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Invalid, NotFound, Unavailable
from mlmp_spawner.jobs import kube
from mlmp_spawner.jobs.kube import HALF_MADE_FOR
from mlmp_spawner.jobs.pod_attempts import PODS_WITHIN
from mlmp_spawner.kube.job_pods import name_of
from mlmp_spawner.kube.workloads import Workload
from mlmp_spawner.rules.jobs import PLATFORM
from mlmp_spawner.units import HOUR, MINUTE
from tests.jobs.contract import (
    POLITE,
    BackendContract,
    gone,
    printed,
    seen,
    whole_log,
)
from tests.jobs.kube_bench import KubeBench, bench
from tests.jobs.played_job_kueue import PlayedKueue

__all__ = ["bench"]


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
    assert bench.cluster.left_of(order.id) == {"ConfigMap", "Secret", "Service", "NetworkPolicy", "Pod"}
    assert len(bench.cluster.pods(order.id)) == 2


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_way_to_its_server_is_there_before_it_starts_also_after_a_crash_and_goes_with_it(
    bench: KubeBench, workers: int
):
    bench.closed = bench.waits = True
    order = replace(await bench.order("echo up", workers=workers), server="booking1")
    made = bench.cluster.create

    async def killed(item: Mapping[str, Any]) -> bool:
        if item["metadata"]["name"].endswith("-server") or item["kind"] in ("Job", "Pod"):
            raise Unavailable("killed")
        return await made(item)

    bench.cluster.create = killed  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await bench.backend.submit(order)
    bench.cluster.create = made  # type: ignore[method-assign]
    await bench.backend.submit(order)
    opened = {name for kind, name in bench.cluster.objects if kind == "NetworkPolicy"}
    assert opened == {name_of(order.id), f"{name_of(order.id)}-server"}
    bench.cluster.begin(order.id, Deadline(order.stop_at, order.kill_at))
    await seen(bench, order, "ended")
    await bench.backend.forget(order.id)
    assert not bench.cluster.left_of(order.id)


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
    assert bench.cluster.left_of(order.id) == {"ConfigMap", "Secret"}
    bench.ahead = HALF_MADE_FOR + MINUTE
    await bench.backend.list()
    assert not bench.cluster.left_of(order.id)


async def test_what_lost_its_record_before_it_started_goes_when_it_is_told_to_end(bench: KubeBench):
    bench.waits = True
    for workers in (1, 2):
        order = await bench.order("echo up", workers=workers)
        await bench.backend.submit(order)
        await bench.cluster.delete("ConfigMap", name_of(order.id))
        await bench.cluster.delete("Secret", name_of(order.id))
        if workers == 2:
            del bench.cluster.objects["Pod", f"{name_of(order.id)}-w1"]  # one is left, as of a job of one worker
        assert (await seen(bench, order, "queued")).id == order.id
        await bench.backend.cancel(order.id, stop_at=0, kill_at=1)
        assert not bench.cluster.left_of(order.id)


async def test_no_secret_is_ever_read(bench: KubeBench):
    order = await bench.order(POLITE, secrets={"TOKEN": "hush"})
    await bench.backend.submit(order)
    await seen(bench, order, "running")
    now = units.now()
    await bench.backend.cancel(order.id, stop_at=now, kill_at=now + order.grace)
    await seen(bench, order, "ended")
    await bench.backend.forget(order.id)
    assert not bench.cluster.left_of(order.id)
    assert bench.cluster.asked >= {"ConfigMap", "Pod", "Job"} and "Secret" not in bench.cluster.asked


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


async def test_of_many_that_end_at_once_kueue_is_asked_once(bench: KubeBench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kube, "WORKLOADS_KNOWN_FOR", 600.0)  # however slow this machine is just now
    orders = [await bench.order(POLITE) for _ in range(6)]
    for order in orders:
        await bench.backend.submit(order)
    for order in orders:
        await printed(bench, order, b"up")
    now = units.now()
    for order in orders:
        await bench.backend.cancel(order.id, stop_at=now, kill_at=now + order.grace)
    assert bench.kueue.listed == 1
    for order in orders:
        await seen(bench, order, "ended")


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
