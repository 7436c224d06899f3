"""``mlmp run``: the parent of a user's server, which ends it on time though everything else be dead.

It knows nothing but a file with the deadline. It is the subreaper of all that its child starts, so that what was
detached with ``setsid``, ``nohup`` or a double fork stays below it and ends with it. It is never to be killed with
SIGKILL: SIGTERM begins a polite stop, a second one ends it at once.

Started by root for a user of the system, it stays root, so that the user can't signal it; only its child becomes the
user. Nothing of the user's is touched before that.

It starts with every server, so it imports no more than it needs and takes its arguments by the standard library.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from mlmp_spawner import cgroups, deadlines, processes
from mlmp_spawner.processes import Record
from mlmp_spawner.spawners.accounts import SPARED, become_user, spare

LOOK = 0.5
"""Seconds between two looks into the deadline file."""
GRACE = 10_000
"""Milliseconds between SIGTERM and SIGKILL where the end leaves as much."""
LEFT_BEHIND = 5_000
"""Milliseconds that processes which outlive the server get after their own SIGTERM."""
IMPATIENT = 1_000
"""A second SIGTERM means "now" if it comes this many ms after the first: enforcers may ask at the same moment."""

USAGE, BUSY, NOT_EXECUTABLE, NOT_FOUND = 2, 75, 126, 127
"""Exit statuses of its own; else it is the child's, or 128 + the signal that ended the child."""

SHARED = "shared"
"""Name of the link in a home to what all share."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


class Refused(Exception):
    """Nothing was started; ``status`` is the exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Start:
    """What is started, and as whom: ``user`` is one of the system's, None the one who starts it.

    ``group``: the control group that it runs in, with ``limits``; ``shared``: what ``~/shared`` shall lead to.
    ``files``: file descriptors that it gets, by the number that they have there; ours are above all of these.
    """

    command: list[str]
    cwd: str | None = None
    user: str | None = None
    shared: str | None = None
    group: cgroups.Group | None = None
    limits: cgroups.Limits = field(default_factory=cgroups.Limits)
    files: Mapping[int, int] = field(default_factory=dict)


