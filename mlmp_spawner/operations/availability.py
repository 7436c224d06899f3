"""What is free: over a window, and as an offer to one person right now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection

from mlmp_spawner.errors import Invalid
from mlmp_spawner.operations import limits, planning
from mlmp_spawner.operations.requests import usable_profile
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import Limits, Profile
from mlmp_spawner.rules.placement import Board, Wanted, longest_from
from mlmp_spawner.rules.reservations import Interval, Reservation, Step, first_free
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.transaction import read
from mlmp_spawner.units import DAY, HOUR, MINUTE

LOOK_AHEAD = 2 * DAY
"""How far ahead an offer looks."""

WIDEST = 92 * DAY
"""The widest window that is answered at once."""

USUAL = (HOUR, 4 * HOUR)
"""The lengths that are offered at one click, where a profile allows them."""


@dataclass(frozen=True, slots=True)
class NodeAvailability:
    """What is free on one node, as adjoining steps; ``first_free`` is the earliest start for what was asked."""

    node: str
    capacity: int
    steps: tuple[Step, ...]
    first_free: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """A booking that can be had at one click: from now until ``end``; ``length`` in ms."""

    length: int
    end: int
    until_taken: bool = False


@dataclass(frozen=True, slots=True)
class ProfileOffer:
    """A profile as it stands now.

    ``free_now`` and ``total`` count units over all nodes, ``largest`` is the most of them on one node. One could have
    ``units`` of them (the profile's number) until ``free_until`` at the latest, None if not now; then ``first_free``
    tells from when for the profile's default duration.
    """

    profile: Profile
    simulated: bool
    units: int
    free_now: int
    total: int
    largest: int
    free_until: int | None
    first_free: int | None
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """What one person can do now: own bookings (what has begun first), and what is free."""

    now: int
    bookings: tuple[Reservation, ...]
    profiles: tuple[ProfileOffer, ...]
    not_enforced: Mapping[str, str] = field(default_factory=dict)


def availability(
    site: Site,
    *,
    profile: str,
    window: Interval,
    groups: frozenset[str],
    now: int,
    node: str | None = None,
    units: int | None = None,
    duration: int | None = None,
) -> list[NodeAvailability]:
    """What is free of a profile's resource, node by node.

    :param units: how many are wanted on one node; None for the profile's number.
    :param duration: for how long (ms), to know the first start at which they are free; None leaves it out.
    :raises Invalid: unknown profile or node, or a window wider than :data:`WIDEST`.
    """
    wanted = usable_profile(site, profile, groups)
    if window.length > WIDEST:
        raise Invalid.field("end", f"the window is wider than {WIDEST // DAY} days")
    nodes = planning.nodes_of(site, profile)
    if node is not None and node not in nodes:
        raise Invalid.field("node", f"{node!r} has nothing for {profile!r}; valid: {', '.join(nodes) or 'none'}")
    chosen = [node] if node is not None else nodes
    number = wanted.units if units is None else units
    # Nothing can be booked in the past, so what is free begins now.
    search = Interval(max(window.start, min(now, window.end - 1)), window.end)
    with read(site.engine) as connection:
        boards = planning.view(connection, wanted.resource, chosen, window).boards
    return [
        NodeAvailability(
            board.node,
            board.capacity,
            board.steps(window),
            None if duration is None else first_free(board.steps(search), number, duration),
        )
        for board in boards
    ]


def offer(site: Site, *, actor: Actor, now: int) -> Offer:
    """What one person can do now. Short enough for the hub's spawn page: two reads, no lock."""
    with read(site.engine) as connection:
        mine = [row for row in store.of_owner(connection, actor.name, since=now) if row.state(now) != "ended"]
        holding = limits.rules(connection, site)
        profiles = tuple(
            _profile_offer(connection, site, limits.of(holding, actor.name, actor.groups, profile), profile, now)
            for profile in site.catalog.profiles_for(actor.groups)
        )
    bookings = tuple(sorted(mine, key=lambda row: (row.start, row.id)))
    return Offer(now, bookings, profiles, site.not_enforced)


def longest_end(site: Site, found: Reservation, *, groups: frozenset[str], now: int) -> int:
    """Until when a booking could be extended as things lie, without others being moved; in ms UTC."""
    if not found.allocations or found.profile not in site.catalog.profiles:
        return found.end
    with read(site.engine) as connection:
        holding = limits.rules(connection, site)
    rules = limits.of(holding, found.owner, groups, site.catalog.profiles[found.profile])
    ways = [LOOK_AHEAD]
    if rules.extension is not None:
        ways.append(rules.extension)
    if rules.max_duration is not None:
        ways.append(rules.max_duration - found.interval.length)
    if min(ways) <= 0:
        return found.end
    more = Interval(found.end, found.end + min(ways))
    with read(site.engine) as connection:
        boards = planning.view(connection, found.resource, found.nodes, more).boards
    return found.end + longest_from(boards, Wanted(found.units, more, found.node_count, frozenset(found.nodes)))


def _profile_offer(connection: Connection, site: Site, rules: Limits, profile: Profile, now: int) -> ProfileOffer:
    window = Interval(now, now + max(LOOK_AHEAD, profile.default_duration * 2))
    boards = planning.view(connection, profile.resource, planning.nodes_of(site, profile.name), window).boards
    rooms = [board.steps(window)[0].free for board in boards]
    until = max((_free_until(board, profile.units, window) for board in boards), default=now)
    shortest = rules.min_duration or MINUTE
    longest = min(profile.max_duration, rules.max_duration or profile.max_duration)
    possible = until - now >= shortest
    first = None
    if not possible:
        length = profile.default_duration
        starts = (first_free(board.steps(window), profile.units, length) for board in boards)
        first = min((start for start in starts if start is not None), default=None)
    return ProfileOffer(
        profile=profile,
        simulated=site.catalog.simulated(profile.resource),
        units=profile.units,
        free_now=sum(rooms),
        total=sum(board.capacity for board in boards),
        largest=max(rooms, default=0),
        free_until=until if possible else None,
        first_free=first,
        choices=_choices(profile, now, until, window.end, shortest, longest) if possible else (),
    )


def _free_until(board: Board, units: int, window: Interval) -> int:
    end = window.start
    for step in board.steps(window):
        if step.free < units:
            break
        end = step.end
    return end


def _choices(profile: Profile, now: int, until: int, horizon: int, shortest: int, longest: int) -> tuple[Choice, ...]:
    lengths = sorted({length for length in (*USUAL, profile.default_duration) if shortest <= length <= longest})
    if not lengths:
        lengths = [longest]
    choices = [Choice(length, now + length) for length in lengths if now + length <= until]
    if until < horizon and shortest <= until - now <= longest and until - now not in lengths:
        choices.append(Choice(until - now, until, until_taken=True))
    return tuple(choices)
