"""The calendar feed: its secret address, and what is there."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from pydantic import BaseModel, Field

from mlmp_spawner.errors import NotFound
from mlmp_spawner.operations import calendar as feed
from mlmp_spawner.operations import people
from mlmp_spawner.web import models
from mlmp_spawner.web.api.notices import person_herself, titles
from mlmp_spawner.web.base import Handler
from mlmp_spawner.web.routes import Answer, Call, Route

MEDIA_TYPE = "text/calendar"


class CalendarQuery(models.Request):
    """The secret of the address."""

    token: Annotated[str, Field(max_length=200)] | None = None


class CalendarToken(BaseModel):
    """The address of the calendar feed. It is said once, when it is made."""

    url: str | None
    since: models.Instant | None


async def make_token(call: Call) -> Answer:
    """A new address; the former one is dead."""
    url = await make_address(call.handler, person_herself(call))
    return Answer(CalendarToken(url=url, since=call.handler.now), status=201)


async def make_address(handler: Handler, name: str) -> str:
    """A new address of somebody's calendar feed."""
    context = handler.context
    token = await context.run(people.make_calendar_token, context.site.engine, name, now=handler.now)
    pages = context.settings.pages or f"{handler.request.protocol}://{handler.request.host}{context.prefix}"
    return f"{pages}api/v1/calendar.ics?token={quote(token)}"


async def revoke_token(call: Call) -> Answer:
    """The address is dead."""
    context = call.handler.context
    await context.run(people.revoke_calendar_token, context.site.engine, person_herself(call))
    return Answer(CalendarToken(url=None, since=None))


async def calendar(call: Call) -> Answer:
    """The bookings of whom the secret belongs to."""
    handler, context = call.handler, call.handler.context
    context.throttle.take(f"calendar:{handler.request.remote_ip}")
    token = handler.get_query_argument("token", "")
    found = await context.run(feed.feed, context.site, token, now=handler.now)
    if found is None:
        raise NotFound("There is no such calendar.", hint="Its address may have been replaced: make a new one.")
    text = feed.document(found, titles(context), context.settings.pages, now=handler.now)
    headers = {"Cache-Control": "private, no-cache", "Content-Disposition": 'inline; filename="mlmp.ics"'}
    return Answer(None, text=text, media_type=f"{MEDIA_TYPE}; charset=utf-8", headers=headers)


TABLE: tuple[Route, ...] = (
    Route(
        "POST", "calendar-token", "makeCalendar", "make the address of your calendar feed", "book", make_token,
        answer=CalendarToken, status=201, description="It is said once. The address that there was before is dead.",
    ),
    Route(
        "DELETE", "calendar-token", "revokeCalendar", "end your calendar feed", "book", revoke_token,
        answer=CalendarToken,
    ),
    Route(
        "GET", "calendar.ics", "calendar", "your bookings for other calendar programs (iCalendar)", "none", calendar,
        query=CalendarQuery, media_type=MEDIA_TYPE, headers={"If-None-Match": "the etag that you have"},
        statuses={304: "not modified", 404: "the token opens nothing", 429: "too fast"},
        description="The token is the right to read it; keep the address to yourself.",
    ),
)  # fmt: skip