class Guard:
    """Runs one command until it ends or its time is over.

    :param deadline: file with the deadline; must be there at the start, and the last one read holds if it goes.
    :param record: where it says that it runs, while it does.
    :param output_limit: bytes after which the file that takes the output is emptied; it was opened to append.
    """

    def __init__(
        self, deadline: Path, record: Path, about: Record, *, grace: int = GRACE, output_limit: int | None = None
    ) -> None:
        self.group: cgroups.Group | None = None
        self.deadline_file = deadline
        self.record_file = record
        self.about = about
        self.grace = grace
        self.output_limit = output_limit
        self.child = 0
        self.code: int | None = None
        self.stopping: int | None = None
        self.kill_time: int | None = None
        found = deadlines.read_file(deadline)
        if found is None:
            raise Refused(f"no deadline in {deadline}: nothing runs without an end", USAGE)
        if found.stop_at <= _now():
            raise Refused("the booking is over, or too near its end", USAGE)
        self.deadline = found

    def run(self, start: Start) -> int:
        """Runs the command, returns the exit status once nothing of it is left."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self.group = start.group
        if start.group is not None:
            missing = start.group.make(start.limits)
            self.about = replace(self.about, not_enforced=missing)
            for kind, why in missing.items():
                _say(f"{kind} is not limited: {why}")
        self._write_record(self.about)
        try:
            self.child = _start(start, before)
            self._began()
            while self._reap():
                self._look()
                received = signal.sigtimedwait(_SIGNALS, self._patience())
                if received is not None and received.si_signo in (signal.SIGTERM, signal.SIGINT):
                    self._asked_to_stop()
        finally:
            self._over()
            if self.group is not None and not self.group.end():
                _say(f"could not remove the control group {self.group.name}")
            self._remove_record()
        return 1 if self.code is None else self.code if self.code >= 0 else 128 - self.code

    @property
    def acts_at(self) -> int:
        """When it begins the stop by itself, ms UTC."""
        return self.deadline.acts_at

    def _reap(self) -> bool:
        """Waits for all that have ended; False once nothing is left below."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.child:
                self.code = os.waitstatus_to_exitcode(status)
                self._end_what_is_left()

    def _look(self) -> None:
        self.deadline = deadlines.read_file(self.deadline_file) or self.deadline
        now = _now()
        if self.stopping is None and now >= self.acts_at:
            self._begin_stop("its booking ends")
        latest = self.deadline.kills_at
        if now >= latest or (self.kill_time is not None and now >= self.kill_time):
            self._signal_all(signal.SIGKILL)
        if self.output_limit is not None:
            _empty_if_longer(sys.stdout.fileno(), self.output_limit)

    def _patience(self) -> float:
        """Seconds until there is something to do, at most :data:`LOOK`."""
        now = _now()
        if self.kill_time is not None and now >= self.kill_time:
            # Until none is left; what hangs in the kernel may take its time.
            return 0.02 if now < self.kill_time + 1_000 else 0.25
        due = [time for time in (self.acts_at, self.deadline.kills_at, self.kill_time) if time is not None]
        return max(0.02, min([LOOK, *((time - now) / 1000 for time in due if time > now)]))

    def _asked_to_stop(self) -> None:
        if self.stopping is None:
            self._begin_stop("asked to")
        elif _now() >= self.stopping + IMPATIENT:
            self.kill_time = _now()

    def _begin_stop(self, why: str) -> None:
        now = _now()
        self.stopping = now
        latest = self.deadline.kills_at
        # At the end of a booking what runs may save its work until the very last second.
        self.kill_time = latest if now >= self.deadline.stop_at else min(now + self.grace, latest)
        _say(f"stopping: {why}")
        self._record_stop()
        try:
            os.killpg(self.child, signal.SIGTERM)
        except ProcessLookupError:
            self._signal_all(signal.SIGTERM)

    def _end_what_is_left(self) -> None:
        """The server itself has ended: what it left behind does too."""
        now = _now()
        if self.stopping is None:
            self.stopping = now
            self._record_stop()
        limit = min(now + LEFT_BEHIND, self.deadline.kills_at)
        self.kill_time = limit if self.kill_time is None else min(self.kill_time, limit)
        self._signal_all(signal.SIGTERM)

    def _record_stop(self) -> None:
        try:
            self._write_record(replace(self.about, stopping=self.stopping))
        except OSError as error:  # a full disk keeps nobody from being stopped
            _say(f"could not write {self.record_file}: {error}")

    def _began(self) -> None:
        """The command was started."""

    def _over(self) -> None:
        """Nothing is left of it, but its control group."""

    def _write_record(self, record: Record) -> None:
        processes.write_record(self.record_file, record)

    def _remove_record(self) -> None:
        self.record_file.unlink(missing_ok=True)

    def _signal_all(self, number: signal.Signals) -> None:
        if number == signal.SIGKILL and self.group is not None:
            self.group.kill()
        for pid in processes.below(os.getpid()):
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):  # gone meanwhile, or a setuid program
                continue


def _empty_if_longer(file: int, limit: int) -> None:
    """Keeps an output from filling the disk. What counts is what it takes there, whatever its writers say of it."""
    if os.fstat(file).st_blocks * 512 > limit:
        with suppress(OSError):
            os.ftruncate(file, 0)
            _say(f"the output was longer than {limit >> 20} MiB; what was here before is gone")


def _start(start: Start, mask: Iterable[int]) -> int:
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _become(start, mask, parent)
    return child


def _become(start: Start, mask: Iterable[int], parent: int) -> NoReturn:
    """In the child: a session of its own, gone with its parent, as if started by nobody in particular."""
    status = NOT_EXECUTABLE
    command = start.command
    try:
        os.setsid()
        if start.group is not None:
            start.group.enter()
        if start.user is not None:
            become_user(start.user)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # another user's process would lose it
        if os.getppid() != parent:  # it died before that took hold
            os._exit(status)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if start.cwd is not None:
            os.chdir(start.cwd)
            if start.shared is not None:
                _link(start.shared)
        for number, ours in start.files.items():
            os.dup2(ours, number)
        os.execvp(command[0], command)  # noqa: S606 -- without a shell is what is meant
    except FileNotFoundError as error:
        _say(f"can't start {command[0]}: {error}")
        status = NOT_FOUND
    except (OSError, KeyError) as error:
        _say(f"can't start {command[0]}: {error}")
    os._exit(status)


