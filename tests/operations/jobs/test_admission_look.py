"""The look at jobs with Kueue: what waits stands there, what the calendar has no room for does not start."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mlmp_spawner.kube.job_queues import cluster_queue_name, flavor_name, local_queue_name
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.jobs import standing
from mlmp_spawner.operations.jobs.admission_look import KueueStarts
from mlmp_spawner.operations.jobs.cancel import cancel
from mlmp_spawner.operations.jobs.look import Queue
from mlmp_spawner.operations.jobs.losses import START_PATIENCE
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.job_guarantees import FIXED, Tenant
from mlmp_spawner.rules.job_queue import Why
from mlmp_spawner.rules.jobs import GRACE, Job
from mlmp_spawner.rules.nodes import ClusterNode
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY, HOUR, MINUTE, SECOND
from tests.operations.conftest import GPU, NOW, ann, eve
from tests.operations.jobs import queueing
from tests.operations.jobs.played_cluster import PlayedCluster

NODES = [
    ClusterNode(name, cpus=64.0, memory=1 << 40, labels={"kubernetes.io/hostname": name})
    for name in ("gpu-a", "gpu-b")
]
MANIFEST = {"name": "train", "command": ["true"], "checkpoint": "c", "outputs": "o"}


def willing(ways: Sequence[Any]) -> Any:
    """Kueue does the first thing that it can."""
    return ways[1] if ways[0] is None else ways[0]


def submitted(site: Site, owner: str = "eve", *, now: int = NOW, **fields: object) -> Job:
    return queueing.submitted(site, owner, now=now, **{"manifest": MANIFEST, **fields})


class Hall(queueing.Written):
    """A cluster with a queue of jobs, and what runs."""

    def __init__(self, site: Site, choose=willing) -> None:  # type: ignore[no-untyped-def]
        self.site = site
        self.cluster = PlayedCluster(choose, now=NOW)
        self.now = NOW
        self.begin()

    def begin(self) -> None:
        """The service starts anew."""
        starts = KueueStarts(self.cluster, lambda: NODES, "users", half_life=7 * DAY)
        self.queue = Queue(lambda: self.site, self.cluster, starts)

    async def tick(self, now: int | None = None, *, looks: int = 1) -> None:
        """Looks at ``now``, or at the time of the last one, with Kueue doing what it can before each."""
        self.now = self.now if now is None else now
        for _ in range(looks):
            self.cluster.pass_time(self.now)
            await self.queue.tick(self.now)
            assert self.queue.steps.failures == 0
        self.cluster.pass_time(self.now)

    async def run(self, owner: str = "eve", **fields: object) -> Job:
        """A job that runs."""
        job = submitted(self.site, owner, now=self.now, **fields)
        await self.tick(looks=4)
        assert self.job(job).state() == "running", self.job(job)
        return job

    def quotas(self, tenant: Tenant | None = None) -> dict[str, int]:
        """What Kueue was told of each node."""
        name = cluster_queue_name(GPU) if tenant is None else cluster_queue_name(GPU, tenant)
        queue = self.cluster.kueue.queues.get(name)
        return {} if queue is None else {node: queue.quotas[flavor_name(node)] for node in ("gpu-a", "gpu-b")}


def booked(site: Site, actor, start: int, end: int, *, units: int, node: str) -> None:  # type: ignore[no-untyped-def]
    book(site, BookingRequest("gpu", start, end, units=units, node=node), actor=actor, now=start - 1)


async def test_a_job_stands_in_kueue_before_it_is_written_and_runs_once_it_is_let_in(site: Site):
    hall = Hall(site)
    job = submitted(site)
    await hall.tick()
    assert hall.cluster.pods[f"{job.id}-1"].seen.phase == "queued" and hall.job(job).attempts == ()
    await hall.tick(looks=2)
    attempt = hall.attempt(job)
    assert hall.job(job).state() == "running"
    assert (attempt.stop_at, attempt.kill_at) == (NOW + 4 * HOUR, NOW + 4 * HOUR + GRACE)
    assert tuple(map(flavor_name, attempt.nodes)) == hall.cluster.node_of(attempt.id)
    hall.cluster.end(attempt.id)
    await hall.tick(NOW + MINUTE, looks=2)
    assert hall.job(job).outcome == "succeeded" and hall.cluster.pods == {} and hall.cluster.kueue.items == {}


async def test_kueue_gets_a_flavor_for_each_node_with_what_nobody_holds_there(site: Site):
    booked(site, ann, NOW, NOW + HOUR, units=3, node="gpu-a")
    hall = Hall(site)
    submitted(site, units=2)
    await hall.tick()
    assert hall.quotas() == {"gpu-a": 1, "gpu-b": 2}
    kinds = [one["kind"] for one in hall.cluster.applied]
    assert kinds.index("ResourceFlavor") < kinds.index("ClusterQueue") < kinds.index("LocalQueue")
    assert hall.cluster.active, "somebody answers the check"
    await hall.tick(looks=2)
    assert hall.quotas() == {"gpu-a": 0, "gpu-b": 2}, "who waits for nothing is given nothing"
    before = len(hall.cluster.applied)
    await hall.tick(NOW + MINUTE, looks=3)
    assert len(hall.cluster.applied) == before, "only what differs is told"
    await hall.tick(NOW + 10 * MINUTE)
    assert len(hall.cluster.applied) > before, "and all of it now and then, whatever somebody made of it"


async def test_one_that_can_not_start_does_not_ask_and_does_once_it_can(site: Site):
    booked(site, ann, NOW + HOUR, NOW + 2 * HOUR, units=4, node="gpu-a")
    hall = Hall(site)
    job = submitted(site, units=4, preemptible=False)
    await hall.tick(looks=4)
    assert hall.job(job).state() == "queued" and hall.cluster.kueue.items != {}
    assert all(one["metadata"]["annotations"] for one in hall.cluster.kueue.items.values()), "it is gated"
    outlook = hall.queue.outlook(job.id)
    assert outlook is not None and outlook.start == NOW + 2 * HOUR
    await hall.tick(NOW + 2 * HOUR, looks=4)
    assert hall.job(job).state() == "running"


async def test_workers_stand_there_as_one_and_each_runs_where_kueue_has_put_it(site: Site):
    hall = Hall(site, random.Random(1).choice)
    job = submitted(site, workers=3, units=2)
    await hall.tick(looks=30)
    attempt = hall.attempt(job)
    with read(site.engine) as connection:
        places = [place["node"] for place in store.places_of(connection, attempt)]
    assert tuple(map(flavor_name, places)) == hall.cluster.node_of(attempt.id)
    assert sorted(places) == ["gpu-a", "gpu-a", "gpu-b"]


async def test_a_job_that_is_cancelled_while_it_waits_leaves_kueue(site: Site):
    booked(site, ann, NOW, NOW + HOUR, units=4, node="gpu-a")
    hall = Hall(site)
    job = submitted(site, units=4)
    await hall.tick(looks=2)
    assert hall.cluster.pods.keys() == {f"{job.id}-1"}
    cancel(site, job.id, actor=eve, now=NOW)
    await hall.tick(looks=2)
    assert hall.cluster.pods == {} and hall.cluster.kueue.items == {}


async def test_only_the_first_of_a_group_stand_there_and_others_move_up(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(standing, "WINDOW", 2)
    hall = Hall(site)
    jobs = [submitted(site, units=4, now=NOW + n) for n in range(4)]
    other = submitted(site, "ann", group="red", units=4)
    hall.now = NOW + SECOND
    await hall.tick()
    assert hall.cluster.pods.keys() == {f"{one.id}-1" for one in (*jobs[:2], other)}
    cancel(site, other.id, actor=ann, now=hall.now)
    await hall.tick(looks=3)
    (first,) = hall.cluster.running()
    hall.cluster.end(first)
    await hall.tick(NOW + MINUTE, looks=4)
    waiting = [one.order.owner for one in hall.cluster.pods.values() if one.seen.phase == "queued"]
    assert waiting.count("eve") == 2 and first not in hall.cluster.pods


async def test_a_booking_sends_a_job_away_and_it_comes_back_as_another_attempt_in_front(site: Site):
    hall = Hall(site)
    job = await hall.run(units=4)
    start = NOW + HOUR
    book(site, BookingRequest("gpu", start, start + HOUR, units=4, node="gpu-a"), actor=ann, now=NOW)
    await hall.tick(start - GRACE, looks=2)
    assert hall.attempt(job).reason == "preempted" and hall.attempt(job).ended_at is not None
    assert hall.cluster.pods.keys() == {f"{job.id}-2"}
    assert hall.cluster.pods[f"{job.id}-2"].order.priority == "front"
    await hall.tick(start, looks=4)
    assert hall.job(job).state() == "queued" and hall.quotas() == {"gpu-a": 0, "gpu-b": 0}
    await hall.tick(start + HOUR, looks=4)
    assert hall.job(job).state() == "running"


async def test_an_owner_gets_no_more_units_than_he_may_have(site: Site):
    limits = site.catalog.limits.model_copy(
        update={"everybody": site.catalog.limits.everybody.model_copy(update={"job_units": 2})}
    )
    hall = Hall(replace(site, catalog=site.catalog.model_copy(update={"limits": limits})), random.Random(2).choice)
    jobs = [submitted(site) for _ in range(4)]
    for _ in range(30):
        await hall.tick()
        assert len(hall.cluster.running()) <= 2
    assert sum(hall.job(job).state() == "running" for job in jobs) == 2


async def test_an_answer_that_did_not_arrive_is_given_again_and_the_attempt_is_the_same(site: Site):
    hall = Hall(site)
    job = submitted(site)
    hall.cluster.lost_answers = True
    with pytest.raises(Exception, match="lost"):
        await hall.tick(looks=4)
    assert len(hall.job(job).attempts) == 1 and hall.cluster.running() == {}
    hall.cluster.lost_answers = False
    hall.begin()
    await hall.tick(looks=2)
    assert hall.job(job).state() == "running" and len(hall.job(job).attempts) == 1


async def test_what_was_let_in_and_never_arrives_is_the_platforms_failure(site: Site):
    hall = Hall(site)
    job = submitted(site)
    hall.cluster.lost_answers = True
    with pytest.raises(Exception, match="lost"):
        await hall.tick(looks=4)
    (item,) = hall.cluster.kueue.items.values()
    item["status"] = {}  # Kueue was set up anew, and has no quota for it
    hall.cluster.kueue.queues.clear()
    hall.cluster.active = hall.cluster.lost_answers = False
    hall.begin()
    await hall.tick(NOW + START_PATIENCE, looks=3)
    assert [one.reason for one in hall.job(job).attempts] == ["platform", None] and hall.job(job).faults == 1


async def test_what_kueue_can_not_start_is_taken_away_and_offered_again_later(site: Site):
    hall = Hall(site)
    job = submitted(site)
    await hall.tick()
    (item,) = hall.cluster.kueue.items.values()
    item["status"] = {"conditions": [{"type": "Finished", "status": "True", "reason": "FailedToStart"}]}
    await hall.tick()
    assert hall.cluster.pods == {}
    await hall.tick(NOW + 10 * SECOND, looks=3)
    assert hall.cluster.pods == {}, "not again and again"
    await hall.tick(NOW + 2 * MINUTE, looks=4)
    assert hall.job(job).state() == "running"


async def test_what_somebody_else_deactivates_ends_and_is_tried_again(site: Site):
    hall = Hall(site)
    job = await hall.run()
    hall.cluster._deactivate(hall.cluster.pods[f"{job.id}-1"])
    await hall.tick(NOW + MINUTE, looks=3)
    assert hall.job(job).attempts[0].reason == "vanished" and hall.job(job).faults == 1


async def test_a_failed_worker_counts_though_kueue_is_told_to_end_the_others(site: Site):
    hall = Hall(site)
    hall.cluster.polite = False
    job = await hall.run(workers=2)
    hall.cluster._deactivate(hall.cluster.pods[f"{job.id}-1"])  # as a back-end does when one of them has failed
    await hall.tick(NOW + SECOND, looks=2)
    hall.cluster.end(f"{job.id}-1", "exit_status", 1)
    await hall.tick(looks=2)
    assert (hall.job(job).outcome, hall.job(job).reason, hall.job(job).exit_status) == ("failed", "exit_status", 1)


async def test_a_cluster_that_does_not_answer_changes_nothing(site: Site):
    hall = Hall(site)
    job = await hall.run()
    hall.cluster.silent = True
    with pytest.raises(Exception, match="does not answer"):
        await hall.tick(NOW + MINUTE)
    hall.cluster.silent = False
    await hall.tick(NOW + 2 * MINUTE, looks=2)
    assert hall.job(job).state() == "running" and len(hall.job(job).attempts) == 1


# -- who is guaranteed units ---------------------------------------------------------------------------------------


def guaranteed(site: Site, **units: int) -> Site:
    return replace(site, job_guarantees={group: {GPU: count} for group, count in units.items()})


async def test_what_a_group_leaves_unused_others_borrow_and_it_gets_it_back(site: Site):
    hall = Hall(guaranteed(site, red=2))
    jobs = [submitted(site, "ann", units=2, group="blue") for _ in range(3)]
    await hall.tick(looks=5)
    assert [hall.job(job).state() for job in jobs] == ["running"] * 3, "all there is, the guaranteed units too"
    wants = submitted(site, "eve", units=2, group="red")
    await hall.tick(NOW + MINUTE, looks=8)
    assert hall.job(wants).state() == "running"
    away = [job for job in jobs if len(hall.job(job).attempts) == 1 and hall.attempt(job).ended_at is not None]
    assert len(away) == 1 and hall.attempt(away[0]).reason == "preempted" and hall.job(away[0]).state() == "queued"
    assert hall.job(away[0]).faults == 0 and hall.job(away[0]).front
    await hall.tick(NOW + 2 * MINUTE, looks=8)
    assert len(hall.cluster.running()) == 3 and hall.cluster.ran.count(f"{wants.id}-1") == 1, "nobody goes in circles"


async def test_the_units_of_one_that_is_sent_away_are_kept_until_it_had_its_grace(site: Site):
    hall = Hall(guaranteed(site, red=4))
    hall.cluster.polite = False
    old = await hall.run("ann", units=4, group="blue")
    wants = submitted(site, "eve", units=4, group="red")
    await hall.tick(NOW + MINUTE, looks=6)
    assert hall.job(old).state() == "stopping" and hall.job(wants).state() == "queued"
    other = submitted(site, "ben", units=4, group="green")
    await hall.tick(NOW + MINUTE + GRACE, looks=6)
    assert hall.attempt(old).reason == "preempted" and hall.job(wants).state() == "running"
    assert hall.job(other).state() == "queued"


async def test_no_more_are_sent_away_than_those_whose_units_are_taken_back(site: Site):
    hall = Hall(guaranteed(site, red=2))
    hall.cluster.polite = False
    old = [submitted(site, "ann", group="blue") for _ in range(6)]
    await hall.tick(looks=5)
    assert len(hall.cluster.running()) == 6
    wants = [submitted(site, "eve", group="red") for _ in range(2)]
    await hall.tick(NOW + MINUTE, looks=8)
    await hall.tick(NOW + MINUTE + GRACE, looks=8)
    assert [hall.job(job).state() for job in wants] == ["running", "running"]
    assert sum(hall.job(job).attempts[0].ended_at is not None for job in old) == 2


async def test_beyond_what_it_is_guaranteed_a_group_sends_nobody_away(site: Site):
    hall = Hall(guaranteed(site, red=2))
    jobs = [submitted(site, "ann", units=2, group="blue") for _ in range(3)]
    await hall.tick(looks=5)
    more = [submitted(site, "eve", units=2, group="red") for _ in range(2)]
    await hall.tick(NOW + MINUTE, looks=10)
    assert sorted(hall.job(job).state() for job in more) == ["queued", "running"]
    assert sum(hall.job(job).state() == "running" for job in jobs) == 2


async def test_what_is_not_preemptible_is_never_sent_away(site: Site):
    hall = Hall(guaranteed(site, red=2))
    steady = [submitted(site, "ann", units=2, group="blue", preemptible=False) for _ in range(3)]
    await hall.tick(looks=6)
    running = [job for job in steady if hall.job(job).state() == "running"]
    assert len(running) == 2, "what is guaranteed is not given to what would not leave"
    (waits,) = (job for job in steady if job not in running)
    outlook = hall.queue.outlook(waits.id)
    assert outlook is not None and outlook.why == Why("turn")
    assert sum(hall.quotas(FIXED).values()) == 4
    loose = submitted(site, "ben", units=2, group="blue")
    await hall.tick(NOW + MINUTE, looks=6)
    assert hall.job(loose).state() == "running"
    wants = submitted(site, "eve", units=2, group="red")
    await hall.tick(NOW + 2 * MINUTE, looks=10)
    assert hall.job(wants).state() == "running" and hall.attempt(loose).reason == "preempted"
    assert [hall.job(job).state() for job in running] == ["running", "running"]


async def test_who_is_guaranteed_units_from_now_on_stands_in_another_queue(site: Site):
    booked(site, ann, NOW, NOW + HOUR, units=4, node="gpu-a")
    booked(site, ann, NOW, NOW + HOUR, units=2, node="gpu-b")
    hall = Hall(site)
    job = submitted(site, group="red")
    await hall.tick(looks=2)
    hall.site = guaranteed(site, red=2)
    hall.begin()
    await hall.tick(looks=3)
    own = local_queue_name(GPU, "red", Tenant("own", "red"))
    assert hall.cluster.pods[f"{job.id}-1"].order.queue == own
    await hall.tick(NOW + HOUR, looks=4)
    assert hall.job(job).state() == "running"


async def test_the_queue_of_a_guarantee_that_was_taken_back_has_no_quota_any_more(site: Site):
    hall = Hall(guaranteed(site, red=2))
    job = await hall.run(group="red", units=2)
    own = Tenant("own", "red")
    assert sum(hall.quotas(own).values()) == 2
    hall.site = site
    hall.begin()
    waits = submitted(site, "ann", group="red", units=4, now=hall.now)
    await hall.tick(looks=6)
    assert hall.cluster.kueue.queues[cluster_queue_name(GPU, own)].quotas == {}
    assert hall.job(job).state() == "running" and len(hall.job(job).attempts) == 1, "what runs goes on"
    assert hall.job(waits).state() in ("running", "queued")
    hall.cluster.end(hall.attempt(job).id)
    await hall.tick(NOW + MINUTE, looks=6)
    assert hall.job(waits).state() == "running"
