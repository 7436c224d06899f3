"""What pods print, in a played cluster: none of it is lost, and none of it costs others much."""

from __future__ import annotations

from mlmp_spawner import units
from mlmp_spawner.jobs.base import Order
from tests.jobs.contract import (
    POLITE,
    eventually,
    printed,
    seen,
    whole_log,
)
from tests.jobs.kube_bench import KubeBench, bench

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
