"""Scans: all jobs or none, no more at once than was said, the failed again, all cancelled; on both databases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner.errors import Conflict, Invalid, NotAllowed, OverLimit
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations.jobs import keeping, scans
from mlmp_spawner.operations.jobs.scans import Wish
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import LimitRules, Limits
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store import scans as scan_store
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import HOUR
from tests.operations.conftest import NOW, ann, ben
from tests.operations.jobs.queueing import Shop, submitted

COMMAND = {"profile": "gpu", "command": ["train"], "hours": 1}


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    made = JobFiles(tmp_path / "jobs")
    made.prepare()
    return made


@pytest.fixture
def shop(site: Site) -> Shop:
    return Shop(site)


def wish(parameters: Any = None, **more: Any) -> Wish:
    return Wish(**{"manifest": COMMAND, "parameters": parameters or {"lr": [0.1, 0.01], "bs": [1, 2]}} | more)


def states(site: Site, scan: str) -> list[str]:
    return [one.outcome or one.state() if one else "gone" for one in scans.get(site, scan, actor=ann).last]


def end(site: Site, job: Job | None, outcome: str, *, at: int = NOW) -> None:
    """As the queue does it."""
    assert job is not None
    with transaction(site.engine) as connection:
        now = store.find(connection, job.id)
        assert now is not None
        if now.live:
            store.update_attempt(connection, now.live, ended_at=at, reason="exit_status")
        store.update_job(connection, now, ended_at=at, outcome=outcome, reason="exit_status")


def test_each_row_is_a_job_with_its_values_and_its_own_outputs(site: Site, files: JobFiles):
    made = scans.submit(site, wish(out="runs/lr={lr}/bs={bs}"), files=files, actor=ann, now=NOW)
    assert scans.get(site, made.scan.id, actor=ann) == made
    jobs = [one for one in made.last if one]
    assert [one.place for one in jobs] == [0, 1, 2, 3] and {one.batch for one in jobs} == {made.scan.id}
    assert jobs[1].manifest["command"] == ["train", "--lr", "0.1", "--bs", "2"]
    assert jobs[3].manifest["outputs"] == "runs/lr=0.01/bs=2" and jobs[3].name == "train-4"
    assert [one.scan.id for one in scans.mine(site, "ann")] == [made.scan.id] and scans.mine(site, "ben") == []


def test_a_notebook_gets_its_row_as_parameters_and_a_shells_text_is_refused():
    notebook = {"profile": "gpu", "notebook": "a.ipynb", "parameters": {"epochs": 3}}
    assert scans.planned(wish({"lr": [0.1]}, manifest=notebook))[1][0].parameters == {"epochs": 3, "lr": 0.1}
    with pytest.raises(Invalid, match="write the command as a list"):
        scans.planned(wish(manifest={**COMMAND, "command": "train | tee log"}))
    with pytest.raises(Invalid, match="outputs"):
        scans.planned(wish(out="/etc/{lr}-{bs}"))


def test_a_scan_that_is_too_large_for_the_limits_leaves_nothing_behind(site: Site, files: JobFiles):
    rules = LimitRules(everybody=Limits(open_jobs=3))
    small = replace(site, catalog=site.catalog.model_copy(update={"limits": rules}))
    with pytest.raises(OverLimit, match="At most 3 jobs may be open at once: 0 are, and this asks for 4 more"):
        scans.submit(small, wish(), files=files, actor=ann, now=NOW)
    assert scans.mine(site, "ann") == []
    with read(site.engine) as connection:
        assert store.open_jobs(connection) == []


def test_a_repeated_request_submits_once(site: Site, files: JobFiles):
    first, second = (
        scans.submit(site, wish(), files=files, actor=ann, now=NOW, idempotency_key="k") for _ in range(2)
    )
    assert first.scan == second.scan and len(scans.mine(site, "ann")) == 1
    with pytest.raises(Conflict, match="another request"):
        scans.submit(site, wish({"x": [1]}), files=files, actor=ann, now=NOW, idempotency_key="k")


async def test_no_more_run_at_once_than_was_said_and_the_next_row_follows(site: Site, files: JobFiles, shop: Shop):
    made = scans.submit(site, wish(at_once=2), files=files, actor=ann, now=NOW)
    await shop.tick(NOW)
    await shop.tick()
    assert states(site, made.scan.id) == ["running", "running", "queued", "queued"]
    first, third = made.last[0], made.last[2]
    assert first and third
    outlook = shop.queue.outlook(third.id)
    assert outlook and (outlook.why.code, outlook.why.quota) == ("scan", 2)
    shop.backend.end(shop.attempt(first).id)
    await shop.tick(NOW + 10_000)
    await shop.tick()
    assert states(site, made.scan.id)[:2] == ["succeeded", "running"] and states(site, made.scan.id)[3] == "queued"
    assert states(site, made.scan.id)[2] in ("starting", "running")


async def test_others_with_the_same_batch_are_no_part_of_it(site: Site, files: JobFiles, shop: Shop):
    made = scans.submit(site, wish({"x": [1]}, at_once=1), files=files, actor=ann, now=NOW)
    bens = submitted(site, "ben", batch=made.scan.id)
    await shop.tick(NOW)
    await shop.tick()
    assert shop.job(bens).state() == "running" and states(site, made.scan.id) == ["running"]
    scans.cancel(site, made.scan.id, actor=ann, now=NOW)
    assert shop.job(bens).cancel_asked_at is None


def test_the_failed_are_tried_again_in_their_rows(site: Site, files: JobFiles):
    made = scans.submit(site, wish(secrets={}), files=files, actor=ann, now=NOW)
    for job, outcome in zip(made.last, ("failed", "succeeded", "failed", "cancelled"), strict=True):
        end(site, job, outcome)
    _, count = scans.retry(site, made.scan.id, files=files, actor=ann, now=NOW + HOUR)
    assert count == 2 and states(site, made.scan.id) == ["queued", "succeeded", "queued", "cancelled"]
    first = scans.get(site, made.scan.id, actor=ann).last[2]
    assert first and made.last[2] and first.id != made.last[2].id and first.manifest == made.last[2].manifest
    assert scans.retry(site, made.scan.id, files=files, actor=ann, now=NOW + HOUR)[1] == 0


async def test_cancel_ends_all_and_no_row_comes_back(site: Site, files: JobFiles, shop: Shop):
    made = scans.submit(site, wish(at_once=1), files=files, actor=ann, now=NOW)
    await shop.tick(NOW)
    await shop.tick()
    scans.cancel(site, made.scan.id, actor=ann, now=NOW)
    assert states(site, made.scan.id)[1:] == ["cancelled"] * 3
    assert shop.job(made.last[0]).cancel_asked_at == NOW  # type: ignore[arg-type]
    assert scans.cancel(site, made.scan.id, actor=ann, now=NOW + 1).scan.cancelled_at == NOW
    with pytest.raises(Conflict, match="was cancelled"):
        scans.retry(site, made.scan.id, files=files, actor=ann, now=NOW)


async def test_the_queue_ends_what_comes_to_a_scan_that_was_cancelled(site: Site, files: JobFiles, shop: Shop):
    made = scans.submit(site, wish(), files=files, actor=ann, now=NOW)
    with transaction(site.engine) as connection:
        scan_store.cancel(connection, made.scan.id, NOW)
    await shop.tick(NOW)
    assert states(site, made.scan.id) == ["cancelled"] * 4


def test_a_scan_is_its_owners_alone_and_goes_with_its_last_job(site: Site, files: JobFiles):
    made = scans.submit(site, wish(), files=files, actor=ann, now=NOW)
    for act in (scans.get, lambda *a, actor: scans.cancel(*a, actor=actor, now=NOW)):
        with pytest.raises(NotAllowed):
            act(site, made.scan.id, actor=ben)
    for job in made.last:
        end(site, job, "succeeded")
    with transaction(site.engine) as connection:
        store.drop_ended(connection, [job.id for job in made.last[:3] if job])
    assert states(site, made.scan.id) == ["gone", "gone", "gone", "succeeded"]
    with transaction(site.engine) as connection:
        store.drop_ended(connection, [made.last[3].id])  # type: ignore[union-attr]
    keeping.tidy(site, files, keep=HOUR, now=NOW)
    assert scans.mine(site, "ann") == []
