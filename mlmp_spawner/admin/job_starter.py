"""What starts jobs on one machine: a child of ``mlmp up``, root's where people's jobs run as themselves.

``python -m mlmp_spawner.admin.job_starter --config jupyterhub_config.py``. It listens at a socket that only the
service's account can reach, and takes nothing there but the id of an attempt; all else it reads from the database. It
starts an ``mlmp run`` for it, which outlives it. It also looks after each of these: where one was killed, another one
ends what is left.

As root it works with the rights of the service's account, and becomes root again in what it starts alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import pwd
import select
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from traitlets.config import Config

from mlmp_spawner import cgroups, deadlines, gpu_devices, private_files, processes, units
from mlmp_spawner.errors import ConfigurationError, MLMPError, NotAllowed, NotFound, TooLate, Unavailable
from mlmp_spawner.jobs.base import Order
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations.catalog_files import read_catalog
from mlmp_spawner.operations.jobs import orders
from mlmp_spawner.operations.site import make_site
from mlmp_spawner.rules.storage import directory_name
from mlmp_spawner.settings import MLMP, load_config, private_directory
from mlmp_spawner.spawners import guard, job_guard
from mlmp_spawner.spawners.hub import OneMachine
from mlmp_spawner.store import reservations
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import read

log = logging.getLogger("mlmp.jobs")

LOOK = 1.0
"""Seconds between two looks at what runs."""
READY_WITHIN = 30.0
QUESTION_WITHIN = 5.0
LONGEST_QUESTION = 200
LATE = 2_000
"""Milliseconds after its end at which an ``mlmp run`` that still lives is woken: somebody may have stopped it."""
PROCESSES = 8192
_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
_SPAWNERS = ("Spawner", "LocalProcessSpawner", "MLMPLocalSpawner", "SystemUserSpawner")


class Starter:
    """Starts attempts by their id.

    :param machine: how ``mlmp up`` was started. :param config: the hub's, whose spawners say what jobs get as well.
    :param account: of the service, where that is another one than ours.
    """

    def __init__(self, machine: OneMachine, config: Config, account: pwd.struct_passwd | None) -> None:
        self.machine = machine
        self.config = config
        self.settings = MLMP(config=config)
        self.account = account
        self.files = JobFiles(Path(machine.data) / "jobs")
        self.files.prepare()
        self.engine = make_engine(self.settings.db_url, pool_size=2)
        self.catalog = read_catalog(self.settings)
        self._reading = threading.Lock()
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, attempt: str) -> None:
        """Starts the attempt; returns when it runs or has ended. One that runs, or has ended, is left alone.

        :raises MLMPError: it could not be started just now.
        """
        with self._reading:
            self.catalog.read()
            site = make_site(self.engine, self.catalog.catalog, self.settings)
        with read(self.engine) as connection:
            try:
                order = orders.order_of(connection, site, attempt)
            except TooLate:
                return
            job, _ = orders.find(connection, attempt)
            known = job.owner_id is not None and job.owner_id == reservations.user_id(connection, order.owner)
        try:
            if not known:
                raise NotAllowed(f"The hub knows no user {order.owner!r}.")
            self._launch(order)
        except NotAllowed as error:
            self._refuse(attempt, str(error))

    def look(self) -> None:
        """Looks after each ``mlmp run``: one that was killed, one that is late."""
        self._started = [process for process in self._started if process.poll() is None]
        for path in self.files.running.glob("[!.]*.json"):
            record = processes.read_record(path)
            if record is not None:
                try:
                    self._look_after(record)
                except (MLMPError, OSError) as error:
                    log.warning("%s: %s", record.id, error)

    def _look_after(self, record: processes.Record) -> None:
        deadline = deadlines.read(self.files.deadlines, record.id)
        if not record.alive:
            log.warning("the mlmp run of %s is gone: ending what is left of it", record.id)
            self._run(record.id, [])
        elif deadline is not None and units.now() > deadline.end + LATE:
            processes.send(record.identity, signal.SIGCONT)

    # -- one attempt ----------------------------------------------------------------------------------------------

    def _launch(self, order: Order) -> None:
        user = self._account_of(order.owner) if self.machine.auth == "pam" else None
        home = Path(user.pw_dir) if user else self._own_home(order.owner)
        options = ["--owner", order.owner, "--home", str(home), "--grace", str(order.grace / 1000)]
        if user is not None:
            options += ["--user", user.pw_name, *self._limits(order)]
        if shared := self._of_spawners("shared"):
            options += ["--shared", str(shared)]
        content = json.dumps(self._told(order)).encode()
        files = {"--order": os.memfd_create("order")}
        try:
            with open(files["--order"], "wb", closefd=False) as file:
                file.write(content)
            if order.code is not None:
                files["--code"] = self._open_code(order.owner, order.code)
            for name, number in files.items():
                options += [name, str(number)]
            self._run(order.id, options, list(files.values()), _person(user or pwd.getpwuid(os.getuid()), home))
        finally:
            for number in files.values():
                os.close(number)

    def _account_of(self, owner: str) -> pwd.struct_passwd:
        """:raises NotAllowed: jobs of this account are never started."""
        try:
            found = pwd.getpwnam(owner)
        except KeyError:
            raise NotAllowed(f"This machine has no account {owner!r}.") from None
        if found.pw_uid == 0 or owner == self.machine.account:
            raise NotAllowed(f"{owner!r} is an account that jobs are never started as.")
        return found

    def _own_home(self, owner: str) -> Path:
        return private_directory(Path(self.machine.data) / "homes" / directory_name(owner))

    def _open_code(self, owner: str, sha256: str) -> int:
        try:
            return os.open(self.files.code_path(owner, sha256), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotAllowed("The snapshot of its code is not kept any more: submit it again.") from None

    def _limits(self, order: Order) -> list[str]:
        """What its control group allows: the shares of all its workers together."""
        group = self._of_spawners("cgroup", cgroups.NAME)
        if not group:
            return []
        cpus, memory = [place.cpus for place in order.places], [place.memory for place in order.places]
        booked = {unit for place in order.places for unit in place.units}
        limits = {
            "cpus": None if None in cpus else sum(number or 0 for number in cpus),
            "memory": None if None in memory else sum(size or 0 for size in memory),
            "processes": self._of_spawners("processes", PROCESSES),
            "denied": gpu_devices.not_booked(booked),
        }
        return ["--group", str(group), "--limits", json.dumps(limits)]

    def _of_spawners(self, name: str, default: Any = None) -> Any:
        """A setting of the users' servers that holds for their jobs, too."""
        found = [self.config[section][name] for section in _SPAWNERS if name in self.config.get(section, {})]
        return found[-1] if found else default

    def _told(self, order: Order) -> dict[str, Any]:
        """What job_main is told."""
        sections = [self.config.get(section, {}).get("environment", {}) for section in _SPAWNERS]
        environment = {name: value for each in sections for name, value in dict(each).items()}
        ours = {
            "MLMP_URL": self.machine.local_url,
            "MLMP_JOB_ID": order.job,
            "MLMP_JOB_NAME": str(order.manifest.get("name") or ""),
            "MLMP_JOB_ATTEMPT": str(order.number),
            "MLMP_JOB_ENDS_AT": units.to_iso(order.stop_at),
            "MLMP_PROFILE": str(order.manifest.get("profile") or ""),
            "MLMP_NODE": order.places[0].node,
        }
        return {
            "job": order.job,
            "number": order.number,
            "grace": order.grace,
            "manifest": order.manifest,
            "code": order.code is not None,
            "workers": [{"units": place.units, "cpus": place.cpus} for place in order.places],
            "environment": {name: value for name, value in environment.items() if isinstance(value, str)},
            "secrets": order.secrets,
            "ours": ours,
        }

    # -- mlmp run -------------------------------------------------------------------------------------------------

    def _run(
        self, attempt: str, options: list[str], files: list[int] | None = None, person: dict[str, str] | None = None
    ) -> None:
        """Starts an ``mlmp run`` and waits until it says that the attempt runs, or has ended.

        :raises Unavailable: it does not say so.
        """
        command = [sys.executable, "-I", "-m", job_guard.__name__, "--jobs", str(self.files.root), "--id", attempt]
        as_root: dict[str, Any] = {}
        if self.account is not None:
            command += ["--account", f"{self.account.pw_uid}:{self.account.pw_gid}"]
            as_root = {"user": 0, "group": 0}
            if "--group" not in options and (group := self._of_spawners("cgroup", cgroups.NAME)):
                command += ["--group", str(group)]
        told, ready = os.pipe()
        try:
            kept = {name: value for name in _KEPT if (value := os.environ.get(name))}
            process = subprocess.Popen(
                [*command, *options, "--ready", str(ready)], env=kept | (person or {}), cwd="/",
                stdin=subprocess.DEVNULL, pass_fds=[ready, *(files or [])], start_new_session=True, **as_root,
            )  # fmt: skip
        finally:
            os.close(ready)
        self._started.append(process)
        with open(told, "rb", buffering=0) as answers:
            heard = bool(select.select([answers], [], [], READY_WITHIN)[0])
            answer = answers.read(64).decode().strip() if heard else ""
        if answer == job_guard.BUSY_WITH_IT:  # another one began just before
            limit = time.monotonic() + READY_WITHIN
            while not (self._runs(attempt) or self.files.ended(attempt).exists()) and time.monotonic() < limit:
                time.sleep(0.02)
        elif answer not in (job_guard.RUNNING, job_guard.ENDED):
            raise Unavailable(f"The attempt {attempt} does not begin; the log of what starts jobs may say why.")

    def _runs(self, attempt: str) -> bool:
        return (self.files.running / f"{attempt}.json").exists()

    def _refuse(self, attempt: str, message: str) -> None:
        """Ends an attempt that is never started."""
        try:
            lock = guard.take_lock(self.files.running / f"{attempt}.lock")
        except guard.Refused:  # it runs
            return
        try:
            if not self._runs(attempt):
                end = job_guard.End(None, units.now(), reason="start", message=message)
                private_files.write(self.files.ended(attempt), json.dumps(end.content()).encode(), replace=False)
        finally:
            (self.files.running / f"{attempt}.lock").unlink(missing_ok=True)
            os.close(lock)


