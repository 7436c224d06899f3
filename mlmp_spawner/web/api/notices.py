"""What the caller is told, and how they want to be told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timezone, tzinfo
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from mlmp_spawner.errors import NotAllowed
from mlmp_spawner.operations import notices, people
from mlmp_spawner.operations.notices import Notice
from mlmp_spawner.operations.people import Person
from mlmp_spawner.rules import wording
from mlmp_spawner.rules.notices import KINDS, Channel
from mlmp_spawner.web import models
from mlmp_spawner.web.auth import Caller
from mlmp_spawner.web.context import Context
from mlmp_spawner.web.routes import Answer, Call, Route
from mlmp_spawner.web.times import find_zone, said

Kind = Literal[
    "booked", "starts_soon", "ends_soon", "promoted", "moved", "released", "idle", "maintenance", "job_ended",
    "job_failed", "job_requeued", "message",
]  # fmt: skip


class NoticesQuery(models.Request):
    """Which notices, and in which zone their times are said."""

    unread: bool = Field(False, description="only those that were not read")
    zone: Annotated[str, Field(max_length=60)] | None = Field(None, description="IANA; the site's, if left out")
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(max_length=30)] | None = None


class NoticeOut(BaseModel):
    """One notice. ``headline`` and ``text`` say it in words."""

    id: int
    at: models.Instant
    kind: str
    headline: str
    text: str
    reservation: str | None
    job: str | None = Field(None, description="the job that it is about")
    read: bool


class Notices(BaseModel):
    """One page of notices, newest first."""

    items: list[NoticeOut]
    unread: int
    zone: str
    next_cursor: str | None


class ReadUpTo(models.Request):
    """What was read: this notice and all before it."""

    up_to: Annotated[int, Field(strict=True, ge=0, lt=2**63)]
    only: bool = Field(False, description="this one, and none before it")


class Unread(BaseModel):
    """How many notices are left unread."""

    unread: int


class Preferences(models.Request):
    """What to be told, and how. What is left out goes back to its default."""

    choices: dict[Kind, list[Channel]] = Field(
        default_factory=dict, description="by kind of notice the ways; a kind that is left out has its default"
    )
    mail: Annotated[models.Line, Field(max_length=320)] | None = Field(None, description="an address of one's own")
    webhook: Annotated[models.Line, Field(max_length=500)] | None = Field(None, description="a webhook of one's own")


class PreferencesOut(BaseModel):
    """What the caller is told, and how; ``choices`` has each kind. ``mail_to``: where mail goes, null: nowhere."""

    choices: dict[str, list[str]]
    mail: str | None
    mail_to: str | None
    may_choose_mail: bool
    webhook: str | None
    webhook_hosts: list[str]
    calendar_since: models.Instant | None = Field(description="when the address of the calendar feed was made")


class Tested(BaseModel):
    """On which ways the test notice goes."""

    channels: list[str]


def shown(told: Notice, context: Context, caller: Caller, when: Any) -> NoticeOut:
    """A notice in words; a guest reads nobody's name. :param when: says an instant."""
    named = not caller.is_guest
    said_so = wording.words(told.kind, told.details, titles=titles(context), when=when, named=named)
    return NoticeOut(
        id=told.id, at=told.at, kind=told.kind, headline=said_so.headline, text=said_so.text,
        reservation=told.reservation, job=told.job, read=told.read_at is not None,
    )  # fmt: skip


def titles(context: Context) -> Mapping[str, str]:
    """The titles of the profiles."""
    return {name: profile.title for name, profile in context.site.catalog.profiles.items()}


async def list_notices(call: Call) -> Answer:
    """One page."""
    query: NoticesQuery = call.query
    context, now = call.handler.context, call.handler.now
    zone: tzinfo = find_zone(query.zone) or find_zone(context.settings.zone) or timezone.utc
    found = await context.run(
        notices.page, context.site.engine, person_name(call), limit=query.limit, cursor=query.cursor,
        unread=query.unread,
    )  # fmt: skip
    when = partial(said, show="clock", now=now, zone=zone)
    items = [shown(one, context, call.handler.me, when) for one in found.items]
    return Answer(Notices(items=items, unread=found.unread, zone=str(zone), next_cursor=found.cursor))


