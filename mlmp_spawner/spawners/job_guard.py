"""``mlmp run`` for an attempt of a job: as for a server, and all that is to be known of it afterwards is kept.

What the job prints goes through a pipe into its log. How it ended is written down once nothing of it is left, and by
nobody else: while that file is missing, the attempt may still run. Whoever finds the record of a guard that was killed
starts another one for the same attempt, which takes over its lock, ends what is left and says that it vanished.

Started by root, it touches the service's files with the rights of the service's account alone, which could have put a
link there.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pwd
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlmp_spawner import cgroups, deadlines, private_files, processes, units
from mlmp_spawner.errors import MLMPError
from mlmp_spawner.jobs.output import METRICS_LIMIT, Log, Notes, pump
from mlmp_spawner.processes import Record
from mlmp_spawner.spawners.accounts import SPARED, make_home, spare
from mlmp_spawner.spawners.guard import BUSY, USAGE, Guard, Refused, Start, take_lock

MAIN = "mlmp_spawner.lab.job_main"
ORDER, CODE, NOTES, NOTICE = 3, 4, 5, 6
"""The numbers of the files that job_main gets: what to run, its code, where it notes, where it is told of its end."""
DRAIN = 5.0
"""Seconds that what was printed may take into the log once nothing runs: a process elsewhere may hold the pipe."""
END_WITHIN = 10.0
WRITE_WITHIN, WRITE_AGAIN = 1800.0, 2.0
"""Seconds for which it is tried to write down an end, and between two tries."""
LOG_LIMIT = 64 << 20
"""Bytes of a log that are kept where nobody said how many."""
RUNNING, ENDED, BUSY_WITH_IT = "running", "ended", "busy"
"""What the starter is told; the last where another one has the attempt."""

_ABOVE = 64
# Where our own ends of pipes are, so that none is in the way of the numbers above.


class Files:
    """The files of an attempt, below the service's ``jobs``.

    :param account: uid and gid that they are touched with, where that is another one than ours.
    """

    def __init__(self, jobs: Path, attempt: str, account: tuple[int, int] | None) -> None:
        self.account = account
        self.deadline = jobs / "deadlines" / attempt
        self.record = jobs / "running" / f"{attempt}.json"
        self.lock = jobs / "running" / f"{attempt}.lock"
        self.ended = jobs / "ended" / attempt
        self.logs = jobs / "logs" / attempt

    def touched(self) -> AbstractContextManager[None]:
        """Within it this process has no more rights to files than their owner."""
        return nullcontext() if self.account is None else _as_account(*self.account)

    def append(self, name: str) -> int:
        """A file among the logs, opened to append."""
        with self.touched():
            self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(self.logs / name, flags, 0o600)

    def log_limit(self) -> int:
        """Bytes of the log that are kept: as the service wrote beside it."""
        with self.touched(), suppress(OSError, ValueError):
            return max(0, int((self.logs / "limit").read_bytes()[:20]))
        return LOG_LIMIT

    def write_end(self, end: End) -> None:
        """Says how it ended.

        :raises OSError: that can't be written.
        """
        with self.touched():
            private_files.write(self.ended, json.dumps(end.content()).encode())


@contextmanager
def _as_account(uid: int, gid: int) -> Iterator[None]:
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended. ``reason``: one of :data:`mlmp_spawner.rules.jobs.Reason` where it is not plain from the
    others. Times in ms UTC."""

    started_at: int | None
    ended_at: int
    exit_status: int | None = None
    signal: int | None = None
    oom: bool = False
    reason: str | None = None
    message: str = ""

    def content(self) -> dict[str, Any]:
        """As it is written."""
        return {name: getattr(self, name) for name in self.__slots__}


