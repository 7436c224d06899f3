"""How far Spark is, as a bar below the cell that waits for it."""

from __future__ import annotations

import sys
import threading
from typing import Any

from py4j.protocol import Py4JError
from tqdm import tqdm

AFTER = 1.0
"""Seconds that a cell takes before there is a bar."""
LOOK = 0.3
"""Seconds between two looks."""


class Tasks:
    """The tasks of what runs, and of what has run since nothing did."""

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker
        self._jobs: dict[int, tuple[int, int]] = {}

    def look(self) -> tuple[int, int] | None:
        """How many are done, and how many there are as far as their stages have begun; None: nothing runs."""
        active = self._tracker.getActiveJobsIds()
        if not active:
            self._jobs.clear()
            return None
        for job, (_, there) in self._jobs.items():
            if job not in active:
                self._jobs[job] = (there, there)
        self._jobs.update({job: self._of(job) for job in active})
        return sum(done for done, _ in self._jobs.values()), sum(there for _, there in self._jobs.values())

    def _of(self, job: int) -> tuple[int, int]:
        info = self._tracker.getJobInfo(job)
        stages = [self._tracker.getStageInfo(stage) for stage in info.stageIds] if info else []
        # Of a stage whose result is there already no task ever begins.
        begun = [stage for stage in stages if stage and stage.numActiveTasks + stage.numCompletedTasks]
        return sum(stage.numCompletedTasks for stage in begun), sum(stage.numTasks for stage in begun)


class Progress:
    """Shows a bar while anything runs: in a notebook below the cell, elsewhere in a terminal.

    A kernel shows what a thread prints below the cell that began the thread, so that each cell gets its own.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._shell = shell()
        self._over = threading.Event()
        if self._shell is not None:
            self._shell.events.register("pre_run_cell", self._begin)
            self._shell.events.register("post_run_cell", self._end)
        self._begin()

    def close(self) -> None:
        """Shows no more."""
        self._end()
        if self._shell is not None:
            self._shell.events.unregister("pre_run_cell", self._begin)
            self._shell.events.unregister("post_run_cell", self._end)
            self._shell = None

    def _begin(self, *_: object) -> None:
        self._over.set()
        self._over = threading.Event()
        threading.Thread(target=self._show, args=(self._over,), name="mlmp-spark-progress", daemon=True).start()

    def _end(self, *_: object) -> None:
        self._over.set()

    def _show(self, over: threading.Event) -> None:
        bar, tasks = None, Tasks(self._context.statusTracker())
        try:
            while not over.wait(AFTER if bar is None else LOOK):
                seen = tasks.look()
                if seen is None:
                    _end_of(bar)
                    bar = None
                    continue
                if bar is None:  # one without tasks yet counts as false
                    bar = tqdm(desc="Spark", unit=" tasks", disable=None if self._shell is None else False)
                bar.n, bar.total = seen
                bar.refresh()
        except Py4JError:  # the session has ended
            return
        finally:
            _end_of(bar)


def _end_of(bar: Any) -> None:
    if bar is not None:
        bar.n = bar.total
        bar.close()


def shell() -> Any:
    """IPython's in the kernel of a notebook; None elsewhere."""
    ipython = sys.modules.get("IPython")
    found = ipython.get_ipython() if ipython else None
    return found if getattr(found, "kernel", None) else None
