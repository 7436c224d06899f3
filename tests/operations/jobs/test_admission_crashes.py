"""The look at jobs with Kueue killed at each single step of what it does, and stories of many jobs with kills and
whatever Kueue may do: every job comes to its end once, no unit is used twice, what has ended never runs again."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import event

from mlmp_spawner.errors import MLMPError, Unavailable
from mlmp_spawner.jobs.base import Order
from mlmp_spawner.kube.job_queues import flavor_name
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.jobs.cancel import cancel
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import GRACE, Job
from mlmp_spawner.units import HOUR, MINUTE, SECOND
from tests.operations.conftest import NOW, ann, eve
from tests.operations.jobs.played_cluster import PlayedCluster
from tests.operations.jobs.test_admission_look import Hall, guaranteed, submitted, willing
from tests.operations.jobs.test_look import units_held

MANY = 200
SEEDS = 4
CAPACITY = {flavor_name("gpu-a"): 4, flavor_name("gpu-b"): 2}


class Killed(BaseException):
    """The process is killed here."""


@dataclass
class MortalCluster(PlayedCluster):
    """The cluster, reached from a process that is killed after some steps: a step is a call that changes something,
    before it or after it was done, or a commit."""

    left: int | None = None

    def step(self, *_: object) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                raise Killed

    async def submit(self, order: Order) -> None:
        self.step()
        await super().submit(order)
        self.step()

    async def cancel(self, attempt: str, *, stop_at: int, kill_at: int) -> None:
        self.step()
        await super().cancel(attempt, stop_at=stop_at, kill_at=kill_at)
        self.step()

    async def forget(self, attempt: str) -> None:
        self.step()
        await super().forget(attempt)
        self.step()

    async def apply(self, objects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        self.step()
        done = await super().apply(objects)
        self.step()
        return done

    async def status(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        self.step()
        done = await super().status(patch)
        self.step()
        return done

    async def change(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        self.step()
        done = await super().change(patch)
        self.step()
        return done

    async def ungate(self, attempt: str) -> None:
        self.step()
        await super().ungate(attempt)
        self.step()


class MortalHall(Hall):
    """Its service is killed now and then, and begins anew."""

    def __init__(self, site: Site, choose=willing, *, now: int = NOW) -> None:  # type: ignore[no-untyped-def]
        super().__init__(site, choose)
        self.mortal = MortalCluster(choose, now=now)
        self.cluster, self.now = self.mortal, now
        self.kills = 0
        self.begin()
        event.listen(site.engine, "commit", self.mortal.step)

    async def look_killed(self, step: int) -> None:
        """A look that is killed at its step, and the service after it."""
        self.mortal.left = step
        self.cluster.pass_time(self.now)
        try:
            await self.queue.tick(self.now)
        except Killed:
            self.kills += 1
            self.begin()
        self.mortal.left = None

    def check(self) -> None:
        """No node has more jobs than units, and nothing runs that is not written."""
        used: dict[str, int] = {}
        for attempt, order in self.cluster.running().items():
            for flavor in self.cluster.node_of(attempt):
                used[flavor] = used.get(flavor, 0) + order.units
        assert all(count <= CAPACITY[flavor] for flavor, count in used.items()), used
        assert len(self.cluster.ran) == len(set(self.cluster.ran)), "an attempt runs once"

    def close(self) -> None:
        event.remove(self.site.engine, "commit", self.mortal.step)


async def life(hall: MortalHall, dies_at: str, step: int) -> Job:
    """A job's life, with the look killed in one part of it."""

    async def look(part: str, looks: int = 4) -> None:
        if part == dies_at:
            await hall.look_killed(step)
        await hall.tick(looks=looks)
        hall.check()

    job = submitted(hall.site, now=hall.now, units=2, group="blue")
    await look("offer", looks=1)
    await look("start")
    assert hall.job(job).state() == "running"
    if dies_at == "preempt":
        start = hall.now + HOUR
        for node, units in (("gpu-a", 4), ("gpu-b", 2)):
            book(
                hall.site, BookingRequest("gpu", start, start + HOUR, units=units, node=node), actor=ann, now=hall.now
            )
        hall.now = start - GRACE
        await look("preempt")
        assert hall.attempt(job).reason == "preempted"
        hall.now = start + HOUR
        await look("")
    if dies_at == "cancel":
        cancel(hall.site, job.id, actor=eve, now=hall.now)
        await look("cancel")
    else:
        hall.now += SECOND
        hall.cluster.now = hall.now
        hall.cluster.end(hall.attempt(job).id)
        await look("end")
    return hall.job(job)


