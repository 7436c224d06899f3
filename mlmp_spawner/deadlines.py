"""When each running server ends, as files that every enforcer on this machine reads.

``DATA/deadlines/ID`` holds the deadline of the server that was started under reservation ID. The directory belongs to
the service's account, users can't write there, and a file is replaced atomically: a reader sees the old deadline or
the new one, never half of one. This module imports next to nothing, since ``mlmp run`` starts with every server.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Deadline:
    """``stop_at``: when the stop begins; ``end``: when nothing may be left. Both in ms UTC."""

    stop_at: int
    end: int

    @property
    def acts_at(self) -> int:
        """When ``mlmp run`` begins the stop by itself: a little after ``stop_at``, for the clock stops politely."""
        return self.stop_at + min(2_000, (self.end - self.stop_at) // 2)

    @property
    def kills_at(self) -> int:
        """When whatever is left is killed, so that the units are free at the end."""
        return self.end - min(1_000, (self.end - self.stop_at) // 4)


def write(directory: Path, server_id: str, deadline: Deadline) -> None:
    """Publishes a deadline; when this returns, every reader sees it."""
    temporary = directory / f".{server_id}.{os.getpid()}.{time.monotonic_ns()}"
    # Root writes it where the service reads it; who else may is a matter of the directory.
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
        json.dump(asdict(deadline), file)
    os.replace(temporary, directory / server_id)


def read(directory: Path, server_id: str) -> Deadline | None:
    """The deadline as published; None where there is none (or none that can be read)."""
    return read_file(directory / server_id)


def read_file(path: Path) -> Deadline | None:
    """The deadline in a file; None where there is none (or none that can be read)."""
    try:
        content = json.loads(path.read_text())
        return Deadline(int(content["stop_at"]), int(content["end"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(directory: Path, server_id: str) -> None:
    """Takes a deadline back, where there is one."""
    (directory / server_id).unlink(missing_ok=True)


def published(directory: Path) -> dict[str, float]:
    """The ids of all servers with a published deadline, with its age in seconds."""
    found: dict[str, float] = {}
    for entry in directory.glob("[!.]*"):
        try:
            found[entry.name] = time.time() - entry.stat().st_mtime
        except FileNotFoundError:
            continue
    return found
