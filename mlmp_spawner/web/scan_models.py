"""What the API takes and gives of scans, as types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from mlmp_spawner.rules.job_manifest import LARGEST
from mlmp_spawner.rules.scan_parameters import MOST_ROWS, Kind
from mlmp_spawner.web.job_models import SHA256, JobState
from mlmp_spawner.web.models import Instant, Request

MOST_OF_ROWS = 200
"""Rows of a scan in one answer."""

Value = bool | int | float | str


class ScanSubmission(Request):
    """What to run with which parameters. A script or a command (a list) gets them as ``--name value``, a notebook as
    its parameters."""

    manifest: dict[str, Any] | Annotated[str, Field(max_length=LARGEST)] = Field(
        description="of every job, as an object, or as YAML text; with a part `scan`, that says the rest, all but "
        "name, code and secrets"
    )
    kind: Kind = Field("grid", description="each combination; the rows; a sample")
    parameters: dict[str, Any] | list[dict[str, Any]] | None = Field(
        None,
        description="of a list the rows; else of each name a list of values, or a range: "
        '{"from": 1e-5, "to": 0.1, "scale": "lin" or "log"}, in a grid with "steps"',
    )
    samples: Annotated[int, Field(strict=True, ge=1, le=MOST_ROWS)] | None = Field(
        None, description="rows of a sample"
    )
    seed: Annotated[int, Field(strict=True, ge=0, le=2**53)] = Field(0, description="the same one gives the same rows")
    out: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        None, description="directory below the home for what each row makes: runs/lr={lr}/bs={bs}"
    )
    at_once: Annotated[int, Field(strict=True, ge=1, le=MOST_ROWS)] | None = Field(
        None, description="how many of them may run at a time; all that find room, if left out"
    )
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+=, -]*$")] | None = (
        None
    )
    code: Annotated[str, Field(pattern=SHA256)] | None = Field(
        None, description="SHA-256 of a snapshot that was PUT to jobs/code before; a command may do without"
    )
    secrets: dict[str, Annotated[str, Field(max_length=LARGEST)]] = Field(
        default_factory=dict, max_length=100, description="values of those that the manifest names; never shown again"
    )


class RowsQuery(Request):
    """Which rows of a scan."""

    start: Annotated[int, Field(ge=0, le=MOST_ROWS)] = Field(0, description="the first one, counted from 0")
    limit: Annotated[int, Field(ge=1, le=MOST_OF_ROWS)] = MOST_OF_ROWS


class ScanSubmitQuery(Request):
    """Whether to submit it, or only to say what would be."""

    dry_run: bool = False


class Row(BaseModel):
    """One row: its values, and the job that was submitted for it last."""

    row: int = Field(description="counted from 0")
    parameters: dict[str, Value]
    job: str | None = Field(description="null: it is not kept any more")
    state: JobState | None
    outcome: Literal["succeeded", "failed", "cancelled"] | None
    reason: str | None
    message: str
    outputs: str | None = Field(description="the directory of its results, below the owner's home")
    metrics: dict[str, float] = Field(
        description="the last value of each; of one's own scans, where rows are asked for"
    )


class Scan(BaseModel):
    """A scan. ``counts``: how many rows are in each state, those that are over by their outcome."""

    id: str
    name: str
    owner: str
    parameters: list[str]
    size: int = Field(description="how many rows it has")
    out: str | None = Field(description="template of the directory of each row's outputs; null: those of the manifest")
    at_once: int | None
    created_at: Instant
    cancelled_at: Instant | None
    counts: dict[str, int]
    rows: list[Row] = Field(description="empty in lists")
    next_start: int | None = Field(description="where the next rows begin; null behind the last, and in lists")


class Scans(BaseModel):
    """One's own scans, the newest first."""

    items: list[Scan]


class Said(BaseModel):
    """With which parameters a manifest is run."""

    kind: Kind
    parameters: dict[str, Any] | list[dict[str, Any]]
    samples: int | None
    seed: int
    out: str | None
    at_once: int | None


class Planned(BaseModel):
    """What would be submitted: the first rows, how many there are, and what says so."""

    size: int
    rows: list[dict[str, Value]]
    manifest: dict[str, Any] = Field(description="of every job, with all that was left out")
    scan: Said = Field(description="to be sent beside the manifest")


class Retried(BaseModel):
    """How many rows were put into the queue once more."""

    retried: int
    scan: Scan


class ResultsQuery(Request):
    """In which form."""

    format: Literal["json", "csv"] | None = Field(None, description="instead of the header Accept")


class Results(BaseModel):
    """All rows of a scan, with the names of all that they measured."""

    parameters: list[str]
    metrics: list[str]
    rows: list[Row]
