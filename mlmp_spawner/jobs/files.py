"""The files of jobs that the service keeps, below ``DATA/jobs``: nobody but the service's account may look there.

::

    code/<sha256 of the owner>/<SHA256>.tar.gz   snapshots of code, once for each owner
    logs/ATTEMPT/log, cut                        what it printed, and how many bytes of that were left out
    logs/ATTEMPT/follow.json, tail               how far it was read, where it comes from a pod
    logs/ATTEMPT/metrics.jsonl, usage.jsonl      its numbers, and what it used
    deadlines/ATTEMPT                            when it ends
    running/ATTEMPT.json                         of the process that watches over it
    ended/ATTEMPT                                how it ended

All sizes are bytes. Every call may come again after a crash.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from mlmp_spawner.errors import Invalid
from mlmp_spawner.jobs.base import LogPart
from mlmp_spawner.units import format_size

MOST_READ = 4 << 20
"""Bytes of a log in one piece."""

_ATTEMPT = re.compile(r"[a-z0-9]{1,30}-[0-9]{1,9}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FOLDERS = ("code", "logs", "deadlines", "running", "ended")
_UPLOAD = ".upload-"
_BLOCK = 4096
# What the smallest file takes on a disk, and a folder: many small ones fill it too.


class Kept(NamedTuple):
    """An attempt that ended, with whose log it is. ``ended_at`` in ms UTC."""

    attempt: str
    owner: str
    ended_at: int


class JobFiles:
    """The files below ``root``. What is no id of an attempt, or no hash, is a ValueError: no path is made of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.deadlines = root / "deadlines"
        self.running = root / "running"
        self.socket = root / "start.sock"

    def prepare(self) -> None:
        """Makes the folders."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in _FOLDERS:
            (self.root / folder).mkdir(mode=0o700, exist_ok=True)

    def log(self, attempt: str) -> Path:
        """What it printed."""
        return self._logs(attempt) / "log"

    def metrics(self, attempt: str) -> Path:
        """Its metrics, as lines of :mod:`mlmp_spawner.rules.job_metrics`."""
        return self._logs(attempt) / "metrics.jsonl"

    def usage(self, attempt: str) -> Path:
        """What it used, as lines of the same form."""
        return self._logs(attempt) / "usage.jsonl"

    def ended(self, attempt: str) -> Path:
        """How it ended; there once nothing of it runs."""
        return self.root / "ended" / _checked(_ATTEMPT, attempt)

    def following(self, attempt: str) -> Path:
        """How far its log was read, where the service itself does; gone once all of it is there."""
        return self._logs(attempt) / "follow.json"

    def log_is_whole(self, attempt: str) -> bool:
        """Whether the service has read all that it printed."""
        return self.log(attempt).exists() and not self.following(attempt).exists()

    def read_log(self, attempt: str, start: int, limit: int, *, complete: bool | None = None) -> LogPart:
        """A part of its log, from byte ``start`` on (negative: counted from the end), ``limit`` bytes at most.

        :param complete: whether nothing will be added. None: as far as the files tell, it ran and runs no more.
        """
        path = self.log(attempt)
        if complete is None:
            complete = path.exists() and not (self.running / f"{attempt}.json").exists()
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                begin = max(0, size + start) if start < 0 else min(start, size)
                file.seek(begin)
                data = file.read(max(0, min(limit, MOST_READ, size - begin)))
        except FileNotFoundError:
            return LogPart(b"", 0, 0, 0, complete)
        return LogPart(data, begin, begin + len(data), size, complete, self._cut(attempt))

    def _cut(self, attempt: str) -> int:
        try:
            return int((self._logs(attempt) / "cut").read_bytes()[:20] or b"0")
        except (FileNotFoundError, ValueError):
            return 0

    def size_of(self, attempts: Iterable[str]) -> int:
        """Bytes that the logs and numbers of ``attempts`` take, in whole blocks."""
        return sum(_size(self._logs(attempt)) for attempt in attempts)

    def with_logs(self) -> list[str]:
        """The attempts of which something is kept, in no order."""
        with suppress(FileNotFoundError):
            return [name for name in os.listdir(self.root / "logs") if _ATTEMPT.fullmatch(name)]
        return []

    def remove_strays(self, known: Collection[str], *, before: int) -> None:
        """Drops the logs of attempts that nobody knows, such as those of a database that was replaced, where nothing
        was written since ``before`` (ms UTC)."""
        for attempt in set(self.with_logs()) - set(known):
            with suppress(FileNotFoundError):
                if self._logs(attempt).stat().st_mtime_ns // 1_000_000 < before:
                    self.remove_logs(attempt)

    def remove_logs(self, attempt: str) -> None:
        """Drops the log and the numbers of an attempt."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._logs(attempt))

    def remove_old(self, ended: Iterable[Kept], *, before: int, room: Mapping[str, int | None]) -> list[str]:
        """Drops the logs of attempts that ended before ``before`` (ms UTC), and of each owner those that ended first
        until the rest is within the owner's room.

        :param ended: attempts that ended; what still runs is kept in any case.
        :param room: bytes by owner, None: no limit; who is not named has none.
        :return: whose logs were dropped.
        """
        dropped: list[str] = []
        used: dict[str, int] = {}
        for one in sorted(ended, key=lambda one: one.ended_at, reverse=True):
            allowed = room.get(one.owner)
            total = used.get(one.owner, 0) + (0 if allowed is None else self.size_of([one.attempt]))
            used[one.owner] = total
            if one.ended_at < before or (allowed is not None and total > allowed):
                self.remove_logs(one.attempt)
                dropped.append(one.attempt)
        return dropped

    def code_path(self, owner: str, sha256: str) -> Path:
        """Where the snapshot of an owner with this hash (64 hex digits) is kept."""
        folder = hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()
        return self.root / "code" / folder / f"{_checked(_SHA256, sha256)}.tar.gz"

    def receive_code(self, sha256: str, limit: int) -> Upload:
        """Takes a snapshot in, of ``limit`` bytes at most, on the file system of those that are kept."""
        _checked(_SHA256, sha256)
        number, path = tempfile.mkstemp(dir=self.root / "code", prefix=_UPLOAD)  # 0600
        return Upload(number, Path(path), sha256, limit)

    def remove_uploads(self, *, before: int) -> None:
        """Drops what came in half before ``before`` (ms UTC), whose connection or service ended."""
        for path in (self.root / "code").glob(f"{_UPLOAD}*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime_ns // 1_000_000 < before:
                    path.unlink()

    def all_code(self, *, before: int) -> list[Path]:
        """The snapshots that came before then (ms UTC)."""
        found = []
        for path in (self.root / "code").glob("*/*.tar.gz"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime_ns // 1_000_000 < before:
                    found.append(path)
        return found

    def _logs(self, attempt: str) -> Path:
        return self.root / "logs" / _checked(_ATTEMPT, attempt)


class Upload:
    """A snapshot on its way in. As a context manager it leaves nothing behind but what was moved away."""

    def __init__(self, number: int, path: Path, sha256: str, limit: int) -> None:
        self.path = path
        self._file = open(number, "wb")  # noqa: SIM115 - it stays open until finish() or __exit__()
        self._sha256 = sha256
        self._limit = limit
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, chunk: bytes) -> None:
        """Takes the next piece.

        :raises Invalid: it is too much. :raises OSError: the disk is full.
        """
        self._size += len(chunk)
        if self._size > self._limit:
            raise Invalid.field("code", f"has more than {format_size(self._limit)}, which is the most",
                                limit=self._limit)  # fmt: skip
        self._digest.update(chunk)
        self._file.write(chunk)

    def finish(self) -> Path:
        """The file, whole and on the disk, to be moved where it belongs.

        :raises Invalid: its hash is another.
        """
        found = self._digest.hexdigest()
        if found != self._sha256:
            raise Invalid.field(
                "code", f"has the SHA-256 {found}, not {self._sha256}; it was cut, or changed on its way"
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self.path

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # a full disk says so when what was written goes there
            self._file.close()
        self.path.unlink(missing_ok=True)


def _checked(form: re.Pattern[str], text: str) -> str:
    if not form.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not of the form {form.pattern}")
    return text


def _size(folder: Path) -> int:
    total = 0
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        total = _BLOCK
        for entry in entries:
            with suppress(FileNotFoundError):
                total += -(-entry.stat(follow_symlinks=False).st_size // _BLOCK) * _BLOCK
    return total
