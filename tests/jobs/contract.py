"""What every back-end has to do, whatever it runs jobs on: one suite for all.

A back-end's own test module subclasses :class:`BackendContract` and gives a fixture ``bench``: the back-end, and what
the suite can't know of it. The times are those of the real clock, since processes run by it; nothing waits longer than
it must.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlmp_spawner import units
from mlmp_spawner.jobs.base import Backend, LogPart, Order, Seen
from mlmp_spawner.units import HOUR, SECOND

PATIENCE = 120.0
"""Seconds: reached only where something is broken."""


@dataclass(frozen=True)
class Asked:
    """What a new attempt is to run: ``sh -c script``, or ``command``. ``stop_in``: ms from now."""

    script: str
    stop_in: int = HOUR
    grace: int = 10 * SECOND
    environment: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    log_limit: int = 1 << 20

    @property
    def said(self) -> dict[str, Any]:
        """What of it a manifest says."""
        return {"command": self.command or ["sh", "-c", self.script], "environment": self.environment}


class Bench(ABC):
    """A back-end under test. ``backend``: it, connected anew after :meth:`restart`."""

    backend: Backend

    async def order(self, script: str, **more: Any) -> Order:
        """An order for a new attempt. ``more``: of :class:`Asked`."""
        return await self.written(Asked(script, **more))

    @abstractmethod
    async def written(self, asked: Asked) -> Order:
        """The order, with all written that the back-end reads of the attempt."""

    @abstractmethod
    async def restart(self) -> None:
        """Everything of the service's is killed, and begins anew; what runs runs on."""

    @abstractmethod
    def running(self, order: Order) -> int:
        """How many processes of the attempt are left, seen past the back-end."""


def running_here(order: Order) -> int:
    """:meth:`Bench.running` for what runs on this machine: by the environment of each process."""
    marks = {f"MLMP_JOB_ID={order.job}".encode(), f"MLMP_JOB_ATTEMPT={order.number}".encode()}
    found = 0
    for entry in os.scandir("/proc"):
        with suppress(OSError):
            found += entry.name.isdecimal() and marks <= set(Path(entry.path, "environ").read_bytes().split(b"\0"))
    return found


