"""Submitting: for whose share a job counts, what quotas allow, and what could never start."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner.errors import Conflict, Invalid, MLMPError, NotAllowed, NotFound, OverLimit
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations import history
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.jobs import listing, quotas
from mlmp_spawner.operations.jobs.orders import waiting_order
from mlmp_spawner.operations.jobs.submit import Submission, check, resubmit, submit
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import Image, LimitRules, Limits
from mlmp_spawner.rules.job_manifest import parse
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import HOUR, MINUTE
from tests.operations.conftest import GPU, NOW, ann, ben
from tests.operations.jobs.running import run_job


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    made = JobFiles(tmp_path / "jobs")
    made.prepare()
    return made


def asked(**manifest: Any) -> Submission:
    return Submission(parse({"profile": "gpu", "command": "sleep 1", "hours": 1, **manifest}))


def limited(site: Site, **limits: Any) -> Site:
    rules = LimitRules(everybody=Limits(**limits))
    return replace(site, catalog=site.catalog.model_copy(update={"limits": rules}))


def test_a_job_is_what_its_manifest_says_and_for_the_rest_what_its_profile_says(site: Site, files: JobFiles):
    job = submit(site, asked(hours=None, priority="high", retries=2), files=files, actor=ann, now=NOW)
    assert (job.owner, job.resource, job.units, job.workers) == ("ann", GPU, 1, 1)
    assert (job.length, job.priority, job.retries, job.grace) == (4 * HOUR, 1, 2, MINUTE)
    assert job.state() == "queued" and listing.get(site, job.id) == job
    lines = history.audit(site.engine, history.Filter(person="ann"))[0]
    assert [(line.action, line.details["job"]) for line in lines] == [("job_submitted", job.id)]


def test_it_counts_for_the_group_asked_for_else_for_the_first_that_may_use_the_profile(site: Site, files: JobFiles):
    cat = Actor("ann", frozenset({"vision", "audio"}))
    assert submit(site, asked(), files=files, actor=ann, now=NOW).group == ""
    assert submit(site, asked(), files=files, actor=cat, now=NOW).group == "audio"
    assert submit(site, asked(group="vision"), files=files, actor=cat, now=NOW).group == "vision"
    with pytest.raises(NotAllowed, match="not in the group 'speech'"):
        submit(site, asked(group="speech"), files=files, actor=cat, now=NOW)
    gpu = site.catalog.profiles["gpu"].model_copy(update={"groups": ("vision",)})
    narrow = replace(site, catalog=site.catalog.model_copy(update={"profiles": {"gpu": gpu}}))
    assert submit(narrow, asked(), files=files, actor=cat, now=NOW).group == "vision"
    with pytest.raises(NotAllowed, match="for members of vision"):
        submit(narrow, asked(), files=files, actor=ann, now=NOW)


def test_a_job_talks_with_the_server_of_a_running_booking_of_its_owners_alone(site: Site, files: JobFiles):
    mine = book(site, BookingRequest(profile="gpu", start=NOW, duration=HOUR), actor=ann, now=NOW)
    later = book(site, BookingRequest(profile="gpu", start=NOW + 2 * HOUR, duration=HOUR), actor=ann, now=NOW)
    job = submit(site, asked(server=mine.id), files=files, actor=ann, now=NOW)
    with read(site.engine) as connection:
        assert waiting_order(connection, site, job).server == mine.server_id
        assert waiting_order(connection, site, submit(site, asked(), files=files, actor=ann, now=NOW)).server == ""
        stolen = replace(job, owner_id=(job.owner_id or 0) + 1)  # the account was deleted, its name made again
        assert waiting_order(connection, site, stolen).server == ""
    with pytest.raises(NotAllowed, match="somebody else's"):
        submit(site, asked(server=mine.id), files=files, actor=ben, now=NOW)
    with pytest.raises(NotFound, match="no booking"):
        submit(site, asked(server="nosuch"), files=files, actor=ann, now=NOW)
    with pytest.raises(Conflict, match="does not run"):
        submit(site, asked(server=later.id), files=files, actor=ann, now=NOW)
    with pytest.raises(Conflict, match="does not run"):
        resubmit(site, job.id, files=files, actor=ann, now=NOW + 90 * MINUTE)


def test_so_many_may_be_open_at_once_and_no_more(site: Site, files: JobFiles):
    tight = limited(site, open_jobs=2)
    first = submit(tight, asked(), files=files, actor=ann, now=NOW)
    submit(tight, asked(), files=files, actor=ann, now=NOW)
    with pytest.raises(OverLimit, match="At most 2 jobs may be open at once: 2 are") as refused:
        submit(tight, asked(), files=files, actor=ann, now=NOW)
    numbers = {"limit": "open_jobs", "allowed": 2, "used": 2, "asked": 1, "unit": "jobs"}
    assert refused.value.data["limits"] == [numbers]
    with pytest.raises(OverLimit):
        resubmit(tight, first.id, files=files, actor=ann, now=NOW)
    submit(tight, asked(), files=files, actor=ben, now=NOW)


def test_the_quota_holds_for_many_that_come_at_once(site: Site, files: JobFiles):
    tight = limited(site, open_jobs=3)

    def one(_: int) -> Job | MLMPError:
        try:
            return submit(tight, asked(), files=files, actor=ann, now=NOW)
        except MLMPError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, range(8)))
    assert sum(isinstance(one, Job) for one in found) == 3
    assert all(isinstance(one, (Job, OverLimit)) for one in found)


def test_a_job_that_wants_more_than_its_owners_jobs_may_take_is_refused_unless_it_runs_in_a_booking(
    site: Site, files: JobFiles
):
    tight = limited(site, job_units=2)
    assert submit(tight, asked(units=1, workers=2), files=files, actor=ann, now=NOW).workers == 2
    with pytest.raises(OverLimit, match="at most 2 units at once; this one asks for 3"):
        submit(tight, asked(units=3), files=files, actor=ann, now=NOW)
    with pytest.raises(OverLimit):
        check(tight, asked(units=3), actor=ann, now=NOW)


def test_what_jobs_take_and_may_take_is_told_by_owner(site: Site):
    run_job(site, "gpu-a", now=NOW, units=2)
    run_job(site, "gpu-a", now=NOW, owner="ben")
    with read(site.engine) as connection:
        jobs = store.open_jobs(connection)
        assert quotas.units_allowed(connection, limited(site, job_units=4), jobs) == {"eve": 4, "ben": 4}
        assert quotas.units_allowed(connection, site, jobs) == {}
    assert quotas.units_taken(jobs) == {"eve": 2, "ben": 1}


@pytest.mark.parametrize("value", ["x" * 70_000, "nul\0", "half \ud800"])
def test_a_secret_that_no_environment_can_hold_is_refused(site: Site, files: JobFiles, value: str):
    wrong = replace(asked(secrets=["TOKEN"]), secrets={"TOKEN": value})
    with pytest.raises(Invalid) as refused:
        submit(site, wrong, files=files, actor=ann, now=NOW)
    assert value not in str(refused.value)


def test_the_values_of_secrets_are_in_no_text_that_somebody_might_log(site: Site):
    wanted = replace(asked(secrets=["TOKEN"]), secrets={"TOKEN": "tutti-frutti"})
    assert "tutti-frutti" not in repr(wanted)


def test_what_somebody_left_behind_is_not_submitted_for_a_namesake(site: Site, files: JobFiles):
    wanted = replace(asked(secrets=["TOKEN"]), secrets={"TOKEN": "tutti-frutti"})
    job = submit(site, wanted, files=files, actor=ann, now=NOW)
    with transaction(site.engine) as connection:
        connection.execute(users.delete().where(users.c.name == "ann"))
        connection.execute(users.insert().values(id=77, name="ann"))
    with pytest.raises(NotFound, match="is gone"):
        resubmit(site, job.id, files=files, actor=Actor("root", admin=True), now=NOW)


def test_code_that_is_not_kept_is_refused_and_nothing_is_submitted(site: Site, files: JobFiles):
    with pytest.raises(Conflict, match="not kept"):
        submit(site, replace(asked(), code="0" * 64), files=files, actor=ann, now=NOW)
    with pytest.raises(Invalid, match="64 hexadecimal"):
        submit(site, replace(asked(), code="../../etc"), files=files, actor=ann, now=NOW)
    assert listing.page(site) == ([], None)


def test_in_a_cluster_no_job_runs_inside_a_booking(site: Site):
    with pytest.raises(Conflict, match="its server has the units") as refused:
        check(replace(site, cluster=True), asked(inside="any"), actor=ann, now=NOW)
    assert "Leave `inside` out" in str(refused.value.hint)


def test_where_jobs_run_in_images_one_whose_profile_has_none_is_refused(site: Site):
    pods = replace(site, cluster=True, images=True)
    with pytest.raises(Invalid, match="image: the profile 'gpu' has none"):
        check(pods, asked(), actor=ann, now=NOW)
    gpu = site.catalog.profiles["gpu"].model_copy(update={"images": ("lab",)})
    images = {"lab": Image(name="lab", reference="example.org/lab:1")}
    catalog = site.catalog.model_copy(update={"images": images, "profiles": {"gpu": gpu}})
    assert check(replace(pods, catalog=catalog), asked(), actor=ann, now=NOW).profile == "gpu"
    assert check(site, asked(), actor=ann, now=NOW).profile == "gpu", "on one machine there are none"
