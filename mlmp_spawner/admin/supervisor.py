"""Keeps a few processes running: starts them, starts them again when they die, ends them together.

The children die with the supervisor (PDEATHSIG), however it dies: a new one never finds the old ones in its way.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
"""Seconds before a process that died is started again; doubled each time it dies young."""
SETTLED = 30.0
"""A process that has run for so many seconds was not broken from the start."""
LOOK = 0.2
LAST_WORDS = 15.0
"""Seconds between SIGTERM and SIGKILL when all is ended."""
LOG_LIMIT = 20 << 20

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_libc = ctypes.CDLL(None)


@dataclass
class Child:
    """One process to keep running. ``environment`` comes on top of the supervisor's own.

    ``runs_as``: uid and gid of an account that it runs as, without any way to more rights; None: as we do.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    runs_as: tuple[int, int] | None = None
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = FIRST_PAUSE
    due: float | None = 0.0

    def start(self) -> None:
        """Starts it; its output is added to its log."""
        parent = os.getpid()

        uid, gid = self.runs_as or (None, None)

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if uid is not None:
                _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        _rotate(self.log)
        with open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the supervisor
                preexec_fn=die_with_parent,
                user=uid,
                group=gid,
                extra_groups=None if uid is None else [],
                umask=-1 if uid is None else 0o077,
            )
        self.started, self.due = time.monotonic(), None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None


def _rotate(log: Path) -> None:
    try:
        if log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
    except FileNotFoundError:
        pass


class Supervisor:
    """Runs ``children`` until it is told to stop.

    :param say: called with one sentence about each that died.
    """

    def __init__(self, children: Sequence[Child], say: Callable[[str], None]) -> None:
        self.children = list(children)
        self.say = say
        self.stopping = False

    def stop(self) -> None:
        """Makes :meth:`run` return; may be called from a signal handler."""
        self.stopping = True

    def start(self) -> None:
        """Starts all, in order."""
        for child in self.children:
            child.start()

    def look(self) -> None:
        """Starts again what died, when its pause is over."""
        for child in self.children:
            if child.due is None and not child.alive:
                self._died(child)
            if child.due is not None and time.monotonic() >= child.due:
                child.start()

    def run(self) -> None:
        """Looks until told to stop."""
        while not self.stopping:
            self.look()
            time.sleep(LOOK)

    def end(self) -> None:
        """Ends all, the last one first; politely at first."""
        for child in reversed(self.children):
            if child.process is not None and child.alive:
                child.process.terminate()
        limit = time.monotonic() + LAST_WORDS
        for child in self.children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()

    def _died(self, child: Child) -> None:
        assert child.process is not None
        ran = time.monotonic() - child.started
        if ran >= SETTLED:
            child.pause = FIRST_PAUSE
        child.due = time.monotonic() + child.pause
        again = f"started again in {child.pause:g} s" if child.pause >= 1 else "started again"
        self.say(f"The {child.name} ended ({_how(child.process.returncode)}); {again}. Its log: {child.log}")
        child.pause = min(child.pause * 2, LONGEST_PAUSE)


def _how(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
