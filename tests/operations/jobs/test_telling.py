"""What owners are told of their jobs, and what a team's channel is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlmp_spawner.operations import delivery, notices, people
from mlmp_spawner.operations.jobs import telling
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.store.transaction import transaction
from tests.operations.conftest import NOW
from tests.operations.delivering import PAGES, outbox
from tests.operations.jobs.queueing import submitted


def told(site: Site, action: telling.Action, **details: Any) -> tuple[Job, notices.Notice]:
    """What ann is told when this becomes of a job of hers."""
    job = submitted(site, "ann", name="secret-plan", units=2)
    with transaction(site.engine) as connection:
        telling.record(connection, action, job, at=NOW, **details)
    (one,) = notices.page(site.engine, "ann").items
    return job, one


@pytest.mark.parametrize(
    ("action", "details"),
    [
        ("job_ended", {"outcome": "succeeded", "reason": "succeeded", "exit_status": 0, "message": ""}),
        ("job_failed", {"outcome": "failed", "reason": "exit_status", "exit_status": 3, "message": "no such file"}),
        ("job_requeued", {"reason": "preempted"}),
    ],
)
def test_its_owner_is_told_what_became_of_a_job_and_where_it_is_on_every_way(
    site: Site, action: telling.Action, details: dict[str, Any]
):
    job, one = told(site, action, **details)
    assert (one.kind, one.job, one.reservation) == (action, job.id, None)
    titles = {"gpu": "A100"}
    mail = delivery.Delivery(one, people.Person(1, "ann"), "mail", "ann@example.org", 1, 0)
    letter = delivery.letter(mail, outbox(), titles)
    assert "secret-plan" in letter.subject and f"{PAGES}jobs/{job.id}" in letter.body
    team = delivery.Delivery(one, people.Person(1, "ann"), "site", "https://chat.example.org/x", 1, 0)
    said = json.dumps(delivery.payload(team, outbox(), titles))
    assert "secret-plan" not in said and job.id not in said
    assert "2 \\u00d7 A100" in said and "Job of ann." in said


@pytest.mark.parametrize("action", ["job_started", "job_running", "job_stopping"])
def test_that_a_job_was_begun_runs_or_is_to_end_is_no_news(site: Site, action: telling.Action):
    job = submitted(site, "ann")
    with transaction(site.engine) as connection:
        telling.record(connection, action, job, at=NOW, nodes=["gpu-a"])
    assert notices.page(site.engine, "ann").items == []