async def mark_read(call: Call) -> Answer:
    """Up to one of them."""
    body: ReadUpTo = call.body
    context = call.handler.context
    left = await context.run(
        notices.mark_read, context.site.engine, person_name(call), up_to=body.up_to, now=call.handler.now,
        only=body.only,
    )  # fmt: skip
    return Answer(Unread(unread=left))


def person_name(call: Call) -> str:
    """The caller, if it is a person: a service of the same name as somebody is not them.

    :raises NotAllowed: it is none.
    """
    if call.handler.me.kind != "user":
        raise NotAllowed("Notices and calendars are for people who are users of the hub.")
    return call.handler.me.name


def person_herself(call: Call) -> str:
    """The caller, if it is a person and not a program in a server of theirs.

    :raises NotAllowed: it is none.
    """
    check_herself(call.handler.me)
    return person_name(call)


def check_herself(caller: Caller) -> None:
    """:raises NotAllowed: a program in a server asks, by the token of that server."""
    if caller.is_server:
        raise NotAllowed(
            "The token of a server may not do this: what it made would outlive it.",
            hint="Do it on the page Notices and calendar, or with a token of your own from the hub's token page.",
        )


async def get_preferences(call: Call) -> Answer:
    """As they are."""
    context = call.handler.context
    return Answer(preferences(await context.run(people.find, context.site.engine, person_name(call)), context))


async def put_preferences(call: Call) -> Answer:
    """All of them."""
    body: Preferences = call.body
    context = call.handler.context
    changed = await context.run(
        people.change, context.site.engine, person_herself(call), context.settings.ways, choices=body.choices,
        mail=body.mail, webhook=body.webhook,
    )  # fmt: skip
    return Answer(preferences(changed, context))


def preferences(found: Person, context: Context) -> PreferencesOut:
    """What a person chose, as the API says it."""
    ways = context.settings.ways
    return PreferencesOut(
        choices={kind: sorted(found.channels(kind)) for kind in KINDS},
        mail=found.mail,
        mail_to=found.mail_address(ways),
        may_choose_mail=ways.mail and ways.choose,
        webhook=found.webhook,
        webhook_hosts=sorted(ways.webhook_hosts),
        calendar_since=found.calendar_since,
    )


async def send_test(call: Call) -> Answer:
    """To the caller, on every way that they have."""
    channels = await test(call.handler.context, person_name(call), call.handler.now)
    return Answer(Tested(channels=channels), status=202)


async def test(context: Context, name: str, now: int) -> list[str]:
    """Sends a test notice to somebody; on which ways.

    :raises TooManyRequests: it was one of many.
    """
    context.seldom.take(f"test:{name}")
    found = await context.run(people.find, context.site.engine, name)
    await context.run(notices.write_test, context.site.engine, found.user_id, now=now)
    context.changed()
    ways = context.settings.ways
    own = {"mail": found.mail_address(ways), "webhook": found.webhook_address(ways)}
    return ["browser", *(way for way, address in own.items() if address)]


TABLE: tuple[Route, ...] = (
    Route(
        "GET", "me/notices", "listNotices", "what you were told, newest first", "access", list_notices,
        query=NoticesQuery, answer=Notices,
    ),
    Route(
        "POST", "me/notices/read", "readNotices", "mark notices as read", "access", mark_read, body=ReadUpTo,
        answer=Unread,
    ),
    Route(
        "GET", "me/preferences", "preferences", "what you are told, and how", "access", get_preferences,
        answer=PreferencesOut,
    ),
    Route(
        "PUT", "me/preferences", "setPreferences", "choose what you are told, and how", "book", put_preferences,
        body=Preferences, answer=PreferencesOut,
    ),
    Route(
        "POST", "me/preferences/test", "testNotices", "send yourself a test notice", "book", send_test, answer=Tested,
        status=202, description="A few times an hour.",
    ),
)  # fmt: skip
