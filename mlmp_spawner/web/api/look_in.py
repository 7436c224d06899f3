"""The calls by which a student lets who teaches look into their server, and by which one who teaches does."""

from __future__ import annotations

from contextlib import suppress

from mlmp_spawner.errors import MLMPError, NotAllowed, NotNow
from mlmp_spawner.operations.courses import looking_in
from mlmp_spawner.operations.courses.looking_in import LookIn
from mlmp_spawner.web import class_models as types
from mlmp_spawner.web.api.common import id_of
from mlmp_spawner.web.api.courses import name_of
from mlmp_spawner.web.auth import Caller
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.routes import Answer, Call, Route


async def get_look_in(call: Call) -> Answer:
    """How it is for a seat of one's own."""
    return await _answer(call)


async def allow_look_in(call: Call) -> Answer:
    """Who teaches may look in."""
    await agree(call.handler.context, call.handler.me, id_of(call), call.handler.now)
    return await _answer(call)


async def end_look_in(call: Call) -> Answer:
    """Nobody may look in any more."""
    context, caller = call.handler.context, call.handler.me
    await withdraw(context, caller, id_of(call), call.handler.now)
    return Answer(None, status=204)


async def look_in(call: Call) -> Answer:
    """Lets the caller in."""
    context, body = call.handler.context, call.body
    url = await begin(context, call.handler.me, name_of(call), id_of(call), body.person, call.handler.now)
    return Answer(types.LookingIn(url=url))


async def agree(context: Context, caller: Caller, seat: str, now: int) -> None:
    """Who teaches may look in. :raises MLMPError: see :func:`looking_in.agree`."""
    if caller.is_server:  # or who was let in could let themselves in again
        raise NotAllowed("Whatever runs in a server could agree by its token.", hint="Agree on the page of your seat.")
    await context.run(looking_in.agree, context.site, seat, actor=caller.actor(), now=now)
    context.feed.wake()


async def withdraw(context: Context, caller: Caller, seat: str, now: int) -> None:
    """Ends it at once; where the hub does not answer just now, as soon as it does."""
    await context.run(looking_in.withdraw, context.site, seat, actor=caller.actor(), now=now)
    context.feed.wake()
    if context.classes is not None:
        with suppress(MLMPError):
            await context.classes.look_ins.look(now)


async def begin(context: Context, caller: Caller, course: str, class_id: str, person: str, now: int) -> str:
    """Lets the caller into somebody's server; its address. :raises MLMPError: see :meth:`LookIns.begin`."""
    if context.classes is None:
        await context.run(looking_in.check_teaches, context.site, course, actor=caller.actor())
        raise NotNow(looking_in.NOT_HERE)
    one = await context.classes.look_ins.begin(course, class_id, person, actor=caller.actor(), now=now)
    context.feed.wake()
    return context.server_url(one.owner, one.server)


def without_names(found: LookIn, caller: Caller) -> types.LookInAnswer:
    """As the caller may see it: guests see nobody's name."""
    hidden = caller.is_guest
    return types.LookInAnswer(
        offered=not found.why, why=found.why, agreed_at=found.agreed_at,
        teachers=[] if hidden else list(found.teachers),
        looking=[types.Looker(name="" if hidden else one.viewer, since=one.since) for one in found.looking],
    )  # fmt: skip


async def _answer(call: Call) -> Answer:
    context, caller = call.handler.context, call.handler.me
    found = await context.run(
        looking_in.of_seat, context.site, id_of(call), actor=caller.actor(), now=call.handler.now
    )
    return Answer(without_names(found, caller))


TABLE: tuple[Route, ...] = (
    Route(
        "GET", "reservations/{id}/look-in", "getLookIn", "whether who teaches may look into the server of one's seat",
        "access", get_look_in, answer=types.LookInAnswer,
    ),
    Route(
        "PUT", "reservations/{id}/look-in", "allowLookIn", "let who teaches look into the server of one's seat",
        "book", allow_look_in, answer=types.LookInAnswer, statuses={409: "it is not offered, or the seat is over"},
        description="As long as the seat lasts. Who looks in can see and do all that its owner can do there. Not with "
        "a server's token.",
    ),
    Route(
        "DELETE", "reservations/{id}/look-in", "endLookIn", "let nobody look into the server of one's seat", "book",
        end_look_in, status=204, description="Who is in it is out at once.",
    ),
    Route(
        "POST", "courses/{name}/classes/{id}/look-in", "lookIn", "be let into the server of a student who agreed",
        "run", look_in, body=types.LookInBody, answer=types.LookingIn,
        statuses={409: "they did not agree, or the server does not run"},
    ),
)  # fmt: skip
