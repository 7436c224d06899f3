"""Jobs on this machine as they really run: a database, the starter as a process of its own, the local back-end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from mlmp_spawner import processes, units
from mlmp_spawner.admin import db
from mlmp_spawner.jobs.base import Order
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.jobs.local import LocalJobs
from mlmp_spawner.operations.catalog_files import CatalogFiles
from mlmp_spawner.operations.jobs import orders
from mlmp_spawner.operations.site import Site, new_id
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.settings import shared_file
from mlmp_spawner.spawners.hub import OneMachine
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store import reservations
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import read, transaction
from tests.live import CATALOG, wait_for

CONFIG = shared_file("hub_config") / "jupyterhub_config.py"
MANIFEST: dict[str, Any] = {"name": "train", "profile": "gpu"}


@dataclass
class Workplace:
    """A data directory with what starts jobs in it."""

    data: Path
    catalog: Path
    machine: OneMachine
    engine: Engine
    starter: subprocess.Popen[bytes] | None = None
    files: JobFiles = field(init=False)
    backend: LocalJobs = field(init=False)

    def __post_init__(self) -> None:
        self.files = JobFiles(self.data / "jobs")
        self.backend = LocalJobs(self.files)

    @classmethod
    def make(cls, root: Path) -> Workplace:
        """One with nothing in it, and users eve and adam."""
        data, catalog = root / "data", root / "catalog"
        for folder in (data, catalog, data / "logs"):
            folder.mkdir(mode=0o700)
        (catalog / "catalog.yaml").write_text(CATALOG)
        (data / "jupyterhub_config.py").write_text("")
        machine = OneMachine(str(data), str(catalog), auth="dummy", simulate=True)
        machine.save()
        db.prepare(machine.db_url)
        engine = make_engine(machine.db_url)
        with engine.begin() as connection:
            for name in ("eve", "adam"):
                values = {"name": name, "cookie": name}
                connection.execute(text("INSERT INTO users (name, cookie_id) VALUES (:name, :cookie)"), values)
        return cls(data, catalog, machine, engine)

    def start(self) -> None:
        """Starts the starter and waits until it listens."""
        self.files.prepare()
        self.files.socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", "mlmp_spawner.admin.job_starter", "--config", str(CONFIG)]
        with (self.data / "logs" / "jobs.log").open("ab") as log:
            self.starter = subprocess.Popen(
                command, env={**os.environ, "MLMP_UP": str(self.data / "up.json")}, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        wait_for(self.files.socket.exists, 60, "the starter")

    def kill(self) -> None:
        """SIGKILL to the starter."""
        assert self.starter is not None
        self.starter.kill()
        self.starter.wait()

    @property
    def site(self) -> Site:
        """The site, for what reads the database."""
        return Site(self.engine, CatalogFiles.of_this_machine(self.catalog, simulate=True).catalog)

    def order(
        self, *, stop_in: int = units.HOUR, grace: int = 10_000, owner: str = "eve", code: str | None = None,
        secrets: dict[str, str] | None = None, workers: list[list[str]] | None = None, job: Job | None = None,
        log_limit: int = orders.LOG_LIMIT, known: bool = True, **manifest: Any,
    ) -> Order:  # fmt: skip
        """An attempt with all that is written of it, and the order for it. ``job``: another one of this job.
        ``known``: whether its owner is a user still."""
        now, site = units.now(), self.site
        (node,) = site.catalog.nodes
        with transaction(self.engine) as connection:
            if job is None:
                count = len(workers or [[]])
                job = Job(
                    new_id(), owner, "train", "gpu", "nvidia.com/gpu", 1, count, stop_in, MANIFEST | manifest,
                    owner_id=reservations.user_id(connection, owner) if known else None,
                    grace=grace, code=code, created_at=now, queued_at=now,
                )  # fmt: skip
                store.insert_job(connection, job, secrets or {})
            number = len(job.attempts) + 1
            stop_at = now + stop_in
            attempt = Attempt(job.id, number, new_id(), (node,), stop_at, stop_at + grace, now)
            places = [{"node": node, "units": given} for given in workers or [["simulated-0"]]]
            store.insert_attempt(connection, attempt, places)
        with read(self.engine) as connection:
            return orders.order_of(connection, site, attempt.id, log_limit=log_limit)

    def guard_of(self, order: Order) -> int:
        """The pid of its ``mlmp run``."""
        record = processes.read_record(self.files.running / f"{order.id}.json")
        assert record is not None
        return record.pid

    def home(self, owner: str = "eve") -> Path:
        """A home."""
        return self.data / "homes" / owner

    def folder(self, order: Order) -> Path:
        """Where a job runs."""
        return self.home(order.owner) / "mlmp-jobs" / order.job

    def close(self) -> None:
        """Ends all of it."""
        for record in processes.running(self.files.running):
            for pid in processes.below(record.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            processes.send(record.identity, signal.SIGKILL)
        if self.starter is not None:
            self.starter.kill()
            self.starter.wait()
        self.engine.dispose()
