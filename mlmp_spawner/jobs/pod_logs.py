"""What pods print, followed as it comes and kept by the service: pods go, and nodes with them.

One task for each pod reads its log; all workers of an attempt write into one file, of bounded size. How far each was
read is kept beside the log, with the size that the file had then: who begins anew cuts off what came after, and reads
it once more. So nothing is lost or doubled, whenever the service is killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from mlmp_spawner.errors import NotFound, Unavailable
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.log_lines import Lines, Position
from mlmp_spawner.jobs.output import Log
from mlmp_spawner.jobs.pod_attempts import Known, Record, gated, rank_of
from mlmp_spawner.jobs.pod_outcomes import how_ended, program_started
from mlmp_spawner.kube.job_pods import MAIN
from mlmp_spawner.kube.labels import ATTEMPT
from mlmp_spawner.kube.objects import Objects

log = logging.getLogger(__name__)

LOOK, SLOW, PENDING = 0.2, 1.0, 5.0
"""Seconds between two tries to read a log that can't be read just now: at first, at most, and at most before its
program has begun, which whoever looks at pods tells sooner."""
PATIENCE = 60.0
"""Seconds for which the log of a pod that has ended is asked for, where its node does not answer."""
KEEP = 0.5
"""Seconds between two notes of how far it was read."""
TOGETHER, FULL = 4 << 20, 256 << 10
"""Bytes a second that are read of all logs together, and of each whose file is full: of that only the end is kept.
What waits on the node meanwhile is bounded there."""
PIECES = 0.05
"""Seconds between two pieces of one log: what comes in between is one piece."""
UNREADABLE = b"[mlmp: the rest of this output could not be read]\n"


class PodLogs:
    """The logs of all attempts that run. :meth:`close` ends the reading, not what is kept.

    :param rest: waits for so many seconds between two pieces.
    """

    def __init__(
        self, objects: Objects, files: JobFiles, *, rest: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._objects = objects
        self._files = files
        self._attempts: dict[str, _AttemptLog] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._readers: dict[tuple[str, str], _Reader] = {}
        self._pace = Pace(TOGETHER, rest)
        self._opening = asyncio.Lock()
        self._closed = False

    async def follow(self, known: Known) -> None:
        """Begins to read the logs of an attempt's pods that are not read yet."""
        started = [pod for pod in known.pods if not gated(pod)]
        if not started:
            return
        async with self._opening:  # or one that was just finished would be begun again
            if self._closed or self._files.log_is_whole(known.attempt):
                return
            kept = self._attempts.get(known.attempt)
            if kept is None:
                kept = await self._open(known.attempt, (known.record or Record()).log_limit)
                if kept is None:
                    return
                self._attempts[known.attempt] = kept
            for pod in started:
                self._begin(known, kept, pod)
            if kept.behind:
                await asyncio.to_thread(kept.note)

    async def _open(self, attempt: str, limit: int) -> _AttemptLog | None:
        """Its file; None where the disk does not take it, which keeps no job from its end."""
        try:
            return await asyncio.to_thread(_AttemptLog, self._files, attempt, limit)
        except OSError as error:
            log.warning("the log of %s can't be kept just now: %s", attempt, error)
            return None

    def _begin(self, known: Known, kept: _AttemptLog, pod: Mapping[str, Any]) -> None:
        name = str(pod["metadata"]["name"])
        if (known.attempt, name) not in self._tasks and name not in kept.done:
            rank = rank_of(pod) if known.workers > 1 else None
            reader = self._readers[known.attempt, name] = _Reader(self._objects, kept, name, rank, self._pace)
            reader.tell(pod)
            self._tasks[known.attempt, name] = asyncio.create_task(self._read(reader))
        elif (known.attempt, name) in self._readers:
            self._readers[known.attempt, name].tell(pod)

    async def begun(self, attempt: str, patience: float) -> None:
        """Waits until something of each log came: what is deleted before can't be read any more.

        :param patience: in seconds; who prints nothing is not waited for any longer.
        """
        waits = [asyncio.ensure_future(one.begun.wait()) for (of, _), one in self._readers.items() if of == attempt]
        if waits:
            _, late = await asyncio.wait(waits, timeout=patience)
            for one in late:
                one.cancel()

    async def finish(self, attempt: str, patience: float) -> bool:
        """Waits for what pods of an attempt that has ended have printed last; whether its log is whole.

        :param patience: in seconds; call again where that was not enough.
        """
        tasks = [task for (of, _), task in self._tasks.items() if of == attempt]
        if tasks:
            await asyncio.wait(tasks, timeout=patience)
            if not all(task.done() for task in tasks):
                return False
        async with self._opening:
            if self._closed:
                return False
            kept = self._attempts.pop(attempt, None)
            if kept is None and self._files.following(attempt).exists():  # its pods went before anybody went on
                kept = await self._open(attempt, Record().log_limit)
            if kept is not None:
                await asyncio.to_thread(kept.finish)
            for key in [key for key in self._tasks if key[0] == attempt]:
                del self._tasks[key], self._readers[key]
        return True

    async def close(self) -> None:
        """Ends all reading, for good; who comes after goes on from there."""
        async with self._opening:
            self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for kept in self._attempts.values():
            kept.close()
        self._attempts.clear()
        self._tasks.clear()
        self._readers.clear()

    async def _read(self, reader: _Reader) -> None:
        try:
            await reader.run()
        except Exception:
            log.exception("the log of %s is not read any more", reader.pod)


