"""What the service answers about jobs, as frozen values. Instants and durations are ms."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlmp_spawner.client.models import Json, instant


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a job. ``stop_reason``: why it was asked to end; ``reason``: why it did."""

    number: int
    state: str
    nodes: tuple[str, ...] = ()
    started_at: int | None = None
    ended_at: int | None = None
    stop_reason: str | None = None
    reason: str | None = None
    exit_status: int | None = None
    message: str = ""

    @classmethod
    def parse(cls, body: Json) -> Attempt:
        """From JSON; raises as :meth:`JobRecord.parse`."""
        return cls(
            number=int(body["number"]),
            state=str(body["state"]),
            nodes=tuple(str(node) for node in body.get("nodes") or ()),
            started_at=instant(body.get("started_at")),
            ended_at=instant(body.get("ended_at")),
            stop_reason=body.get("stop_reason"),
            reason=body.get("reason"),
            exit_status=body.get("exit_status"),
            message=str(body.get("message") or ""),
        )


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it is now. ``owner``: None where the hub does not show it; ``name`` of others' jobs is empty.

    ``state``: queued, starting, running, stopping or ended; ``outcome`` and ``reason`` once it has ended;
    ``estimated_start`` and ``why`` while it waits; ``hours`` as asked for; ``units`` of ``profile`` for each worker.
    """

    id: str
    owner: str | None
    name: str
    profile: str
    state: str
    outcome: str | None = None
    reason: str | None = None
    message: str = ""
    exit_status: int | None = None
    units: int = 1
    workers: int = 1
    hours: float | None = None
    batch: str | None = None
    created_at: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    stops_at: int | None = None
    estimated_start: int | None = None
    why: str = ""
    attempts: tuple[Attempt, ...] = ()
    etag: str | None = None
    mine: bool = True
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state == "ended"

    @property
    def succeeded(self) -> bool:
        """Whether it is over and did what it should."""
        return self.outcome == "succeeded"

    @classmethod
    def parse(cls, body: Json) -> JobRecord:
        """From JSON.

        :raises ValueError, KeyError, TypeError: it is not a job.
        """
        times = ("created_at", "started_at", "ended_at", "stops_at", "estimated_start")
        return cls(
            id=str(body["id"]),
            owner=body.get("owner"),
            name=str(body.get("name") or ""),
            profile=str(body["profile"]),
            state=str(body["state"]),
            outcome=body.get("outcome"),
            reason=body.get("reason"),
            message=str(body.get("message") or ""),
            exit_status=body.get("exit_status"),
            units=int(body.get("units") or 1),
            workers=int(body.get("workers") or 1),
            hours=None if body.get("hours") is None else float(body["hours"]),
            batch=body.get("batch"),
            why=str(body.get("why") or ""),
            attempts=tuple(Attempt.parse(one) for one in body.get("attempts") or ()),
            etag=body.get("etag"),
            mine=bool(body.get("mine", True)),
            raw=body,
            **{name: instant(body.get(name)) for name in times},
        )
