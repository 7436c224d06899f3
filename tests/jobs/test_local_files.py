"""What the back-end of one machine reads of its files, and what it leaves of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlmp_spawner import deadlines
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.local import LocalJobs
from mlmp_spawner.spawners.job_guard import End

END: dict[str, Any] = End(1, 2, exit_status=0).content()


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    made = JobFiles(tmp_path / "jobs")
    made.prepare()
    return made


@pytest.mark.parametrize("missing", sorted(END))
async def test_one_end_that_lacks_something_keeps_no_other_from_being_seen(files: JobFiles, missing: str) -> None:
    files.ended("one-1").write_text(json.dumps({name: value for name, value in END.items() if name != missing}))
    files.ended("two-1").write_text(json.dumps(END))
    seen = await LocalJobs(files).list()
    assert seen["two-1"].reason == "succeeded"
    assert (seen["one-1"].phase, seen["one-1"].reason) == ("ended", "platform")


async def test_of_an_attempt_that_never_began_no_deadline_is_left(files: JobFiles) -> None:
    deadlines.write(files.deadlines, "one-1", Deadline(1, 2))
    await LocalJobs(files).forget("one-1")
    assert list(files.deadlines.iterdir()) == []


async def test_what_still_runs_keeps_its_deadline(files: JobFiles) -> None:
    deadlines.write(files.deadlines, "one-1", Deadline(1, 2))
    (files.running / "one-1.json").write_text("{}")
    await LocalJobs(files).forget("one-1")
    assert deadlines.read(files.deadlines, "one-1") == Deadline(1, 2)
