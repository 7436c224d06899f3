"""What the pods of an attempt measured and used, into the files in which the jobs of one machine have theirs.

Lines come from each worker's pod, so from its user: ``{"at": ms UTC, "step": 7, "values": {"loss": 0.3}}`` for metrics
and ``{"at": ms UTC, "used": {"cpu": 1.5, "memory": 4096}}`` for what one worker used.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.output import LONGEST_NOTE, METRICS_LIMIT, metrics
from mlmp_spawner.units import MINUTE

USAGE_LIMIT = 16 << 20
"""Bytes of what one attempt used."""
SUMMED = ("cpu", "memory", "gpu_memory")
"""What is used together by several workers: cores and bytes."""
SHARES = ("gpu",)
"""What is the mean of several workers: per cent."""
RECENT = MINUTE
"""For so long what a worker used counts as what it uses."""

Used = dict[str, float]


class PodNumbers:
    """Takes the lines, and bounds them. It may be called in several threads at once."""

    def __init__(self, files: JobFiles) -> None:
        self.files = files
        self._lock = threading.Lock()
        self._last: dict[str, dict[int, tuple[int, Used]]] = {}

    def take(self, attempt: str, worker: int, body: bytes, *, now: int) -> None:
        """Keeps what one worker sends; what is no such line is left out. The same once more, as somebody sends it who
        did not hear that it came, changes nothing.

        :param worker: from 0 on. :param now: ms UTC.
        :raises Unavailable: the disk is full.
        """
        notes = list(_notes(body))
        measured = [found for note in notes if "used" not in note and (found := metrics(note)) is not None]
        used = [found for note in notes if "used" in note and (found := _used(note)) is not None]
        with self._lock:
            others = self._others(attempt, worker, now)
            together = [_with(found, others) for found in used] if worker == 0 else []
            if used:
                self._last.setdefault(attempt, {})[worker] = (now, used[-1]["values"])
            try:
                self.files.metrics(attempt).parent.mkdir(mode=0o700, exist_ok=True)
                _append(self.files.metrics(attempt), measured, METRICS_LIMIT)
                _append(self.files.usage(attempt), together, USAGE_LIMIT)
            except OSError as error:
                raise Unavailable("There is no room for numbers of jobs just now.") from error

    def _others(self, attempt: str, worker: int, now: int) -> dict[str, tuple[float, int]]:
        """What the other workers of an attempt use together, and how many of them said so. Reckoned once for all lines
        of a request, which may be thousands."""
        self._last = {
            one: kept
            for one, known in self._last.items()
            if (kept := {rank: last for rank, last in known.items() if now - last[0] < RECENT})
        }
        others = [used for rank, (_, used) in self._last.get(attempt, {}).items() if rank != worker]
        said = {name: [used[name] for used in others if name in used] for name in (*SUMMED, *SHARES)}
        return {name: (sum(values), len(values)) for name, values in said.items()}


def _with(found: Mapping[str, Any], others: Mapping[str, tuple[float, int]]) -> dict[str, Any]:
    """What all workers of an attempt use, as a line of the time at which the first one said so."""
    values = {}
    for name, (total, count) in others.items():
        mine = found["values"].get(name)
        total, count = (total, count) if mine is None else (total + mine, count + 1)
        if count:
            values[name] = total / count if name in SHARES else total
    return {**found, "values": values}


def _notes(body: bytes) -> Iterable[dict[str, Any]]:
    for line in body.split(b"\n"):
        if len(line) > LONGEST_NOTE:
            continue
        try:
            note = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(note, dict):
            yield note


def _used(note: Mapping[str, Any]) -> dict[str, Any] | None:
    """What one worker used, as a line; None where it is none."""
    given = note["used"]
    if not isinstance(given, dict):
        return None
    found = metrics({"at": note.get("at"), "step": None, "values": {n: given.get(n) for n in (*SUMMED, *SHARES)}})
    if found is None:
        return None
    found["values"] = {name: value for name, value in found["values"].items() if 0 <= value < math.inf}
    return found if found["values"] else None


def _append(path: Path, lines: Iterable[Mapping[str, Any]], limit: int) -> None:
    """Adds lines to a file of at most ``limit`` bytes, whole or not at all.

    :raises OSError: there is no room.
    """
    text = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
    if not text:
        return
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(file).st_size
        length = min(size, len(text))
        end = os.pread(file, length, size - length)
        if end == text:
            return
        if end and not end.endswith(b"\n"):  # of what a crash cut
            text = b"\n" + text
        text = text[: text.rfind(b"\n", 0, max(0, limit - size)) + 1]
        try:
            while text:
                text = text[os.write(file, text) :]
        except OSError:
            os.ftruncate(file, size)
            raise
    finally:
        os.close(file)
