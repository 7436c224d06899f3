"""The call that shows a series."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mlmp_spawner.errors import NotAllowed
from mlmp_spawner.operations import series_changes
from mlmp_spawner.web import answers, models
from mlmp_spawner.web.api.common import id_of
from mlmp_spawner.web.routes import Answer, Call, Route


class Series(BaseModel):
    """Bookings that come from one rule. ``start``: from when the rule counts."""

    model_config = ConfigDict(serialize_by_alias=True)

    id: str
    owner: str
    rrule: str
    zone: str
    without: list[str] = Field(alias="except", description="days of the zone that are left out")
    start: models.Instant
    duration: models.Duration
    replaces: str | None = Field(description="the series that this one carries on")
    items: list[models.Reservation] = Field(description="its bookings, in the order of the rule")


async def get_series(call: Call) -> Answer:
    """One series with its bookings."""
    context, caller, now = call.handler.context, call.handler.me, call.handler.now
    found, rows = await context.run(series_changes.look, context.site, id_of(call))
    if found.owner != caller.name and not caller.is_admin:
        raise NotAllowed("This series is somebody else's.")
    mine = [row for row in rows if row.owner_id is not None or caller.is_admin]
    return Answer(
        Series(
            id=found.id,
            owner=found.owner,
            rrule=found.rrule,
            zone=found.zone,
            **{"except": list(found.without)},
            start=found.start,
            duration=found.duration,
            replaces=found.replaces,
            items=[answers.reservation(row, context=context, caller=caller, now=now) for row in mine],
        )
    )


TABLE: tuple[Route, ...] = (
    Route(
        "GET", "series/{id}", "getSeries", "bookings that come from one rule", "access", get_series, answer=Series,
        headers={"If-None-Match": "the etag that you have; 304 if it is still that"}, statuses={304: "not modified"},
    ),
)  # fmt: skip
