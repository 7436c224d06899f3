"""The calls with which who teaches leads a class: more time, a word to everybody, servers started and stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mlmp_spawner.errors import TooLate
from mlmp_spawner.operations.courses import running
from mlmp_spawner.operations.courses.servers import ClassServers
from mlmp_spawner.rules import class_tiles
from mlmp_spawner.rules.class_servers import Wish
from mlmp_spawner.rules.class_tiles import Status
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.web import class_models as types
from mlmp_spawner.web.api.common import id_of
from mlmp_spawner.web.api.courses import name_of
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.routes import Answer, Call, Route

AT_ONCE = 10
"""How many enforcers are told at the same time."""


async def extend_class(call: Call) -> Answer:
    """Lets one go on, with the seats in it."""
    context, body = call.handler.context, call.body
    row, seats = await context.run(
        running.extend, context.site, name_of(call), id_of(call), body.duration, actor=call.handler.me.actor(),
        now=call.handler.now,
    )  # fmt: skip
    await tell(context, seats)
    return Answer(types.ClassExtended(end=row.end, people=sorted(seat.owner for seat in seats)))


async def say_in_class(call: Call) -> Answer:
    """Tells everybody with a seat something."""
    context = call.handler.context
    told = await context.run(
        running.say, context.site, name_of(call), id_of(call), call.body.text, actor=call.handler.me.actor(),
        now=call.handler.now,
    )  # fmt: skip
    context.feed.wake()
    return Answer(types.ClassTold(people=told))


async def run_servers(call: Call) -> Answer:
    """Has servers started, stopped, or stopped and started again."""
    context, body = call.handler.context, call.body
    people = await context.run(
        running.servers, context.site, name_of(call), id_of(call), body.what, body.people,
        actor=call.handler.me.actor(), now=call.handler.now,
    )  # fmt: skip
    context.feed.wake()
    return Answer(types.ClassTold(people=people), status=202)


async def tell(context: Context, seats: Sequence[Reservation]) -> None:
    """Seats go on longer: all their enforcers know before it is answered.

    :raises TooLate: the class goes on, but the stop of some servers may have begun before they were told.
    """
    context.feed.wake()
    context.changed()
    several = asyncio.Semaphore(AT_ONCE)

    async def told(seat: Reservation) -> bool:
        async with several:
            return await context.published(seat)

    knew = await asyncio.gather(*map(told, seats))
    late = sorted(seat.owner for seat, one in zip(seats, knew, strict=True) if not one)
    if late:
        raise TooLate(
            f"The class goes on, but the stop of the servers of {', '.join(late)} had begun.", hint="Start them again."
        )


def status_of(seat: Reservation, now: int, servers: ClassServers | None, wish: Wish | None) -> tuple[Status, str]:
    """How a seat is, and why where it is stuck. :param servers: what looks after servers; None where nothing does."""
    came = servers is not None and servers.seen_at(seat) is not None
    problem = servers.problem(seat) if servers is not None else ""
    return class_tiles.status_of(now, seat, came=came, problem=problem, wish=wish)


_CLASS = "courses/{name}/classes/{id}"

TABLE: tuple[Route, ...] = (
    Route(
        "POST", f"{_CLASS}/extend", "extendClass", "let a class go on for longer, with the seats in it", "run",
        extend_class, body=types.ClassExtendBody, answer=types.ClassExtended,
        statuses={409: "somebody else has a node then, and `longest_end` says how far it could go; or it is over"},
    ),
    Route(
        "POST", f"{_CLASS}/message", "sayInClass", "tell everybody with a seat something", "run", say_in_class,
        body=types.ClassMessageBody, answer=types.ClassTold, statuses={409: "nobody has a seat now"},
    ),
    Route(
        "POST", f"{_CLASS}/servers", "runClassServers", "start, stop or restart servers of a class", "run",
        run_servers, body=types.ClassServersBody, answer=types.ClassTold, status=202,
        statuses={409: "nobody has a seat now, or the class ends too soon"},
        description="It is noted, and done in waves that machine or cluster bears.",
    ),
)  # fmt: skip
