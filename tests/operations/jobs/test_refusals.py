"""What a cluster does not take, or never ends, of one job is in no other's way, and its owner reads why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from mlmp_spawner.errors import MLMPError, NotAllowed, NotTaken, Unavailable
from mlmp_spawner.jobs.base import Order
from mlmp_spawner.kube import job_queues
from mlmp_spawner.kube.workloads import Workload
from mlmp_spawner.operations import catalog_sync
from mlmp_spawner.operations.jobs import standing
from mlmp_spawner.operations.jobs.look import SOON
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Accelerator, LimitRules, Limits, Node, Profile
from mlmp_spawner.rules.job_queue import Why
from mlmp_spawner.rules.jobs import GRACE, Job
from mlmp_spawner.units import DAY, HOUR, MINUTE, SECOND
from tests.operations.conftest import NOW
from tests.operations.jobs import test_admission_look
from tests.operations.jobs.played_cluster import PlayedCluster
from tests.operations.jobs.test_admission_look import NODES, Hall, submitted, willing

AMD = "amd.com/gpu"
SLOT = "mlmp.dev/slot"
NO = NotTaken("The cluster refuses: 403 exceeded quota")


@dataclass
class Choosy(PlayedCluster):
    """Of some jobs it takes nothing. ``refuses``: by their ids the error; ``offers``: whether it takes their objects.

    ``hangs``: nothing of a job ends, whatever it is told. ``lazy``: Kueue is away, and makes no Workload.
    """

    refuses: dict[str, MLMPError] = field(default_factory=dict)
    offers: bool = True
    hangs: bool = False
    lazy: bool = False
    ungated: int = 0

    def meet(self, attempt: str) -> None:
        error = self.refuses.get(attempt.rpartition("-")[0])
        if error is not None:
            raise error

    async def submit(self, order: Order) -> None:
        if not self.offers:
            self.meet(order.id)
        await super().submit(order)

    async def status(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        if patch["kind"] == "Workload":
            self.meet(next(name for name, one in self.pods.items() if one.item == patch["metadata"]["name"]))
        return await super().status(patch)

    async def ungate(self, attempt: str) -> None:
        self.ungated += 1
        await super().ungate(attempt)

    async def workloads(self) -> list[Workload]:
        return [] if self.lazy else await super().workloads()

    def pass_time(self, now: int) -> None:
        if self.hangs:
            self.now = self.kueue.now = now
            self.kueue.reserve()
        else:
            super().pass_time(now)


class ChoosyHall(Hall):
    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.choosy = self.cluster = Choosy(willing, now=NOW)
        self.begin()

    def why(self, job: Job) -> Why | None:
        outlook = self.queue.outlook(job.id)
        return None if outlook is None else outlook.why


async def test_what_is_refused_of_one_job_stops_no_other(site: Site):
    hall = ChoosyHall(site)
    bad, good = submitted(site, now=NOW - 1), submitted(site)
    hall.choosy.refuses[bad.id] = NO
    await hall.tick(looks=6)
    assert hall.job(good).state() == "running" and hall.job(bad).state() == "starting"
    hall.choosy.refuses.clear()
    await hall.tick(NOW + SECOND, looks=2)
    assert hall.job(bad).state() == "running"


async def test_what_is_not_answered_of_one_job_stops_no_other_and_the_look_says_so(site: Site):
    hall = ChoosyHall(site)
    bad, good = submitted(site, now=NOW - 1), submitted(site)
    hall.choosy.refuses[bad.id] = Unavailable("It can't answer just now.")
    with pytest.raises(Unavailable, match="just now"):
        await hall.tick(looks=6)
    hall.cluster.pass_time(NOW)
    with pytest.raises(Unavailable, match="just now"):
        await hall.tick()
    assert hall.job(good).state() == "running" and hall.job(bad).state() == "starting"


async def test_where_nothing_is_answered_the_look_does_not_ask_on_for_long(site: Site):
    hall = ChoosyHall(site)
    jobs = [submitted(site) for _ in range(6)]
    hall.choosy.refuses.update({job.id: Unavailable("It can't answer just now.") for job in jobs})
    with pytest.raises(Unavailable):
        await hall.tick(looks=4)
    assert sum(hall.job(job).state() == "starting" for job in jobs) == 3


async def test_where_kueue_can_not_tell_so_many_nodes_apart_it_is_said_of_those_jobs_and_others_start(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    amd = Accelerator(resource=AMD, count=2, model="MI300", unit_ids=("0", "1"))
    old = site.catalog.nodes
    both = {name: one.model_copy(update={"accelerators": (*one.accelerators, amd)}) for name, one in old.items()}
    nodes = both | {"amd-c": Node(name="amd-c", accelerators=(amd,))}
    other = Profile(name="amd", title="MI300", resource=AMD, units=1, max_duration=DAY)
    profiles = {**site.catalog.profiles, "amd": other}
    site = replace(site, catalog=site.catalog.model_copy(update={"nodes": nodes, "profiles": profiles}))
    catalog_sync.sync(site, now=NOW)
    monkeypatch.setattr(job_queues, "MOST_NODES", 2)
    monkeypatch.setattr(test_admission_look, "NODES", [*NODES, replace(NODES[0], name="amd-c", labels={})])
    hall = ChoosyHall(site)
    bad, good = submitted(site, profile="amd", resource=AMD), submitted(site)
    await hall.tick(looks=4)
    why = hall.why(bad)
    assert why is not None and why.code == "refused" and "2 nodes at most" in why.said
    assert hall.job(good).state() == "running"
    monkeypatch.setattr(job_queues, "MOST_NODES", 3)
    await hall.tick(NOW + SECOND, looks=4)
    assert hall.job(bad).state() == "running"


@pytest.mark.parametrize("error", [NO, NotAllowed("Your home can't be made.")])
async def test_a_job_whose_objects_are_refused_says_why_and_is_offered_again(site: Site, error: MLMPError):
    hall = ChoosyHall(site)
    job, other = submitted(site), submitted(site)
    hall.choosy.offers, hall.choosy.refuses = False, {job.id: error}
    await hall.tick(looks=5)
    assert hall.why(job) == Why("refused", said=error.detail) and hall.job(other).state() == "running"
    hall.choosy.refuses.clear()
    await hall.tick(NOW + MINUTE, looks=5)
    assert hall.job(job).state() == "running"


async def test_why_a_job_was_refused_is_one_line_of_bounded_length(site: Site):
    hall = ChoosyHall(site)
    job = submitted(site)
    hall.choosy.offers, hall.choosy.refuses = False, {job.id: NotTaken("a\nb" * 10_000)}
    await hall.tick(looks=2)
    why = hall.why(job)
    assert why is not None and "\n" not in why.said and len(why.said) <= 300


async def test_while_kueue_is_away_a_job_is_told_once_a_minute_that_it_may_ask(site: Site):
    hall = ChoosyHall(site)
    hall.choosy.lazy = True
    submitted(site)
    await hall.tick(looks=3)
    for second in range(1, 50):
        await hall.tick(NOW + second * SECOND)
    assert hall.choosy.ungated == 1
    assert await hall.queue.tick(hall.now) > hall.now + SOON, "nothing is about to happen"
    await hall.tick(NOW + 2 * MINUTE, looks=3)
    assert hall.choosy.ungated == 2


async def test_who_has_all_units_he_may_have_keeps_none_of_his_group_from_the_queue(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(standing, "WINDOW", 3)
    limited = LimitRules(everybody=Limits(job_units=2))
    hall = ChoosyHall(replace(site, catalog=site.catalog.model_copy(update={"limits": limited})))
    first = await hall.run("ann", group="red", length=HOUR)
    await hall.run("ben", group="red", length=4 * HOUR)  # who uses more, and so has later turns
    greedy = [submitted(site, "ann", group="red", units=2, length=HOUR // 6, now=NOW + n) for n in range(5)]
    other = submitted(site, "ben", group="red", now=NOW + 9)
    await hall.tick(NOW + MINUTE, looks=4)
    assert hall.job(other).state() == "running"
    assert len(hall.cluster.pods) == 3 + 3, "the others have what room is left"
    hall.cluster.end(hall.attempt(first).id)
    await hall.tick(NOW + 2 * MINUTE, looks=4)
    assert hall.job(greedy[0]).state() == "running"


async def test_units_of_a_pod_that_does_not_end_are_given_to_no_other_job(site: Site):
    hall = ChoosyHall(site)
    stuck = await hall.run(units=4, length=HOUR)
    hall.choosy.hangs = True
    waits = submitted(site, "ann", units=4)
    late = hall.attempt(stuck).kill_at
    for now in (NOW + HOUR, late, late + MINUTE, late + HOUR):
        await hall.tick(now, looks=4)
        assert hall.job(waits).attempts == () and hall.quotas()["gpu-a"] == 0
    assert hall.job(stuck).state() == "stopping"
    hall.choosy.hangs = False
    hall.cluster.end(hall.attempt(stuck).id)
    await hall.tick(late + HOUR + GRACE, looks=4)
    assert hall.job(stuck).state() == "ended" and hall.job(waits).state() == "running"


async def test_a_job_on_units_of_mlmps_own_waits_and_says_why_until_the_cluster_counts_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    slots = Accelerator(resource=SLOT, count=8)
    nodes = {name: one.model_copy(update={"accelerators": (*one.accelerators, slots)})
             for name, one in site.catalog.nodes.items()}  # fmt: skip
    profiles = {**site.catalog.profiles, "cpu": Profile(name="cpu", title="CPU", resource=SLOT, max_duration=DAY)}
    site = replace(site, catalog=site.catalog.model_copy(update={"nodes": nodes, "profiles": profiles}))
    catalog_sync.sync(site, now=NOW)
    hall = ChoosyHall(site)
    on_slots, on_gpus = submitted(site, profile="cpu", resource=SLOT), submitted(site)
    await hall.tick(looks=4)
    why = hall.why(on_slots)
    assert why is not None and why.code == "refused" and "jobs.declareUnits" in why.said
    assert hall.job(on_slots).attempts == () and hall.job(on_gpus).state() == "running"
    monkeypatch.setattr(test_admission_look, "NODES", [replace(one, units={SLOT: 8}) for one in NODES])
    await hall.tick(NOW + SECOND, looks=4)
    assert hall.job(on_slots).state() == "running"