def _link(target: str) -> None:
    """``~/shared``, unless the user has something of that name."""
    try:
        if os.path.islink(SHARED) and os.readlink(SHARED) != target and not os.path.exists(SHARED):
            os.unlink(SHARED)  # it led to where the shared files were before
        os.symlink(target, SHARED)
    except FileExistsError:
        pass
    except OSError as error:
        _say(f"can't make ~/{SHARED}: {error}")


def take_lock(path: Path) -> int:
    """Takes the lock that keeps a server from being started twice; the open file descriptor holds it.

    :raises Refused: somebody else has it.
    """
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_ino == os.stat(path).st_ino:
                return lock
        except BlockingIOError:
            os.close(lock)
            raise Refused(f"this server runs already ({path} is locked): not started a second time", BUSY) from None
        except FileNotFoundError:
            pass  # its former holder removed it between our two steps
        os.close(lock)


def main(argv: list[str] | None = None) -> int:
    """The command line of ``mlmp run``; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        about = _about(arguments)
        lock = take_lock(arguments.lock)
        try:
            guard = Guard(
                arguments.deadline, arguments.record, about, grace=round(arguments.grace * 1000),
                output_limit=arguments.output_limit,
            )  # fmt: skip
            return guard.run(_what(arguments, about.id))
        finally:
            arguments.lock.unlink(missing_ok=True)
            os.close(lock)
    except Refused as refused:
        _say(str(refused))
        return refused.status


def _what(arguments: argparse.Namespace, server_id: str) -> Start:
    if arguments.user is not None:
        spare(SPARED)
    group = cgroups.Group(server_id, base=arguments.group) if arguments.group else None
    given = json.loads(arguments.limits)
    denied = tuple((int(major), int(minor)) for major, minor in given.pop("denied", ()))
    limits = cgroups.Limits(**given, denied=denied)
    return Start(arguments.command, arguments.cwd, arguments.user, arguments.shared, group, limits)


def _about(arguments: argparse.Namespace) -> Record:
    pid = os.getpid()
    given = json.loads(arguments.about)
    return Record(
        id=arguments.id or arguments.record.name.removesuffix(".json"),
        owner=str(given.get("owner", "")),
        server=str(given.get("server", "")),
        port=int(given.get("port", 0)),
        pid=pid,
        identity=processes.identity(pid) or "",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlmp run", description="Run a command that ends on time, with all that it starts. For MLMP's own use."
    )
    parser.add_argument("--deadline", type=Path, required=True, help="file with the deadline, read again and again")
    parser.add_argument("--record", type=Path, required=True, help="file that says what runs, while it does")
    parser.add_argument("--lock", type=Path, required=True, help="file whose lock keeps it from being started twice")
    parser.add_argument("--id", help="id of the server (default: the name of the record)")
    parser.add_argument("--about", default="{}", help="JSON for the record: owner, server, port")
    parser.add_argument("--cwd", help="directory to start in")
    parser.add_argument("--user", help="user of the system that the command runs as; needs root")
    parser.add_argument("--shared", help="what a link 'shared' in the directory shall lead to")
    parser.add_argument("--group", help="control group around those of all servers; without it none is made")
    parser.add_argument("--limits", default="{}", help="JSON for the control group: memory, cpus, processes, denied")
    parser.add_argument("--grace", type=float, default=GRACE / 1000, help="seconds between SIGTERM and SIGKILL")
    parser.add_argument("--output-limit", type=int, metavar="BYTES", help="empty the file of the output when longer")
    parser.add_argument("command", nargs="+", metavar="CMD", help="after --")
    return parser


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _say(message: str) -> None:
    print(f"mlmp run: {message}", file=sys.stderr, flush=True)


def _now() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