class JobGuard(Guard):
    """Runs one attempt until it ends or its time is over.

    :param ready: file descriptor at which it says that it runs.
    """

    def __init__(self, files: Files, about: Record, *, ready: int, grace: int) -> None:
        super().__init__(files.deadline, files.record, about, grace=grace)
        self.files = files
        self.ready = ready
        self.asked: str | None = None
        self.first_stop = self.deadline.stop_at
        limit = files.log_limit()
        self.log = Log(files.append("log"), files.append("cut"), limit)
        self.notes = Notes(files.append("metrics.jsonl"), min(METRICS_LIMIT, limit))
        self._pipes = {name: os.pipe() for name in ("output", "notes", "notice")}
        self._given: dict[int, int] = {}
        self._threads: list[threading.Thread] = []
        self._out_of_memory = False

    @property
    def acts_at(self) -> int:
        """Nobody else stops it."""
        return self.deadline.stop_at

    def start_of(self, start: Start, order: int, code: int | None) -> Start:
        """``start`` with the files that job_main gets."""
        output, notes, notice = (self._pipes[name] for name in ("output", "notes", "notice"))
        given = {0: os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 1: output[1], 2: output[1]}
        given |= {ORDER: order, NOTES: notes[1], NOTICE: notice[0]}
        if code is not None:
            given[CODE] = code
        self._given = {number: _above(ours) for number, ours in given.items()}
        return replace(start, files=self._given)

    def _write_record(self, record: Record) -> None:
        with self.files.touched():
            super()._write_record(record)

    def _began(self) -> None:
        """Our own ends of what only the job writes are closed: what it prints ends with it."""
        for ours in (*self._given.values(), *(self._pipes[name][1] for name in ("output", "notes"))):
            os.close(ours)
        self._threads = [pump(self._pipes["output"][0], self.log.add), pump(self._pipes["notes"][0], self.notes.add)]
        _tell(self.ready, RUNNING)

    def _begin_stop(self, why: str) -> None:
        now = units.now()
        own_end = now >= self.acts_at
        self.asked = "time_limit" if own_end else "platform"
        latest = self.deadline.kills_at
        kill_at = latest if own_end else min(now + self.grace, latest)
        seconds = max(0.0, (kill_at - now) / 1000)
        planned = own_end and self.deadline.stop_at == self.first_stop
        notice = {"reason": "time_limit" if planned else "asked", "kill_at": kill_at, "seconds_left": seconds}
        with suppress(OSError):  # it is gone already
            os.write(self._pipes["notice"][1], json.dumps(notice).encode() + b"\n")
        super()._begin_stop(why)

    def _end_what_is_left(self) -> None:
        if self.asked is None:
            super()._end_what_is_left()
        else:  # it was asked to end before: what is left has the rest of its grace
            self._signal_all(signal.SIGTERM)

    def _over(self) -> None:
        """What it printed last is taken, and what only its control group tells."""
        self._out_of_memory = self.group is not None and self.group.out_of_memory()
        limit = time.monotonic() + DRAIN
        for thread in self._threads:
            thread.join(max(0.0, limit - time.monotonic()))
        self.log.end()

    def _how(self) -> End:
        now = units.now()
        if self.code is None:
            return End(self.about.started, now, reason="platform", message="It could not be started.")
        noted = self.notes.ended
        status, number = noted.get("exit_status"), noted.get("signal")
        if not noted:  # our own part of it was killed, or could not begin
            status, number = (self.code, None) if self.code >= 0 else (None, -self.code)
        failed = status != 0
        message = noted.get("message") or (self.log.last_line() if failed else "")
        oom = self._out_of_memory and failed and self.asked is None
        return End(self.about.started, now, status, number, oom, noted.get("reason") or self.asked, message)

    def _remove_record(self) -> None:
        if not self._write_end(self._how()):  # the record stays: who sees that it is dead looks after it
            return
        with self.files.touched():
            super()._remove_record()

    def _write_end(self, end: End) -> bool:
        """Writes how it ended, again and again while a disk is full: nobody else knows."""
        limit = time.monotonic() + WRITE_WITHIN
        while True:
            try:
                self.files.write_end(end)
                return True
            except OSError as error:
                _say(f"{self.about.id}: its end can't be written: {error}")
            if time.monotonic() > limit:
                return False
            time.sleep(WRITE_AGAIN)


def main(argv: list[str] | None = None) -> int:
    """The entry point; the exit status is of no meaning to anybody."""
    arguments = _parser().parse_args(argv)
    for file in (arguments.ready, arguments.order, arguments.code):
        if file is not None:
            os.set_inheritable(file, False)
    if arguments.account is not None:
        os.setgroups([])
        spare(SPARED)
    files = Files(arguments.jobs, arguments.id, arguments.account)
    job, _, number = arguments.id.rpartition("-")
    os.environ.update(MLMP_JOB_ID=job, MLMP_JOB_ATTEMPT=number)  # by which all that it starts is known
    try:
        with files.touched():
            lock = take_lock(files.lock)
    except Refused:
        _tell(arguments.ready, BUSY_WITH_IT)
        return BUSY
    try:
        return _alone(arguments, files)
    finally:
        with files.touched():
            files.lock.unlink(missing_ok=True)
        os.close(lock)


