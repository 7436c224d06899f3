"""What jobs measured and what they used, from the files of the service, as series to plot."""

from __future__ import annotations

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


def measured(files: JobFiles, attempts: Sequence[str], manifest: Mapping[str, Any]) -> dict[str, Series]:
    """The metrics of a job by name; what its own files say wins over what its log says under the same name.

    :param attempts: their ids, the first one first.
    :param manifest: the job's, in its normal form.
    """
    patterns = [metric["pattern"] for metric in manifest["metrics"] if "pattern" in metric]
    logged = _of(attempts, files.log, lambda text: from_log(text, patterns)) if patterns else {}
    return logged | _of(attempts, files.metrics, from_lines)


def last_values(files: JobFiles, attempt: str, manifest: Mapping[str, Any]) -> dict[str, float]:
    """The last finite value of each metric at the end of an attempt's files: quick, for many jobs side by side."""
    patterns = [metric["pattern"] for metric in manifest["metrics"] if "pattern" in metric]
    found = from_log(_tail(files.log(attempt), LAST_READ), patterns) if patterns else {}
    found |= from_lines(_tail(files.metrics(attempt), LAST_READ))
    last = {name: [value for value in one.values if value is not None] for name, one in found.items()}
    return {name: values[-1] for name, values in sorted(last.items()) if values}


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
