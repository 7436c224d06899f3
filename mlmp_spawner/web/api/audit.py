"""The audit log: the whole history, for admins."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, Field

from mlmp_spawner.operations import history
from mlmp_spawner.operations.history import Entry, Filter
from mlmp_spawner.units import to_iso
from mlmp_spawner.web import csv_text, models
from mlmp_spawner.web.models import Instant, InstantIn, Line, Name
from mlmp_spawner.web.routes import Answer, Call, Route

MOST_AS_CSV = 10_000


class AuditQuery(models.Request):
    """Which lines, newest first."""

    person: Name | None = Field(None, description="whose booking it was, or who did it")
    actor: Name | None = Field(None, description="who did it; `clock` for what went by itself")
    action: Annotated[Line, Field(min_length=1, max_length=40)] | None = None
    reservation: Annotated[str, Field(pattern=rf"^{models.ID}$")] | None = None
    start: InstantIn | None = None
    end: InstantIn | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_AS_CSV)] = 50
    cursor: Annotated[str, Field(max_length=500)] | None = None


class AuditEntry(BaseModel):
    """One line: who did what to whose booking, when."""

    id: int
    at: Instant
    actor: str
    action: str
    owner: str | None
    reservation: str | None
    details: dict[str, Any]


class Audit(BaseModel):
    """One page of the audit log."""

    items: list[AuditEntry]
    next_cursor: str | None


async def audit(call: Call) -> Answer:
    """One page, as JSON or CSV."""
    query: AuditQuery = call.query
    found, cursor = await call.handler.context.run(
        history.audit, call.handler.site.engine, filter_of(query), limit=query.limit, cursor=query.cursor
    )
    if csv_text.MEDIA_TYPE in call.handler.request.headers.get("Accept", ""):
        return Answer(None, text=as_csv(found), media_type=f"{csv_text.MEDIA_TYPE}; charset=utf-8")
    items = [
        AuditEntry(id=e.id, at=e.at, actor=e.actor, action=e.action, owner=e.owner, reservation=e.reservation,
                   details=e.details) for e in found
    ]  # fmt: skip
    return Answer(Audit(items=items, next_cursor=cursor))


def filter_of(query: AuditQuery) -> Filter:
    """What a query asks for."""
    return Filter(query.person, query.actor, query.action, query.reservation, query.start, query.end)


def as_csv(entries: Iterable[Entry]) -> bytes:
    """Lines of the history as CSV."""
    header = ("id", "at", "actor", "action", "owner", "reservation", "details")
    return csv_text.csv_text(
        header,
        (
            (e.id, to_iso(e.at), e.actor, e.action, e.owner, e.reservation, json.dumps(e.details, ensure_ascii=False))
            for e in entries
        ),
    )


TABLE: tuple[Route, ...] = (
    Route(
        "GET", "audit", "audit", "who did what when, newest first", "admin", audit, query=AuditQuery, answer=Audit,
        also=(csv_text.MEDIA_TYPE,), statuses={304: "not modified"},
        headers={"If-None-Match": "the etag that you have; 304 if it is still that"},
    ),
)  # fmt: skip
