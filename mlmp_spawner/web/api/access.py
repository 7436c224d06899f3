"""Who asks, what there is for them, and what of it is free."""

from __future__ import annotations

from mlmp_spawner.operations import availability as free
from mlmp_spawner.operations import limits, listing
from mlmp_spawner.operations.requests import usable_profile
from mlmp_spawner.units import DAY
from mlmp_spawner.web import answers, models
from mlmp_spawner.web.api.common import groups_of, window_of
from mlmp_spawner.web.routes import Answer, Call, Route


async def me(call: Call) -> Answer:
    """Who asks, what holds for them, and what they use of it."""
    caller, context, now = call.handler.me, call.handler.context, call.handler.now
    rules = await context.run(limits.of_person, context.site, caller.name, caller.groups)
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
            used=answers.used(used),
        )
    )


async def catalog(call: Call) -> Answer:
    """What the caller may use."""
    found = call.handler.site.catalog
    caller = call.handler.me
    profiles = found.profiles.values() if caller.is_admin else found.profiles_for(caller.groups)
    return Answer(answers.catalog(found, profiles, call.handler.site.not_enforced))


async def availability(call: Call) -> Answer:
    """What is free over a window."""
    query: models.AvailabilityQuery = call.query
    handler, site, now = call.handler, call.handler.site, call.handler.now
    start = now if query.start is None else query.start
    window = window_of(start, start + DAY if query.end is None else query.end)
    groups = groups_of(call)
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


_IF_NONE = {"If-None-Match": "the etag that you have; 304 if it is still that"}
_NOT_MODIFIED = {304: "not modified"}

TABLE: tuple[Route, ...] = (
    Route("GET", "me", "me", "who you are, what you may, what you use of it", "access", me, answer=models.Me),
    Route(
        "GET", "catalog", "catalog", "nodes, images and profiles that you may use", "access", catalog,
        answer=models.Catalog, headers=_IF_NONE, statuses=_NOT_MODIFIED,
    ),
    Route(
        "GET", "availability", "availability", "free units over a window, node by node", "access",
        availability, query=models.AvailabilityQuery, answer=models.Availability, headers=_IF_NONE,
        statuses=_NOT_MODIFIED,
    ),
)  # fmt: skip
