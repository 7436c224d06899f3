"""Users' servers as processes of this machine, each below its own ``mlmp run``."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyterhub.spawner import LocalProcessSpawner
from jupyterhub.utils import random_port, url_path_join
from traitlets import Unicode

from mlmp_spawner import deadlines, lab, processes, units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import MLMPError, Unavailable
from mlmp_spawner.processes import Record
from mlmp_spawner.rules.storage import directory_name
from mlmp_spawner.settings import MLMP, private_directory
from mlmp_spawner.spawners import guard
from mlmp_spawner.spawners.mixin import ReservationMixin

LATE = 1_500
"""Milliseconds after which somebody looks after an ``mlmp run`` that should have acted by itself."""
HANGS = 10_000
"""Milliseconds after the end at which what is still there is ended without its ``mlmp run``."""
LOOK = 0.05
NO_PORTS = (
    "--ServerApp.jpserver_extensions=jupyter_server_proxy=False",
    "--ServerApp.jpserver_extensions=mlmp_spawner.lab=True",
    # Its links bring anybody's repository into the home of who follows one; courses need only its program.
    "--ServerApp.jpserver_extensions=nbgitpuller=False",
)
PSCAN = (
    "--ServerApp.jpserver_extensions=mlmp_spawner.lab.pscan=True",
    f"--LabApp.extra_labextensions_path={Path(lab.__file__).parent / 'pscan' / 'labextensions'}",
)
DESK = ("--ServerApp.jpserver_extensions=mlmp_spawner.lab.desk=True",)
"""What the extension in JupyterLab asks; the extension itself is the distribution ``mlmp-lab``."""
SPARK = ("--ServerApp.jpserver_extensions=mlmp_spawner.lab.spark_pages=True",)
TERMINAL = Path(lab.__file__).with_name("terminal.sh")
"""What each terminal of JupyterLab runs."""
OUTPUT_LIMIT = 20 << 20
"""Bytes of a server's output that are kept; what is longer begins anew."""


