"""Cancelling: what waits is over, what runs gets its grace, and of two at once one is told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlmp_spawner.errors import Changed, MLMPError, NotAllowed, NotFound
from mlmp_spawner.jobs.base import Seen
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations import notices
from mlmp_spawner.operations.jobs import ending, listing, starting
from mlmp_spawner.operations.jobs.cancel import cancel
from mlmp_spawner.operations.jobs.submit import submit
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.store.transaction import Busy, Refused
from mlmp_spawner.units import HOUR, MINUTE
from tests.operations.conftest import NOW, admin, ann, ben, eve
from tests.operations.jobs.running import attempt_of, run_job
from tests.operations.jobs.test_submit import asked


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    return JobFiles(tmp_path / "jobs")


def waiting(site: Site, files: JobFiles) -> Job:
    return submit(site, asked(name="train"), files=files, actor=ann, now=NOW)


def test_only_its_owner_and_admins_may(site: Site, files: JobFiles):
    job = waiting(site, files)
    with pytest.raises(NotAllowed):
        cancel(site, job.id, actor=ben, now=NOW)
    with pytest.raises(NotFound):
        cancel(site, "a" * 12, actor=ann, now=NOW)
    with pytest.raises(Changed):
        cancel(site, job.id, actor=ann, now=NOW, if_match=7)
    assert cancel(site, job.id, actor=admin, now=NOW).cancelled_by == "root"


def test_who_did_not_cancel_it_himself_is_told_by_whom_and_why(site: Site, files: JobFiles):
    mine, taken = waiting(site, files), waiting(site, files)
    cancel(site, mine.id, actor=ann, now=NOW)
    assert notices.page(site.engine, "ann").items == []
    cancel(site, taken.id, actor=admin, now=NOW, message="too many")
    told = notices.page(site.engine, "ann").items
    assert [(one.kind, one.job, one.details["by"], one.details["message"]) for one in told] == [
        ("job_ended", taken.id, "root", "too many")
    ]


def test_of_what_ran_the_owner_is_told_when_it_has_ended_and_once(site: Site):
    for who, times in ((eve, 0), (admin, 1)):
        attempt = run_job(site, "gpu-a", now=NOW)
        cancel(site, attempt.job, actor=who, now=NOW)
        assert notices.page(site.engine, "eve").items == []
        run_over(site, attempt.job)
        told = notices.page(site.engine, "eve").items
        assert [(one.kind, one.details["by"]) for one in told] == [("job_ended", "root")] * times


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(
    asked_at=st.lists(st.integers(0, 5 * HOUR), min_size=1, max_size=3),
    grace=st.sampled_from([MINUTE, 10 * MINUTE]),
)
def test_the_times_of_what_runs_only_ever_move_forward_and_it_gets_its_grace(
    site: Site, asked_at: list[int], grace: int
):
    attempt = run_job(site, "gpu-a", now=NOW, length=4 * HOUR, grace=grace)
    before = attempt
    for at in sorted(asked_at):
        cancel(site, attempt.job, actor=eve, now=NOW + at)
        after = attempt_of(site, attempt)
        assert after.stop_at <= before.stop_at and after.kill_at <= before.kill_at
        assert after.kill_at >= min(NOW + min(asked_at) + grace, attempt.kill_at)
        assert after.stop_reason == "cancelled" and after.ended_at is None
        before = after
    assert before.stop_at == min(NOW + min(asked_at), attempt.stop_at)
    run_over(site, attempt.job)


def run_over(site: Site, job_id: str) -> None:
    """Nothing of it is left in the way of the next one."""
    attempt = listing.get(site, job_id).attempts[-1]
    ending.ended(site, attempt, Seen(attempt.id, "ended", reason="signal"), half_life=HOUR, now=NOW)


def test_a_job_that_starts_while_it_is_cancelled_is_either_over_or_asked_to_stop(site: Site, files: JobFiles):
    where = starting.Where(("gpu-a",), NOW + HOUR, NOW + HOUR + MINUTE)

    def start(job: Job) -> None:
        with suppress(MLMPError, Busy, Refused):
            starting.start(site, job, where, now=NOW)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            job = waiting(site, files)
            both = [pool.submit(start, job), pool.submit(cancel, site, job.id, actor=ann, now=NOW + MINUTE)]
            for one in both:
                one.result()
            found = listing.get(site, job.id)
            assert found.cancel_asked_at is not None
            if found.live is None:
                assert found.outcome == "cancelled" and found.attempts == ()
            else:
                assert found.ended_at is None and found.live.stop_at == NOW + MINUTE
                run_over(site, job.id)