def _person(user: pwd.struct_passwd, home: Path) -> dict[str, str]:
    return {"USER": user.pw_name, "LOGNAME": user.pw_name, "HOME": str(home), "SHELL": user.pw_shell or "/bin/sh"}


class _Questions(socketserver.StreamRequestHandler):
    timeout = QUESTION_WITHIN

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        try:
            answer = server.answer(self.connection, self.rfile.readline(LONGEST_QUESTION))
        except OSError:  # nothing was asked in time
            return
        with suppress(OSError):
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, starter: Starter) -> None:
        self.starter = starter
        place = starter.files.socket
        place.unlink(missing_ok=True)  # there is one `mlmp up` for a data directory
        before = os.umask(0o177)
        try:
            super().__init__(str(place), _Questions)
        finally:
            os.umask(before)

    def answer(self, connection: socket.socket, question: bytes) -> dict[str, Any]:
        """What is answered to a question."""
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", peer)[1] not in (0, os.geteuid()):
            return {"error": "not allowed"}
        try:
            asked = json.loads(question)
            if set(asked) != {"start"} or not isinstance(asked["start"], str):
                raise ValueError
        except (ValueError, TypeError):
            return {"error": 'not a question; valid: {"start": "ATTEMPT"}'}
        try:
            self.starter.start(asked["start"])
        except (MLMPError, OSError, ValueError) as error:
            level = logging.DEBUG if isinstance(error, NotFound) else logging.WARNING
            log.log(level, "%s was not started: %s", asked["start"], error)
            return {"error": str(error)}
        except Exception:
            log.exception("%s was not started", asked["start"])
            return {"error": "it failed; its log says why"}
        return {"started": True}


def serve(starter: Starter) -> None:
    """Answers, and looks after what runs, until the process is ended."""
    with _Server(starter) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        log.info("starting jobs at %s", starter.files.socket)
        while True:
            try:
                starter.look()
            except Exception:
                log.exception("a look at the jobs failed; tried again")
            time.sleep(LOOK)


def main(arguments: list[str] | None = None) -> int:
    """The entry point; the exit status: 2 for a wrong configuration."""
    parser = argparse.ArgumentParser(prog="mlmp_spawner.admin.job_starter", description="Starts jobs, for `mlmp up`.")
    parser.add_argument("--config", required=True, help="the hub's jupyterhub_config.py")
    options = parser.parse_args(arguments)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        machine = OneMachine.load(Path(os.environ["MLMP_UP"]))
        config = load_config(options.config)
        account = pwd.getpwnam(machine.account) if machine.auth == "pam" else None
        if account is not None:
            os.setgroups([])
            os.setegid(account.pw_gid)
            os.seteuid(account.pw_uid)
        serve(Starter(machine, config, account))
    except (ConfigurationError, KeyError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
