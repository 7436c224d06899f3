"""What the API takes and gives of jobs, as types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from mlmp_spawner.rules.job_manifest import LARGEST
from mlmp_spawner.web.models import ID, Instant, Name, Request

MOST_OF_A_LOG = 1 << 20
"""Bytes of a log in one answer."""

SHA256 = r"^[0-9a-f]{64}$"

JobState = Literal["queued", "starting", "running", "stopping", "ended"]
BatchId = Annotated[str, Field(pattern=f"^{ID}$")]


def _number(value: object) -> object:
    """A query has text only."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 7 else value


AttemptNumber = Annotated[int, Field(ge=1, le=100_000)]


class JobsQuery(Request):
    """Which jobs to list: one's own or everybody's, the newest first."""

    owner: Name | None = None
    state: JobState | Literal["open"] | None = Field(None, description="open: all that have not ended")
    batch: BatchId | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(max_length=500)] | None = None


class SubmitQuery(Request):
    """Whether to submit it, or only to say what would be."""

    dry_run: bool = False


class Submission(Request):
    """What to run."""

    manifest: dict[str, Any] | Annotated[str, Field(max_length=LARGEST)] = Field(
        description="as an object, or as YAML text"
    )
    code: Annotated[str, Field(pattern=SHA256)] | None = Field(
        None, description="SHA-256 of a snapshot that was PUT to jobs/code before; a command may do without"
    )
    secrets: dict[str, Annotated[str, Field(max_length=LARGEST)]] = Field(
        default_factory=dict, max_length=100, description="values of those that the manifest names; never shown again"
    )
    owner: Name | None = Field(None, description="for whom, if not for oneself (admins)")
    batch: BatchId | None = Field(None, description="an id of the sender's choice that jobs have in common")
    place: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = Field(0, description="its place among those")


class Checked(BaseModel):
    """A manifest that would be taken, with all that it left out."""

    manifest: dict[str, Any]


class Attempt(BaseModel):
    """One try. ``stop_reason``: why it was asked to end; ``reason``: why it did."""

    number: int
    state: Literal["starting", "running", "stopping", "ended"]
    nodes: list[str]
    starting_at: Instant
    started_at: Instant | None
    ended_at: Instant | None
    stop_reason: str | None
    reason: str | None
    exit_status: int | None
    message: str
    stops_at: Instant = Field(description="when it is, or was, asked to end at the latest")
    ends_at: Instant = Field(description="when nothing of it may be left")


class Job(BaseModel):
    """A job. Of others' jobs one sees what they take and when, and the owner where the hub allows it."""

    id: str
    name: str | None
    owner: str | None
    mine: bool
    group: str | None = Field(description='for whose share it counts; "" for none')
    batch: str | None
    place: int | None
    state: JobState
    outcome: Literal["succeeded", "failed", "cancelled"] | None
    reason: str | None = Field(description="why it ended: exit_status, out_of_memory, time_limit, …")
    message: str | None
    exit_status: int | None
    profile: str
    resource: str
    units: int = Field(description="of each worker")
    workers: int
    hours: float
    grace: float = Field(description="seconds between SIGTERM and SIGKILL")
    retries: int | None
    priority: Literal["low", "normal", "high"] | None
    preemptible: bool
    inside: str | None = Field(description="the booking in which it runs")
    code: str | None = Field(description="the SHA-256 of its snapshot")
    created_at: Instant
    queued_at: Instant
    started_at: Instant | None = Field(description="when it first ran")
    ended_at: Instant | None
    stops_at: Instant | None = Field(description="when it is asked to end at the latest, while it runs")
    cancel_asked_at: Instant | None
    attempts: list[Attempt]
    estimated_start: Instant | None = Field(description="while it waits, if all that runs takes its whole time")
    why: str | None = Field(description="why it waits, for people")
    manifest: dict[str, Any] | None = Field(description="of one job, for its owner and admins; null in lists")
    etag: str = Field(description="for If-Match and If-None-Match")


class Jobs(BaseModel):
    """One page of jobs, the newest first."""

    items: list[Job]
    next_cursor: str | None


class Code(BaseModel):
    """A snapshot that is kept. ``size`` in bytes."""

    sha256: str
    size: int


class LogQuery(Request):
    """Which part of which log."""

    attempt: AttemptNumber | None = Field(None, description="the last, if left out")
    start: Annotated[int, Field(ge=-(2**60), le=2**60)] = Field(0, description="byte; negative: from the end")
    limit: Annotated[int, Field(ge=16, le=MOST_OF_A_LOG)] = 64 << 10


class FollowQuery(Request):
    """Which log to follow, and from where on."""

    attempt: AttemptNumber | None = Field(None, description="the last, if left out")
    start: Annotated[int, Field(ge=-(2**60), le=2**60)] = Field(0, description="byte; negative: from the end")


class LogPart(BaseModel):
    """A part of a log: the bytes from ``start`` to ``end`` as text, which ends with a whole character.

    ``size``: of the whole so far; ``complete``: nothing will be added; ``cut``: bytes that were not kept.
    """

    attempt: int | None = Field(description="null: none began yet")
    start: int
    end: int
    size: int
    complete: bool
    cut: int
    text: str


class MetricsQuery(Request):
    """Of which attempt."""

    attempt: Annotated[Literal["all"] | AttemptNumber, BeforeValidator(_number)] = "all"


class MetricSeries(BaseModel):
    """Numbers under one name, at most a thousand."""

    steps: list[int | None] = Field(description="null: none was told")
    values: list[float | None] = Field(description="null: no finite number")
    at: list[Instant | None] = Field(description="null: it is not known when")


class Metrics(BaseModel):
    """What a job measured, and what it used of the machine, by name."""

    series: dict[str, MetricSeries]
    usage: dict[str, MetricSeries]
