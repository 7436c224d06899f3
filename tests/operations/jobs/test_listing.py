"""Lists of jobs: the database and the rules agree on what each does."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

from mlmp_spawner.operations.jobs import listing
from mlmp_spawner.operations.site import Site, new_id
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR
from tests.operations.conftest import GPU, NOW

STATES: tuple[listing.Wanted, ...] = ("queued", "starting", "running", "stopping", "ended", "open")


def every_kind(site: Site) -> dict[str, Job]:
    """A job for each combination of facts that there can be."""
    made: dict[str, Job] = {}
    facts = product((None, NOW), range(3), (None, NOW), (None, NOW), (None, NOW))
    with transaction(site.engine) as connection:
        for at, (ended, attempts, started, stopping, over) in enumerate(facts):
            job = Job(new_id(), "ann", "x", "gpu", GPU, 1, 1, HOUR, {}, owner_id=1, created_at=NOW + at // 3)
            job = replace(job, ended_at=ended if over or not attempts else None)
            tried = []
            for number in range(1, attempts + 1):
                last = number == attempts
                tried.append(Attempt(
                    job.id, number, "r" * 12, ("gpu-a",), NOW, NOW, NOW, started, stopping,
                    ended_at=over if last else NOW,
                ))  # fmt: skip
            store.insert_job(connection, job, {})
            for one in tried:
                store.insert_attempt(connection, one, [])
            made[job.id] = replace(job, attempts=tuple(tried))
    return made


def test_the_database_and_the_rules_agree_on_the_state_of_each(site: Site):
    made = every_kind(site)
    for state in STATES:
        found, _ = listing.page(site, state=state, limit=200)
        expected = {id for id, job in made.items() if job.state() == state or (state == "open" and not job.ended_at)}
        assert {job.id for job in found} == expected, state
        assert {job.id: job for job in found} == {id: made[id] for id in expected}
    counted = Counter(job.state() for job in made.values())
    del counted["ended"]
    assert listing.counts(site, "ann") == {**counted, "open": counted.total()}
    assert set(listing.counts(site, "ben").values()) == {0}


def test_page_after_page_has_each_once_the_newest_first(site: Site):
    made = every_kind(site)
    for limit in (1, 7, 200):
        seen: list[Job] = []
        cursor = None
        while True:
            found, cursor = listing.page(site, limit=limit, cursor=cursor)
            seen += found
            if cursor is None:
                break
        assert [job.id for job in seen] == [
            job.id for job in sorted(made.values(), key=lambda job: (job.created_at, job.id), reverse=True)
        ]
