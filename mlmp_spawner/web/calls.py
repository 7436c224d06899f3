"""The calls of the API: parse, call an operation, answer."""

from __future__ import annotations

import re
from typing import Any

from mlmp_spawner.errors import Invalid, NotAllowed, NotFound, NotNow, TooLate
from mlmp_spawner.operations import availability as free
from mlmp_spawner.operations import booking, changes, history, listing
from mlmp_spawner.operations.requests import BookingRequest, usable_profile
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.units import DAY
from mlmp_spawner.web import answers, models
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.routes import Answer, Call

_ID = re.compile(models.ID)
_KEY = re.compile(r"[\x21-\x7e]{1,200}")


async def me(call: Call) -> Answer:
    """Who asks, what holds for them, and what they use of it."""
    caller, context, now = call.handler.me, call.handler.context, call.handler.now
    rules = context.site.catalog.limits_for(caller.name, caller.groups)
    used = await context.run(listing.used, context.site, caller.name, now=now)
    return Answer(
        models.Me(
            name=caller.name,
            kind=caller.kind,
            groups=sorted(caller.groups),
            scopes=sorted(caller.scopes),
            admin=caller.is_admin,
            zone=context.settings.zone,
            now=now,
            limits=answers.limits(rules),
            used=models.Used(
                units_at_once=used.units_at_peak,
                hours_per_week=round(used.hours_in_week, 2),
                open_bookings=used.open_bookings,
            ),
        )
    )


async def catalog(call: Call) -> Answer:
    """What the caller may use."""
    found = call.handler.site.catalog
    caller = call.handler.me
    profiles = found.profiles.values() if caller.is_admin else found.profiles_for(caller.groups)
    return Answer(answers.catalog(found, profiles))


async def availability(call: Call) -> Answer:
    """What is free over a window."""
    query: models.AvailabilityQuery = call.query
    handler, site, now = call.handler, call.handler.site, call.handler.now
    start = now if query.start is None else query.start
    window = _window(start, start + DAY if query.end is None else query.end)
    groups = _groups(call)
    profile = usable_profile(site, query.profile, groups)
    found = await handler.context.run(
        free.availability,
        site,
        profile=query.profile,
        window=window,
        groups=groups,
        now=now,
        node=query.node,
        units=query.units,
        duration=query.duration,
    )
    nodes = [
        models.NodeAvailability(
            node=one.node,
            capacity=one.capacity,
            steps=[models.Step(start=step.start, end=step.end, free=step.free) for step in one.steps],
            first_free=one.first_free,
        )
        for one in found
    ]
    return Answer(
        models.Availability(
            profile=query.profile,
            resource=profile.resource,
            units=profile.units if query.units is None else query.units,
            start=window.start,
            end=window.end,
            duration=query.duration,
            first_free=min((one.first_free for one in nodes if one.first_free is not None), default=None),
            nodes=nodes,
        )
    )


async def list_reservations(call: Call) -> Answer:
    """One page of bookings."""
    query: models.ReservationsQuery = call.query
    context, now = call.handler.context, call.handler.now
    window = None
    if query.start is not None or query.end is not None:
        window = _window(
            models.EARLIEST if query.start is None else query.start,
            models.LATEST if query.end is None else query.end,
        )
    caller = call.handler.me
    if query.owner not in (None, caller.name) and not (caller.is_admin or context.settings.show_owners):
        raise NotAllowed("Whose booking is whose is not shown here.", hint="Leave the owner out.")
    found, cursor = await context.run(
        listing.listing,
        context.site,
        now=now,
        window=window,
        owner=query.owner,
        state=query.state,
        limit=query.limit,
        cursor=query.cursor,
    )
    seen = [row for row in found if caller.is_admin or row.owner == caller.name]
    stops = await context.run(listing.stops, context.site, seen, now=now)
    items = [
        answers.reservation(row, context=context, caller=caller, now=now, stops_at=stops.get(row.id)) for row in found
    ]
    return Answer(models.Reservations(items=items, next_cursor=cursor))


async def create_reservation(call: Call) -> Answer:
    """Books."""
    body: models.Booking = call.body
    context, caller = call.handler.context, call.handler.me
    key = call.handler.request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise Invalid.field("Idempotency-Key", "1 to 200 printable characters without spaces")
    request = BookingRequest(
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
        owner=body.owner,
        owner_groups=await _owner_groups(call, body.owner),
    )
    booked = await context.run(
        booking.book, context.site, request, actor=caller.actor(), now=call.handler.now, idempotency_key=key
    )
    await tell(context, booked)
    location = f"{context.api_prefix}reservations/{booked.id}"
    status = 202 if booked.state(call.handler.now) == "waiting" else 201
    return await _answer(call, booked, status=status, headers={"Location": location})


