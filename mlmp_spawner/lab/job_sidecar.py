"""What runs in a job's pod beside its program: sends the service what the program measures and what it uses.

With its user's rights, from MLMP's own image; told by its environment. It sees the pod's processes, and reads the
files of metrics where the program writes them. While the service is away it holds what it has read, and reads no more.
It is told of the program's end by SIGTERM, and is gone within :data:`LAST` seconds, whatever holds it up. It uses
nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from mlmp_spawner.lab.job_metrics import positions, sources

LOOK = 5.0
"""Seconds between two looks at the files."""
SAMPLE = 10.0
"""Seconds between two looks at the processes."""
LAST = 10
"""Seconds for what is left when the program has ended."""
LONGEST_PAUSE = 30.0
"""Seconds until a service that does not answer is tried again."""
BATCH = 128 << 10
"""Bytes in one request."""
LONGEST_LINE = 64 << 10
MOST_SAMPLES = 360
"""So many are held: of one hour."""
PATIENCE = 10.0

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_REFUSED_FOR_NOW = (408, 425, 429)
_GPU_TAIL = 4096
_MIB = 1 << 20


class Processes:
    """What the processes of this pod use, all but this one."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self.proc = proc
        self._counted: tuple[float, float] | None = None

    def look(self, now: float) -> dict[str, float]:
        """``memory`` in bytes, what they share counted for each; ``cpu`` in cores, from the second look on.

        :param now: seconds, of a clock that only goes forward.
        """
        cpu, memory = 0.0, 0
        for name in os.listdir(self.proc):
            if name.isdecimal() and int(name) != os.getpid():
                with suppress(OSError, ValueError, IndexError):  # it has ended
                    fields = (self.proc / name / "stat").read_text(errors="replace").rpartition(")")[2].split()
                    # With the children that it has waited for, so that the sum does not fall when they end.
                    cpu += sum(int(field) for field in fields[11:15]) * _TICK
                    memory += int(fields[21]) * _PAGE
        used = {"memory": float(memory)}
        if self._counted is not None and now > self._counted[0]:
            used["cpu"] = round(max(0.0, cpu - self._counted[1]) / (now - self._counted[0]), 3)
        self._counted = (now, cpu)
        return used


def gpus(path: Path) -> dict[str, float]:
    """What the GPUs of the pod do: ``gpu`` in per cent, ``gpu_memory`` in bytes, over all of them; from lines of
    ``nvidia-smi`` with index, utilisation and MiB. Empty where nothing was written lately."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            file.seek(max(0, status.st_size - _GPU_TAIL))
            lines = file.read(_GPU_TAIL).decode(errors="replace").splitlines()
    except OSError:
        return {}
    if abs(time.time() - status.st_mtime) > 3 * SAMPLE:
        return {}
    last = {fields[0]: fields[1:] for line in lines if len(fields := line.replace(" ", "").split(",")) == 3}
    busy = [float(fields[0]) for fields in last.values() if fields[0].isdecimal()]  # of a MIG slice nobody knows it
    memory = [float(fields[1]) * _MIB for fields in last.values() if fields[1].isdecimal()]
    return ({"gpu": sum(busy) / len(busy)} if busy else {}) | ({"gpu_memory": sum(memory)} if memory else {})


class Sidecar:
    """:param told: its environment."""

    def __init__(self, told: Mapping[str, str]) -> None:
        self.url, self.token = told["MLMP_JOB_NUMBERS_URL"], told["MLMP_JOB_TOKEN"]
        self.seen, self.gpu = Path(told["MLMP_JOB_SEEN"]), Path(told["MLMP_JOB_GPU"])
        named, directory = json.loads(told["MLMP_JOB_METRICS"]), Path(told["MLMP_JOB_DIRECTORY"])
        self.sources = sources(named, directory, remembered(self.seen))
        self.remembered = positions(self.sources)
        self.processes = Processes()
        self.samples: deque[dict[str, Any]] = deque(maxlen=MOST_SAMPLES)
        self.batches: Iterator[bytes] = iter(())
        self.waiting = b""
        self.pause = 0.0

    def run(self, told_of_end: int) -> None:
        """Looks and sends until there is something to read at this file descriptor, and then what is left."""
        sample_at = next_try = time.monotonic()
        while not select.select([told_of_end], [], [], LOOK)[0]:
            now = time.monotonic()
            if now >= sample_at:
                sample_at = now + SAMPLE
                self.sample(now)
            if now >= next_try:
                self.send_new()
                next_try = now + self.pause
        while self.send_new() or self.waiting:
            if self.waiting:
                time.sleep(0.5)

    def sample(self, now: float) -> None:
        """Looks at what is used. :param now: seconds of the monotonic clock."""
        used = self.processes.look(now) | gpus(self.gpu)
        self.samples.append({"at": time.time_ns() // 1_000_000, "used": used})

    def send_new(self) -> bool:
        """Sends what is new, as far as the service takes it; whether there was anything.

        What it does not take now waits, and nothing more is read until it did.
        """
        sent = False
        if not self.waiting:
            self.batches = _batches(self._new())
        while self.waiting or (waiting := next(self.batches, b"")):
            self.waiting = self.waiting or waiting
            if not self._send(self.waiting):
                return sent
            self.waiting = b""
            if self.pause:  # refused: what follows would be, too
                return sent
            sent = True
        reached = positions(self.sources)
        if reached != self.remembered:
            self.remembered = reached
            remember(self.seen, reached)
        return sent

    def _new(self) -> Iterator[Mapping[str, Any]]:
        samples = list(self.samples)
        self.samples.clear()
        yield from samples
        for source in self.sources:
            yield from source.look()

    def _send(self, body: bytes) -> bool:
        """Whether that is done with: taken, or refused for good."""
        headers = {"Authorization": f"token {self.token}", "Content-Type": "application/x-ndjson"}
        done, self.pause = False, min(LONGEST_PAUSE, max(LOOK, 2 * self.pause))
        try:
            with urlopen(Request(self.url, body, headers, method="POST"), timeout=PATIENCE):  # noqa: S310
                done, self.pause = True, 0.0
        except HTTPError as error:
            error.close()
            done = error.code < 500 and error.code not in _REFUSED_FOR_NOW
        except (OSError, HTTPException):
            pass
        return done


def _batches(notes: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    lines: list[bytes] = []
    size = 0
    for note in notes:
        line = json.dumps(note).encode() + b"\n"
        if len(line) > LONGEST_LINE:
            continue
        if size + len(line) > BATCH:
            yield b"".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield b"".join(lines)


def remembered(path: Path) -> dict[str, int] | None:
    """How much of each file has been sent, as it was noted; None where nothing is."""
    try:
        found = json.loads(path.read_bytes())
        return {name: max(0, int(at)) for name, at in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None


def remember(path: Path, reached: Mapping[str, int]) -> None:
    """Notes it, for who is started anew."""
    with suppress(OSError):  # then it is sent twice
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(reached))
        temporary.replace(path)


def main() -> int:
    """The entry point."""
    told_of_end, tell = os.pipe()

    def end(*_: object) -> None:
        signal.alarm(LAST)  # SIGALRM ends the process
        os.write(tell, b"x")

    signal.signal(signal.SIGTERM, end)
    Sidecar(os.environ).run(told_of_end)
    return 0


if __name__ == "__main__":
    sys.exit(main())