def _alone(arguments: argparse.Namespace, files: Files) -> int:
    """What is to be done for the attempt, by the only one who does anything for it."""
    group = cgroups.Group(arguments.id, base=arguments.group) if arguments.group else None
    with files.touched():
        over, left = files.ended.exists(), files.record.exists()
        known = deadlines.read_file(files.deadline) is not None
        if left and not over:
            former = processes.read_record(files.record)
    if left and not over:  # the guard before us was killed
        if not end_all(arguments.id, group):  # the record stays, so that it is tried again
            _say(f"{arguments.id}: something of it can't be ended")
            _tell(arguments.ready, RUNNING)
            return BUSY
        message = "What watched over it was killed, or the machine was restarted."
        files.write_end(End(former.started if former else None, units.now(), reason="vanished", message=message))
        over = True
    if over:
        with files.touched():
            files.record.unlink(missing_ok=True)
    elif known and arguments.order is not None:
        return _run(arguments, files, group)
    _tell(arguments.ready, ENDED)
    return 0


def _run(arguments: argparse.Namespace, files: Files, group: cgroups.Group | None) -> int:
    pid, now = os.getpid(), units.now()
    about = Record(
        arguments.id, arguments.owner, "", pid, processes.identity(pid) or "", started=now
    )  # fmt: skip
    given = json.loads(arguments.limits)
    denied = tuple((int(major), int(minor)) for major, minor in given.pop("denied", ()))
    try:
        if arguments.user is not None:
            make_home(pwd.getpwnam(arguments.user))
        start = Start(
            [sys.executable, "-I", "-m", MAIN, *map(str, (ORDER, CODE, NOTES, NOTICE))],
            arguments.home, arguments.user, arguments.shared, group, cgroups.Limits(**given, denied=denied),
        )  # fmt: skip
        guard = JobGuard(files, about, ready=arguments.ready, grace=round(arguments.grace * 1000))
    except (Refused, KeyError, MLMPError, OSError) as error:
        # What we could not make or open is no mistake of the job's.
        ours = isinstance(error, (Refused, OSError))
        message = "Its time was over before it could begin." if isinstance(error, Refused) else str(error)
        files.write_end(End(None, now, reason="platform" if ours else "start", message=message))
        _tell(arguments.ready, ENDED)
        return USAGE
    return guard.run(guard.start_of(start, arguments.order, arguments.code))


def end_all(attempt: str, group: cgroups.Group | None, patience: float = END_WITHIN) -> bool:
    """Kills all that is left of an attempt whose guard is dead; False where something would not go.

    It is found by its control group, or else by the environment that the guard gave it.
    """
    limit = time.monotonic() + patience
    job, _, number = attempt.rpartition("-")
    marks = {f"MLMP_JOB_ID={job}".encode(), f"MLMP_JOB_ATTEMPT={number}".encode()}
    gone = group is None or group.end(patience)
    while found := _marked(marks):
        if time.monotonic() > limit:
            return False
        for identity in found:
            processes.send(identity, signal.SIGKILL)
        time.sleep(0.05)
    return gone


def _marked(marks: set[bytes]) -> list[str]:
    """The processes, but us, whose environment has all of ``marks``."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        identity = processes.identity(int(entry.name))
        with suppress(OSError):  # gone, or another's
            environment = Path(f"/proc/{entry.name}/environ").read_bytes().split(b"\0")
            if identity and marks <= set(environment) and processes.alive(identity):
                found.append(identity)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlmp run", description="Run an attempt of a job that ends on time. For MLMP's own use."
    )
    parser.add_argument("--jobs", type=Path, required=True, help="the service's directory of jobs")
    parser.add_argument("--id", required=True, help="id of the attempt")
    parser.add_argument("--owner", default="", help="whose it is, for the record")
    parser.add_argument("--ready", type=int, required=True, help="file descriptor at which to say that it runs")
    parser.add_argument("--order", type=int, help="file descriptor with what to run; without it only what is left is "
                        "ended")  # fmt: skip
    parser.add_argument("--code", type=int, help="file descriptor with the snapshot of its code")
    parser.add_argument("--account", type=_account, metavar="UID:GID", help="whose the files are; needs root")
    parser.add_argument("--user", help="user of the system that it runs as; needs root")
    parser.add_argument("--home", help="directory to start in")
    parser.add_argument("--shared", help="what a link 'shared' in the home shall lead to")
    parser.add_argument("--group", help="control group around those of all servers; without it none is made")
    parser.add_argument("--limits", default="{}", help="JSON for the control group: memory, cpus, processes, denied")
    parser.add_argument("--grace", type=float, default=60.0, help="seconds between SIGTERM and SIGKILL")
    return parser


def _account(text: str) -> tuple[int, int]:
    uid, _, gid = text.partition(":")
    return int(uid), int(gid)


def _above(file: int) -> int:
    return fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _ABOVE)


def _tell(ready: int, what: str) -> None:
    with suppress(OSError):  # who started us has gone meanwhile
        os.write(ready, f"{what}\n".encode())
        os.close(ready)


def _say(message: str) -> None:
    print(f"mlmp run: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
