"""Which process is which on this machine, and which users' servers run.

A process is named by its identity, since a pid is used again. Each ``mlmp run`` keeps a record of itself in
``DATA/servers``, so that hub and service know after a restart what runs, and at which port. This module imports next
to nothing, since ``mlmp run`` starts with every server.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path


def identity(pid: int) -> str | None:
    """Which process ``pid`` is: ``"pid:start tick:boot id"``; None if there is none.

    The start tick tells it from a later process of the same pid, the boot id from one before a restart.
    """
    stat = _stat(pid)
    return f"{pid}:{stat.start_tick}:{_boot_id()}" if stat else None


def alive(process: str) -> bool:
    """Whether the process of that identity still runs. One that has ended but was not waited for does not."""
    pid, _, rest = process.partition(":")
    start_tick, _, boot_id = rest.partition(":")
    if not (pid.isdecimal() and start_tick.isdecimal()) or boot_id != _boot_id():
        return False
    stat = _stat(int(pid))
    return stat is not None and stat.start_tick == int(start_tick) and not stat.ended


def send(process: str, number: int) -> bool:
    """Sends a signal to the process of that identity, and to no other that has its pid by now; False if it is gone."""
    if not alive(process):
        return False
    try:
        handle = os.pidfd_open(int(process.partition(":")[0]))
    except ProcessLookupError:
        return False
    try:
        if not alive(process):
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)


def below(pid: int) -> list[int]:
    """The pids of all processes below ``pid`` that have not ended, parents first."""
    children: dict[int, list[int]] = {}
    ended: set[int] = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and (stat := _stat(int(entry.name))) is not None:
            children.setdefault(stat.parent, []).append(int(entry.name))
            if stat.ended:
                ended.add(int(entry.name))
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in children.get(parent, ())]
        found += level
    return [each for each in found if each not in ended]


@dataclass(frozen=True, slots=True)
class Record:
    """A user's server as its ``mlmp run`` records it. ``id``: the reservation that it was started under.

    ``pid`` and ``identity`` are those of ``mlmp run`` itself; ``stopping`` is when it began to stop, in ms UTC.
    ``not_enforced``: what of its share could not be limited, each with the reason. ``started``: when it began, ms UTC,
    where that is kept.
    """

    id: str
    owner: str
    server: str
    pid: int
    identity: str
    port: int = 0
    stopping: int | None = None
    not_enforced: Mapping[str, str] = field(default_factory=dict)
    started: int | None = None

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return alive(self.identity)


def write_record(path: Path, record: Record) -> None:
    """Writes a record, in one step as far as readers can see. The service may have an account of its own."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w") as file:
        json.dump(asdict(record), file)
    os.replace(temporary, path)


def read_record(path: Path) -> Record | None:
    """The record in a file; None where there is none (or none that can be read)."""
    try:
        content = json.loads(path.read_text())
        return Record(**{each.name: content[each.name] for each in fields(Record) if each.name in content})
    except (OSError, ValueError, TypeError):
        return None


def running(directory: Path) -> list[Record]:
    """The users' servers whose ``mlmp run`` is alive."""
    records = (read_record(path) for path in sorted(directory.glob("[!.]*.json")))
    return [record for record in records if record is not None and record.alive]


@dataclass(frozen=True, slots=True)
class _Stat:
    parent: int
    start_tick: int
    ended: bool


def _stat(pid: int) -> _Stat | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and parentheses
    state, parent, threads, start_tick = fields[0], int(fields[1]), int(fields[17]), int(fields[19])
    return _Stat(parent, start_tick, state in "ZXx" and threads <= 1)  # the first thread may end before the others


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
