"""A small back-end, which shows all that one needs: each attempt is a process group below a supervisor of its own,
and whatever is known of it is a file.

``python -m tests.jobs.small_backend FOLDER ATTEMPT`` is the supervisor. It holds a lock as long as it lives, so that
no attempt is started twice, and outlives who started it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlmp_spawner import units
from mlmp_spawner.errors import Unavailable
from mlmp_spawner.jobs.base import LogPart, Order, Seen

LOOK = 0.02
READY = 30.0


class SmallBackend:
    """Runs attempts on this machine, as whoever calls it. :param folder: where it keeps what it knows."""

    queues = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def submit(self, order: Order) -> None:
        """Begins the attempt."""
        _write(self.folder / f"{order.id}.order", asdict(order) | {"nodes": sorted(order.nodes)})
        if not (self.folder / f"{order.id}.times").exists():
            _write(self.folder / f"{order.id}.times", [order.stop_at, order.kill_at])
        command = [sys.executable, "-m", "tests.jobs.small_backend", str(self.folder), order.id]
        done = await asyncio.to_thread(subprocess.run, command, stdin=subprocess.DEVNULL, timeout=READY)
        if done.returncode:
            raise Unavailable("The supervisor ended before it began.")

    async def state(self, attempt: str) -> Seen | None:
        """What is seen of an attempt."""
        if (ended := _read(self.folder / f"{attempt}.ended")) is not None:
            return Seen(attempt, "ended", **ended)
        if not _locked(self.folder / f"{attempt}.lock"):
            # Its supervisor may have ended between the two looks.
            if (ended := _read(self.folder / f"{attempt}.ended")) is not None:
                return Seen(attempt, "ended", **ended)
            end_all(attempt, signal.SIGKILL)
            return None
        began = _read(self.folder / f"{attempt}.running")
        return Seen(attempt, "starting") if began is None else Seen(attempt, "running", started_at=began)

    async def logs(self, attempt: str, start: int, limit: int) -> LogPart:
        """A part of the log."""
        seen = await self.state(attempt)
        try:
            content = (self.folder / f"{attempt}.log").read_bytes()
        except FileNotFoundError:
            content = b""
        begin = min(len(content), max(0, start if start >= 0 else len(content) + start))
        data = content[begin : begin + limit]
        complete = seen is None or seen.phase == "ended"
        cut = _read(self.folder / f"{attempt}.cut") or 0
        return LogPart(data, begin, begin + len(data), len(content), complete, cut)

    async def cancel(self, attempt: str, *, stop_at: int, kill_at: int) -> None:
        """Brings its times forward."""
        times = self.folder / f"{attempt}.times"
        if (old := _read(times)) is not None:
            _write(times, [min(old[0], stop_at), min(old[1], kill_at)])

    async def list(self) -> dict[str, Seen]:
        """All that is known."""
        ids = {path.stem for path in self.folder.glob("*.order")}
        seen = {attempt: await self.state(attempt) for attempt in sorted(ids)}
        return {attempt: one for attempt, one in seen.items() if one is not None}

    async def forget(self, attempt: str) -> None:
        """Removes all but the log."""
        for name in ("order", "times", "running", "ended", "lock"):
            (self.folder / f"{attempt}.{name}").unlink(missing_ok=True)


def end_all(attempt: str, number: int) -> int:
    """Sends a signal to all processes of an attempt, which they show by their environment; how many there were."""
    job, _, tried = attempt.rpartition("-")
    marks = {f"MLMP_JOB_ID={job}".encode(), f"MLMP_JOB_ATTEMPT={tried}".encode()}
    found = 0
    for entry in os.scandir("/proc"):
        with suppress(OSError):
            if entry.name.isdecimal() and marks <= set(Path(entry.path, "environ").read_bytes().split(b"\0")):
                found += 1
                os.kill(int(entry.name), number)
    return found


def _write(path: Path, content: Any) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file)
    os.replace(temporary, path)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def _locked(path: Path) -> bool:
    """Whether a supervisor lives; asked without taking the lock, which could keep one from starting."""
    try:
        with open(path, "r+b") as file:
            asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            return struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK
    except FileNotFoundError:
        return False


# -- the supervisor --------------------------------------------------------------------------------------------------


def supervise(folder: Path, attempt: str, ready: int) -> None:
    """Runs an attempt until it has ended or its time is over; does nothing where that is done or under way.

    :param ready: is written to when the attempt runs, or ran before.
    """
    with open(folder / f"{attempt}.lock", "a+b") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.write(ready, b"!")
            return
        order = _read(folder / f"{attempt}.order")
        if order is None or (folder / f"{attempt}.ended").exists():
            os.write(ready, b"!")
            return
        _write(folder / f"{attempt}.ended", _run(folder, attempt, order, ready))


def _run(folder: Path, attempt: str, order: dict[str, Any], ready: int) -> dict[str, Any]:
    end_all(attempt, signal.SIGKILL)  # what a supervisor left that was killed
    with open(folder / f"{attempt}.log", "ab") as log:
        try:
            job = subprocess.Popen(
                order["manifest"]["command"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, env=_environment(folder, order), start_new_session=True, bufsize=0,
            )  # fmt: skip
        except OSError as error:
            os.write(ready, b"!")
            return {"reason": "start", "message": str(error), "ended_at": units.now()}
        began = units.now()
        _write(folder / f"{attempt}.running", began)
        os.write(ready, b"!")
        asked = _watch(folder, attempt, order, job, log.fileno())
    ended = {"started_at": began, "ended_at": units.now()}
    if asked:
        return ended | {"reason": "time_limit"}
    if job.returncode < 0:
        return ended | {"reason": "signal", "message": signal.Signals(-job.returncode).name}
    return ended | {"reason": "exit_status" if job.returncode else "succeeded", "exit_status": job.returncode}


def _environment(folder: Path, order: dict[str, Any]) -> dict[str, str]:
    place = order["places"][0]
    return {
        "PATH": os.environ["PATH"],
        **order["manifest"].get("environment", {}),
        **order["secrets"],
        "MLMP_JOB_ID": order["job"],
        "MLMP_JOB_ATTEMPT": str(order["number"]),
        "MLMP_STOP_FILE": str(folder / f"{order['id']}.stop"),
        "MLMP_NODE": place["node"],
        "CUDA_VISIBLE_DEVICES": ",".join(place["units"]),
    }


def _watch(folder: Path, attempt: str, order: dict[str, Any], job: subprocess.Popen[bytes], log: int) -> bool:
    """Returns when nothing of it is left; whether it was told to end."""
    assert job.stdout is not None
    pipe = job.stdout.fileno()
    os.set_blocking(pipe, False)
    asked, left = False, order["log_limit"]
    while job.poll() is None:
        left = _pump(folder, attempt, pipe, log, left)
        stop_at, kill_at = _read(folder / f"{attempt}.times")
        now = units.now()
        if now >= stop_at and not asked:
            asked = True
            told = {"reason": "stop", "kill_at": kill_at, "seconds_left": max(0, kill_at - now) / 1000}
            _write(folder / f"{attempt}.stop", told)
            job.send_signal(signal.SIGTERM)
        if now >= kill_at:
            end_all(attempt, signal.SIGKILL)
        time.sleep(LOOK)
    while end_all(attempt, signal.SIGKILL):
        time.sleep(LOOK)
    _pump(folder, attempt, pipe, log, left)
    return asked


def _pump(folder: Path, attempt: str, pipe: int, log: int, left: int) -> int:
    """Moves what was printed into the log, as much as it may have; how much more it may."""
    while True:
        try:
            data = os.read(pipe, 65536)
        except BlockingIOError:
            return left
        if not data:
            return left
        os.write(log, data[:left])
        if len(data) > left:
            _write(folder / f"{attempt}.cut", (_read(folder / f"{attempt}.cut") or 0) + len(data) - left)
        left = max(0, left - len(data))


def main() -> int:
    """Starts the supervisor as a child that nobody waits for, and ends when it is ready."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return 0 if os.read(reading, 1) else 1
    os.setsid()
    supervise(Path(sys.argv[1]), sys.argv[2], writing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
