"""What several calls of the API need, and the pages too."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mlmp_spawner.errors import Invalid, NotAllowed, NotFound, NotNow, TooLate
from mlmp_spawner.operations import changes, listing, waitlist
from mlmp_spawner.operations.requests import BookingRequest, Recurrence
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.web import answers, models
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.routes import Answer, Call

_ID = re.compile(models.ID)
_KEY = re.compile(r"[\x21-\x7e]{1,200}")


def window_of(start: int, end: int) -> Interval:
    if end <= start:
        raise Invalid.field("end", "it must be after the start")
    return Interval(start, end)


def groups_of(call: Call) -> frozenset[str]:
    """The caller's groups; an admin sees every profile."""
    caller = call.handler.me
    if not caller.is_admin:
        return caller.groups
    return caller.groups | {group for p in call.handler.site.catalog.profiles.values() for group in p.groups}


def idempotency_key(call: Call) -> str | None:
    """The caller's own name for the request, if it has one."""
    key = call.handler.request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise Invalid.field("Idempotency-Key", "1 to 200 printable characters without spaces")
    return key


async def groups_of_owner(call: Call, owner: str | None, does: str) -> frozenset[str] | None:
    """The groups of whom an admin does it for, as the hub knows them. :param does: such as "books"."""
    caller = call.handler.me
    if owner is None and caller.kind != "user":
        raise Invalid.field("owner", f"a service {does} for somebody: say for whom")
    if owner is None or owner == caller.name or not caller.is_admin:
        return None
    return (await call.handler.context.hub.get_user(owner)).groups


async def find(call: Call) -> Reservation:
    context = call.handler.context
    found: Reservation = await context.run(changes.get, context.site, id_of(call))
    return found


async def own(call: Call) -> Reservation:
    """The booking, if it is the caller's (or the caller an admin)."""
    found = await find(call)
    caller = call.handler.me
    if found.owner != caller.name and not caller.is_admin:
        raise NotAllowed("This booking is somebody else's.")
    return found


def if_match(call: Call) -> int | None:
    return answers.version_of(call.handler.request.headers.get("If-Match"))


def booking_request(body: models.Booking, owner_groups: frozenset[str] | None) -> BookingRequest:
    """What a body asks for. :param owner_groups: of whom an admin books for."""
    again = body.recurrence
    return BookingRequest(
        profile=body.profile,
        start=body.start,
        end=body.end,
        duration=body.duration,
        node=body.node,
        units=body.units,
        node_count=body.node_count,
        title=body.title,
        waitlist=body.waitlist,
        server=body.server,
        image=body.image,
        owner=body.owner,
        owner_groups=owner_groups,
        recurrence=Recurrence(again.rrule, again.zone, tuple(again.without)) if again else None,
    )


async def change(call: Call, operation: Any, *args: Any, **kwargs: Any) -> Answer:
    """Carries out an operation on the booking of the call, tells the enforcers, answers with what it is now."""
    context = call.handler.context
    actor = call.handler.me.actor()
    changed = await context.run(
        operation, context.site, id_of(call), *args, actor=actor, now=call.handler.now, **kwargs
    )
    await tell(context, changed)
    return await answer(call, changed)


def id_of(call: Call) -> str:
    """The id in the address.

    :raises NotFound: it can't be one.
    """
    wanted = call.path["id"]
    if not _ID.fullmatch(wanted):
        raise NotFound("There is no such booking.")
    return wanted


async def tell(context: Context, reservation: Reservation) -> None:
    """A change is told to the enforcers before it is answered, to open pages and the clock at once.

    :raises TooLate: the booking goes on, but the stop of its server may have begun before they were told.
    """
    context.feed.wake()
    context.changed()
    if not await context.published(reservation) and reservation.end > context.now():
        raise TooLate(
            "The booking is longer now, but the stop of its server had begun.", hint="Start its server again."
        )


async def start(context: Context, found: Reservation, now: int) -> None:
    """Starts the server of a booking; the hub answers when it is up, or after a few seconds.

    :raises MLMPError: the spawner's refusal.
    """
    if found.state(now) == "ended":
        raise TooLate("The booking is over.", hint="Book again, or start something that is free now.")
    if found.server_state() == "stopping":
        raise NotNow("Its server is being stopped.")
    if found.server_state() != "running":
        options = {"reservation": found.id, "profile": found.profile}
        await context.hub.start_server(found.owner, found.server, options)
        context.changed()


async def places(context: Context, rows: Iterable[Reservation], now: int) -> dict[str, int]:
    """The places in the order of the waitlist, by id; only asked where one of ``rows`` waits."""
    if not any(row.state(now) == "waiting" for row in rows):
        return {}
    return await context.run(waitlist.places, context.site, now=now)


async def answer(
    call: Call, found: Reservation, *, status: int = 200, headers: dict[str, str] | None = None
) -> Answer:
    context, caller, now = call.handler.context, call.handler.me, call.handler.now
    stops = await context.run(listing.stops, context.site, [found], now=now)
    place = (await places(context, [found], now)).get(found.id)
    body = answers.reservation(
        found, context=context, caller=caller, now=now, stops_at=stops.get(found.id), place=place
    )
    return Answer(body, status=status, headers=headers or {}, etag=body.etag)
