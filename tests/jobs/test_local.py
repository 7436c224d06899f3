"""Jobs on this machine do what every back-end does, below ``mlmp run``s that a starter of ``mlmp up`` begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlmp_spawner import units
from mlmp_spawner.errors import Unavailable
from mlmp_spawner.jobs.base import Order
from mlmp_spawner.jobs.local import LocalJobs
from mlmp_spawner.units import SECOND
from tests.jobs.contract import Asked, BackendContract, Bench, printed, running_here, seen, whole_log
from tests.jobs.workplace import Workplace
from tests.live import wait_for


class LocalBench(Bench):
    """The local back-end at a workplace."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.backend = place.backend

    async def written(self, asked: Asked) -> Order:
        return self.place.order(
            stop_in=asked.stop_in, grace=asked.grace, secrets=asked.secrets, log_limit=asked.log_limit, **asked.said
        )

    async def restart(self) -> None:
        self.place.kill()
        self.place.start()
        self.backend = LocalJobs(self.place.files)

    def running(self, order: Order) -> int:
        return running_here(order)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    made = Workplace.make(tmp_path_factory.mktemp("jobs"))
    made.start()
    yield made
    made.close()


class TestLocalJobs(BackendContract):
    @pytest.fixture
    def bench(self, place: Workplace) -> LocalBench:
        return LocalBench(place)


BEHIND = """
sh -c "trap 'sleep 1; echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done"
echo never
"""


async def test_a_program_behind_a_shell_that_is_gone_at_once_gets_its_grace_too(place: Workplace) -> None:
    bench = LocalBench(place)
    order = await bench.order(BEHIND, grace=60 * SECOND)
    await bench.backend.submit(order)
    await printed(bench, order, b"up")
    await bench.backend.cancel(order.id, stop_at=units.now(), kill_at=units.now() + order.grace)
    assert (await seen(bench, order, "ended")).reason == "time_limit"
    log = (await whole_log(bench, order)).data
    assert log.endswith(b"saved\n") and b"never" not in log


async def test_without_a_starter_a_submission_says_so_and_can_be_repeated(tmp_path: Path) -> None:
    place = Workplace.make(tmp_path)
    place.files.prepare()
    bench = LocalBench(place)
    try:
        order = await bench.order("echo up")
        with pytest.raises(Unavailable, match="does not answer"):
            await place.backend.submit(order)
        assert await place.backend.state(order.id) is None
        place.start()
        await place.backend.submit(order)
        assert (await seen(bench, order, "ended")).reason == "succeeded"
    finally:
        place.close()


async def test_of_somebody_whom_the_hub_does_not_know_nothing_is_started(place: Workplace) -> None:
    order = place.order(command=["true"], owner="mallory")
    await place.backend.submit(order)
    ended = await seen(LocalBench(place), order, "ended")
    assert ended.reason == "start" and "mallory" in ended.message


async def test_an_attempt_whose_time_is_over_before_it_begins_ends_as_the_platform_s_fault(place: Workplace) -> None:
    order = place.order(command=["true"], stop_in=1)
    await place.backend.submit(order)
    assert (await seen(LocalBench(place), order, "ended")).reason == "platform"


async def test_code_that_is_not_kept_any_more_is_said(place: Workplace) -> None:
    order = place.order(script="train.py", code="0" * 64)
    await place.backend.submit(order)
    ended = await seen(LocalBench(place), order, "ended")
    assert ended.reason == "start" and "submit it again" in ended.message


async def test_of_somebody_who_was_deleted_nothing_is_started_for_a_namesake(place: Workplace) -> None:
    order = place.order(command=["true"], known=False)
    await place.backend.submit(order)
    assert (await seen(LocalBench(place), order, "ended")).reason == "start"


async def test_what_the_disk_refuses_is_no_mistake_of_the_job_s(place: Workplace) -> None:
    order = place.order(command=["true"])
    place.files.log(order.id).mkdir(parents=True)  # no log can be opened there
    await place.backend.submit(order)
    assert (await seen(LocalBench(place), order, "ended")).reason == "platform"


async def test_an_end_that_can_t_be_written_just_now_is_written_later_as_it_was(place: Workplace) -> None:
    bench = LocalBench(place)
    order = await bench.order("echo up")
    ends, away = place.files.root / "ended", place.files.root / "away"
    ends.rename(away)
    try:
        await place.backend.submit(order)
        await printed(bench, order, b"up")
        wait_for(lambda: b"can't be written" in (place.data / "logs" / "jobs.log").read_bytes(), 60, "its try")
    finally:
        away.rename(ends)
    assert (await seen(bench, order, "ended")).reason == "succeeded"


async def test_metrics_are_bounded_as_the_log_is(place: Workplace) -> None:
    print_many = "i=0; while [ $i -lt 3000 ]; do echo '{\"loss\": '$i'}'; i=$((i+1)); done > numbers.jsonl; sleep 2"
    order = place.order(command=["sh", "-c", print_many], metrics=[{"json_lines": "numbers.jsonl"}], log_limit=20_000)
    await place.backend.submit(order)
    await seen(LocalBench(place), order, "ended")
    assert 10_000 < place.files.metrics(order.id).stat().st_size <= 20_000
