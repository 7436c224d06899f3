"""SIGKILL for the process that looks at jobs, again and again, while real programs run: each ends once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from mlmp_spawner import units
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.tables import job, unit_in_use
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import SECOND
from tests.jobs.small_backend import end_all
from tests.live import wait_for
from tests.operations.jobs.queueing import submitted

JOBS = 40
KILLS = 20
# Only one at a time can make the directory: the other one, of the same job, would say so.
PROGRAM = """
mkdir "$AT/$MLMP_JOB_ID" || echo twice >> "$AT/twice"
echo "$MLMP_JOB_ID $MLMP_JOB_ATTEMPT" >> "$AT/began"
sleep 0.3
rmdir "$AT/$MLMP_JOB_ID"
exit $STATUS
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "small"
    made.mkdir()
    return made


@pytest.mark.faults
def test_whenever_it_is_killed_each_job_runs_and_ends_once(site: Site, db_url: str, folder: Path):
    now = units.now()
    made = [
        submitted(
            site, now=now, units=1 + number % 2, grace=SECOND,
            manifest={
                "command": ["sh", "-c", PROGRAM], "environment": {"AT": str(folder.parent), "STATUS": str(number % 2)}
            },
        )
        for number in range(JOBS)
    ]  # fmt: skip
    chance = random.Random(7)
    try:
        for _ in range(KILLS):
            process = begin(db_url, folder)
            time.sleep(0.5 * chance.random())  # it looks all the time: this is at no particular step
            process.kill()
            process.wait()
        process = begin(db_url, folder)
        wait_for(lambda: all(one.ended_at for one in all_jobs(site)), 120, "the end of all")
        wait_for(lambda: not list(folder.glob("*.order")), 60, "the last word to the back-end")
    finally:
        process.kill()
        process.wait()
        for one in all_jobs(site):
            for attempt in one.attempts:
                end_all(attempt.id, 9)
    ended = {one.id: one for one in all_jobs(site)}
    assert [(ended[one.id].outcome, ended[one.id].exit_status) for one in made] == [
        ("failed", 1) if number % 2 else ("succeeded", 0) for number in range(JOBS)
    ]
    began = (folder.parent / "began").read_text().splitlines()
    assert sorted(began) == sorted(f"{one.id} 1" for one in made)
    assert not (folder.parent / "twice").exists()
    with read(site.engine) as connection:
        assert connection.execute(select(unit_in_use)).all() == []


def begin(db_url: str, folder: Path) -> subprocess.Popen[bytes]:
    """A process that looks, once it does."""
    command = [sys.executable, "-m", "tests.operations.jobs.looker", db_url, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


def all_jobs(site: Site) -> list[Job]:
    with read(site.engine) as connection:
        return store.select_where(connection, job.c.created_at > 0)
