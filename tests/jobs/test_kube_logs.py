"""What pods print, in a played cluster: none of it is lost, and none of it costs others much."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mlmp_spawner import units
from mlmp_spawner.jobs import pod_logs
from mlmp_spawner.jobs.base import Order
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.pod_attempts import Known, Record
from mlmp_spawner.jobs.pod_logs import FULL, PIECES, TOGETHER, Pace, PodLogs
from mlmp_spawner.kube.job_pods import MAIN
from tests.jobs.contract import (
    POLITE,
    eventually,
    printed,
    seen,
    whole_log,
)
from tests.jobs.kube_bench import KubeBench, bench
from tests.jobs.played_cluster import PlayedCluster

__all__ = ["bench"]


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
    made = bench.files.following(order.id).with_name(".full")
    made.symlink_to("/dev/full")
    made.replace(made.with_name(".follow.json"))  # which may be there, just being written


async def test_who_prints_without_end_is_read_at_a_bounded_rate_and_only_slowly_once_the_file_is_full(tmp_path: Path):
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        await asyncio.sleep(0)

    files, flood = JobFiles(tmp_path / "jobs"), Flood(pieces=64)
    files.prepare()
    logs = PodLogs(flood, files, rest=rest)
    for attempt, limit in (("a-1", 100 * SIZE), ("b-1", SIZE)):
        rests.clear()
        await logs.follow(flood.known(attempt, limit))
        await eventually(lambda: _read_by(rests), "all that was printed was read")
        least = 64 * SIZE / TOGETHER if attempt == "a-1" else 60 * SIZE / FULL
        assert sum(rests) >= least
    assert min(rests) >= PIECES
    await logs.close()


SIZE = 64 << 10


async def _read_by(rests: list[float]) -> bool:
    return len(rests) == 64


class Flood(PlayedCluster):
    """Each log has so much more at once, and does not end."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    async def log(self, pod: str, container: str, *, since: int | None = None) -> AsyncIterator[bytes]:
        """Comes faster than anybody reads."""
        for number in range(self.pieces):
            yield b"2026-11-22T10:00:00.%09dZ %s\n" % (number, b"x" * (SIZE - 32))
        await asyncio.Event().wait()

    def known(self, attempt: str, limit: int) -> Known:
        """An attempt whose program runs."""
        state = {"running": {"startedAt": "2026-11-22T10:00:00Z"}}
        pod = {"metadata": {"name": f"{attempt}-x"}, "spec": {"nodeName": "here"},
               "status": {"containerStatuses": [{"name": MAIN, "state": state}]}}  # fmt: skip
        return Known(attempt, Record(log_limit=limit), pods=(pod,))


async def test_readers_together_keep_to_one_rate_and_each_waits_for_those_before_it():
    now, rests = 100.0, []

    async def rest(seconds: float) -> None:
        rests.append(round(seconds, 3))

    pace = Pace(1000, rest, lambda: now)
    for _ in range(3):
        await pace.wait(500, None)
    await pace.wait(500, 100)
    now = 200.0
    await pace.wait(1, None)
    assert rests == [0.5, 1.0, 1.5, 5.0, PIECES]


async def test_of_a_pod_that_waits_for_its_image_hardly_anything_is_asked(
    bench: KubeBench, monkeypatch: pytest.MonkeyPatch
):
    for name, seconds in (("LOOK", 0.02), ("SLOW", 0.04), ("PENDING", 0.4)):
        monkeypatch.setattr(pod_logs, name, seconds)
    bench.cluster.stuck = {"reason": "ContainerCreating"}
    order = await bench.order("true")
    began = time.monotonic()
    await bench.backend.submit(order)
    await eventually(lambda: _asked_again(bench, 5), "it was tried several times")
    assert time.monotonic() - began >= 0.02 + 0.04 + 0.08 + 0.16 + 0.32


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
