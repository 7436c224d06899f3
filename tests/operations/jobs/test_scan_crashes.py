"""Scans with the process killed before each single statement, and by SIGKILL: all or nothing, and nothing twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations.jobs import scans
from mlmp_spawner.operations.jobs.scans import Wish
from mlmp_spawner.operations.site import Site
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.tables import history, idempotency, job, scan
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import MINUTE
from tests.jobs.remembered import Killed
from tests.operations.conftest import NOW, ann
from tests.operations.jobs.queueing import Shop
from tests.operations.jobs.test_scans import end, states

WISH = Wish({"profile": "gpu", "command": ["train"], "hours": 1}, {"lr": [1, 2, 3], "bs": [1, 2]})
MOST_STEPS = 200
KILLS = 8


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    made = JobFiles(tmp_path / "jobs")
    made.prepare()
    return made


@contextmanager
def killed_at(site: Site, step: int) -> Iterator[list[int]]:
    """The process is killed before its statement (or commit) of this number; how many it came to."""
    reached = [0]

    def count(*_: Any) -> None:
        reached[0] += 1
        if reached[0] == step:
            raise Killed

    for moment in ("before_cursor_execute", "commit"):
        event.listen(site.engine, moment, count)
    try:
        yield reached
    except Killed:
        pass
    finally:
        for moment in ("before_cursor_execute", "commit"):
            event.remove(site.engine, moment, count)


def rows(site: Site) -> tuple[int, ...]:
    """How much there is of scans, jobs, lines of the history about them, and keys."""
    tables = (scan, job, history, idempotency)
    with read(site.engine) as connection:
        return tuple(len(connection.execute(select(one)).all()) for one in tables)


def each_step(site: Site, act: Callable[[int], None]) -> Iterator[int]:
    """Does it, killed at its first step, then at its second … until it comes to its end; before each next one the
    caller sees what is left of it."""
    for step in range(1, MOST_STEPS):
        with killed_at(site, step) as reached:
            act(step)
        yield step
        if reached[0] < step:
            assert step > 3, "there were steps to be killed at"
            return
    raise AssertionError("it has no end")


def test_killed_anywhere_a_scan_is_submitted_whole_or_not_at_all_and_once(site: Site, files: JobFiles):
    def submit(step: int) -> scans.Standing:
        return scans.submit(site, WISH, files=files, actor=ann, now=NOW, idempotency_key=f"key {step}")

    before = rows(site)
    for step in each_step(site, submit):
        left = rows(site)
        assert left in (before, tuple(old + new for old, new in zip(before, (1, 6, 6, 1), strict=True)))
        again = submit(step)
        assert submit(step) == again and [one.place for one in again.last if one] == list(range(6))
        now = rows(site)
        assert now == tuple(old + new for old, new in zip(before, (1, 6, 6, 1), strict=True))
        before = now


def test_killed_anywhere_each_failed_row_is_tried_again_once(site: Site, files: JobFiles):
    made = scans.submit(site, WISH, files=files, actor=ann, now=NOW)

    def fail() -> None:
        for one in scans.get(site, made.scan.id, actor=ann).last[:2]:
            if one and one.outcome is None:
                end(site, one, "failed")

    def retry(step: int) -> tuple[scans.Standing, int]:
        return scans.retry(site, made.scan.id, files=files, actor=ann, now=NOW + step, idempotency_key=f"key {step}")

    fail()
    before = rows(site)[1]
    for step in each_step(site, retry):
        assert rows(site)[1] in (before, before + 2)
        assert retry(step)[1] == retry(step)[1] == 2
        assert rows(site)[1] == before + 2 and states(site, made.scan.id) == ["queued"] * 6
        fail()
        before = rows(site)[1]


async def test_killed_anywhere_all_of_a_scan_is_cancelled_or_nothing(site: Site, files: JobFiles):
    for step in range(1, MOST_STEPS):
        now = NOW + step * MINUTE
        shop = Shop(site)
        made = scans.submit(site, WISH, files=files, actor=ann, now=now)
        await shop.tick(now)
        await shop.tick()
        assert states(site, made.scan.id).count("running") > 0
        with killed_at(site, step) as reached:
            scans.cancel(site, made.scan.id, actor=ann, now=now)
        found = scans.get(site, made.scan.id, actor=ann)
        asked = sum(one.cancel_asked_at is not None for one in found.last if one)
        assert (found.scan.cancelled_at, asked) in ((None, 0), (now, 6))
        scans.cancel(site, made.scan.id, actor=ann, now=now)
        for one in scans.get(site, made.scan.id, actor=ann).last:
            assert one and one.cancel_asked_at == now
            if one.live:
                shop.backend.end(one.live.id)
        await shop.tick(now + 1)
        assert states(site, made.scan.id) == ["cancelled"] * 6
        if reached[0] < step:
            assert step > 3
            return
    raise AssertionError("it has no end")


SUBMITS = """
import sys
from pathlib import Path
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations.jobs import scans
from mlmp_spawner.operations.site import Site
from mlmp_spawner.store.engine import make_engine
from tests.operations.conftest import NOW, ann, catalog
from tests.operations.jobs.test_scan_crashes import WISH
url, folder, run = sys.argv[1:]
site = Site(make_engine(url), catalog(gpu_a=4))
files = JobFiles(Path(folder))
for number in range(10_000):
    made = scans.submit(site, WISH, files=files, actor=ann, now=NOW, idempotency_key=f"{run}.{number}")
    if number % 2:
        scans.cancel(site, made.scan.id, actor=ann, now=NOW)
    if number == 1:
        print("begun", flush=True)
"""


@pytest.mark.faults
def test_whenever_it_is_killed_every_scan_is_whole(site: Site, db_url: str, files: JobFiles, tmp_path: Path):
    chance = random.Random(8)
    for run in range(KILLS):
        command = [sys.executable, "-c", SUBMITS, db_url, str(tmp_path / "jobs"), str(run)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout and process.stdout.readline() == b"begun\n"
        time.sleep(0.3 * chance.random())  # it submits all the time: this is at no particular step
        process.kill()
        process.wait()
        process.stdout.close()
    with read(site.engine) as connection:
        known = connection.execute(select(scan.c.id, scan.c.cancelled_at)).all()
        jobs = store.select_where(connection)
        keys = connection.execute(select(idempotency.c.reservation)).scalars().all()
    assert len(known) >= 2 * KILLS and sorted(keys) == sorted(row.id for row in known)
    assert Counter(one.batch for one in jobs) == {row.id: 6 for row in known}
    off = {row.id for row in known if row.cancelled_at is not None}
    assert all((one.outcome == "cancelled") == (one.batch in off) for one in jobs)
