"""The calls that book, look at, change, start and give back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlmp_spawner.errors import Invalid, NotAllowed
from mlmp_spawner.operations import changes, history, listing, series, series_changes
from mlmp_spawner.web import answers, models
from mlmp_spawner.web.api.common import (
    answer,
    booking_request,
    change,
    find,
    groups_of_owner,
    id_of,
    idempotency_key,
    if_match,
    own,
    places,
    start,
    tell,
    window_of,
)
from mlmp_spawner.web.routes import Answer, Call, Route


async def list_reservations(call: Call) -> Answer:
    """One page of bookings."""
    query: models.ReservationsQuery = call.query
    context, now = call.handler.context, call.handler.now
    window = None
    if query.start is not None or query.end is not None:
        window = window_of(
            models.EARLIEST if query.start is None else query.start,
            models.LATEST if query.end is None else query.end,
        )
    caller = call.handler.me
    if query.owner not in (None, caller.name) and not (caller.is_admin or context.shows_owners(caller)):
        raise NotAllowed("Whose booking is whose is not shown here.", hint="Leave the owner out.")
    found, cursor = await context.run(
        listing.listing,
        context.site,
        now=now,
        window=window,
        owner=query.owner,
        state=query.state,
        kind=query.kind,
        viewer=None if caller.is_admin else caller.name,
        limit=query.limit,
        cursor=query.cursor,
    )
    seen = [row for row in found if caller.is_admin or row.owner == caller.name]
    stops = await context.run(listing.stops, context.site, seen, now=now)
    waiting = await places(context, found, now)
    items = [
        answers.reservation(
            row, context=context, caller=caller, now=now, stops_at=stops.get(row.id), place=waiting.get(row.id)
        )
        for row in found
    ]
    return Answer(models.Reservations(items=items, next_cursor=cursor))


async def create_reservation(call: Call) -> Answer:
    """Books."""
    body: models.Booking = call.body
    context, caller = call.handler.context, call.handler.me
    key = idempotency_key(call)
    request = booking_request(body, await groups_of_owner(call, body.owner, "books"))
    booked = await context.run(
        series.book, context.site, request, actor=caller.actor(), now=call.handler.now, idempotency_key=key
    )
    await tell(context, booked)
    location = f"{context.api_prefix}reservations/{booked.id}"
    status = 202 if booked.state(call.handler.now) == "waiting" else 201
    return await answer(call, booked, status=status, headers={"Location": location})


async def get_reservation(call: Call) -> Answer:
    """One booking."""
    return await answer(call, await find(call))


async def change_reservation(call: Call) -> Answer:
    """Moves, resizes or renames a booking."""
    body: models.Change = call.body
    given: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if not given:
        raise Invalid("Nothing is to change.", hint="Give start, end, node, units, image or title.")
    given |= {name: given[name] or "" for name in ("node", "image") if name in given}
    done = await _of_series(call, series_changes.change, changes.Changes(**given))
    return await answer(call, done.reservation)


async def delete_reservation(call: Call) -> Answer:
    """Cancels what has not begun, releases what has."""
    done = await _of_series(call, series_changes.cancel)
    found = await answer(call, done.reservation)
    assert isinstance(found.body, models.Reservation)
    cancelled = list(done.touched) if done.undo else []
    return replace(found, body=models.GivenBack(**dict(found.body), cancelled=cancelled, undo=done.undo))


async def _of_series(call: Call, operation: Any, *args: Any) -> series_changes.Done:
    """Carries out an operation on one or several bookings of a series, and tells the enforcers."""
    query: models.WhichQuery = call.query
    context, actor = call.handler.context, call.handler.me.actor()
    done: series_changes.Done = await context.run(
        operation, context.site, id_of(call), *args, which=query.which, actor=actor, now=call.handler.now,
        if_match=if_match(call),
    )  # fmt: skip
    await tell(context, done.reservation)
    return done


async def extend_reservation(call: Call) -> Answer:
    """Moves the end."""
    body: models.Extension = call.body
    return await change(call, changes.extend, end=body.end, duration=body.duration)


async def start_server(call: Call) -> Answer:
    """Starts the server of a booking, through the hub."""
    found = await own(call)
    context = call.handler.context
    await start(context, found, call.handler.now)
    again = await context.run(changes.get, context.site, found.id)
    return await answer(call, again, status=202)


async def stop_server(call: Call) -> Answer:
    """Stops the server of a booking; the booking stays."""
    found = await own(call)
    context = call.handler.context
    await context.hub.stop_server(found.owner, found.server)
    context.changed()
    again = await context.run(changes.get, context.site, found.id)
    return await answer(call, again, status=202)


async def reservation_history(call: Call) -> Answer:
    """Who did what when."""
    found = await own(call)
    entries = await call.handler.context.run(history.of, call.handler.site.engine, found.id)
    return Answer(models.History(items=[answers.entry(entry) for entry in entries]))


_IF_MATCH = {"If-Match": "the etag of the booking as you saw it; 412 if it changed meanwhile"}
_IF_NONE = {"If-None-Match": "the etag that you have; 304 if it is still that"}
_NOT_MODIFIED = {304: "not modified"}
_CONFLICT = {409: "it does not fit with what there is; `alternatives` can be posted as they are"}
_CHANGED = {412: "it was changed meanwhile"}

TABLE: tuple[Route, ...] = (
    Route(
        "GET", "reservations", "listReservations", "bookings, by start", "access", list_reservations,
        query=models.ReservationsQuery, answer=models.Reservations, headers=_IF_NONE, statuses=_NOT_MODIFIED,
    ),
    Route(
        "POST", "reservations", "book", "book", "book", create_reservation, body=models.Booking,
        answer=models.Reservation, status=201, statuses={202: "it waits for a place", **_CONFLICT},
        headers={"Idempotency-Key": "your own name for this request: repeated within a day, nothing is booked twice"},
    ),
    Route(
        "GET", "reservations/{id}", "getReservation", "one booking", "access", get_reservation,
        answer=models.Reservation, headers=_IF_NONE, statuses=_NOT_MODIFIED,
    ),
    Route(
        "PATCH", "reservations/{id}", "changeReservation", "move, resize or rename a booking", "book",
        change_reservation, query=models.WhichQuery, body=models.Change, answer=models.Reservation, headers=_IF_MATCH,
        statuses={**_CONFLICT, **_CHANGED},
    ),
    Route(
        "DELETE", "reservations/{id}", "giveBack", "cancel a booking, or release it once it has begun", "book",
        delete_reservation, query=models.WhichQuery, answer=models.GivenBack, headers=_IF_MATCH,
        statuses={409: "it is over already", **_CHANGED},
    ),
    Route(
        "POST", "reservations/{id}/extend", "extend", "extend a booking", "book", extend_reservation,
        body=models.Extension, answer=models.Reservation, statuses={409: "`longest_end` says how far it could go"},
    ),
    Route(
        "POST", "reservations/{id}/start", "startServer", "start the server of a booking", "book",
        start_server, answer=models.Reservation, status=202, statuses={409: "not now"},
    ),
    Route(
        "POST", "reservations/{id}/stop", "stopServer", "stop the server of a booking; the booking stays", "book",
        stop_server, answer=models.Reservation, status=202, statuses={409: "not now"},
    ),
    Route(
        "GET", "reservations/{id}/history", "history", "who did what when", "access", reservation_history,
        answer=models.History, headers=_IF_NONE, statuses=_NOT_MODIFIED,
    ),
)  # fmt: skip
