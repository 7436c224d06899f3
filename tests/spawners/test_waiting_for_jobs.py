"""A start in a cluster that finds a job on its node which makes way: it waits as long as the job may take."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from mlmp_spawner import units
from mlmp_spawner.kube.outcomes import Waiting
from mlmp_spawner.operations import admission
from mlmp_spawner.spawners import pods, sites
from mlmp_spawner.spawners.kube import MLMPKubeSpawner
from mlmp_spawner.units import MINUTE
from tests.spawners.pod_manifests import GPU, kubeconfig, made

__all__ = ["kubeconfig"]

TAKEN = f"0/2 nodes are available: 1 Insufficient {GPU}, 1 node(s) didn't match Pod's node affinity/selector."
JOBS = "Waiting for ben's job to make way: it saves its work, for 10 min at most"


def unschedulable() -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": TAKEN}
    return {"metadata": {"name": "p", "uid": "1"}, "spec": {}, "status": {"conditions": [condition]}}


class Watching(MLMPKubeSpawner):
    """Sees one pod, and the jobs that it is told of, one look after the other."""

    jobs: list[Waiting | None]
    shown: dict[str, Any]
    looked = 0

    async def see(self) -> bool:
        return True

    @property
    def pod(self) -> dict[str, Any] | None:
        return self.shown

    async def job_in_the_way(self) -> Waiting | None:
        self.looked += 1
        return self.jobs.pop(0) if self.jobs else None


def watching(*jobs: Waiting | None) -> Watching:
    spawner = Watching(config=Config({}), _mock=True)
    spawner.user, spawner._admitted, spawner._resource = made().user, made()._admitted, GPU
    spawner.hub = made().hub
    spawner._events, spawner._created = (), True
    spawner.jobs, spawner.shown = list(jobs), unschedulable()
    spawner.units_timeout = 0
    return spawner


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "LOOK", 0)


def steps(spawner: Watching) -> list[str]:
    return [event["message"].partition(" (")[0] for event in spawner._events]


async def test_it_waits_beyond_the_timeout_for_servers_while_a_job_may_still_save_its_work() -> None:
    job = Waiting((), units.now() + 10 * MINUTE, JOBS)
    spawner = watching(*[job] * 5)
    start = asyncio.ensure_future(spawner._watch())
    while spawner.looked < 50:
        await asyncio.sleep(0)
    assert not start.done(), "the job is gone, and the scheduler gets its time to try again"
    assert steps(spawner) == [JOBS]
    start.cancel()


async def test_when_the_job_is_gone_and_something_else_has_the_units_it_says_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pods, "LOOKS_AGAIN", 0.0)
    monkeypatch.setattr("mlmp_spawner.kube.scheduling.SETTLES", 0.0)
    spawner = watching(Waiting((), units.now() + 10 * MINUTE, JOBS))
    with pytest.raises(Exception, match="something that was not booked here uses it"):
        await spawner._watch()


async def test_a_job_that_stays_past_its_time_is_not_waited_for_without_end() -> None:
    spawner = watching(*[Waiting((), units.now() - 1000, JOBS)] * 1000)
    with pytest.raises(Exception, match=r"Waiting for ben's job to make way.*not yet after"):
        await spawner._watch()


async def test_where_there_is_room_nobody_asks_for_jobs() -> None:
    spawner = watching()
    spawner.shown["status"] = {}
    start = asyncio.ensure_future(spawner._watch())
    for _ in range(20):
        await asyncio.sleep(0)
    start.cancel()
    assert spawner.looked == 0


@pytest.mark.parametrize(("shown", "who"), [(True, "ben's job"), (False, "a job")])
async def test_whose_job_it_is_is_said_where_users_may_know_that(
    shown: bool, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, now = made(), units.now()

    async def answer(_: object) -> admission.WaitingForUnits:
        return admission.WaitingForUnits("ben", now + MINUTE, now=now)

    ours.config.MLMP.show_owners = shown
    monkeypatch.setattr(ours, "_ask", answer)
    found = await ours.job_in_the_way()
    assert found is not None
    assert found.until == now + MINUTE
    assert found.step.startswith(f"Waiting for {who} to make way")


async def test_a_database_that_does_not_answer_leaves_it_to_what_the_cluster_says(tmp_path: Path) -> None:
    one = made()
    catalog = Path(__file__).parents[2] / "profiles" / "examples" / "cluster"
    away = f"postgresql://nobody@/x?host={tmp_path}"
    one.config.MLMP.update(db_url=away, catalog=str(catalog), backend="kubernetes")
    assert await one.job_in_the_way() is None
    sites.source(one._settings()).engine.dispose()
