"""What the queue writes down of a job besides itself: a line in the history, and what its owner is told of it."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Connection

from mlmp_spawner.operations import history, notices
from mlmp_spawner.rules.jobs import Job

Action = Literal["job_started", "job_running", "job_stopping", "job_requeued", "job_ended", "job_failed"]

QUEUE = "queue"
"""Who did it, in the history."""


def record(connection: Connection, action: Action, job: Job, *, at: int, **details: Any) -> None:
    """Writes the line, and the notice where its owner should know; in the transaction of the change.

    :param details: of ``job_ended`` and ``job_failed`` ``outcome``, ``reason``, ``exit_status`` and ``message``, of
        ``job_requeued`` and ``job_stopping`` ``reason``.
    """
    history.record(connection, action, actor=QUEUE, at=at, owner=job.owner, job=job.id, **details)
    notices.write_of_job(connection, action, job, actor=QUEUE, at=at, details=details)
