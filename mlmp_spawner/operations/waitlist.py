"""The waitlist: bookings without a place, promoted in their fair order when something becomes free.

Nobody is overtaken by what would have fitted: the first that fits is found in one view of the database, and gets its
place only where no node changed since. What can't be placed keeps nobody behind it waiting, since it would otherwise
keep units idle that somebody else could use until there is room for it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from mlmp_spawner.errors import Changed, OverLimit
from mlmp_spawner.operations import history, limits, planning
from mlmp_spawner.operations.requests import Draft
from mlmp_spawner.operations.site import CLOCK, Site
from mlmp_spawner.rules.catalog import Catalog
from mlmp_spawner.rules.placement import Board, Plan, Wanted, place
from mlmp_spawner.rules.policy import WEEK
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.rules.waitlist import fair_order
from mlmp_spawner.store import limits as limit_entries
from mlmp_spawner.store import people
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.transaction import Busy, Refused, lock_owner, read, transaction
from mlmp_spawner.units import MINUTE

log = logging.getLogger(__name__)

TRIES = 5
"""How often somebody else may be quicker before the rest is left to the next tick."""

SEARCHES = 10
"""For how many requests, the first in the order, it is tried to move other bookings; the rest must fit as it is."""

JUDGED_AGAIN = MINUTE
"""After how long (ms) what a limit kept back is judged again though nothing is known to have changed: the hub tells
nobody who joins a group."""


@dataclass(frozen=True, slots=True)
class _Found:
    waiting: Reservation
    placed: Reservation
    plan: Plan
    versions: dict[str, int]


def places(site: Site, *, now: int) -> dict[str, int]:
    """The place of each booking that waits, in the fair order; 1 is the next."""
    with read(site.engine) as connection:
        order = fair_order(store.waiting(connection, now))
    return {row.id: place for place, row in enumerate(order, 1)}


class Tried:
    """Which requests found no place, or were kept back by a limit, as long as nothing that counts has changed."""

    def __init__(self) -> None:
        self.hopeless: set[tuple[object, ...]] = set()
        self._kept_back: dict[str, tuple[int, object]] = {}
        self._catalog: Catalog | None = None
        self._seen: object = None

    def begin(self, site: Site, seen: object) -> None:
        """Forgets all where the catalog is not what it was, and who found no place where ``seen`` is not."""
        if site.catalog is not self._catalog:
            self._kept_back.clear()
        if site.catalog is not self._catalog or seen != self._seen:
            self.hopeless.clear()
            self._catalog, self._seen = site.catalog, seen

    def keep_back(self, row: Reservation, facts: object, now: int) -> None:
        """A limit was in the way of it, by these facts."""
        self._kept_back[row.id] = (now, facts)

    def keeps_back(self, row: Reservation, facts: object, now: int) -> bool:
        """Whether a limit still is, since the facts are the same and it was judged just now."""
        judged, by = self._kept_back.get(row.id, (now - JUDGED_AGAIN, None))
        return now < judged + JUDGED_AGAIN and by == facts


def promote(site: Site, *, now: int, tried: Tried | None = None) -> list[str]:
    """Gives places to those that wait, as far as there is room; returns the ids of the promoted.

    A promoted booking keeps its end; what of its window is past is cut off.

    :param tried: what is remembered from one call to the next.
    """
    tried = tried or Tried()
    promoted: list[str] = []
    refused: set[str] = set()
    failed = 0
    with read(site.engine) as connection:
        turns = [row.id for row in fair_order(store.waiting(connection, now))]
    while failed < TRIES:
        with read(site.engine) as connection:
            found = _first_that_fits(connection, site, now, tried, refused, turns)
        if found is None:
            break
        try:
            _write(site, found, now)
        except (Busy, Changed):
            failed += 1  # nobody behind it is asked before it was
        except Refused as refusal:  # no race, for the nodes are as they were: the plan was wrong
            log.error("the waitlist: no place for %s after all: %s", found.waiting.id, refusal)
            refused.add(found.waiting.id)
        else:
            promoted.append(found.waiting.id)
            failed = 0
    return promoted


def _first_that_fits(
    connection: Connection, site: Site, now: int, tried: Tried, refused: set[str], turns: list[str]
) -> _Found | None:
    # The order as it was at first: whose request just got a place has the next one not before others' first.
    waiting = {row.id: row for row in store.waiting(connection, now)}
    order = [waiting[row_id] for row_id in turns if row_id in waiting]
    searches = SEARCHES
    boards: dict[str, tuple[Board, ...]] = {}
    versions = {resource: _versions(connection, resource) for resource in sorted({row.resource for row in order})}
    ended = store.last_end(connection, now)
    tried.begin(site, (versions, ended))
    facts = _facts(connection, order, ended, now)
    until = max((row.end for row in order), default=now) + 1
    for row in order:
        start = max(row.start, now)
        nodes = planning.nodes_for_waiting(site, row)
        asked = (row.profile, row.units, row.node_count, row.start, row.end, nodes)
        profile = site.catalog.profiles.get(row.profile)
        if row.id in refused or asked in tried.hopeless or profile is None:
            continue
        if tried.keeps_back(row, facts[row.owner], now):
            continue
        if row.end - start < min(profile.min_duration, row.interval.length):
            continue
        if row.resource not in boards:
            everywhere = versions[row.resource]
            boards[row.resource] = planning.view(connection, row.resource, everywhere, Interval(now, until)).boards
        wanted = Wanted(row.units, Interval(start, row.end), row.node_count)
        mine = [board for board in boards[row.resource] if board.node in nodes]
        plan = place(mine, wanted, repack=False)
        if plan is None and searches:
            searches -= 1
            plan = planning.plan(connection, site, row.resource, mine, wanted, now)
        if plan is None:
            tried.hopeless.add(asked)
            continue
        placed = _with_own_server(connection, replace(row, start=start))
        if _allowed(connection, site, row, placed, now):
            return _Found(row, placed, plan, versions[row.resource])
        tried.keep_back(row, facts[row.owner], now)
    return None


def _facts(connection: Connection, order: list[Reservation], ended: object, now: int) -> dict[str, object]:
    """By owner, all that limits go by and that changes here: the bookings, the limits, what the time ended."""
    owners = {row.owner for row in order}
    said = limit_entries.entries(connection) if owners else []
    owned = store.versions_of_owners(connection, owners, since=now - WEEK)
    return {owner: (owned.get(owner), said, ended) for owner in owners}


def _versions(connection: Connection, resource: str) -> dict[str, int]:
    return {node: version for node, (_, version) in store.capacities(connection, resource).items()}


def _write(site: Site, found: _Found, now: int) -> None:
    """:raises Refused, Busy, Changed: somebody was quicker; nothing was written."""
    row, placed = found.waiting, found.placed
    locks = [(node, row.resource) for node in found.versions]
    with transaction(site.engine, lock=locks) as connection:
        lock_owner(connection, row.owner)
        if _versions(connection, row.resource) != found.versions or not _allowed(connection, site, row, placed, now):
            raise Changed("Somebody was quicker.")
        planning.make_room(connection, found.plan, actor=CLOCK.name, now=now)
        placed = _with_own_server(connection, placed)
        store.insert_allocations(connection, planning.allocations(placed, found.plan.nodes))
        soon = site.announce_before is not None and now >= placed.start - site.announce_before
        store.update_reservation(
            connection, row, start=placed.start, server=placed.server, waiting_reason=None, waitlist_position=None,
            announced_at=now if soon else row.announced_at,
            pinned=row.pinned and found.plan.nodes == (row.wanted_node,),
        )  # fmt: skip
        history.record(connection, "promoted", actor=CLOCK.name, at=now, reservation=row, start=placed.start,
                       end=placed.end, nodes=list(found.plan.nodes))  # fmt: skip


def _allowed(connection: Connection, site: Site, row: Reservation, placed: Reservation, now: int) -> bool:
    """Whether it breaks no limit of its owner: what waits takes nothing, so others may have been booked meanwhile."""
    groups = people.groups_of(connection, row.owner_id)
    try:
        limits.check(connection, site, Draft(placed, frozenset(), groups), now, changed=row)
    except OverLimit:
        return False
    return True


def _with_own_server(connection: Connection, placed: Reservation) -> Reservation:
    """The booking with a server that no other one of its owner uses by then."""
    others = store.select_where(
        connection, store.owned_by(placed.owner), store.overlapping(placed.interval), store.not_given_back()
    )
    taken = any(other.server == placed.server for other in others if other.id != placed.id)
    return replace(placed, server=placed.id) if taken else placed