async def get_reservation(call: Call) -> Answer:
    """One booking."""
    return await _answer(call, await _find(call))


async def change_reservation(call: Call) -> Answer:
    """Moves, resizes or renames a booking."""
    body: models.Change = call.body
    given: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if not given:
        raise Invalid("Nothing is to change.", hint="Give start, end, node, units or title.")
    if "node" in given:
        given["node"] = given["node"] or ""
    return await _change(call, changes.change, changes.Changes(**given), if_match=_if_match(call))


async def delete_reservation(call: Call) -> Answer:
    """Cancels what has not begun, releases what has."""
    return await _change(call, changes.cancel, if_match=_if_match(call))


async def extend_reservation(call: Call) -> Answer:
    """Moves the end."""
    body: models.Extension = call.body
    return await _change(call, changes.extend, end=body.end, duration=body.duration)


async def start_server(call: Call) -> Answer:
    """Starts the server of a booking, through the hub."""
    found = await _own(call)
    context = call.handler.context
    await start(context, found, call.handler.now)
    again = await context.run(changes.get, context.site, found.id)
    return await _answer(call, again, status=202)


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


async def stop_server(call: Call) -> Answer:
    """Stops the server of a booking; the booking stays."""
    found = await _own(call)
    context = call.handler.context
    await context.hub.stop_server(found.owner, found.server)
    context.changed()
    again = await context.run(changes.get, context.site, found.id)
    return await _answer(call, again, status=202)


async def reservation_history(call: Call) -> Answer:
    """Who did what when."""
    found = await _own(call)
    entries = await call.handler.context.run(history.of, call.handler.site.engine, found.id)
    return Answer(models.History(items=[answers.entry(entry) for entry in entries]))


# -- what several calls need ----------------------------------------------------------------------------------------


def _window(start: int, end: int) -> Interval:
    if end <= start:
        raise Invalid.field("end", "it must be after the start")
    return Interval(start, end)


def _groups(call: Call) -> frozenset[str]:
    """The caller's groups; an admin sees every profile."""
    caller = call.handler.me
    if not caller.is_admin:
        return caller.groups
    return caller.groups | {group for p in call.handler.site.catalog.profiles.values() for group in p.groups}


async def _owner_groups(call: Call, owner: str | None) -> frozenset[str] | None:
    """The groups of whom an admin books for, as the hub knows them."""
    caller = call.handler.me
    if owner is None and caller.kind != "user":
        raise Invalid.field("owner", "a service books for somebody: say for whom")
    if owner is None or owner == caller.name or not caller.is_admin:
        return None
    return (await call.handler.context.hub.get_user(owner)).groups


async def _find(call: Call) -> Reservation:
    wanted = call.path["id"]
    if not _ID.fullmatch(wanted):
        raise NotFound("There is no such booking.")
    context = call.handler.context
    found: Reservation = await context.run(changes.get, context.site, wanted)
    return found


async def _own(call: Call) -> Reservation:
    """The booking, if it is the caller's (or the caller an admin)."""
    found = await _find(call)
    caller = call.handler.me
    if found.owner != caller.name and not caller.is_admin:
        raise NotAllowed("This booking is somebody else's.")
    return found


def _if_match(call: Call) -> int | None:
    return answers.version_of(call.handler.request.headers.get("If-Match"))


async def _change(call: Call, operation: Any, *args: Any, **kwargs: Any) -> Answer:
    """Carries out an operation on the booking of the call, tells the enforcers, answers with what it is now."""
    wanted = call.path["id"]
    if not _ID.fullmatch(wanted):
        raise NotFound("There is no such booking.")
    context = call.handler.context
    actor = call.handler.me.actor()
    changed = await context.run(operation, context.site, wanted, *args, actor=actor, now=call.handler.now, **kwargs)
    await tell(context, changed)
    return await _answer(call, changed)


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


async def _answer(
    call: Call, found: Reservation, *, status: int = 200, headers: dict[str, str] | None = None
) -> Answer:
    context, caller, now = call.handler.context, call.handler.me, call.handler.now
    stops = await context.run(listing.stops, context.site, [found], now=now)
    body = answers.reservation(found, context=context, caller=caller, now=now, stops_at=stops.get(found.id))
    return Answer(body, status=status, headers=headers or {}, etag=body.etag)