@pytest.mark.parametrize("dies_at", ["offer", "start", "preempt", "cancel", "end"])
async def test_killed_at_any_step_the_next_look_does_the_rest(site: Site, dies_at: str):
    for step in range(1, MANY):
        hall = MortalHall(site, now=NOW + step * 3 * HOUR)
        ended = await life(hall, dies_at, step)
        hall.close()
        assert ended.outcome == ("cancelled" if dies_at == "cancel" else "succeeded")
        assert len(ended.attempts) == (2 if dies_at == "preempt" else 1), ended
        assert units_held(site) == {} and hall.cluster.pods == {} and hall.cluster.kueue.items == {}
        if not hall.kills:
            break
    assert 1 < step < MANY - 1, "there were steps to be killed at, and an end to them"


async def story(site: Site, seed: int) -> None:
    """Jobs of three groups, bookings, Kueue in any order, and a service that is killed again and again."""
    luck = random.Random(seed)
    hall = MortalHall(guaranteed(site, red=2), luck.choice)
    jobs: list[Job] = []
    for _ in range(25):
        hall.now += luck.choice([SECOND, 30 * SECOND, 5 * MINUTE])
        what = luck.random()
        if what < 0.4 and len(jobs) < 8:
            jobs.append(
                submitted(
                    hall.site, luck.choice(["ann", "ben", "eve"]), now=hall.now, units=luck.choice([1, 2]),
                    workers=luck.choice([1, 1, 2]), group=luck.choice(["red", "blue", ""]), length=20 * MINUTE,
                    preemptible=luck.random() < 0.7,
                )
            )  # fmt: skip
        elif what < 0.5:
            start = hall.now + luck.choice([2, 10]) * MINUTE
            wanted = BookingRequest("gpu", start, start + 15 * MINUTE, units=luck.choice([1, 2]))
            with suppress(MLMPError):  # there may be no room
                book(hall.site, wanted, actor=ann, now=hall.now)
        elif what < 0.7 and hall.cluster.running():
            hall.cluster.now = hall.now
            hall.cluster.end(luck.choice(sorted(hall.cluster.running())))
        if luck.random() < 0.4:
            await hall.look_killed(luck.randrange(1, 20))
        else:
            await hall.tick()
        hall.check()
    hall.mortal.choose = hall.mortal.kueue.choose = willing
    for _ in range(200):
        hall.now += 2 * MINUTE
        await hall.tick(looks=3)
        hall.check()
        for attempt in list(hall.cluster.running()):
            hall.cluster.end(attempt)
        if all(hall.job(job).ended_at is not None for job in jobs):
            break
    await hall.tick(looks=2)
    hall.close()
    ended = [hall.job(job) for job in jobs]
    wrong = [one for one in ended if one.outcome != "succeeded" and one.reason != "time_limit"]
    assert not wrong, [_told(one) for one in wrong]
    assert hall.cluster.pods == {} and hall.cluster.kueue.items == {}
    reasons = {attempt.reason for one in ended for attempt in one.attempts}
    assert reasons <= {"succeeded", "preempted", "time_limit", "vanished"}, [_told(one) for one in ended]


def _told(job: Job) -> object:
    """What it was, and what became of it."""
    what = job.group, job.units, job.workers, job.preemptible, job.created_at - NOW
    tried = [(one.nodes, one.starting_at - NOW, one.ended_at, one.reason, one.message) for one in job.attempts]
    return what, job.outcome, job.reason, tried


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_every_job_comes_to_its_end_once_whatever_is_killed(site: Site, seed: int):
    await story(replace(site), seed)


@dataclass
class WithoutKueue(PlayedCluster):
    """A cluster that takes nothing of jobs for a while, since nobody answers for Kueue."""

    away: bool = True

    async def submit(self, order: Order) -> None:
        if self.away:
            raise Unavailable("failed calling webhook")
        await super().submit(order)


async def test_what_the_cluster_did_not_take_while_kueue_was_away_is_offered_again_soon(site: Site):
    hall, job = Hall(site), submitted(site)
    hall.cluster = WithoutKueue(willing, now=NOW)
    hall.begin()
    await hall.tick(looks=3)
    hall.cluster.away = False
    await hall.tick(NOW + 6 * SECOND, looks=3)
    assert hall.job(job).state() == "running"
