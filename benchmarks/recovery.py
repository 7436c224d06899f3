"""Recovery on one machine: from the SIGKILL of a part until a job is right again, in each state that a job has.

A real ``mlmp up`` starts again what was killed; all of it at once is started anew right after the kill, as systemd
would. *Right* is what the API says: a job that waited runs once there is room, one that was begun runs, one whose
program is done has succeeded, one that was cancelled is cancelled; whose program was killed has failed, and whose
``mlmp run`` was killed runs again. Each began once, and ``nobody`` tells how long the same takes where nobody is
killed.
"""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from benchmarks.common import Report, median, note
from mlmp_spawner import processes
from tests.jobs.people import Submitter
from tests.live import Site, wait_for

PROGRAM = """
echo "$MLMP_JOB_ATTEMPT $$" >> "$HOME/starts-$MLMP_JOB_ID"
trap : TERM
until test -e "$HOME/go-$MLMP_JOB_ID"; do sleep 0.05; done
"""
# The last begins all anew, so that no part has died lately when its turn comes again: it would be kept waiting then.
PARTS = ("nobody", "job starter", "service", "hub", "all of mlmp up")
OF_A_JOB = ("its program", "its mlmp run")
STATES = ("waits", "starts", "runs", "is to end")
UNITS = 4
LIMIT = 120.0


def run(report: Report, *, quick: bool = False) -> None:
    """Kills each part in each state, ``rounds`` times."""
    rounds = 1 if quick else 3
    with tempfile.TemporaryDirectory(prefix="mlmp-bench-") as folder:
        site = Site(Path(folder))
        try:
            site.start()
            eve = Submitter(site.person("eve"))
            taken: dict[tuple[str, str], list[float]] = {}
            for _, state, victim in itertools.product(range(rounds), STATES, (*OF_A_JOB, *PARTS)):
                if victim in PARTS or state in ("runs", "is to end"):
                    seconds = _Story(site, eve, victim, state).seconds()
                    note(f"{victim}, the job {state}: {seconds:.1f} s")
                    taken.setdefault((victim, state), []).append(seconds)
            for (victim, state), seconds_each in taken.items():
                report.add(f"{victim} killed, the job {state}: right again", median(seconds_each), "s")
        finally:
            site.close()


class _Story:
    """One kill."""

    def __init__(self, site: Site, eve: Submitter, victim: str, state: str) -> None:
        self.site, self.eve, self.victim, self.state = site, eve, victim, state
        self.home = site.data / "homes" / "eve"

    def seconds(self) -> float:
        """How long it took until the job was right."""
        right = getattr(self, f"_{self.state.replace(' ', '_')}")()
        self._kill()
        began = time.perf_counter()
        if self.victim == "all of mlmp up":
            self.site.start()
        while not self._is(right):
            assert time.perf_counter() < began + LIMIT, f"{self.victim}, {self.state}: not right after {LIMIT} s"
            time.sleep(0.02)
        taken = time.perf_counter() - began
        self._end()
        return taken

    # -- the states: each returns when the job is in it, with what the API says once it is right ----------------------

    def _waits(self) -> Callable[[dict[str, Any]], bool]:
        before = self._submit(units=UNITS)
        self.eve.until(before, "running")
        self.job = self._submit(units=UNITS)
        self.eve.until(self.job, "queued")
        self._go(before)
        return lambda seen: seen["state"] == "running"

    def _starts(self) -> Callable[[dict[str, Any]], bool]:
        self.job = self._submit()
        return lambda seen: seen["state"] == "running"

    def _runs(self) -> Callable[[dict[str, Any]], bool]:
        self._begun()
        if self.victim == "its mlmp run":
            return lambda seen: len(seen["attempts"]) == 2 and seen["state"] == "running"
        if self.victim == "its program":
            return lambda seen: seen["outcome"] == "failed"
        self._go(self.job)
        return lambda seen: seen["outcome"] == "succeeded"

    def _is_to_end(self) -> Callable[[dict[str, Any]], bool]:
        self._begun()
        self.eve.cancel(self.job)
        self.eve.until(self.job, "stopping")
        if self.victim in PARTS:
            self._go(self.job)
        return lambda seen: seen["outcome"] == "cancelled"

    # -- helpers --------------------------------------------------------------------------------------------------

    def _submit(self, **manifest: Any) -> str:
        return self.eve.submit(command=["sh", "-c", PROGRAM], **manifest)

    def _begun(self) -> None:
        self.job = self._submit()
        self.eve.until(self.job, "running")
        wait_for(self._starts_of, 60, "its start")

    def _starts_of(self) -> list[str]:
        path = self.home / f"starts-{self.job}"
        return path.read_text().splitlines() if path.exists() else []

    def _go(self, job: str) -> None:
        (self.home / f"go-{job}").touch()

    def _kill(self) -> None:
        if self.victim == "its program":
            os.kill(int(self._starts_of()[0].split()[1]), signal.SIGKILL)
        elif self.victim == "its mlmp run":
            record = processes.read_record(self.site.data / "jobs" / "running" / f"{self.job}-1.json")
            assert record is not None
            os.kill(record.pid, signal.SIGKILL)
        elif self.victim == "all of mlmp up":
            self.site.kill("hub", "service", "proxy", "job starter", "up")
        elif self.victim != "nobody":
            self.site.kill(self.victim)

    def _is(self, right: Callable[[dict[str, Any]], bool]) -> bool:
        try:
            return right(self.eve.look(self.job))
        except (httpx.HTTPError, AssertionError):  # nobody answers just now
            return False

    def _end(self) -> None:
        """Lets all of it end, and checks that nothing ran twice."""
        self._go(self.job)
        ended = self.eve.ended(self.job)
        begun = 2 if self.victim == "its mlmp run" and self.state == "runs" else 1
        assert len(ended["attempts"]) == len(self._starts_of()) == begun, ended
