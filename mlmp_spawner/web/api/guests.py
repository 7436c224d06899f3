"""The calls that invite guests to a course, show who came, and end their time."""

from __future__ import annotations

from urllib.parse import urlencode

from mlmp_spawner.errors import Conflict
from mlmp_spawner.guest_settings import WHY_NONE
from mlmp_spawner.operations.courses import guests
from mlmp_spawner.store.guests import Guest
from mlmp_spawner.web import guest_models as types
from mlmp_spawner.web.api.courses import name_of
from mlmp_spawner.web.base import Handler
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.routes import Answer, Call, Route


async def list_guests(call: Call) -> Answer:
    """Who came, and how many can still come."""
    context = call.handler.context
    found = await context.run(
        guests.of, context.site.engine, name_of(call), actor=call.handler.me.actor(), now=call.handler.now
    )
    return Answer(types.Guests(items=[_guest(one) for one in found.guests], open_codes=len(found.codes)))


async def invite(call: Call) -> Answer:
    """Makes codes."""
    body: types.CodesBody = call.body
    context = call.handler.context
    name, by = name_of(call), {"actor": call.handler.me.actor(), "now": call.handler.now}
    await context.run(guests.of, context.site.engine, name, **by)  # who does not run the course is told only that
    check_isolated(context)
    codes = await context.run(guests.new_codes, context.site.engine, name, body.count, until=body.until, **by)
    address = address_of(call.handler)
    items = [types.Code(code=code, link=f"{address}?{urlencode({'code': code})}") for code in codes]
    found = types.Codes(
        items=items, address=address, until=body.until, erased_after=context.settings.guest_erase_after
    )
    return Answer(found, status=201)


async def withdraw(call: Call) -> Answer:
    """Makes the codes useless that nobody used."""
    context = call.handler.context
    count = await context.run(
        guests.withdraw, context.site.engine, name_of(call), actor=call.handler.me.actor(), now=call.handler.now
    )
    return Answer(types.Withdrawn(withdrawn=count))


async def end(call: Call) -> Answer:
    """Ends a guest's time now."""
    context = call.handler.context
    ended = await context.run(
        guests.end, context.site.engine, name_of(call), call.path["guest"],
        erase_after=context.settings.guest_erase_after, actor=call.handler.me.actor(), now=call.handler.now,
    )  # fmt: skip
    return Answer(_guest(ended))


def check_isolated(context: Context) -> None:
    """:raises Conflict: guests would not be kept apart from others here."""
    if context.settings.guest_isolation == "none":
        raise Conflict(WHY_NONE)


def address_of(handler: Handler) -> str:
    """Where codes are entered, as whoever asks reaches the hub."""
    return f"{handler.request.protocol}://{handler.request.host}{handler.context.hub_prefix}guest"


def _guest(one: Guest) -> types.Guest:
    return types.Guest(
        name=one.name, came_at=one.created_at, until=one.expires_at, ended_at=one.ended_at, erased_from=one.erase_at
    )


TABLE: tuple[Route, ...] = (
    Route(
        "GET", "courses/{name}/guests", "listGuests", "the guests of a course", "run", list_guests,
        answer=types.Guests,
    ),
    Route(
        "POST", "courses/{name}/guests", "inviteGuests", "make codes by which guests come", "run", invite,
        body=types.CodesBody, answer=types.Codes, status=201,
        statuses={409: "the course may have no more guests, or nothing would keep them apart from others here"},
        description="Each code is good for one person. They are shown this once: only hashes of them are kept.",
    ),
    Route(
        "DELETE", "courses/{name}/guests", "withdrawGuestCodes", "make the codes useless that nobody used", "run",
        withdraw, answer=types.Withdrawn,
    ),
    Route(
        "DELETE", "courses/{name}/guests/{guest}", "endGuest", "end a guest's time now", "run", end,
        answer=types.Guest,
        description="Servers and login end within seconds, files and account are erased after the stated delay.",
    ),
)  # fmt: skip
