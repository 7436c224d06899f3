"""The table of the API: every call there is, in one place.

The handlers, the checks, the OpenAPI document and the tests of who may do what all come from it. Each subject has a
module with its calls and its rows.
"""

from __future__ import annotations

from typing import Any

from mlmp_spawner.web import openapi
from mlmp_spawner.web.api import (
    access,
    audit,
    bookings,
    calendar,
    class_room,
    classes,
    cluster,
    courses,
    guests,
    images,
    job_code,
    job_logs,
    job_pods,
    jobs,
    limits,
    notices,
    outages,
    own,
    scans,
    series,
    ssh,
    stream,
    timeline,
    usage,
)
from mlmp_spawner.web.routes import Route, handlers

TABLE: tuple[Route, ...] = (
    *access.TABLE, *bookings.TABLE, *series.TABLE, *limits.TABLE, *outages.TABLE, *cluster.TABLE, *images.TABLE,
    *timeline.TABLE, *stream.TABLE, *notices.TABLE, *calendar.TABLE, *audit.TABLE, *usage.TABLE,
    *ssh.TABLE, *jobs.TABLE, *job_logs.TABLE, *job_code.TABLE, *job_pods.TABLE, *scans.TABLE, *own.TABLE,
    *courses.TABLE, *classes.TABLE, *class_room.TABLE, *guests.TABLE,
)  # fmt: skip


def document(prefix: str) -> dict[str, Any]:
    """The OpenAPI document of the table."""
    return openapi.document(TABLE, prefix)


def routes(prefix: str) -> list[tuple[Any, ...]]:
    """The table as tornado's routes."""
    return handlers(TABLE, prefix)