class GuardedProcessSpawner(LocalProcessSpawner):
    """Starts a command below ``mlmp run`` and finds it again by its record. A pid alone is never trusted."""

    server_id: str
    proc: subprocess.Popen[bytes] | None

    def deadline_of_start(self) -> Deadline:
        """Until when the server that starts now may run."""
        raise NotImplementedError

    async def prepare_home(self) -> None:
        """Makes the user's home where it is not there."""
        private_directory(self.home)

    async def guard_options(self) -> list[str]:
        """Further options for ``mlmp run``."""
        return []

    @property
    def data(self) -> Path:
        """The data directory: deadlines, records, homes and logs are in it."""
        return Path(MLMP(config=self.config).data)

    @property
    def home(self) -> Path:
        """The user's home: one directory of its own, whatever the name."""
        return self.data / "homes" / directory_name(self.user.name)

    @property
    def log_file(self) -> Path:
        """Where the output of the server goes."""
        name = directory_name(self.user.name)
        return self.data / "logs" / "servers" / (f"{name}---{self.name}.log" if self.name else f"{name}.log")

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """A home for each user; the account is the same for all."""
        return env | {"USER": self.user.name, "HOME": str(self.home), "SHELL": "/bin/bash"}

    def get_args(self) -> list[str]:
        """Of jupyter-server-proxy there is the way to SSH only: a port of this machine may be somebody else's, whose
        page would run with this user's rights. ``c.Spawner.args`` can turn all of it on. Terminals find ``mlmp``."""
        given: list[str] = super().get_args()
        if Path(self.cmd[0]).name != "jupyterhub-singleuser":
            return given
        shell = shlex.join(["/bin/sh", str(TERMINAL), str(Path(sys.executable).parent)])
        return [*NO_PORTS, *PSCAN, *DESK, *SPARK, f"--ServerApp.terminado_settings=shell_command={shell}", *given]

    async def move_certs(self, paths: dict[str, str]) -> dict[str, str]:
        """All run as the same account: the files can stay where they are."""
        return paths

    async def start(self) -> tuple[str, int]:
        """Starts the server; returns where it listens, once it does."""
        await self._end_former()
        self.port = random_port()
        await self.prepare_home()
        deadlines.write(self.data / "deadlines", self.server_id, self.deadline_of_start())
        options = await self.guard_options()
        environment = self.get_env()
        self.proc = self._launch([*self._guard_command(), *options, "--", *self.cmd, *self.get_args()], environment)
        self.pid = self.proc.pid
        self.log.info("started %s under %s (pid %d)", self._log_name, self.server_id, self.pid)
        await self._until_it_listens()
        return self.ip or "127.0.0.1", self.port

    async def poll(self) -> int | None:
        """None while ``mlmp run`` is there. One that is late with its stop is told once more."""
        if self.proc is not None and self.proc.poll() is not None:
            return int(self.proc.returncode)
        record = await self._find()
        if record is None:
            return None if self.proc is not None else 0  # on its way to write its record
        self._enforce(record)
        return None

    async def stop(self, now: bool = False) -> None:
        """Asks ``mlmp run`` to end the server, and waits until it is gone. ``now``: without waiting for the server."""
        record = await self._find()
        if record is None and self.proc is not None:
            with suppress(ProcessLookupError):
                self.proc.terminate()
        elif record is not None and record.stopping is None:
            processes.send(record.identity, signal.SIGTERM)
        if now and record is not None:
            await asyncio.sleep(guard.IMPATIENT / 1000 + LOOK)
            processes.send(record.identity, signal.SIGTERM)
        await self._until_gone(record)
        self.proc = None
        self.pid = 0

    async def get_url(self) -> str:
        """Where the server listens, by its record: the hub may have died before it could write that down."""
        record = await self._find()
        if record is None or not record.port:
            return str(await super().get_url())
        return str(url_path_join(f"http://{self.ip or '127.0.0.1'}:{record.port}", self.server.base_url))

    def load_state(self, state: dict[str, Any]) -> None:
        """The record says more, and truer, than a kept pid."""
        super().load_state({name: value for name, value in state.items() if name != "pid"})

    def _launch(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with open(os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600), "wb") as log:
            return subprocess.Popen(
                command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    # -- mlmp run -------------------------------------------------------------------------------------------------

    def _guard_command(self) -> list[str]:
        servers = self.data / "servers"
        about = {"owner": self.user.name, "server": self.name, "port": self.port}
        return [
            sys.executable, "-I", "-m", guard.__name__,
            "--id", self.server_id,
            "--deadline", str(self.data / "deadlines" / self.server_id),
            "--record", str(self._record_file(self.server_id)),
            "--lock", str(servers / f"{self.server_id}.lock"),
            "--about", json.dumps(about),
            "--cwd", str(self.home),
            "--output-limit", str(OUTPUT_LIMIT),
        ]  # fmt: skip

    def _record_file(self, server_id: str) -> Path:
        return self.data / "servers" / f"{server_id}.json"

    async def _find(self) -> Record | None:
        """The record of this server, if its ``mlmp run`` is alive. After a restart of the hub it is searched for."""
        records = self.data / "servers"
        if self.server_id:
            record = processes.read_record(self._record_file(self.server_id))
            return record if record is not None and record.alive and self._is_mine(record) else None
        mine = [record for record in await asyncio.to_thread(processes.running, records) if self._is_mine(record)]
        if not mine:
            return None
        self.server_id = mine[0].id
        self.log.info("found %s running under %s", self._log_name, self.server_id)
        return mine[0]

    def _is_mine(self, record: Record) -> bool:
        return (record.owner, record.server) == (self.user.name, self.name)

    async def _until_gone(self, record: Record | None) -> None:
        """Waits until it is gone, however long that takes: units that are in use are not free."""
        waited = 0
        while True:
            if self.proc is not None:
                self.proc.poll()  # so that it is no zombie
            if (record is None or not record.alive) and (self.proc is None or self.proc.returncode is not None):
                return
            await asyncio.sleep(LOOK)
            waited += 1
            if record is not None and waited % 20 == 0:
                self._enforce(processes.read_record(self._record_file(record.id)) or record)
            if waited % 600 == 0:
                self.log.warning("%s takes long to end", self._log_name)

    def _enforce(self, record: Record) -> None:
        """The second look at the deadline. ``mlmp run`` has acted by now unless somebody stopped or hurt it."""
        deadline = deadlines.read(self.data / "deadlines", record.id)
        now = units.now()
        if deadline is None or now < deadline.acts_at + LATE:
            return
        if record.stopping is not None and now < deadline.end + LATE:
            return
        self.log.warning("%s is past its end: stopping it", self._log_name)
        processes.send(record.identity, signal.SIGCONT)
        processes.send(record.identity, signal.SIGTERM)
        if now >= deadline.end + HANGS:
            for pid in processes.below(record.pid):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    async def _end_former(self) -> None:
        """Ends a server of the same name that the hub has lost sight of: nothing runs twice, nothing is forgotten."""
        for record in await asyncio.to_thread(processes.running, self.data / "servers"):
            if self._is_mine(record):
                self.log.warning("%s still runs under %s: ending it first", self._log_name, record.id)
                if record.stopping is None:
                    processes.send(record.identity, signal.SIGTERM)
                await self._until_gone(record)

    async def _until_it_listens(self) -> None:
        """Waits until something answers at the port.

        :raises MLMPError: the server ended before; the last line of its output may say why.
        """
        while True:
            assert self.proc is not None
            if self.proc.poll() is not None:
                raise self._did_not_start(self.proc.returncode)
            try:
                _, writer = await asyncio.open_connection(self.ip or "127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(LOOK)
                continue
            writer.close()
            return

    def _did_not_start(self, status: int) -> Exception:
        lines = _last_lines(self.log_file)
        self.log.error("%s ended while it started (exit status %d): %s", self._log_name, status, lines[-3:])
        return self.explain(
            Unavailable(
                f"Your server ended while it started (exit status {status}).",
                hint=f"Its output is in {self.log_file.name}, which the admin can read.",
            )
        )

    def explain(self, error: MLMPError) -> Exception:
        """The error as the hub shows it."""
        return error


def _last_lines(path: Path) -> list[str]:
    """The last lines of an output, however long it is: who writes it may make it as long as they like."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        return file.read(4096).decode(errors="replace").strip().splitlines()


class MLMPLocalSpawner(ReservationMixin, GuardedProcessSpawner):
    """The spawner of one machine, in same-user mode: everybody's server runs as the account that runs the hub."""

    shared = Unicode(
        help="""Directory that all share, such as data sets and models: ``~/shared`` leads there. Who may write in it
        is a matter of its own permissions: for users of the system, ``chown -R root DIR && chmod -R go-w DIR`` makes
        it read-only."""
    ).tag(config=True)

    async def guard_options(self) -> list[str]:
        """The link to what all share."""
        return ["--shared", self.shared] if self.shared else []

    def deadline_of_start(self) -> Deadline:
        """The end of the booking, or of the unbroken chain that it begins."""
        assert self._admitted is not None
        return self._admitted.deadline

    def get_env(self) -> dict[str, str]:
        """Where shared data are, and which GPUs it may use: by UUID, since CUDA and NVML number them differently; none
        where none is booked."""
        env = super().get_env()
        if self.shared:
            env["MLMP_SHARED"] = self.shared
        if self._admitted is not None:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(self._admitted.unit_ids)
        return env

    def explain(self, error: MLMPError) -> Exception:
        """As every refusal."""
        return self._refusal(error)
