"""From what somebody asks for to what would be booked: names looked up, defaults filled in, nonsense refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date

from sqlalchemy import Connection

from mlmp_spawner.errors import Conflict, Invalid, NotAllowed, NotFound
from mlmp_spawner.operations.planning import nodes_of
from mlmp_spawner.operations.site import Actor, Site, new_id
from mlmp_spawner.rules.catalog import Profile
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import reservation as reservation_table
from mlmp_spawner.units import DAY, MINUTE, format_duration

LATE = MINUTE
"""How far in the past a start may lie and still mean "now": clocks differ, and people think before they click."""

HORIZON = 5 * 366 * DAY
"""Nobody books further ahead than this, whatever the limits say."""

_SERVER = re.compile(r"[a-z0-9](?:-?[a-z0-9]){0,29}")


@dataclass(frozen=True, slots=True)
class Recurrence:
    """How often: a rule (RFC 5545) on the clock of a zone (IANA), without some days (``2026-12-25``)."""

    rrule: str
    zone: str
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BookingRequest:
    """What somebody asks for. Instants and ``duration`` in ms; ``units`` on each node, None for the profile's number;
    ``image``: one of the profile's, None for the first.

    ``owner`` is for whom, if not for oneself; ``owner_groups`` are that user's groups, for the limits.
    """

    profile: str
    start: int | None = None
    end: int | None = None
    duration: int | None = None
    node: str | None = None
    units: int | None = None
    node_count: int = 1
    title: str = ""
    waitlist: bool = False
    server: str | None = None
    image: str | None = None
    owner: str | None = None
    owner_groups: frozenset[str] | None = None
    recurrence: Recurrence | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """What would be booked, not yet placed. ``nodes``: where it may go; ``preferred``: where its server already is."""

    reservation: Reservation
    nodes: frozenset[str]
    groups: frozenset[str]
    preferred: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """One booking of a series: the day that its rule gives, and what would be booked."""

    day: date
    draft: Draft


def draft(connection: Connection, site: Site, request: BookingRequest, actor: Actor, now: int) -> Draft:
    """What ``request`` means.

    :raises Invalid: unknown names, impossible numbers, a start in the past.
    :raises NotAllowed: a profile that the owner's groups may not use; booking for others without being admin.
    :raises NotFound: the owner is not a user of the hub.
    """
    owner, groups = _owner(request, actor)
    profile = usable_profile(site, request.profile, groups)
    units = _units(site, profile, request)
    interval = _interval(request, profile, now)
    nodes = _nodes(site, profile, request)
    owner_id = store.user_id(connection, owner)
    if owner_id is None:
        raise NotFound(f"There is no user {owner!r} on this hub.")
    reservation = Reservation(
        id=new_id(), owner=owner, owner_id=owner_id, profile=profile.name, resource=profile.resource, units=units,
        image=usable_image(site, profile, request.image), node_count=request.node_count,
        start=interval.start, end=interval.end, title=request.title,
        pinned=request.node is not None, wanted_node=request.node, created_at=now,
    )  # fmt: skip
    return choose_server(connection, Draft(reservation, nodes, groups), request.server)


def choose_server(connection: Connection, drafted: Draft, name: str | None) -> Draft:
    """The draft with the name of its server, and the nodes on which that server already runs.

    :param name: the name that was asked for; None for that of the booking it continues, the default one, or its id.
    :raises Invalid: not a name. :raises Conflict: another booking of the owner uses it at that time.
    """
    new = drafted.reservation
    previous = _previous(connection, new)
    server = _server(connection, new, name, previous)
    if previous is None or previous.server != server:
        return replace(drafted, reservation=replace(new, server=server), preferred=())
    image = new.image if new.image is not None else previous.image  # the server goes on as it is
    return replace(drafted, reservation=replace(new, server=server, image=image), preferred=previous.nodes)


def usable_profile(site: Site, name: str, groups: frozenset[str]) -> Profile:
    """The profile of that name, if these groups may use it.

    :raises Invalid: there is no such profile; the valid ones are named.
    :raises NotAllowed: it is for other groups.
    """
    valid = ", ".join(sorted(p.name for p in site.catalog.profiles_for(groups))) or "none"
    profile = site.catalog.profiles.get(name)
    if profile is None:
        raise Invalid.field("profile", f"there is no {name!r}; you may use: {valid}")
    if profile not in site.catalog.profiles_for(groups):
        wanted = ", ".join(sorted(profile.groups))
        raise NotAllowed(
            f"The profile {name!r} is for members of {wanted}.", hint=f"You may use: {valid}. Ask an admin otherwise."
        )
    return profile


def usable_image(site: Site, profile: Profile, name: str | None) -> str | None:
    """The name of an image, if ``profile`` offers it; None stays None.

    :raises Invalid: it does not, or servers here run in no image; the valid ones are named.
    """
    if name is None:
        return None
    if not site.images:
        raise Invalid.field("image", "servers are processes of this machine here, so there is none to choose")
    if name not in profile.images:
        valid = ", ".join(profile.images) or "none"
        raise Invalid.field("image", f"{name!r} is not possible with {profile.name!r}; valid: {valid}")
    return name


def _owner(request: BookingRequest, actor: Actor) -> tuple[str, frozenset[str]]:
    if request.owner is None or request.owner == actor.name:
        return actor.name, actor.groups
    if not actor.admin:
        raise NotAllowed("Only an admin books for somebody else.")
    return request.owner, request.owner_groups or frozenset()


def _units(site: Site, profile: Profile, request: BookingRequest) -> int:
    units = profile.units if request.units is None else request.units
    if not 1 <= units <= profile.max_units:
        raise Invalid.field(
            "units", f"{units} is not possible with {profile.name!r}; valid is 1 to {profile.max_units}"
        )
    available = len(nodes_of(site, profile.name))
    if not 1 <= request.node_count <= max(available, 1):
        valid = f"1 to {available}" if available else "none, since no node has what it needs"
        raise Invalid.field("node_count", f"{request.node_count} is not possible; valid is {valid}")
    return units


def _interval(request: BookingRequest, profile: Profile, now: int) -> Interval:
    if request.end is not None and request.duration is not None:
        raise Invalid.field("duration", "give an end or a duration, not both")
    start = now if request.start is None else request.start
    if start < now - LATE:
        raise Invalid.field("start", f"it lies {format_duration(now - start)} in the past; book from now on")
    if start > now + HORIZON:
        raise Invalid.field("start", f"it lies more than {format_duration(HORIZON)} ahead")
    start = max(start, now)
    if request.end is not None:
        end = request.end
    else:
        end = start + (profile.default_duration if request.duration is None else request.duration)
    if end <= start:
        raise Invalid.field("duration" if request.end is None else "end", "a booking ends after it starts")
    if end - start > HORIZON:
        raise Invalid.field("end", f"a booking lasts at most {format_duration(HORIZON)}")
    return Interval(start, end)


def _nodes(site: Site, profile: Profile, request: BookingRequest) -> frozenset[str]:
    nodes = nodes_of(site, profile.name)
    if request.node is None:
        return frozenset(nodes)
    if request.node not in nodes:
        valid = ", ".join(nodes) or "none"
        raise Invalid.field("node", f"{request.node!r} has nothing for {profile.name!r}; valid: {valid}")
    if request.node_count > 1:
        raise Invalid.field("node_count", "one node was asked for by name; leave out the name for several")
    return frozenset([request.node])


def _previous(connection: Connection, new: Reservation) -> Reservation | None:
    """The owner's booking that ends where the new one starts, with the same profile and units."""
    table = reservation_table.c
    found = store.select_where(
        connection, store.owned_by(new.owner), table.end == new.start, store.not_given_back(),
        table.profile == new.profile, table.units == new.units, table.node_count == new.node_count,
        table.stopping_at.is_(None),
    )  # fmt: skip
    return next((row for row in found if row.allocations and new.image in (None, row.image)), None)


def _server(connection: Connection, new: Reservation, asked: str | None, previous: Reservation | None) -> str:
    """The name of its server: the one asked for, that of the booking it continues, the default one, or its own id."""
    others = store.select_where(
        connection, store.owned_by(new.owner), store.overlapping(new.interval), store.not_given_back()
    )
    used = {other.server for other in others}
    if asked is not None:
        if asked and not _SERVER.fullmatch(asked):
            raise Invalid.field(
                "server", f"{asked[:60]!r} is not a name; valid: at most 30 of a-z, 0-9 and single hyphens"
            )
        if asked in used:
            name = repr(asked) if asked else "your default server"
            raise Conflict(f"Another booking of yours uses {name} at that time.", hint="Leave the name out.")
        return asked
    if previous is not None and previous.server not in used:
        return previous.server
    return new.id if "" in used else ""
