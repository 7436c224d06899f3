"""Logs, numbers and code of jobs that are over go after a while, and earlier where there are too many."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mlmp_spawner.jobs.base import Seen
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations.jobs import ending, keeping, snapshots
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.units import DAY, HOUR
from tests.operations.conftest import NOW
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
