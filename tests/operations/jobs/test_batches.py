"""Of jobs that were submitted together one mail tells, when all of them are over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mlmp_spawner.operations import batches, delivery, notices, people
from mlmp_spawner.operations.jobs import telling
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE, SECOND
from tests.operations.conftest import NOW
from tests.operations.delivering import PAGES, outbox, postman, send
from tests.operations.jobs.queueing import submitted
from tests.operations.mailbox import Mailbox

LATER = NOW + batches.LOOK + batches.SETTLE


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as made:
        yield made


def many(site: Site, count: int, owner: str = "ann", batch: str = "b1") -> list[Job]:
    return [submitted(site, owner, name=f"train-{n}", batch=batch, place=n) for n in range(count)]


def ends(site: Site, job: Job, at: int = NOW, *, status: int = 3) -> None:
    """It fails, or with ``status=0`` does what it should."""
    outcome, reason = ("failed", "exit_status") if status else ("succeeded", "succeeded")
    facts = {"outcome": outcome, "reason": reason, "exit_status": status, "message": ""}
    with transaction(site.engine) as connection:
        store.update_job(connection, job, ended_at=at, **facts)
        telling.record(connection, "job_failed" if status else "job_ended", job, at=at, **facts)


async def test_one_mail_tells_of_all_once_the_last_is_over(site: Site, mailbox: Mailbox):
    jobs, man = many(site, 12), postman(site, outbox(mailbox))
    for job in jobs[:-1]:
        ends(site, job)
    await send(man, NOW)
    await send(man, NOW + HOUR)
    assert mailbox.mails == [] and len(notices.page(site.engine, "ann").items) == 11, "pages have each at once"
    ends(site, jobs[-1], NOW + HOUR)
    await send(man, NOW + HOUR + SECOND)
    await send(man, NOW + HOUR + 2 * MINUTE)
    (found,) = mailbox.mails
    assert found["Subject"] == "12 jobs failed"
    text = found.get_content()
    assert all(f"{job.name}: It ended with exit status 3. {PAGES}jobs/{job.id}" in text for job in jobs)
    assert f"{PAGES}jobs?state=all&batch=b1" in text
    await send(man, NOW + 3 * HOUR)
    assert len(mailbox.mails) == 1


async def test_while_more_may_come_nothing_is_told(site: Site, mailbox: Mailbox):
    """Many are submitted one after the other; the first may be over before the second is there."""
    man = postman(site, outbox(mailbox))
    for n in range(3):
        ends(site, submitted(site, "ann", name=f"train-{n}", batch="b1"), NOW + n * SECOND)
        await send(man, NOW + n * SECOND)
    await send(man, LATER)
    assert [found["Subject"] for found in mailbox.mails] == ["3 jobs failed"]


async def test_what_others_end_is_told_of_without_them(site: Site, mailbox: Mailbox):
    """A namesake of the batch, and jobs that its owner cancelled, hold nothing up."""
    mine, theirs, man = many(site, 3), many(site, 1, "ben"), postman(site, outbox(mailbox))
    ends(site, mine[0])
    ends(site, mine[1])
    await send(man, NOW)
    with transaction(site.engine) as connection:
        store.update_job(connection, mine[2], ended_at=NOW, outcome="cancelled", reason="cancelled")
    await send(man, LATER)
    assert [(found["To"], found["Subject"]) for found in mailbox.mails] == [("ann@example.org", "2 jobs failed")]
    ends(site, theirs[0], LATER)
    await send(man, LATER + 2 * MINUTE)
    assert [found["Subject"] for found in mailbox.mails[1:]] == ["Failed: train-0"], "one alone is told of as ever"


async def test_after_a_day_what_there_is_is_told(site: Site, mailbox: Mailbox):
    jobs, man = many(site, 3), postman(site, outbox(mailbox))
    for job in jobs[:2]:
        ends(site, job)
    await send(man, NOW + DAY - SECOND)
    assert mailbox.mails == []
    await send(man, NOW + DAY + MINUTE)
    assert [found["Subject"] for found in mailbox.mails] == ["2 jobs failed"]


async def test_a_mail_of_many_that_can_t_be_sent_is_tried_again_whole(site: Site, mailbox: Mailbox):
    jobs, man = many(site, 3), postman(site, outbox(mailbox))
    for job in jobs:
        ends(site, job)
    mailbox.down()
    await send(man, LATER)
    mailbox.up()
    await send(man, LATER + HOUR)
    await send(man, LATER + 2 * HOUR)
    assert [found["Subject"] for found in mailbox.mails] == ["3 jobs failed"]


def test_a_team_s_channel_learns_how_many_and_not_which(site: Site):
    told: list[Any] = []
    for job, status in zip(many(site, 3), (0, 3, 0), strict=True):
        ends(site, job, status=status)
    told = notices.page(site.engine, "ann").items
    ann = people.Person(1, "ann")
    team = delivery.Delivery(told[0], ann, "site", "https://chat.example.org/x", 1, 0, tuple(told[1:]))
    said = json.dumps(delivery.payload(team, outbox(), {}))
    assert "1 job failed, 2 are done" in said and "Jobs of ann." in said and "train-" not in said
    own = delivery.Delivery(told[0], ann, "webhook", "https://chat.example.org/x", 1, 0, tuple(told[1:]))
    assert "Failed: train-1. Done: train-2, train-0." in json.dumps(delivery.payload(own, outbox(), {}))
