"""Logs, numbers and code of jobs that are over go after a while, and earlier where there are too many."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner.jobs.base import Seen
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations.jobs import ending, keeping, listing, snapshots
from mlmp_spawner.operations.jobs.cancel import cancel
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import LimitRules, Limits
from mlmp_spawner.rules.jobs import Attempt
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY, HOUR
from tests.operations.conftest import NOW
from tests.operations.jobs.queueing import submitted
from tests.operations.jobs.running import run_job


def printed(files: JobFiles, attempt: str) -> Path:
    """A log, as ``mlmp run`` leaves one."""
    path = files.log(attempt)
    path.parent.mkdir()
    path.write_text("printed")
    return path


def test_what_ended_long_ago_goes_and_what_runs_stays(site: Site, tmp_path: Path) -> None:
    files = JobFiles(tmp_path / "jobs")
    files.prepare()
    old, new, runs = (run_job(site, "gpu-a", now=NOW) for _ in range(3))
    logs = [printed(files, attempt.id) for attempt in (old, new, runs)]
    for attempt, at in ((old, NOW + HOUR), (new, NOW + 2 * DAY)):
        ended = Seen(attempt.id, "ended", NOW, at, "succeeded", 0)
        assert ending.ended(site, attempt, ended, half_life=DAY, now=at)
    assert keeping.tidy(site, files, keep=2 * DAY, now=NOW + 3 * DAY) == 1
    assert [log.exists() for log in logs] == [False, True, True]


def test_code_that_no_job_needs_goes_in_the_end(site: Site, tmp_path: Path) -> None:
    files = JobFiles(tmp_path / "jobs")
    files.prepare()
    sha256 = hashlib.sha256(b"code").hexdigest()
    with files.receive_code(sha256, 100) as upload:
        upload.write(b"code")
        snapshots.keep(site, files, sha256, upload.finish(), owner=Actor("eve"), now=NOW)
    keeping.tidy(site, files, keep=DAY, now=NOW + HOUR)
    assert files.code_path("eve", sha256).exists()
    keeping.tidy(site, files, keep=DAY, now=NOW + 2 * DAY)
    assert not files.code_path("eve", sha256).exists()


def limited(site: Site, **limits: Any) -> Site:
    rules = LimitRules(everybody=Limits(**limits))
    return replace(site, catalog=site.catalog.model_copy(update={"limits": rules}))


def over(site: Site, files: JobFiles, size: int, at: int) -> Attempt:
    """An attempt of eve's that ended then and printed so many bytes."""
    attempt = run_job(site, "gpu-a", now=at - HOUR)
    printed(files, attempt.id).write_bytes(b"x" * size)
    assert ending.ended(site, attempt, Seen(attempt.id, "ended", at, at, "succeeded", 0), half_life=DAY, now=at)
    return attempt


def sent(site: Site, files: JobFiles, code: bytes, now: int = NOW) -> str:
    """A snapshot of eve's."""
    sha256 = hashlib.sha256(code).hexdigest()
    with files.receive_code(sha256, len(code)) as upload:
        upload.write(code)
        snapshots.keep(site, files, sha256, upload.finish(), owner=Actor("eve"), now=now)
    return sha256


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    made = JobFiles(tmp_path / "jobs")
    made.prepare()
    return made


def test_logs_and_code_together_are_within_ones_room_and_code_goes_first(site: Site, files: JobFiles) -> None:
    site = limited(site, job_logs=1 << 20)
    code = [sent(site, files, bytes([n]) * (300 << 10), now=NOW + n) for n in range(3)]
    attempts = [over(site, files, 200 << 10, NOW + (n + 2) * HOUR) for n in range(4)]
    keeping.tidy(site, files, keep=DAY, now=NOW + 6 * HOUR)
    kept = [one for one in code if files.code_path("eve", one).exists()]
    assert [files.log(one.id).exists() for one in attempts] == [True] * 4
    assert kept == []
    attempts += [over(site, files, 200 << 10, NOW + (n + 6) * HOUR) for n in range(3)]
    keeping.tidy(site, files, keep=DAY, now=NOW + 10 * HOUR)
    assert [files.log(one.id).exists() for one in attempts] == [False, False, *[True] * 5]


