"""What the pages show of a job: what it does, until when, why it waits or how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlmp_spawner.rules.jobs import Attempt, Job, Reason
from mlmp_spawner.units import SECOND, format_duration

ENDED: Mapping[Reason, str] = {
    "succeeded": "it ended with status 0",
    "exit_status": "its program failed",
    "signal": "its program was ended by a signal that nobody here sent",
    "out_of_memory": "it ran out of memory",
    "image": "its image could not be pulled or run",
    "start": "its program could not be started",
    "time_limit": "its time was over",
    "cancelled": "cancelled",
    "preempted": "it made way for a booking",
    "node_lost": "its machine was lost",
    "vanished": "its processes were gone, and left no exit status",
    "platform": "this service failed it",
}
"""How an attempt ended, within a sentence."""

HINTS: Mapping[Reason, str] = {
    "exit_status": "The end of the log says most.",
    "out_of_memory": "Smaller batches need less memory; so does another profile, which has more.",
    "time_limit": "Submit it again with more hours; with a checkpoint it goes on where it was.",
    "start": "Look whether its script is among the files that were submitted, and can be run.",
}
"""What its owner can do about it."""

STOPPING: Mapping[Reason, str] = {
    "cancelled": "It was cancelled: it may still write its checkpoint, then nothing of it is left.",
    "preempted": "A booking needs its place: it writes its checkpoint, and waits again before its owner's other jobs.",
    "time_limit": "Its time is over: it may still write its checkpoint.",
}

LOOK_AGAIN = {"queued": 10 * SECOND, "starting": 2 * SECOND, "running": 3 * SECOND, "stopping": 2 * SECOND}
"""After how long (ms) a page with a job in this state is looked at again: what it measured tells nobody."""


@dataclass(frozen=True, slots=True)
class ShownJob:
    """A job as its viewer sees it. ``mine``: with name, manifest and how it ended; ``own``: with log and numbers too,
    which are nobody else's. ``owner`` is empty where nobody is told whose it is. ``start``: the estimated one, ms UTC;
    ``why``: why it waits."""

    job: Job
    now: int
    title: str
    own: bool
    mine: bool
    owner: str = ""
    simulated: bool = False
    start: int | None = None
    why: str = ""

    @property
    def state(self) -> str:
        """queued, starting, running, stopping, ended."""
        return self.job.state()

    @property
    def mark(self) -> str:
        """Which mark it has, and which word."""
        if self.state != "ended":
            return self.state
        return self.job.outcome or "ended" if self.mine else "ended"

    @property
    def name(self) -> str:
        """How it is called here."""
        if self.mine:
            return self.job.name
        return f"a job of {self.owner}" if self.owner else "a job"

    @property
    def what(self) -> str:
        """What it takes: "2 × A100", "2 workers with 4 × A100 each"."""
        each = f"{self.job.units} × {self.title}" if self.job.units > 1 else self.title
        return f"{self.job.workers} workers with {each} each" if self.job.workers > 1 else each

    @property
    def nodes(self) -> tuple[str, ...]:
        """Where it runs, or ran last."""
        last = self.job.attempts[-1] if self.job.attempts else None
        return tuple(dict.fromkeys(last.nodes)) if last and self.state != "queued" else ()

    @property
    def stop_at(self) -> int | None:
        """When it is asked to end at the latest, ms UTC."""
        return self.job.live.stop_at if self.job.live else None

    @property
    def started_at(self) -> int | None:
        """When it first ran."""
        return next((one.started_at for one in self.job.attempts if one.started_at is not None), None)

    @property
    def ran(self) -> int:
        """How long it has run in all its attempts, ms."""
        return sum(ran(one, self.now) for one in self.job.attempts)

    @property
    def can_cancel(self) -> bool:
        """Whether there is something to end."""
        return self.mine and self.state != "ended" and self.job.cancel_asked_at is None

    @property
    def note(self) -> str:
        """What there is to say of its state."""
        job, live = self.job, self.job.live
        if not self.mine:
            return ""
        if self.state == "queued":
            return self.why
        if self.state == "stopping" and live is not None:
            return STOPPING.get(live.stop_reason or "time_limit", "")
        if self.state == "ended" and job.outcome == "failed":
            return how_it_ended(job.reason, job.exit_status).capitalize() + "."
        return ""

    @property
    def again(self) -> str:
        """Why it waits once more, where it ran already."""
        last = self.job.attempts[-1] if self.job.attempts else None
        if self.state != "queued" or last is None or not self.mine:
            return ""
        return f"Try {last.number} is over: {how_it_ended(last.reason, last.exit_status)}."

    @property
    def hint(self) -> str:
        """What its owner can do about its failure."""
        return HINTS.get(self.job.reason or "succeeded", "") if self.job.outcome == "failed" else ""


def how_it_ended(reason: Reason | None, exit_status: int | None) -> str:
    """In words, within a sentence."""
    if reason == "exit_status" and exit_status is not None:
        return f"its program ended with status {exit_status}"
    return ENDED.get(reason, str(reason).replace("_", " ")) if reason else "it is over"


def ran(attempt: Attempt, now: int) -> int:
    """How long it has run, ms."""
    if attempt.started_at is None:
        return 0
    return max(0, (now if attempt.ended_at is None else attempt.ended_at) - attempt.started_at)


def next_look(found: Iterable[ShownJob], now: int) -> int | None:
    """When a page that shows these is to be looked at again, ms UTC; None where all are over."""
    return min((now + LOOK_AGAIN[one.state] for one in found if one.state != "ended"), default=None)


def summary(counts: Mapping[Any, int], *, mine: bool) -> str:
    """What there is, in a sentence: "1 of your jobs runs, 12 wait."."""
    runs = sum(counts.get(state, 0) for state in ("starting", "running", "stopping"))
    waits = counts.get("queued", 0)
    whose = "of your jobs" if mine else "of all jobs"
    if not runs and not waits:
        return f"None {whose} runs or waits."
    first = f"{runs:,} {whose} {'runs' if runs == 1 else 'run'}" if runs else f"None {whose} runs"
    return f"{first}, {f'{waits:,}' if waits else 'none'} {'wait' if waits > 1 else 'waits'}."


# -- comparing ----------------------------------------------------------------------------------------------------

_SHOWN = ("profile", "units", "workers", "hours", "script", "notebook", "command", "image", "priority")


def settings_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What of a manifest one compares, each as a line: arguments by their options, parameters, environment."""
    found = _options(manifest.get("arguments") or ())
    found |= {str(name): _line(value) for name, value in (manifest.get("parameters") or {}).items()}
    found |= {f"${name}": _line(value) for name, value in (manifest.get("environment") or {}).items()}
    return found | {name: _line(manifest[name]) for name in _SHOWN if manifest.get(name) is not None}


