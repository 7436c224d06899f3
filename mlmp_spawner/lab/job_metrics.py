"""Reads the files that a job's program writes its metrics to, and notes what is new in them.

A process of its own beside the program, so that nothing in these files can stop either. It runs until its input ends,
and then looks once more. What was there before it began is left out: an attempt that goes on where another one was
stopped has its own metrics only.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlmp_spawner.lab.tensorboard import Broken, length_of, records, scalars

LOOK = 1.0
"""Seconds between two looks."""
PIECE = 8 << 20
"""Bytes that are read of one file at a look."""
MOST_FILES = 500
MOST_NAMES = 100_000
"""In a directory of event files and below it; what comes after them is not looked for."""
LONGEST_LINE = 64 << 10

_STEPS = ("step", "global_step", "iteration", "epoch")
_TIMES = ("at", "time", "timestamp", "wall_time")

Note = dict[str, Any]


class Followed:
    """A file that grows: what came since the last look. One that shrank begins anew."""

    def __init__(self, path: Path, at: int) -> None:
        self.path = path
        self.at = at
        self.size = at
        self.broken = False

    def new(self) -> bytes:
        """What has not been taken yet, :data:`PIECE` at most."""
        try:
            with open(self.path, "rb") as file:
                self.size = os.fstat(file.fileno()).st_size
                if self.size < self.at:
                    self.at, self.broken = 0, False
                file.seek(self.at)
                return file.read(PIECE)
        except OSError:
            return b""


class JsonLines:
    """A file of JSON objects, one a line: each number in it is a metric, but for its step and its time.

    :param at: how many bytes of it have been read; None: all that are there now.
    """

    def __init__(self, path: Path, at: int | None = None) -> None:
        self.followed = Followed(path, _size(path) if at is None else at)

    def look(self) -> Iterator[Note]:
        """What is new."""
        data = self.followed.new()
        end = data.rfind(b"\n") + 1
        if not end and len(data) == PIECE:
            end = PIECE
        self.followed.at += end
        for line in data[:end].splitlines():
            if len(line) <= LONGEST_LINE and (note := _of_line(line)) is not None:
                yield note


def _of_line(line: bytes) -> Note | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    numbers = {name: value for name, value in found.items() if type(value) in (int, float)}
    step_name = next((name for name in _STEPS if type(numbers.get(name)) is int), None)
    step = numbers.pop(step_name) if step_name else None
    times = [numbers.pop(name) for name in _TIMES if name in numbers]
    return {"at": _at(times[0]) if times else _now(), "step": step, "values": numbers} if numbers else None


class TensorBoard:
    """A directory with event files, also in the directories below it.

    A metric has the name that the program gave it. Files further down than the first ones belong to runs of their
    own, whose name goes before it.

    :param at: how many bytes have been read, by file; None: all that are there now.
    """

    def __init__(self, folder: Path, at: Mapping[str, int] | None = None) -> None:
        self.folder = folder
        self.depth: int | None = None
        self.files = {
            path: Followed(path, _size(path) if at is None else at.get(str(path), 0)) for path in _event_files(folder)
        }

    def look(self) -> Iterator[Note]:
        """What is new."""
        for path in _event_files(self.folder):
            self.files.setdefault(path, Followed(path, 0))
        if self.files:
            self.depth = min(len(path.parts) for path in self.files)
        for path, followed in self.files.items():
            if not followed.broken:
                yield from self._notes(path, followed)

    def _notes(self, path: Path, followed: Followed) -> Iterator[Note]:
        prefix = "/".join(path.parts[(self.depth or 0) - 1 : -1])
        data = followed.new()
        try:
            found, end = records(data)
            if not end and len(data) == PIECE and followed.at + length_of(data) <= followed.size:
                end = length_of(data)
            followed.at += end
            for record in found:
                for one in scalars(record):
                    name = f"{prefix}/{one.name}" if prefix else one.name
                    yield {"at": one.at, "step": one.step, "values": {name: one.value}}
        except Broken:
            followed.broken = True


def _event_files(folder: Path) -> list[Path]:
    """No link is followed, and no more are looked at than anybody has."""
    found: list[Path] = []
    seen = 0
    for where, folders, names in os.walk(folder):
        folders.sort()
        found += [Path(where, name) for name in sorted(names) if "tfevents" in name]
        seen += len(folders) + len(names)
        if len(found) >= MOST_FILES or seen >= MOST_NAMES:
            break
    return found[:MOST_FILES]


def sources(
    named: Sequence[Mapping[str, str]], directory: Path, at: Mapping[str, int] | None = None
) -> list[JsonLines | TensorBoard]:
    """What to look at, by what the manifest says.

    :param at: what :func:`positions` told; None: nothing that is there now is looked at.
    """
    found: list[JsonLines | TensorBoard] = []
    for one in named:
        if "json_lines" in one:
            path = directory / Path(one["json_lines"]).expanduser()
            found.append(JsonLines(path, None if at is None else at.get(str(path), 0)))
        elif "tensorboard" in one:
            found.append(TensorBoard(directory / Path(one["tensorboard"]).expanduser(), at))
    return found


def positions(looked_at: Sequence[JsonLines | TensorBoard]) -> dict[str, int]:
    """How many bytes of each file have been read."""
    found: dict[str, int] = {}
    for one in looked_at:
        files = [one.followed] if isinstance(one, JsonLines) else one.files.values()
        found |= {str(file.path): file.at for file in files}
    return found


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _at(seconds: float) -> int:
    """ms UTC of what is in seconds, or in ms already; now where it is neither."""
    if 1e8 <= seconds < 1e11:
        return int(seconds * 1000)
    return int(seconds) if 1e11 <= seconds < 1e14 else _now()


def _now() -> int:
    return time.time_ns() // 1_000_000


def main(arguments: Sequence[str]) -> int:
    """The entry point: the file descriptor of the notes, and what to look at as JSON."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the last metrics come after the program's end
    notes = int(arguments[0])
    looked_at = sources(json.loads(arguments[1]), Path.cwd())
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], LOOK)[0]:
        _look(looked_at, notes)
    while _look(looked_at, notes):  # all that is left of it
        pass
    return 0


def _look(looked_at: Sequence[JsonLines | TensorBoard], notes: int) -> bool:
    """Notes what is new; whether anything was."""
    found = [note for source in looked_at for note in source.look()]
    for note in found:
        os.write(notes, json.dumps(note).encode() + b"\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
