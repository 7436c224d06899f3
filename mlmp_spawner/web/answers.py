"""From what the program knows to what the API says of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from mlmp_spawner.cgroups import KINDS
from mlmp_spawner.errors import Changed, Invalid
from mlmp_spawner.rules import catalog as rules
from mlmp_spawner.rules.policy import Usage
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.web import models

if TYPE_CHECKING:
    from mlmp_spawner.operations.history import Entry
    from mlmp_spawner.web.auth import Caller
    from mlmp_spawner.web.context import Context


def reservation(
    found: Reservation,
    *,
    context: Context,
    caller: Caller,
    now: int,
    stops_at: int | None = None,
    place: int | None = None,
) -> models.Reservation:
    """A booking as ``caller`` may see it.

    :param place: in the order of the waitlist, where it waits.
    :param stops_at: when its server begins to stop (ms); None: reckoned from the booking alone.
    """
    mine = found.owner == caller.name
    whole = mine or caller.is_admin
    state, server_state = found.state(now), found.server_state()
    places = sorted({(row.node, row.resource, row.units) for row in found.allocations})
    stop = found.stop_at(context.site.stop_lead) if stops_at is None else stops_at
    runs = server_state in ("starting", "running")
    body = models.Reservation(
        id=found.id,
        owner=found.owner if whole or (context.shows_owners(caller) and not found.is_seat) else None,
        kind=found.kind,
        parent=found.parent,
        profile=found.profile,
        title=found.title if whole or found.kind == "class" else None,
        start=found.start,
        end=found.end,
        units=found.units,
        node_count=found.node_count,
        image=found.image if whole else None,
        state=state,
        waiting_reason=found.waiting_reason if state == "waiting" else None,
        server_state=server_state if whole else "none",
        end_reason=end_reason(found, now) if whole else None,
        waitlist_position=place if state == "waiting" else None,
        allocations=[models.Place(node=node, resource=resource, units=units) for node, resource, units in places],
        pinned=found.pinned,
        server=found.server if whole else None,
        url=context.server_url(found.owner, found.server) if whole and runs else None,
        stops_at=stop if whole and state in ("booked", "active") and found.kind != "job" else None,
        warned_at=found.warned_at if whole else None,
        started_at=found.started_at if whole else None,
        stopped_at=found.stopped_at if whole else None,
        series=found.series if whole else None,
        mine=mine,
        etag="",
    )
    digest = hashlib.sha256(body.model_dump_json().encode()).hexdigest()[:12]
    body.etag = f'"{found.version}-{digest}"'
    return body


def end_reason(found: Reservation, now: int) -> str | None:
    """Why it is over: what was written down, else that its time ran out."""
    if found.end_reason is not None:
        return found.end_reason
    return "expired" if found.state(now) == "ended" else None


def version_of(if_match: str | None) -> int | None:
    """The version that an ``If-Match`` header names; None: any will do.

    The part behind the version is left out of account: it changes with the time alone (a booking begins).

    :raises Changed: it names no version that there ever was. :raises Invalid: several tags.
    """
    version = tag_of(if_match)
    if version is None:
        return None
    if not version.isascii() or not version.isdigit() or len(version) > 9:
        raise Changed("If-Match names no version of this booking.", hint="Look at it as it is now and try again.")
    return int(version)


def tag_of(if_match: str | None) -> str | None:
    """The part of the etag in ``If-Match`` that changes with what was written alone; None: any will do.

    :raises Invalid: several tags.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    if "," in if_match:
        raise Invalid.field("If-Match", "name one etag")
    return if_match.strip().removeprefix("W/").strip('"').partition("-")[0]


def entry(found: Entry) -> models.Entry:
    """A line of the history."""
    return models.Entry(at=found.at, actor=found.actor, action=found.action, details=found.details)


def catalog(
    found: rules.Catalog, profiles: Iterable[rules.Profile], not_enforced: Mapping[str, str]
) -> models.Catalog:
    """The part of the catalog that ``profiles`` need."""
    chosen = list(profiles)
    nodes = {node.name: node for profile in chosen for node in found.nodes_for(profile)}
    images = {name for profile in chosen for name in profile.images}
    return models.Catalog(
        nodes=[_node(nodes[name]) for name in sorted(nodes)],
        images=[
            models.Image(name=image.name, reference=image.reference, description=image.description)
            for image in found.images.values()
            if image.name in images
        ],
        profiles=[_profile(found, profile) for profile in chosen],
        enforced=[kind for kind in KINDS if kind not in not_enforced],
        not_enforced=dict(not_enforced),
    )


def _node(node: rules.Node) -> models.Node:
    return models.Node(
        name=node.name,
        labels=dict(node.labels),
        accelerators=[
            models.Accelerator(
                resource=one.resource,
                model=one.model,
                count=one.count,
                memory_gib=one.memory_gib,
                simulated=one.simulated,
            )
            for one in node.accelerators
        ],
        cpus=node.cpus,
        memory=node.memory,
    )


def _profile(found: rules.Catalog, profile: rules.Profile) -> models.Profile:
    return models.Profile(
        name=profile.name,
        title=profile.title,
        description=profile.description,
        resource=profile.resource,
        model=profile.model,
        units=profile.units,
        max_units=profile.max_units,
        simulated=found.simulated(profile.resource),
        images=list(profile.images),
        nodes=[node.name for node in found.nodes_for(profile)],
        cpus=profile.cpus,
        memory=profile.memory,
        ssh=profile.ssh,
        min_duration=profile.min_duration,
        default_duration=profile.default_duration,
        max_duration=profile.max_duration,
    )


def limits(found: rules.Limits) -> models.Limits:
    """The rules of sharing."""
    return models.Limits(
        units_at_once=found.units_at_once,
        hours_per_week=found.hours_per_week,
        min_duration=found.min_duration,
        max_duration=found.max_duration,
        ahead=found.ahead,
        open_bookings=found.open_bookings,
        no_show_grace=found.no_show_grace,
        extension=found.extension,
        job_units=found.job_units,
        open_jobs=found.open_jobs,
        job_logs=found.job_logs,
    )


def used(found: Usage) -> models.Used:
    """What is used of them."""
    return models.Used(
        units_at_once=found.units_at_peak,
        hours_per_week=round(found.hours_in_week, 2),
        open_bookings=found.open_bookings,
    )