def _options(arguments: Sequence[Any]) -> dict[str, str]:
    """``--lr 0.1 --fast data`` as ``{"--lr": "0.1", "--fast": "yes", "argument 1": "data"}``."""
    found: dict[str, str] = {}
    words, at, plain = [str(word) for word in arguments], 0, 0
    while at < len(words):
        name, has_value, value = words[at].partition("=")
        at += 1
        if not name.startswith("-") or _is_number(name):
            plain += 1
            found[f"argument {plain}"] = words[at - 1]
        elif has_value:
            found[name] = value
        elif at < len(words) and (not words[at].startswith("-") or _is_number(words[at])):
            found[name] = words[at]
            at += 1
        else:
            found[name] = "yes"
    return found


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _line(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def compared(settings: Sequence[Mapping[str, str]]) -> tuple[list[tuple[str, list[str]]], list[tuple[str, str]]]:
    """The rows of a table: what differs with the value of each, and what is the same in all."""
    names = list(dict.fromkeys(name for one in settings for name in one))
    rows = [(name, [one.get(name, "") for one in settings]) for name in names]
    differs = [(name, values) for name, values in rows if len(set(values)) > 1]
    return differs, [(name, values[0]) for name, values in rows if len(set(values)) == 1]


def in_words(ms: int) -> str:
    """A duration of a run, without what does not matter: seconds only within ten minutes."""
    return format_duration(ms // SECOND * SECOND if ms < 600 * SECOND else ms // (60 * SECOND) * 60 * SECOND)
