"""Whoever is killed, a job ends once, for the right reason, and never runs twice at the same time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlmp_spawner import deadlines, processes, units
from tests.jobs.people import Submitter
from tests.live import Site, wait_for

pytestmark = pytest.mark.faults

SETTINGS = "c.MLMP.tick = 0.5"
# Says who it is, once more each time it is started, and goes on until a file is there. Its child would live on.
WORK = """
echo "$MLMP_JOB_ATTEMPT $$ $(date +%s%3N)" >> "$HOME/starts-$MLMP_JOB_ID"
setsid sh -c 'trap "" TERM; while :; do sleep 0.1; done' &
echo up
until test -e "$HOME/finish-$MLMP_JOB_ID"; do
    if ! mkdir "$HOME/lock-$MLMP_JOB_ID" 2>/dev/null; then echo twice >> "$HOME/twice"; fi
    sleep 0.1; rmdir "$HOME/lock-$MLMP_JOB_ID"
done
"""


class Work:
    """A job of eve's that goes on until it may finish."""

    def __init__(self, site: Site, eve: Submitter, **manifest: object) -> None:
        self.site, self.eve = site, eve
        self.home = site.data / "homes" / "eve"
        self.job = eve.submit(command=WORK, **manifest)

    def up(self) -> Work:
        """Returns once it runs, as the service knows, too."""
        wait_for((self.home / f"starts-{self.job}").exists, 60, "its start")
        self.eve.until(self.job, "running")
        return self

    def attempts(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = self.eve.look(self.job)["attempts"]
        return found

    def record(self) -> processes.Record:
        """Of its ``mlmp run``."""
        number = len(self.attempts())
        found = processes.read_record(self.site.data / "jobs" / "running" / f"{self.job}-{number}.json")
        assert found is not None
        return found

    def forget_lock(self) -> None:
        """What was killed could not."""
        lock = self.home / f"lock-{self.job}"
        if lock.exists():
            lock.rmdir()

    def finish(self) -> dict[str, object]:
        """Lets it finish; the job as it ended."""
        (self.home / f"finish-{self.job}").touch()
        return self.eve.ended(self.job)

    def starts(self) -> int:
        return len((self.home / f"starts-{self.job}").read_text().splitlines())

    def left(self) -> list[int]:
        """What runs of it, seen past all of us."""
        mark = f"MLMP_JOB_ID={self.job}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("kills"), settings=SETTINGS)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def eve(site: Site) -> Iterator[Submitter]:
    yield Submitter(site.person("eve"))
    assert not (site.data / "homes" / "eve" / "twice").exists(), "one ran twice at the same time"


def test_a_job_whose_process_is_killed_failed_by_a_signal(site: Site, eve: Submitter) -> None:
    work = Work(site, eve).up()
    pid = int((work.home / f"starts-{work.job}").read_text().split()[1])
    os.kill(pid, signal.SIGKILL)
    ended = eve.ended(work.job)
    assert (ended["outcome"], ended["reason"], work.starts()) == ("failed", "signal", 1)
    wait_for(lambda: not work.left(), what="nothing is left")


def test_a_job_whose_mlmp_run_is_killed_leaves_nothing_and_runs_again(site: Site, eve: Submitter) -> None:
    work = Work(site, eve).up()
    before = set(work.left())
    os.kill(work.record().pid, signal.SIGKILL)
    wait_for(lambda: len(work.attempts()) == 2, 60, "the second attempt")
    assert not before & {pid for pid in work.left() if (processes.identity(pid))}, "something of the first one is left"
    work.forget_lock()
    wait_for(lambda: work.starts() == 2, 60, "its second start")
    ended = work.finish()
    assert (ended["outcome"], work.attempts()[0]["reason"]) == ("succeeded", "vanished")


@pytest.mark.parametrize("victims", [("service",), ("job starter",), ("service", "job starter"), ("hub", "proxy")])
def test_a_job_goes_on_whoever_else_is_killed(site: Site, eve: Submitter, victims: tuple[str, ...]) -> None:
    work = Work(site, eve).up()
    former = {name: site.pid_of(name) for name in victims}
    site.kill(*victims)
    for name in victims:
        wait_for(lambda name=name: site.pid_of(name) not in (None, former[name]), 60, name)
    eve.until(work.job, "running")
    ended = work.finish()
    assert (ended["outcome"], work.starts(), len(work.attempts())) == ("succeeded", 1, 1)


def test_a_job_that_ends_while_nobody_looks_ended_as_it_did(site: Site, eve: Submitter) -> None:
    work = Work(site, eve).up()
    site.kill("up")
    (work.home / f"finish-{work.job}").touch()
    wait_for(lambda: not work.left(), 60, "its end")
    ended_at = units.now()
    site.start()
    ended = eve.ended(work.job)
    assert (ended["outcome"], work.starts()) == ("succeeded", 1)
    assert units.from_iso(str(ended["attempts"][0]["ended_at"])) <= ended_at + 2_000  # type: ignore[index]


def test_a_job_is_started_once_though_all_is_killed_while_it_starts(site: Site, eve: Submitter) -> None:
    for pause in (0.0, 0.1, 0.2, 0.3, 0.5, 0.8):
        work = Work(site, eve)
        time.sleep(pause)
        site.kill("service", "job starter")
        wait_for(lambda: site.pid_of("service") and site.pid_of("job starter"), 60, "both")
        work.up()
        ended = work.finish()
        assert (ended["outcome"], work.starts()) == ("succeeded", 1), f"killed after {pause} s"


def test_a_job_ends_on_time_though_all_else_is_dead(site: Site, eve: Submitter) -> None:
    work = Work(site, eve, hours=20 / 3600, grace="1s").up()
    deadline = deadlines.read(site.data / "jobs" / "deadlines", work.record().id)
    assert deadline is not None
    site.kill("up")
    wait_for(lambda: not work.left(), 90, "its end")
    assert units.now() >= deadline.stop_at
    site.start()
    ended = eve.ended(work.job)
    assert (ended["outcome"], ended["reason"], work.starts()) == ("failed", "time_limit", 1)