async def eventually(ask: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Asks until there is an answer."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if answer := await ask():
            return answer
        await asyncio.sleep(0.02)
    raise AssertionError(f"never: {what}")


async def seen(bench: Bench, order: Order, *phases: str) -> Seen:
    """The attempt, once it is in one of these phases."""

    async def ask() -> Seen | None:
        found = await bench.backend.state(order.id)
        return found if found is not None and found.phase in phases else None

    found: Seen = await eventually(ask, f"{order.id} is {' or '.join(phases)}")
    return found


async def printed(bench: Bench, order: Order, text: bytes) -> bytes:
    """The log, once ``text`` is in it."""

    async def ask() -> bytes | None:
        data = (await bench.backend.logs(order.id, 0, 1 << 20)).data
        return data if text in data else None

    found: bytes = await eventually(ask, f"{text!r} in the log of {order.id}")
    return found


async def gone(bench: Bench, order: Order) -> None:
    """Returns when nothing of it runs."""

    async def ask() -> bool:
        return bench.running(order) == 0

    await eventually(ask, f"nothing of {order.id} runs")


async def whole_log(bench: Bench, order: Order) -> LogPart:
    """The log, once nothing will be added."""

    async def ask() -> LogPart | None:
        part = await bench.backend.logs(order.id, 0, 16 << 20)
        return part if part.complete else None

    part: LogPart = await eventually(ask, f"the log of {order.id} is complete")
    return part


POLITE = "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done"
STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"


class BackendContract:
    """The suite."""

    # -- one attempt -----------------------------------------------------------------------------------------------

    async def test_it_runs_and_what_it_printed_is_kept(self, bench: Bench):
        order = await bench.order("echo out; echo err >&2")
        before = units.now()
        await bench.backend.submit(order)
        ended = await seen(bench, order, "ended")
        assert (ended.id, ended.reason, ended.exit_status) == (order.id, "succeeded", 0)
        assert ended.started_at is not None and ended.ended_at is not None
        assert before - SECOND <= ended.started_at <= ended.ended_at <= units.now() + SECOND
        log = await whole_log(bench, order)
        assert sorted(log.data.splitlines()) == [b"err", b"out"]
        assert (log.start, log.end, log.size, log.cut) == (0, 8, 8, 0)
        assert bench.running(order) == 0

    async def test_what_it_prints_is_there_while_it_runs(self, bench: Bench):
        order = await bench.order(POLITE)
        await bench.backend.submit(order)
        assert await printed(bench, order, b"up") == b"up\n"
        running = await seen(bench, order, "running")
        assert running.started_at is not None and running.reason is None and bench.running(order)
        assert not (await bench.backend.logs(order.id, 0, 100)).complete
        await self.end(bench, order)

    async def test_its_exit_status_and_the_signal_that_ended_it_are_told(self, bench: Bench):
        failing, killed = await bench.order("exit 7"), await bench.order("kill -KILL $$")
        for order in (failing, killed):
            await bench.backend.submit(order)
        ended = await seen(bench, failing, "ended")
        assert (ended.reason, ended.exit_status) == ("exit_status", 7)
        assert (await seen(bench, killed, "ended")).reason == "signal"

    async def test_a_program_that_is_not_there_says_so(self, bench: Bench):
        order = await bench.order("", command=["/nowhere/to-be-found"])
        await bench.backend.submit(order)
        ended = await seen(bench, order, "ended")
        assert ended.reason == "start" and "/nowhere/to-be-found" in ended.message

    async def test_it_knows_what_it_is_and_its_secrets_show_nowhere(self, bench: Bench):
        order = await bench.order(
            'echo "$MLMP_JOB_ID $MLMP_JOB_ATTEMPT $COLOUR ${#TOKEN}"',
            environment={"COLOUR": "blue"}, secrets={"TOKEN": "s3cret"},
        )  # fmt: skip
        await bench.backend.submit(order)
        ended = await seen(bench, order, "ended")
        assert (await whole_log(bench, order)).data.decode().split() == [order.job, str(order.number), "blue", "6"]
        assert "s3cret" not in repr(order) + repr(ended) + repr(await bench.backend.list())

    async def test_nothing_that_it_started_outlives_it(self, bench: Bench):
        order = await bench.order("setsid sh -c 'trap \"\" TERM HUP; sleep 1000' & sleep 1000 & echo up; exit 0")
        await bench.backend.submit(order)
        assert (await seen(bench, order, "ended")).reason == "succeeded"
        assert bench.running(order) == 0

    # -- once ------------------------------------------------------------------------------------------------------

    async def test_submitted_many_times_it_runs_once(self, bench: Bench):
        order = await bench.order(f"echo began; {POLITE}")
        await asyncio.gather(*(bench.backend.submit(order) for _ in range(5)))
        await printed(bench, order, b"up")
        await bench.backend.submit(order)
        await self.end(bench, order)
        assert (await whole_log(bench, order)).data.count(b"began") == 1

    async def test_submitted_after_its_end_it_does_not_begin_again(self, bench: Bench):
        order = await bench.order("echo began; exit 3")
        await bench.backend.submit(order)
        ended = await seen(bench, order, "ended")
        await bench.backend.submit(order)
        assert await bench.backend.state(order.id) == ended
        assert (await whole_log(bench, order)).data == b"began\n"

    async def test_what_runs_outlives_the_service_which_finds_it_again(self, bench: Bench):
        order = await bench.order(POLITE)
        await bench.backend.submit(order)
        await printed(bench, order, b"up")
        before = await seen(bench, order, "running")
        await bench.restart()
        assert await seen(bench, order, "running") == before
        await bench.backend.submit(order)
        await self.end(bench, order)
        assert (await whole_log(bench, order)).data == b"up\nsaved\n"

    # -- the end ---------------------------------------------------------------------------------------------------

    async def end(self, bench: Bench, order: Order) -> Seen:
        now = units.now()
        await bench.backend.cancel(order.id, stop_at=now, kill_at=now + order.grace)
        ended = await seen(bench, order, "ended")
        assert ended.ended_at is not None and ended.ended_at >= now, "that it was told to end is to be seen"
        return ended

    async def test_told_to_end_it_gets_its_grace(self, bench: Bench):
        order = await bench.order(f"{POLITE}", grace=60 * SECOND)
        await bench.backend.submit(order)
        await printed(bench, order, b"up")
        await self.end(bench, order)
        assert (await whole_log(bench, order)).data == b"up\nsaved\n"

    async def test_a_file_tells_that_it_is_to_end(self, bench: Bench):
        order = await bench.order(
            "trap '' TERM; echo up; until test -s \"$MLMP_STOP_FILE\"; do sleep 0.05; done; cat \"$MLMP_STOP_FILE\"",
            grace=60 * SECOND,
        )  # fmt: skip
        await bench.backend.submit(order)
        await printed(bench, order, b"up")
        await self.end(bench, order)
        told = json.loads((await whole_log(bench, order)).data.removeprefix(b"up\n"))
        assert told["reason"] and 0 < told["seconds_left"] <= 60 and told["kill_at"]

    async def test_who_ignores_it_is_gone_at_kill_at(self, bench: Bench):
        order = await bench.order(STUBBORN, grace=2 * SECOND)
        await bench.backend.submit(order)
        await printed(bench, order, b"up")
        ended = await self.end(bench, order)
        assert ended.reason != "succeeded" and bench.running(order) == 0

    async def test_it_ends_at_its_time_though_nobody_says_so(self, bench: Bench):
        order = await bench.order(POLITE, stop_in=3 * SECOND, grace=30 * SECOND)
        await bench.backend.submit(order)
        ended = await seen(bench, order, "ended")
        assert ended.ended_at is not None and ended.ended_at >= order.stop_at

    async def test_its_end_only_ever_comes_nearer(self, bench: Bench):
        order = await bench.order(POLITE)
        await bench.backend.submit(order)
        await printed(bench, order, b"up")
        near = units.now() + 2 * SECOND
        await bench.backend.cancel(order.id, stop_at=near, kill_at=near + order.grace)
        await bench.backend.cancel(order.id, stop_at=near + HOUR, kill_at=near + 2 * HOUR)
        ended = await seen(bench, order, "ended")
        assert ended.ended_at is not None and ended.ended_at >= near

    async def test_told_its_own_times_again_it_runs_on(self, bench: Bench):
        order = await bench.order(POLITE)
        await bench.backend.submit(order)
        await bench.backend.cancel(order.id, stop_at=order.stop_at, kill_at=order.kill_at)
        await printed(bench, order, b"up")
        assert (await seen(bench, order, "running", "ended")).phase == "running"
        await self.end(bench, order)

    async def test_what_is_gone_or_was_never_there_can_be_told_to_end(self, bench: Bench):
        order = await bench.order("exit 0")
        await bench.backend.cancel(order.id, stop_at=0, kill_at=1)
        assert await bench.backend.state(order.id) is None
        await bench.backend.submit(order)
        ended = await seen(bench, order, "ended")
        await bench.backend.cancel(order.id, stop_at=0, kill_at=1)
        assert await bench.backend.state(order.id) == ended

    # -- all of them -----------------------------------------------------------------------------------------------

    async def test_it_lists_what_it_knows_until_that_is_forgotten(self, bench: Bench):
        short, long = await bench.order("echo kept"), await bench.order(POLITE)
        for order in (short, long):
            await bench.backend.submit(order)
        ended = await seen(bench, short, "ended")
        await printed(bench, long, b"up")
        listed = await bench.backend.list()
        assert listed[short.id] == ended and listed[long.id].phase == "running"
        await bench.backend.forget(short.id)
        await bench.backend.forget(short.id)
        assert short.id not in await bench.backend.list()
        assert (await bench.backend.logs(short.id, 0, 100)).data == b"kept\n", "its log is for the service to remove"
        await self.end(bench, long)

    # -- logs ------------------------------------------------------------------------------------------------------

    async def test_a_log_is_read_in_parts_and_from_its_end(self, bench: Bench):
        order = await bench.order("printf 0123456789")
        await bench.backend.submit(order)
        await whole_log(bench, order)

        async def part(start: int, limit: int) -> tuple[bytes, int, int, int]:
            found = await bench.backend.logs(order.id, start, limit)
            return found.data, found.start, found.end, found.size

        assert await part(2, 3) == (b"234", 2, 5, 10)
        assert await part(-3, 100) == (b"789", 7, 10, 10)
        assert await part(-100, 2) == (b"01", 0, 2, 10)
        assert await part(10, 5) == (b"", 10, 10, 10)
        assert await part(99, 5) == (b"", 10, 10, 10)

    async def test_who_prints_too_much_runs_on_and_what_was_left_out_is_told(self, bench: Bench):
        order = await bench.order("head -c 3000000 /dev/zero | tr '\\0' x; echo; exit 5", log_limit=100_000)
        await bench.backend.submit(order)
        ended = await seen(bench, order, "ended")
        assert ended.exit_status == 5
        log = await whole_log(bench, order)
        assert log.cut > 0 and log.size <= 120_000 and log.data.startswith(b"xxx")

    async def test_of_what_is_unknown_there_is_nothing(self, bench: Bench):
        order = await bench.order("exit 0")
        assert await bench.backend.state(order.id) is None
        part = await bench.backend.logs(order.id, 0, 100)
        assert (part.data, part.size) == (b"", 0)
        await bench.backend.forget(order.id)