class _AttemptLog:
    """The file of an attempt's log, and how far each pod was read.

    ``done``: pods of which all was read. ``behind``: what is noted is not the newest.
    """

    def __init__(self, files: JobFiles, attempt: str, limit: int) -> None:
        self.attempt = attempt
        self.positions: dict[str, Position] = {}
        self.done: set[str] = set()
        self.behind = False
        self._path, self._following = files.log(attempt), files.following(attempt)
        self._tail = self._path.with_name("tail")
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        said = _read_json(self._following)
        if not said:
            _write(self._following, b"{}")  # before there is a log, which else would be a whole one
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        file, cut = os.open(self._path, flags, 0o600), os.open(self._path.with_name("cut"), flags | os.O_TRUNC, 0o600)
        self._log = Log(file, cut, limit)
        self._cut_to: int | None = None
        self._saved = 0.0
        self._closed = False
        self._lock = threading.Lock()
        self._go_on(said)

    @property
    def full(self) -> bool:
        """Whether only the end of what comes is kept."""
        return self._log.left_out > 0

    def take(self, read: Callable[[], Iterable[bytes]], mark: bytes) -> None:
        """Takes what is new. :param read: gives it, and moves a position on. :param mark: stands before each line."""
        with self._lock:
            if self._closed:
                return
            if data := b"".join(_marked(piece, mark) for piece in read() if piece):
                self._cut()
                self._log.add(data)
                self.behind = True
            if time.monotonic() >= self._saved + KEEP:
                self._save()

    def note(self) -> None:
        """Notes how far it was read."""
        with self._lock:
            if not self._closed:
                self._save()

    def read_all_of(self, pod: str) -> None:
        """All that a pod printed was taken."""
        with self._lock:
            self.done.add(pod)
        self.note()

    def finish(self) -> None:
        """Nothing will be added."""
        with self._lock:
            if self._closed:
                return
            if self.done >= set(self.positions):
                self._cut()  # what came after is the end that was being written
            self._log.end()
            self._close()
            for path in (self._tail, self._following):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leaves it for later."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._log.file)
            os.close(self._log.cut_file)

    def _go_on(self, said: Mapping[str, Any]) -> None:
        """Goes on from what was noted. What came into the file after that is cut off as soon as it comes again."""
        if "size" not in said:
            return
        try:
            self.positions = {str(name): Position.of_json(one) for name, one in said["pods"].items()}
            self.done = set(map(str, said["done"]))
            self._cut_to = int(said["size"])
            self._log.left_out = int(said["left_out"])
            if self._log.left_out:
                self._log.tail = self._tail.read_bytes()
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            log.warning("how far the log of %s was read can't be known: %s", self.attempt, error)

    def _cut(self) -> None:
        if self._cut_to is not None:
            if os.fstat(self._log.file).st_size > self._cut_to:
                os.ftruncate(self._log.file, self._cut_to)
                self._log.measure()
            self._cut_to = None

    def _save(self) -> None:
        """Notes how far it was read: all positions, and the size of the file that goes with them."""
        self._saved, self.behind = time.monotonic(), False
        if self._cut_to is not None:  # nothing new came since
            return
        said = {
            "size": os.fstat(self._log.file).st_size,
            "left_out": self._log.left_out,
            "pods": {name: one.to_json() for name, one in self.positions.items()},
            "done": sorted(self.done),
        }
        try:
            if self._log.left_out:
                _write(self._tail, self._log.tail)
            _write(self._following, json.dumps(said).encode())
        except OSError as error:  # a full disk: what was read is read again after a restart
            log.debug("how far the log of %s was read can't be noted: %s", self.attempt, error)


