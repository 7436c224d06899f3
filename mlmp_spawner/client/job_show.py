"""Jobs in the terminal: what one is in words, and its log without what could steer a terminal."""

from __future__ import annotations

import re
import sys
from typing import IO

from mlmp_spawner.client.job_models import Attempt, JobRecord
from mlmp_spawner.client.show import MARKS, Clock, coarse, safe

REASONS = {
    "signal": "ended by a signal",
    "out_of_memory": "out of memory",
    "image": "its image can't be run",
    "start": "it can't be started",
    "time_limit": "its hours were over",
    "preempted": "made way for a booking",
    "node_lost": "its node was lost",
    "vanished": "its processes were gone",
    "platform": "a fault of the platform",
}
"""Why an attempt ended, where that needs words of its own."""


def state(job: JobRecord) -> str:
    """What it is, in a word, with the reason once it has failed."""
    if not job.ended:
        return f"{MARKS[job.state]} {job.state}" if job.state in MARKS else job.state
    outcome = job.outcome or "ended"
    return f"{outcome} ({reason(job)})" if outcome == "failed" and reason(job) else outcome


def reason(found: JobRecord | Attempt) -> str:
    """Why it ended, in words."""
    if found.reason == "exit_status":
        return f"exit status {found.exit_status}"
    return REASONS.get(found.reason or "", (found.reason or "").replace("_", " "))


def what(job: JobRecord) -> str:
    """``train on 2 x gpu, 4 workers``."""
    number = f"{job.units} x " if job.units > 1 else ""
    workers = f", {job.workers} workers" if job.workers > 1 else ""
    return f"{job.name or 'a job'} on {number}{job.profile}{workers}"


def when(job: JobRecord, clock: Clock) -> str:
    """What of its times matters now."""
    if job.ended:
        took = (
            "" if job.started_at is None or job.ended_at is None else f" after {coarse(job.ended_at - job.started_at)}"
        )
        return f"{clock.time(job.ended_at)}{took}" if job.ended_at is not None else ""
    if job.state == "queued":
        return "" if job.estimated_start is None else f"starts about {clock.time(job.estimated_start)}"
    return "" if job.stops_at is None else f"until {clock.time(job.stops_at)} at most"


def line(job: JobRecord, clock: Clock) -> str:
    """How it is, in one line beside its log."""
    nodes = ", ".join(dict.fromkeys(job.attempts[-1].nodes)) if job.attempts else ""
    said = [state(job)]
    if job.state == "queued":
        said.append(job.why or when(job, clock))
    elif not job.ended:
        said += [f"on {nodes}" if nodes else "", f"attempt {len(job.attempts)}" if len(job.attempts) > 1 else ""]
    else:
        said += [when(job, clock), job.message]
    return f"{job.id}: {', '.join(filter(None, said))}"


# Colours, and erasing the rest of a line, as progress bars do.
_KEPT = re.compile(r"\x1b\[[0-9;]{0,30}[mK]")
_BEGUN = re.compile(r"\x1b(?:\[[0-9;]{0,30})?\Z")
_PIECES = re.compile(rf"({_KEPT.pattern})")


class Screen:
    """Writes a log. On a terminal, control characters are made harmless but for those of lines and colours, however
    the pieces are cut; into a file goes what there is."""

    def __init__(self, target: IO[str] | None = None) -> None:
        self._target = target or sys.stdout
        self._rest = ""
        self._raw = not self._target.isatty()

    def write(self, text: str) -> None:
        """A piece of the log, at once."""
        if not self._raw:
            text = self._rest + text
            begun = _BEGUN.search(text)
            self._rest = begun.group() if begun else ""
            text = harmless(text[: len(text) - len(self._rest)])
        self._target.write(text)
        self._target.flush()

    def close(self) -> None:
        """The log is over: what was begun is written, and colours end."""
        if not self._raw:
            self._target.write(harmless(self._rest) + "\x1b[0m")
            self._target.flush()
            self._rest = ""


def harmless(text: str) -> str:
    """Text with line ends, tabs and colours, and nothing else that could steer a terminal."""
    return "".join(
        piece if number % 2 else "".join(c if c in "\n\r\t" else safe(c) for c in piece)
        for number, piece in enumerate(_PIECES.split(text))
    )
