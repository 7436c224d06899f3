"""The calls that book, show and cancel the classes of a course."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mlmp_spawner.operations.courses import classes, courses, placing
from mlmp_spawner.operations.courses.term import ClassRequest
from mlmp_spawner.operations.requests import HORIZON, Recurrence
from mlmp_spawner.rules.class_seats import CourseClass
from mlmp_spawner.rules.class_servers import Wish
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import HOUR, to_iso
from mlmp_spawner.web import answers
from mlmp_spawner.web import class_models as types
from mlmp_spawner.web.api.class_room import status_of
from mlmp_spawner.web.api.common import id_of, idempotency_key, window_of
from mlmp_spawner.web.api.courses import name_of
from mlmp_spawner.web.auth import Caller
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.csv_text import MEDIA_TYPE, csv_text
from mlmp_spawner.web.routes import Answer, Call, Route

REPORTED = ("id", "start", "end", "state", "seats", "given", "used", "unit_hours")
"""The columns of classes as CSV."""


async def list_classes(call: Call) -> Answer:
    """Those of a course that are not over, or of some time."""
    query: types.ClassesQuery = call.query
    context, caller, now = call.handler.context, call.handler.me, call.handler.now
    start = now if query.start is None else query.start
    window = window_of(start, start + HORIZON if query.end is None else query.end)
    name = name_of(call)
    runs = await _runs(call, name)
    found = await context.run(classes.listing, context.site, name, window=window)
    seats = await context.run(classes.seats_of, context.site, [row.id for _, row in found])
    wishes = await context.run(classes.wishes, context.site, [row.id for _, row in found])
    items = [_answer(one, row, seats[row.id], context, caller, now, wishes, runs=runs) for one, row in found]
    if call.query.format == "csv":
        rows = [
            [one.id, to_iso(one.start), to_iso(one.end), *(getattr(one, key) for key in REPORTED[3:])] for one in items
        ]
        return Answer(None, text=csv_text(REPORTED, rows), media_type=f"{MEDIA_TYPE}; charset=utf-8; header=present")
    return Answer(types.Classes(items=items))


async def book_class(call: Call) -> Answer:
    """Books one, or all those of a term; or says whether they fit."""
    body: types.ClassBody = call.body
    context, actor, now = call.handler.context, call.handler.me.actor(), call.handler.now
    again = body.recurrence
    request = ClassRequest(
        course=name_of(call), start=body.start, end=body.end, duration=body.duration, seats=body.seats,
        recurrence=Recurrence(again.rrule, again.zone, tuple(again.without)) if again else None,
        holidays=tuple(body.holidays), zone=body.zone,
    )  # fmt: skip
    if call.query.dry_run:
        found = await context.run(classes.check, context.site, request, actor=actor, now=now)
        dates = [
            types.Date(start=slot.begins, end=slot.row.end, nodes=_places(placed.seats if placed else {}))
            for slot, placed in zip(found.slots, found.placed, strict=True)
        ]  # fmt: skip
        return Answer(types.ClassBooked(dry_run=True, id=None, series=None, seats=found.seats, dates=dates))
    key = idempotency_key(call)
    first = await context.run(classes.book, context.site, request, actor=actor, now=now, idempotency_key=key)
    _tell(context)
    rows = await context.run(classes.with_series, context.site, first)
    dates = [
        types.Date(start=one.begins, end=row.end, nodes=_places(placing.there(row, row.start))) for one, row in rows
    ]
    where = {"Location": f"{context.api_prefix}courses/{request.course}/classes/{first.id}"}
    seats = rows[0][0].seats
    booked = types.ClassBooked(dry_run=False, id=first.id, series=first.series, seats=seats, dates=dates)
    return Answer(booked, status=201, headers=where)


async def get_class(call: Call) -> Answer:
    """One with its seats."""
    context, caller, now = call.handler.context, call.handler.me, call.handler.now
    name = name_of(call)
    runs = await _runs(call, name)
    one, row, seats = await context.run(classes.get, context.site, name, id_of(call))
    shown = [seat for seat in seats if runs or seat.owner == caller.name]
    wishes = await context.run(classes.wishes, context.site, [row.id])
    whole = _answer(one, row, seats, context, caller, now, wishes, runs=runs)
    return Answer(types.ClassSeats(**dict(whole), people=[_seat(seat, context, now, wishes) for seat in shown]))


async def cancel_class(call: Call) -> Answer:
    """Cancels one, or those of its series too; what has begun ends now."""
    context, actor = call.handler.context, call.handler.me.actor()
    rows = await context.run(
        classes.cancel, context.site, name_of(call), id_of(call), actor=actor, now=call.handler.now,
        which=call.query.which,
    )  # fmt: skip
    _tell(context)
    return Answer(types.ClassesCancelled(cancelled=[row.id for row in rows]))


async def _runs(call: Call, name: str) -> bool:
    """Whether the caller runs the course. :raises NotFound: the caller is not in it."""
    caller = call.handler.me
    seen = await call.handler.context.run(courses.get, call.handler.site, name, actor=caller.actor())
    return bool(seen.runs and caller.can_run)


def _tell(context: Context) -> None:
    """Classes were changed: clock and open pages look at once."""
    context.feed.wake()
    context.changed()


def _answer(
    one: CourseClass,
    row: Reservation,
    seats: Iterable[Reservation],
    context: Context,
    caller: Caller,
    now: int,
    wishes: Mapping[str, Wish],
    *,
    runs: bool,
) -> types.Class:
    people = list(seats)
    mine = next((seat for seat in reversed(people) if seat.owner == caller.name), None)
    used = [seat for seat in people if seat.started_at is not None and seat.end_reason != "no_show"]
    at = min(max(now, row.start), row.end - 1)
    taken = sum(part.units * (part.end - part.start) for part in row.allocations)
    return types.Class(
        id=row.id, course=one.course, opens=row.start, start=one.begins, end=row.end, state=row.state(now),
        series=row.series, seats=one.seats, nodes=_places(placing.there(row, at)), opened_at=one.opened_at,
        settled_at=one.settled_at, given=len(people) if runs else None, used=len(used) if runs else None,
        unit_hours=round(taken / HOUR, 2), mine=_seat(mine, context, now, wishes) if mine else None,
        problems=context.classes.watch.last.get(row.id, []) if context.classes and runs else [],
    )  # fmt: skip


def _seat(seat: Reservation, context: Context, now: int, wishes: Mapping[str, Wish]) -> types.Seat:
    servers = context.classes.servers if context.classes else None
    status, why = status_of(seat, now, servers, wishes.get(seat.id))
    return types.Seat(
        reservation=seat.id, name=seat.owner, node=seat.nodes[0] if seat.nodes else "", state=seat.state(now),
        server_state=seat.server_state(), status=status, end_reason=answers.end_reason(seat, now),
        seen_at=servers.seen_at(seat) if servers else None, problem=why,
    )  # fmt: skip


def _places(seats: Mapping[str, int]) -> list[types.Place]:
    return [types.Place(node=node, seats=count) for node, count in sorted(seats.items()) if count]


_NO_ROOM = (
    "on some dates it does not fit, and nothing was booked: `dates` has each, with how many `seats` would fit and "
    "when on that day all would (`instead`); `alternatives` can be posted as they are"
)

TABLE: tuple[Route, ...] = (
    Route(
        "GET", "courses/{name}/classes", "listClasses", "the classes of a course, by start", "access", list_classes,
        query=types.ClassesQuery, answer=types.Classes, also=(MEDIA_TYPE,),
    ),
    Route(
        "POST", "courses/{name}/classes", "bookClass", "book a class, or all those of a term", "run", book_class,
        query=types.ClassQuery, body=types.ClassBody, answer=types.ClassBooked, status=201,
        headers={"Idempotency-Key": "your own name for this request: repeated within a day, nothing is booked twice"},
        statuses={200: "with dry_run: it would fit", 409: _NO_ROOM},
    ),
    Route(
        "GET", "courses/{name}/classes/{id}", "getClass", "a class with its seats", "access", get_class,
        answer=types.ClassSeats,
    ),
    Route(
        "DELETE", "courses/{name}/classes/{id}", "cancelClass", "cancel a class, or end one that has begun",
        "run", cancel_class, query=types.WhichQuery, answer=types.ClassesCancelled,
        statuses={409: "it is over already"},
    ),
)  # fmt: skip