class Pace:
    """How fast logs are read: who prints without end must not keep all else from being served.

    :param rate: bytes a second, of all who read together; each waits for those that came before.
    """

    def __init__(
        self, rate: float, rest: Callable[[float], Awaitable[None]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate = rate
        self._rest = rest
        self._clock = clock
        self._free_at = 0.0

    async def wait(self, size: int, rate: float | None) -> None:
        """Returns when the next piece may be read. :param size: bytes of the last one. :param rate: of this log."""
        now = self._clock()
        self._free_at = max(now, self._free_at) + size / self.rate
        await self._rest(max(PIECES, self._free_at - now, size / rate if rate else 0.0))


class _Reader:
    """Reads the log of one pod until its program has ended.

    :param rank: written before each line; None: there is but one worker.
    """

    def __init__(self, objects: Objects, kept: _AttemptLog, pod: str, rank: int | None, pace: Pace) -> None:
        self.objects = objects
        self.kept = kept
        self.pod = pod
        self.mark = b"" if rank is None else b"[%d] " % rank
        self.pace = pace
        self.over = self.started = False
        self.begun = asyncio.Event()
        self.told = asyncio.Event()
        self.position = kept.positions.setdefault(pod, Position())

    def tell(self, pod: Mapping[str, Any]) -> None:
        """What somebody has seen of its pod."""
        self.over = self.over or how_ended(pod) is not None
        self.started = self.started or self.over or program_started(pod) is not None
        if self.started:
            self.told.set()

    async def run(self) -> None:
        """Returns when all of it was taken."""
        wait, gives_up = LOOK, time.monotonic() + PATIENCE
        while True:
            over, moved = self.over, self.position.last
            whole = await self._once(last=over)
            if over and (whole or time.monotonic() >= gives_up):
                if not whole:
                    await self._take(lambda: [UNREADABLE])
                break
            if not await self._look():
                break
            if self.over and not over:
                gives_up = time.monotonic() + PATIENCE
                continue
            self.told.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.told.wait(), wait)
            wait = LOOK if self.position.last != moved else min(SLOW if self.started else PENDING, 2 * wait)
        self.begun.set()
        await asyncio.to_thread(self.kept.read_all_of, self.pod)

    async def _once(self, *, last: bool) -> bool:
        """Reads until it breaks off; whether it came to its end."""
        lines = Lines(self.position)
        try:
            async for data in self.objects.log(self.pod, MAIN, since=self.position.since):
                await self._take(partial(lines.add, data))
                self.begun.set()
                await self.pace.wait(len(data), FULL if self.kept.full and not self.over else None)
        except NotFound:
            return last  # of a program that has ended and left no log there is none
        except Unavailable as error:
            log.debug("%s", error)
            return False
        if last:
            await self._take(lines.end)
        return True

    async def _look(self) -> bool:
        """Sees whether the program has ended; False where its pod is gone."""
        try:
            pods = await self.objects.items("Pod", f"{ATTEMPT}={self.kept.attempt}")
        except Unavailable:
            return True
        pod = next((one for one in pods if one["metadata"]["name"] == self.pod), None)
        self.over = self.over or (pod is not None and how_ended(pod) is not None)
        return pod is not None

    async def _take(self, read: Callable[[], Iterable[bytes]]) -> None:
        await asyncio.to_thread(self.kept.take, read, self.mark)


def _marked(piece: bytes, mark: bytes) -> bytes:
    return piece if not mark else mark + piece + (b"" if piece.endswith(b"\n") else b"\n")


def _write(path: Path, content: bytes) -> None:
    """At once, as far as others see; a lost note means that a bit more is read again."""
    temporary = path.with_name(f".{path.name}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    os.replace(temporary, path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
