"""What is free: over a window, and as an offer to one person right now."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from mlmp_spawner.errors import Invalid
from mlmp_spawner.operations import limits, planning
from mlmp_spawner.operations.courses import opening
from mlmp_spawner.operations.outages import NO_END
from mlmp_spawner.operations.requests import usable_profile
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules import policy
from mlmp_spawner.rules.catalog import Image, Limits, Profile
from mlmp_spawner.rules.placement import Board, Wanted, longest_from
from mlmp_spawner.rules.reservations import Interval, Outage, Reservation, Step, first_free
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
    """What is free on one node, as adjoining steps; ``first_free`` is the earliest start for what was asked. Units
    that preemptible jobs use are free: they make way."""

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
class Away:
    """A node takes no bookings just now; until when (ms UTC), None: until somebody ends that."""

    node: str
    until: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class ProfileOffer:
    """A profile as it stands now.

    ``free_now`` and ``total`` count units over all nodes, ``largest`` is the most of them on one node. One could have
    ``units`` of them (the profile's number) until ``free_until`` at the latest, None if not now; then ``first_free``
    tells from when for the profile's default duration. ``choices`` break no limit; where that leaves none, ``refused``
    says which limits the shortest would break; where nothing is free, ``away`` names its nodes that are out of use.
    ``images`` to choose from, none where there is no choice.
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
    images: tuple[Image, ...] = ()
    refused: str | None = None
    away: tuple[Away, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """What one person can do now: own bookings (what has begun first), and what is free. ``classes``: those under way
    in which a seat is left for them."""

    now: int
    bookings: tuple[Reservation, ...]
    profiles: tuple[ProfileOffer, ...]
    not_enforced: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[Reservation, ...] = ()


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
        view = planning.view(connection, wanted.resource, chosen, window)
    boards = [board.for_bookings() for board in view.boards]
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
        mine = store.of_owner(connection, actor.name, since=now - policy.WEEK)
        holding = limits.rules(connection, site, actor.name)
        outages = store.outages(connection, Interval(now, now + 1))
        profiles = []
        for profile in site.catalog.profiles_for(actor.groups):
            rules = limits.of(holding, actor.name, actor.groups, profile)
            found = _profile_offer(connection, site, rules, profile, now)
            if not found.choices:
                found = replace(found, away=_away(site, profile, outages))
            profiles.append(_within(site, rules, mine, found, now))
        classes = opening.offered(connection, actor.name, now)
    bookings = (row for row in mine if row.state(now) != "ended")
    in_order = tuple(sorted(bookings, key=lambda row: (row.start, row.id)))
    return Offer(now, in_order, tuple(profiles), site.not_enforced, tuple(classes))


def _away(site: Site, profile: Profile, outages: Sequence[Outage]) -> tuple[Away, ...]:
    nodes = planning.nodes_of(site, profile.name)
    return tuple(
        Away(one.node, None if one.end >= NO_END else one.end, one.reason) for one in outages if one.node in nodes
    )


def _within(site: Site, rules: Limits, mine: Sequence[Reservation], found: ProfileOffer, now: int) -> ProfileOffer:
    """The offer without the choices that would break a limit of the person who has ``mine``."""
    uncounted = site.catalog.uncounted()

    def broken(choice: Choice) -> list[policy.Violation]:
        ask = policy.Ask(found.units, now, choice.end, now, found.profile.name not in uncounted)
        return policy.check(rules, ask, policy.usage(ask, mine, uncounted=uncounted))

    judged = [(choice, broken(choice)) for choice in found.choices]
    kept = tuple(choice for choice, violations in judged if not violations)
    if kept or not judged:
        return replace(found, choices=kept)
    shortest = min(judged, key=lambda one: one[0].length)[1]
    return replace(found, choices=(), refused=policy.violations_error(shortest).detail)


def longest_end(site: Site, found: Reservation, *, groups: frozenset[str], now: int) -> int:
    """Until when a booking could be extended as things lie, without others being moved; in ms UTC."""
    if found.is_seat or not found.allocations or found.profile not in site.catalog.profiles:
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
        since = min(now, found.start) - policy.WEEK
        others = [row for row in store.of_owner(connection, found.owner, since=since) if row.id != found.id]
    free = longest_from(boards, Wanted(found.units, more, found.node_count, frozenset(found.nodes)))
    return _within_limits(site, rules, others, found, found.end + free, now)


def _within_limits(
    site: Site, rules: Limits, others: Sequence[Reservation], found: Reservation, until: int, now: int
) -> int:
    """The latest end up to ``until``, to the minute, at which a booking breaks no limit: a later one takes more."""
    uncounted = site.catalog.uncounted()

    def allowed(minutes: int) -> bool:
        end = min(found.end + minutes * MINUTE, until)
        ask = policy.Ask(found.units * found.node_count, found.start, end, now, found.profile not in uncounted, 0)
        return not policy.check(rules, ask, policy.usage(ask, others, uncounted=uncounted))

    most = -(-(until - found.end) // MINUTE)
    if most <= 0 or allowed(most):
        return max(until, found.end)
    refused = bisect_left(range(1, most + 1), True, key=lambda minutes: not allowed(minutes)) + 1
    return found.end + (refused - 1) * MINUTE


def _profile_offer(connection: Connection, site: Site, rules: Limits, profile: Profile, now: int) -> ProfileOffer:
    window = Interval(now, now + max(LOOK_AHEAD, profile.default_duration * 2))
    view = planning.view(connection, profile.resource, planning.nodes_of(site, profile.name), window)
    boards = [board.for_bookings() for board in view.boards]
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
        images=site.choice_of_images(profile),
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