def test_code_that_an_open_job_needs_leaves_less_room_for_logs(site: Site, files: JobFiles) -> None:
    site = limited(site, job_logs=1 << 20)
    code = sent(site, files, b"x" * (900 << 10))
    submitted(site, code=code)
    attempts = [over(site, files, 50 << 10, NOW + (n + 2) * HOUR) for n in range(4)]
    keeping.tidy(site, files, keep=DAY, now=NOW + 6 * HOUR)
    assert files.code_path("eve", code).exists()
    assert [files.log(one.id).exists() for one in attempts] == [False, False, True, True]


def test_many_small_files_count_as_what_they_take(site: Site, files: JobFiles) -> None:
    site = limited(site, job_logs=64 << 10)
    attempts = [over(site, files, 1, NOW + (n + 2) * HOUR) for n in range(12)]
    keeping.tidy(site, files, keep=DAY, now=NOW + 15 * HOUR)
    assert sum(files.log(one.id).exists() for one in attempts) == 8


def test_no_more_snapshots_are_kept_than_anybody_needs(
    site: Site, files: JobFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MOST_UNUSED", 3)
    needed = sent(site, files, b"needed")
    submitted(site, code=needed)
    code = [sent(site, files, bytes([n]), now=NOW + n) for n in range(5)]
    assert [files.code_path("eve", one).exists() for one in code] == [False, False, True, True, True]
    assert files.code_path("eve", needed).exists()


def test_a_snapshot_of_which_nothing_is_written_goes(site: Site, files: JobFiles) -> None:
    kept = sent(site, files, b"kept")
    stray = files.code_path("eve", "0" * 64)
    stray.write_bytes(b"its service was killed before it wrote that it is kept")
    for path in (stray, files.code_path("eve", kept)):
        os.utime(path, (NOW / 1000, NOW / 1000))
    keeping.tidy(site, files, keep=9 * DAY, now=NOW + HOUR)
    assert stray.exists()
    keeping.tidy(site, files, keep=9 * DAY, now=NOW + 2 * DAY)
    assert not stray.exists() and files.code_path("eve", kept).exists()


def test_logs_that_belong_to_no_job_go_in_the_end(site: Site, files: JobFiles) -> None:
    stray = printed(files, "nobody-1").parent
    os.utime(stray, (NOW / 1000, NOW / 1000))
    keeping.tidy(site, files, keep=DAY, now=NOW + HOUR)
    assert stray.exists()
    keeping.tidy(site, files, keep=DAY, now=NOW + 2 * DAY)
    assert not stray.exists()


def secrets(site: Site, job: str) -> dict[str, str]:
    with read(site.engine) as connection:
        return store.secrets_of(connection, job)


def test_secrets_go_with_the_logs(site: Site, files: JobFiles) -> None:
    old, new, waits = (submitted(site) for _ in range(3))
    for job, at in ((old, NOW), (new, NOW + 2 * DAY)):
        cancel(site, job.id, actor=Actor("eve"), now=at)
    keeping.tidy(site, files, keep=2 * DAY, now=NOW + 3 * DAY)
    assert secrets(site, old.id) == {}
    assert secrets(site, new.id) == secrets(site, waits.id) == {"TOKEN": "secret"}


def test_of_the_jobs_that_are_over_the_last_ones_stay(
    site: Site, files: JobFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST_OVER", 2)
    attempts = [over(site, files, 10, NOW + (n + 2) * HOUR) for n in range(4)]
    waits, others = submitted(site), submitted(site, "ann")
    cancel(site, others.id, actor=Actor("ann"), now=NOW)
    keeping.tidy(site, files, keep=9 * DAY, now=NOW + DAY)
    left = {job.id for job in listing.page(site)[0]}
    assert left == {attempts[2].job, attempts[3].job, waits.id, others.id}
    assert [files.log(one.id).exists() for one in attempts] == [False, False, True, True]
