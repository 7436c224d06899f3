"""The calls that show and set limits."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, Any

from pydantic import BaseModel, Field

from mlmp_spawner.errors import MLMPError, NotAllowed, NotFound
from mlmp_spawner.operations import limit_settings, listing
from mlmp_spawner.operations.limit_settings import Setting, Subject
from mlmp_spawner.rules import catalog as rules
from mlmp_spawner.rules.policy import Usage
from mlmp_spawner.web import answers, models
from mlmp_spawner.web.routes import Answer, Call, Route

Number = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
Hours = Annotated[float, Field(strict=True, ge=0, le=10_000_000, allow_inf_nan=False)]


class Said(models.Request):
    """What is to hold for somebody. null: no limit; left out: as for everybody."""

    units_at_once: Number | None = None
    hours_per_week: Hours | None = None
    min_duration: models.DurationIn | None = None
    max_duration: models.DurationIn | None = None
    ahead: models.DurationIn | None = None
    open_bookings: Number | None = None
    no_show_grace: models.DurationIn | None = None
    extension: models.DurationIn | None = None
    job_units: Number | None = None
    open_jobs: Number | None = None
    job_logs: models.SizeIn | None = None


class LimitsOf(BaseModel):
    """Limits of everybody, a group or a user. ``catalog`` and ``set`` are as they can be PUT."""

    name: str = Field(description="everybody, group:NAME or user:NAME")
    kind: str
    catalog: dict[str, Any] | None = Field(description="what the catalog says for it")
    set: dict[str, Any] | None = Field(description="what an admin set; it holds in place of the catalog's")
    unreadable: bool = Field(description="what was set can't be read, so the catalog's holds")
    effective: models.Limits | None = Field(description="what holds; null where the hub doesn't tell their groups")
    used: models.Used | None = Field(description="what a user uses of it just now")
    changed_at: models.Instant | None
    changed_by: str | None
    etag: str


class LimitsList(BaseModel):
    """Everybody, and all whom the catalog or an admin names."""

    items: list[LimitsOf]
    next_cursor: str | None = None


async def list_limits(call: Call) -> Answer:
    """An admin sees them all, others what concerns them."""
    context, now = call.handler.context, call.handler.now
    holding, found = await context.run(limit_settings.look, context.site)
    used = await context.run(listing.used_by_all, context.site, now=now)
    seen = [setting for setting in found if _concerns(call, setting.subject)]
    groups = await asyncio.gather(*(_groups(call, setting.subject) for setting in seen))
    items = [_answer(s, holding, g, used.get(s.subject.name, Usage())) for s, g in zip(seen, groups, strict=True)]
    return Answer(LimitsList(items=items))


async def get_limits(call: Call) -> Answer:
    """Those of one subject."""
    subject = Subject.parse(call.path["name"])
    if not _concerns(call, subject):
        raise NotAllowed("These are somebody else's limits.", hint="Yours are at limits/everybody and user:YOU.")
    return await _one(call, subject)


async def put_limits(call: Call) -> Answer:
    """Sets them."""
    body: Said = call.body
    said = rules.Limits(**{name: getattr(body, name) for name in body.model_fields_set})
    return await _put(call, said)


async def delete_limits(call: Call) -> Answer:
    """Back to what the catalog says."""
    return await _put(call, None)


async def _put(call: Call, said: rules.Limits | None) -> Answer:
    subject, context = Subject.parse(call.path["name"]), call.handler.context
    tag = answers.tag_of(call.handler.request.headers.get("If-Match"))
    actor = call.handler.me.actor()
    await context.run(limit_settings.put, context.site, subject, said, actor=actor, now=call.handler.now, if_match=tag)
    context.feed.wake()
    return await _one(call, subject)


async def _one(call: Call, subject: Subject) -> Answer:
    context = call.handler.context
    holding, setting = await context.run(limit_settings.look_at, context.site, subject)
    used = Usage()
    if subject.kind == "user":
        used = await context.run(listing.used, context.site, subject.name, now=call.handler.now)
    body = _answer(setting, holding, await _groups(call, subject), used)
    return Answer(body, etag=body.etag)


def _concerns(call: Call, subject: Subject) -> bool:
    caller = call.handler.me
    mine = {Subject("everybody"), Subject("user", caller.name), *(Subject("group", name) for name in caller.groups)}
    return caller.is_admin or subject in mine


async def _groups(call: Call, subject: Subject) -> frozenset[str] | None:
    """The groups by which the subject's limits are reckoned; None where the hub does not tell."""
    caller = call.handler.me
    if subject.kind != "user":
        return frozenset([subject.name] if subject.name else ())
    if subject.name == caller.name and caller.kind == "user":
        return caller.groups
    try:
        return (await call.handler.context.hub.get_user(subject.name)).groups
    except NotFound:  # nobody of that name has come yet
        return frozenset()
    except MLMPError:
        return None


def _answer(setting: Setting, holding: rules.LimitRules, groups: frozenset[str] | None, used: Usage) -> LimitsOf:
    subject = setting.subject
    person = subject.kind == "user"
    body = LimitsOf(
        name=str(subject),
        kind=subject.kind,
        catalog=None if setting.catalog is None else limit_settings.as_written(setting.catalog),
        set=None if setting.set is None else limit_settings.as_written(setting.set),
        unreadable=setting.unreadable,
        # Nobody's name is empty.
        effective=None if groups is None else answers.limits(holding.of(subject.name if person else "", groups)),
        used=answers.used(used) if person else None,
        changed_at=setting.changed_at,
        changed_by=setting.changed_by,
        etag="",
    )
    digest = hashlib.sha256(body.model_dump_json().encode()).hexdigest()[:12]
    body.etag = f'"{setting.tag}-{digest}"'
    return body


_IF_NONE = {"If-None-Match": "the etag that you have; 304 if it is still that"}
_NOT_MODIFIED = {304: "not modified"}
_CHANGED = {412: "they were changed meanwhile"}
_IF_MATCH = {"If-Match": "the etag of the limits as you saw them; 412 if they changed meanwhile"}

TABLE: tuple[Route, ...] = (
    Route(
        "GET", "limits", "listLimits", "limits of everybody, of groups and of users", "access", list_limits,
        answer=LimitsList, headers=_IF_NONE, statuses=_NOT_MODIFIED,
    ),
    Route(
        "GET", "limits/{name}", "getLimits", "limits of everybody, group:NAME or user:NAME", "access", get_limits,
        answer=LimitsOf, headers=_IF_NONE, statuses=_NOT_MODIFIED,
    ),
    Route(
        "PUT", "limits/{name}", "setLimits", "set limits, in place of the catalog's", "admin", put_limits, body=Said,
        answer=LimitsOf, headers=_IF_MATCH, statuses=_CHANGED,
    ),
    Route(
        "DELETE", "limits/{name}", "resetLimits", "back to the catalog's limits", "admin", delete_limits,
        answer=LimitsOf, headers=_IF_MATCH, statuses=_CHANGED,
    ),
)  # fmt: skip
