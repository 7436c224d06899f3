"""Scans: all jobs or none, no more at once than was said, the failed again, all cancelled; on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from mlmp_spawner.errors import Conflict, Invalid, NotAllowed, OverLimit
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations.jobs import keeping, scans, submit
from mlmp_spawner.operations.jobs.scans import Wish
from mlmp_spawner.operations.jobs.submit import Submission
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules import job_manifest
from mlmp_spawner.rules.catalog import LimitRules, Limits
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store import scans as scan_store
from mlmp_spawner.store.tables import history, notice
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
    for shell in ("train | tee log", ["bash", "-c", "train"], ["/bin/bash", "-l", "-ec", "train"]):
        with pytest.raises(Invalid, match="write the command as a list"):
            scans.planned(wish(manifest={**COMMAND, "command": shell}))
    assert scans.planned(wish(manifest={**COMMAND, "command": ["bash", "-x", "train.sh"]}))
    with pytest.raises(Invalid, match="outputs"):
        scans.planned(wish(out="/etc/{lr}-{bs}"))


@pytest.mark.parametrize("key", ["outputs", "checkpoint"])
def test_no_two_rows_have_one_directory(key: str):
    with pytest.raises(Invalid, match="rows 1 and 2 would both write"):
        scans.planned(wish(manifest={**COMMAND, key: "runs/x"}))
    assert scans.planned(wish(manifest={**COMMAND, key: "runs/{name}"}))


def test_what_is_too_much_to_write_at_once_is_refused():
    long = {**COMMAND, "environment": {"A": "x" * 60_000}}
    assert len(scans.planned(wish({"x": list(range(1000))}, manifest=long))[0]) == 1000
    with pytest.raises(Invalid, match=r"5,000 rows .* at most 64 MiB"):
        scans.planned(wish({"x": list(range(5000))}, manifest=long))
    with pytest.raises(Invalid, match="at most 64 MiB"):
        scans.planned(wish({"x": list(range(5000))}, secrets={"A": "x" * 60_000}))


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


def test_a_retry_that_is_repeated_answers_with_the_same(site: Site, files: JobFiles):
    made = scans.submit(site, wish(), files=files, actor=ann, now=NOW)
    end(site, made.last[1], "failed")
    asked = {"files": files, "actor": ann, "idempotency_key": "r"}
    first, second = (scans.retry(site, made.scan.id, now=NOW + number, **asked) for number in range(2))
    assert first == second and first[1] == 1
    end(site, scans.get(site, made.scan.id, actor=ann).last[1], "failed")
    assert scans.retry(site, made.scan.id, now=NOW + 2, **asked)[1] == 1  # which is what the first one did
    assert states(site, made.scan.id)[1] == "failed"
    with pytest.raises(Conflict, match="another request"):
        scans.submit(site, wish(), files=files, actor=ann, now=NOW, idempotency_key="r")


def test_a_job_of_a_row_that_is_submitted_again_is_the_next_of_its_row(site: Site, files: JobFiles):
    made = scans.submit(site, wish(), files=files, actor=ann, now=NOW)
    first = made.last[1]
    assert first
    asked = {"files": files, "actor": ann}
    assert submit.resubmit(site, first.id, now=NOW, **asked).batch is None  # it still waits itself
    end(site, first, "failed")
    with ThreadPoolExecutor(4) as at_once:
        every = list(at_once.map(lambda _: submit.resubmit(site, first.id, now=NOW + 1, **asked), range(4)))
    assert sum(one.batch is not None for one in every) == 1
    again = next(one for one in every if one.batch)
    assert (again.batch, again.place) == (made.scan.id, 1) and states(site, made.scan.id)[1] == "queued"
    assert submit.resubmit(site, first.id, now=NOW + 2, **asked).batch is None
    scans.cancel(site, made.scan.id, actor=ann, now=NOW + 3)
    assert submit.resubmit(site, again.id, now=NOW + 4, **asked).batch is None


def test_a_row_that_is_submitted_again_twice_with_one_key_is_so_once(site: Site, files: JobFiles):
    made = scans.submit(site, wish(), files=files, actor=ann, now=NOW)
    assert made.last[0]
    end(site, made.last[0], "failed")
    asked = {"files": files, "actor": ann, "now": NOW + 1, "idempotency_key": "k"}
    first, second = (submit.resubmit(site, made.last[0].id, **asked) for _ in range(2))
    assert first.id == second.id and first.batch == made.scan.id


def test_no_job_of_another_kind_takes_the_place_of_a_row(site: Site, files: JobFiles):
    made = scans.submit(site, wish(), files=files, actor=ann, now=NOW)
    asked = Submission(job_manifest.parse(COMMAND), batch=made.scan.id, place=1)
    with pytest.raises(Conflict, match="is the id of a scan"):
        submit.submit(site, asked, files=files, actor=ann, now=NOW)


def test_without_its_secrets_nothing_is_tried_again(site: Site, files: JobFiles):
    secret = wish(manifest={**COMMAND, "secrets": ["KEY"]}, secrets={"KEY": "x"})
    made = scans.submit(site, secret, files=files, actor=ann, now=NOW)
    end(site, made.last[0], "failed")
    with transaction(site.engine) as connection:
        store.forget_secrets(connection, before=NOW + 1)
    with pytest.raises(Conflict, match="KEY are not kept any more"):
        scans.retry(site, made.scan.id, files=files, actor=ann, now=NOW + HOUR)


async def test_counts_are_of_the_last_job_of_each_row_in_whatever_state(site: Site, files: JobFiles, shop: Shop):
    made = scans.submit(site, wish(at_once=2), files=files, actor=ann, now=NOW)
    await shop.tick(NOW)
    await shop.tick()
    end(site, made.last[3], "failed")
    found = scans.mine(site, "ann")
    assert found[0].counts == {"running": 2, "queued": 1, "failed": 1} and found[0].last == ()
    assert (found[0].scan.names, found[0].scan.size, found[0].scan.rows) == (("lr", "bs"), 4, ())
    scans.retry(site, made.scan.id, files=files, actor=ann, now=NOW)
    submitted(site, "ben", batch=made.scan.id, place=1)
    submitted(site, "ann", batch=made.scan.id, place=99)
    assert scans.get(site, made.scan.id, actor=ann, start=1, limit=2).counts == {"running": 2, "queued": 2}
    assert [one.place for one in scans.get(site, made.scan.id, actor=ann, start=1, limit=2).last if one] == [1, 2]


def test_an_admin_who_cancels_a_scan_tells_its_owner(site: Site, files: JobFiles):
    made = scans.submit(site, wish(), files=files, actor=ann, now=NOW)
    scans.cancel(site, made.scan.id, actor=Actor("root", admin=True), now=NOW)
    with read(site.engine) as connection:
        told = connection.execute(select(notice.c.details)).scalars().all()
        lines = connection.execute(select(history.c.details).where(history.c.action == "job_ended")).scalars().all()
    assert len(told) == len(lines) == 4
    assert {one["batch"] for one in told} == {made.scan.id} and {one["by"] for one in told} == {"root"}
    assert {one["message"] for one in lines} == {"Its scan was cancelled."}


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
