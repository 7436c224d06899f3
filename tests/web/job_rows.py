"""Jobs as rows and files, for tests that look at them: nothing runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from mlmp_spawner.operations.jobs import telling
from mlmp_spawner.operations.site import new_id
from mlmp_spawner.rules import job_manifest
from mlmp_spawner.rules.job_queue import Outlook
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.tables import job, job_attempt, users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import HOUR, MINUTE
from mlmp_spawner.web.context import Jobs
from tests.operations.conftest import GPU, NOW
from tests.web.harness import RunningApp
from tests.web.job_parts import make_jobs, printed


@dataclass
class Rows:
    """Makes jobs. ``outlook`` is what the queue would say of those that wait."""

    app: RunningApp
    jobs: Jobs
    outlook: dict[str, Outlook] = field(default_factory=dict)

    @classmethod
    def of(cls, app: RunningApp, folder: Path) -> Rows:
        """Those of an application, from now on."""
        made = cls(app, make_jobs(folder))
        made.jobs.outlook = made.outlook.get
        app.context.jobs = made.jobs
        return made

    def add(
        self, owner: str = "ann", *, hours: float = 2, manifest: Mapping[str, Any] | None = None, **facts: Any
    ) -> Job:
        """A job that waits. ``facts``: of :class:`Job`."""
        said = {"profile": "gpu", "script": "train.py", "hours": hours} | dict(manifest or {})
        normal = job_manifest.parse(said).normal()
        name = facts.pop("name", normal["name"])
        plain = Job(facts.pop("id", new_id()), owner, name, "gpu", GPU, 1, 1, round(hours * HOUR), normal)
        new = replace(plain, **{"created_at": NOW - MINUTE, "queued_at": NOW - MINUTE, "code": "0" * 64} | facts)
        with transaction(self.app.site.engine) as connection:
            owner_id = connection.execute(select(users.c.id).where(users.c.name == owner)).scalar()
            new = replace(new, owner_id=owner_id)
            store.insert_job(connection, new, {})
        self.app.feed.wake()
        return new

    def attempt(self, of: Job, *nodes: str, log: str | bytes = "", **facts: Any) -> Attempt:
        """One try of it, under way unless ``ended_at`` is given."""
        start = facts.pop("started_at", NOW - 10 * MINUTE)
        number = 1 + len(self.find(of).attempts)
        new = Attempt(
            job=of.id, number=number, reservation=new_id(), nodes=nodes or ("gpu-a",),
            stop_at=facts.pop("stop_at", (start or NOW) + of.length),
            kill_at=facts.pop("kill_at", (start or NOW) + of.length + of.grace),
            starting_at=(start or NOW) - 1000, started_at=start, **facts,
        )  # fmt: skip
        with transaction(self.app.site.engine) as connection:
            store.insert_attempt(connection, new, [{"node": node, "units": []} for node in new.nodes])
        self.print(new, log)
        return new

    def print(self, attempt: Attempt, text: str | bytes) -> None:
        """It prints."""
        printed(self.jobs, attempt, text.encode() if isinstance(text, str) else text)

    def measured(self, attempt: Attempt, lines: Sequence[tuple[int, int | None, Mapping[str, float]]]) -> None:
        """What it measured: time (ms UTC), step, values."""
        self._lines(self.jobs.files.metrics(attempt.id), lines)

    def used(self, attempt: Attempt, lines: Sequence[tuple[int, int | None, Mapping[str, float]]]) -> None:
        """What it used, in the same form."""
        self._lines(self.jobs.files.usage(attempt.id), lines)

    @staticmethod
    def _lines(path: Path, lines: Sequence[tuple[int, int | None, Mapping[str, float]]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            for at, step, values in lines:
                file.write(json.dumps({"at": at, "step": step, "values": dict(values)}) + "\n")

    def end(self, of: Job, **facts: Any) -> None:
        """The job is over."""
        self.change(of, **{"ended_at": self.app.now} | facts)

    def change(self, of: Job, **facts: Any) -> None:
        """Its facts are these from now on."""
        with transaction(self.app.site.engine) as connection:
            connection.execute(update(job).where(job.c.id == of.id).values(**facts))
        self.app.feed.wake()

    def change_attempt(self, of: Attempt, **facts: Any) -> None:
        """The facts of an attempt are these from now on."""
        with transaction(self.app.site.engine) as connection:
            mine = (job_attempt.c.job == of.job, job_attempt.c.number == of.number)
            connection.execute(update(job_attempt).where(*mine).values(**facts))
        self.app.feed.wake()

    def tell(self, of: Job, action: telling.Action) -> None:
        """Open pages are told of it, as the queue does after a change."""
        with transaction(self.app.site.engine) as connection:
            telling.record(connection, action, self.find(of), at=NOW)
        self.app.feed.wake()

    def find(self, of: Job) -> Job:
        """It as it is now."""
        with self.app.site.engine.connect() as connection:
            found = store.find(connection, of.id)
        assert found is not None
        return found
