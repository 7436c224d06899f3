"""What jobs measured and what they used, from the files of the service, as series to plot."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.rules.job_metrics import Series, from_lines, from_log, joined

MOST_READ = 16 << 20
"""Bytes that are read of a job's files of one kind: the last ones, of its last attempts."""
LAST_READ = 64 << 10
"""Bytes that are read of each for the last values."""
MOST_ATTEMPTS = 100
"""The last ones are read."""

AsIs = tuple[Path, int, int]
"""A file with its size and the time of its last change (ns)."""


def measured(files: JobFiles, attempts: Sequence[str], manifest: Mapping[str, Any]) -> dict[str, Series]:
    """The metrics of a job by name; what its own files say wins over what its log says under the same name.

    :param attempts: their ids, the first one first.
    :param manifest: the job's, in its normal form.
    """
    patterns = [metric["pattern"] for metric in manifest["metrics"] if "pattern" in metric]
    logged = _of(attempts, files.log, lambda text: from_log(text, patterns)) if patterns else {}
    return logged | _of(attempts, files.metrics, from_lines)


def last_values(files: JobFiles, attempt: str, manifest: Mapping[str, Any]) -> dict[str, float]:
    """The last finite value of each metric at the end of an attempt's files: quick, for many jobs side by side, and
    quicker where they are as they were when they were read last."""
    patterns = tuple(metric["pattern"] for metric in manifest["metrics"] if "pattern" in metric)
    log = _as_is(files.log(attempt)) if patterns else None
    return dict(_last_values(log, _as_is(files.metrics(attempt)), patterns))


@functools.lru_cache(maxsize=5000)
def _last_values(log: AsIs | None, lines: AsIs | None, patterns: tuple[str, ...]) -> dict[str, float]:
    found = from_log(_tail(log[0], LAST_READ), list(patterns)) if log else {}
    found |= from_lines(_tail(lines[0], LAST_READ)) if lines else {}
    last = {name: [value for value in one.values if value is not None] for name, one in found.items()}
    return {name: values[-1] for name, values in sorted(last.items()) if values}


def _as_is(path: Path) -> AsIs | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return path, found.st_size, found.st_mtime_ns


def used(files: JobFiles, attempts: Sequence[str]) -> dict[str, Series]:
    """What a job used of the machine, by name, over time. :param attempts: as for :func:`measured`."""
    return _of(attempts, files.usage, from_lines)


def _of(
    attempts: Sequence[str], path: Callable[[str], Path], read: Callable[[bytes], dict[str, Series]]
) -> dict[str, Series]:
    left, found = MOST_READ, []
    for attempt in reversed(attempts[-MOST_ATTEMPTS:]):
        text = _tail(path(attempt), left)
        found.append(read(text))
        left -= len(text)
        if left <= 0:
            break
    return joined(found[::-1])


def _tail(path: Path, most: int) -> bytes:
    """The last ``most`` bytes of a file, from the begin of a line on; nothing where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            begin = max(0, size - most)
            file.seek(begin)
            text = file.read(most)
    except FileNotFoundError:
        return b""
    return text.partition(b"\n")[2] if begin else text
