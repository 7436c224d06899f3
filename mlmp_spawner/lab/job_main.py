"""What runs a job's program, with its user's rights: unpacks the code, sets the environment, starts the workers.

Started by ``mlmp run`` in the user's home, with four files by the numbers of its arguments: the order, the snapshot of
the code (packed; closed where there is none), a pipe for notes, and one by which it is told of its end. It ends with
its workers and notes how they ended. It uses nothing but the standard library: it starts with every job.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlmp_spawner.lab.job_code import unpack
from mlmp_spawner.lab.job_command import NotStarted, command_of
from mlmp_spawner.lab.job_lines import Lines

HOME_OF_JOBS = "mlmp-jobs"
LOOK = 1.0
"""Seconds between two looks at what nobody tells."""
LEFT_LOOK = 0.1
"""The same, while programs are waited for whose shells have ended."""
LAST_METRICS = 10.0
"""Seconds that the collector of metrics gets for the last ones."""
COLLECTOR = "mlmp_spawner.lab.job_metrics"

_PR_SET_PDEATHSIG = 1


class Job:
    """One attempt.

    :param order: what the starter says. :param code, notes, notice: file descriptors.
    """

    def __init__(self, order: Mapping[str, Any], *, code: int, notes: int, notice: int) -> None:
        self.order = order
        self.manifest: Mapping[str, Any] = order["manifest"]
        self.code, self.notes, self.notice = code, notes, notice
        self.home = Path.cwd()
        self.folder = self.home / HOME_OF_JOBS / order["job"]
        self.stop_file = self.folder / f".mlmp-stop-{order['number']}.json"
        self.workers: list[tuple[subprocess.Popen[bytes], int]] = []
        self.lines = Lines()
        self.told = False
        self.seen_out: set[int] = set()
        self.left: set[int] = set()
        self.grace_ends: float | None = None

    def run(self) -> None:
        """Runs it to its end, which it notes."""
        try:
            directory = self._prepare()
            environment = self._environment()
            command = command_of(self.manifest, directory, self._outputs(), environment)
            collector = self._collector(directory)
            self._start(command, directory, environment)
        except NotStarted as error:
            self._note({"ended": {"reason": "start", "message": str(error)}})
            return
        except OSError as error:
            self._note({"ended": {"reason": "start", "message": f"It could not be started: {error}"}})
            return
        ended = self._until_ended()
        self.lines.end()
        if collector is not None:
            _end_collector(collector)
        self._note({"ended": ended})

    # -- before ---------------------------------------------------------------------------------------------------

    def _prepare(self) -> Path:
        """The directory that it starts in; all that it needs is there then."""
        if self.order["code"]:
            unpack(self.code, self.folder)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.stop_file.unlink(missing_ok=True)
        for folder in (self._checkpoints(), self._outputs()):
            folder.mkdir(parents=True, exist_ok=True)
        directory: Path = (self.folder / (self.manifest.get("directory") or ".")).resolve()
        if not directory.is_relative_to(self.folder.resolve()) or not directory.is_dir():
            raise NotStarted(f"Its code has no directory {self.manifest['directory']!r}.")
        return directory

    def _checkpoints(self) -> Path:
        return self._below_home("checkpoint", f"{HOME_OF_JOBS}/{{id}}/checkpoints")

    def _outputs(self) -> Path:
        return self._below_home("outputs", f"{HOME_OF_JOBS}/{{id}}")

    def _below_home(self, key: str, default: str) -> Path:
        named = str(self.manifest.get(key) or default)
        named = named.replace("{id}", self.order["job"]).replace("{name}", str(self.manifest.get("name") or "job"))
        return self.home / named.removeprefix("~/")

    def _environment(self) -> dict[str, str]:
        """What all workers have; what is ours can't be changed by the manifest."""
        given = {**os.environ, "PYTHONUNBUFFERED": "1", **self.order["environment"]}
        given |= {**(self.manifest.get("environment") or {}), **self.order["secrets"], **self.order["ours"]}
        return given | {
            "MLMP_CHECKPOINT_DIR": str(self._checkpoints()),
            "MLMP_OUTPUT_DIR": str(self._outputs()),
            "MLMP_STOP_FILE": str(self.stop_file),
        }

    # -- under way ------------------------------------------------------------------------------------------------

    def _start(self, command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
        places = self.order["workers"]
        together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(len(places))}
        for rank, place in enumerate(places):
            own = {
                "CUDA_VISIBLE_DEVICES": ",".join(place["units"]),
                "OMP_NUM_THREADS": str(max(1, int(place["cpus"] or 1))),
            }
            own = {**own, "OMP_NUM_THREADS": environment.get("OMP_NUM_THREADS", own["OMP_NUM_THREADS"])}
            output = None
            if len(places) > 1:
                own |= together | {"RANK": str(rank), "NODE_RANK": str(rank)}
                output = self.lines.of(rank)
            try:
                started = subprocess.Popen(
                    list(command), cwd=directory, env={**environment, **own}, stdin=subprocess.DEVNULL,
                    stdout=output, stderr=output, start_new_session=True, preexec_fn=_with_parent,
                )  # fmt: skip
            except FileNotFoundError:
                raise NotStarted(f"There is no program {command[0]!r}.") from None
            except PermissionError:
                raise NotStarted(f"{command[0]!r} can't be run: chmod +x it, or name its interpreter.") from None
            finally:
                if output is not None:
                    os.close(output)
            self.workers.append((started, os.pidfd_open(started.pid)))
        self.lines.begin()  # no earlier: where threads run, a child might be made of a lock that one of them holds

    def _until_ended(self) -> dict[str, int]:
        """How it ended: as its first worker that failed did; the others are then told to end, too."""
        failed: int | None = None
        while True:
            self._look_for_notice()
            codes = [worker.poll() for worker, _ in self.workers]
            bad = [code for code in codes if code]
            if bad and failed is None:
                failed = bad[0]
                self._tell_others()
            self._tell_left()
            if all(code is not None for code in codes) and not self.left:
                code = failed or 0
                return {"exit_status": code} if code >= 0 else {"signal": -code}
            if self.grace_ends is not None and time.monotonic() >= self.grace_ends:
                self._send(signal.SIGKILL)

    def _tell_others(self) -> None:
        """They would wait for the one that failed for ever. Who is saving already is not told twice: torchrun leaves
        its workers alone then, which are in the midst of it."""
        if self.told:
            return
        self._send(signal.SIGTERM)
        self.grace_ends = time.monotonic() + self.order["grace"] / 1000

    def _tell_left(self) -> None:
        """A shell ends by the signal at once, and not the program that it runs: that is told too, and waited for."""
        if not self.told:
            return
        for worker, _ in self.workers:
            if worker.returncode is not None and worker.pid not in self.seen_out:
                self.seen_out.add(worker.pid)
                if _to_group(worker.pid, signal.SIGTERM):
                    self.left.add(worker.pid)
        self.left = {group for group in self.left if _to_group(group, 0)}

    def _send(self, number: int) -> None:
        for worker, _ in self.workers:
            if worker.poll() is None:
                with suppress(ProcessLookupError):
                    worker.send_signal(number)

    def _look_for_notice(self) -> None:
        """Waits until a worker ends, a moment at most. What is told of the end is written where the program looks.

        Then each worker gets SIGTERM, and nothing that it started as long as it runs: that would be gone before the
        worker could save.
        """
        watched = [self.notice, *(end for worker, end in self.workers if worker.returncode is None)]
        ready, _, _ = select.select(watched, [], [], LEFT_LOOK if self.left else LOOK)
        if self.notice not in ready:
            return
        text = os.read(self.notice, 4096)
        temporary = self.stop_file.with_suffix(".new")
        with suppress(OSError):
            temporary.write_bytes(text)
            temporary.replace(self.stop_file)
        self.told = True
        self._send(signal.SIGTERM)

    # -- metrics --------------------------------------------------------------------------------------------------

    def _collector(self, directory: Path) -> subprocess.Popen[bytes] | None:
        """What reads the files that the program writes its metrics to; None where it names none."""
        named = [one for one in self.manifest.get("metrics") or () if "tensorboard" in one or "json_lines" in one]
        if not named:
            return None
        command = [sys.executable, "-I", "-m", COLLECTOR, str(self.notes), json.dumps(named)]
        started = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[self.notes],
            start_new_session=True, preexec_fn=_with_parent,
        )  # fmt: skip
        assert started.stdout is not None
        select.select([started.stdout], [], [], LAST_METRICS)  # it has seen what was there before
        return started

    def _note(self, note: Mapping[str, Any]) -> None:
        with suppress(OSError):
            os.write(self.notes, json.dumps(note).encode() + b"\n")


def _end_collector(collector: subprocess.Popen[bytes]) -> None:
    assert collector.stdin is not None
    with suppress(OSError):
        collector.stdin.close()
    try:
        collector.wait(LAST_METRICS)
    except subprocess.TimeoutExpired:
        collector.kill()
        collector.wait()


def _to_group(group: int, number: int) -> bool:
    """Sends a signal to a group of processes, 0 for none; whether there is such a group."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # gone, or somebody else's by now
        return False
    return True


def _with_parent() -> None:
    """In the child: gone with us, however that comes."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(arguments: Sequence[str]) -> int:
    """The entry point: the numbers of order, code, notes and notice."""
    order_file, code, notes, notice = map(int, arguments)
    for number in (order_file, code, notes, notice):
        with suppress(OSError):
            os.set_inheritable(number, False)
    signal.signal(signal.SIGTERM, lambda *_: None)  # what is to be done is told by the notice
    with open(order_file, "rb") as file:
        file.seek(0)
        order = json.load(file)
    os.umask(0o077)
    Job(order, code=code, notes=notes, notice=notice).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
