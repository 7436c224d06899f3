"""The cluster's programs. A mark in their environment tells them from all others, also after the rig was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from .console import RigError, wait_until
from .places import LOGS, RUN

MARK = "MLMP_TEST_CLUSTER_PROCESS"
COMMANDS = RUN / "commands"


def marked(name: str | None = None, program: str | None = None) -> list[int]:
    """The pids of what runs for ``name`` (None: for the cluster), of one program where given. Zombies don't count."""
    mark = f"{MARK}={name}".encode() if name else f"{MARK}=".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):
            entries = (folder / "environ").read_bytes().split(b"\0")
            if any(entry == mark if name else entry.startswith(mark) for entry in entries) and (
                program is None or (folder / "comm").read_text().strip() == program[:15]
            ):
                found.append(int(folder.name))
    return found


def any_marked(name: str | None = None) -> bool:
    """Whether any of them runs. Asked again before the no: in the middle of an exec a process shows no environment."""
    for _ in range(4):
        if marked(name):
            return True
        time.sleep(0.02)
    return False


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Those that ended meanwhile are left out."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def frozen(pids: list[int]) -> bool:
    """Whether one of them is stopped, as SIGSTOP does."""
    states = []
    for pid in pids:
        with suppress(OSError):
            states.append(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0])
    return "T" in states


def kill_everything() -> None:
    """SIGKILL to all of the cluster's programs, and waits until they are gone."""

    def gone() -> bool:
        signal_all(marked(), signal.SIGKILL)
        return not any_marked()

    wait_until(gone, "the end of the cluster's programs", seconds=30)


class Process:
    """One program of the cluster, by name: it can be stopped and started by a process that did not start it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def define(self, *command: str | Path) -> None:
        """Writes down how it is started."""
        COMMANDS.mkdir(parents=True, exist_ok=True)
        (COMMANDS / f"{self.name}.json").write_text(json.dumps([str(word) for word in command], indent=1))

    @property
    def log(self) -> Path:
        return LOGS / f"{self.name}.log"

    @property
    def pids(self) -> list[int]:
        return marked(self.name)

    @property
    def alive(self) -> bool:
        return any_marked(self.name)

    def start(self) -> None:
        """Starts it in a session of its own; nothing where it runs already."""
        if self.alive:
            return
        command = json.loads((COMMANDS / f"{self.name}.json").read_text())
        LOGS.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # A child of nobody here: whoever started it may end, and need not wait for it.
            subprocess.run(
                ["setsid", "--fork", *command],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**os.environ, MARK: self.name},
            )

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends the signal (as a crash does, unless told otherwise) and waits for the end."""
        signal_all(self.pids, number)
        wait_until(lambda: not self.alive, f"the end of {self.name}", seconds=30)

    def freeze(self) -> None:
        """It hangs: it answers nothing, its connections stay open."""
        signal_all(self.pids, signal.SIGSTOP)

    def thaw(self) -> None:
        signal_all(self.pids, signal.SIGCONT)

    def require(self) -> None:
        """Raises RigError with the end of its log where it does not run."""
        if not self.alive:
            said = self.log.read_text(errors="replace").splitlines()[-15:] if self.log.exists() else []
            raise RigError(f"{self.name} ended. The end of {self.log}:\n" + "\n".join(said))
