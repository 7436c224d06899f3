"""How far a booking could be extended just now, with nobody the worse for it."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from mlmp_spawner.errors import OverLimit
from mlmp_spawner.operations import limits, planning
from mlmp_spawner.operations.requests import Draft
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.placement import Wanted, longest_from
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.store import people
from mlmp_spawner.store import reservations as store
from mlmp_spawner.units import MINUTE

WORTH = 30 * MINUTE
"""An extension by less is not offered, unless a booking of the profile may be shorter than this."""


def longest_end(connection: Connection, site: Site, row: Reservation, now: int) -> int | None:
    """The latest end (ms UTC) up to which it could be extended where it is: free, nobody waits for it, and within the
    limits of its owner. None: there is nothing worth offering."""
    profile = site.catalog.profiles.get(row.profile)
    if profile is None or not row.nodes:
        return None
    window = Interval(row.end, row.end + profile.max_duration)
    boards = planning.view(connection, row.resource, row.nodes, window).boards
    free = longest_from(boards, Wanted(row.units, window, row.node_count))
    free = min(free, _unwanted(connection, site, row, now))
    least = min(WORTH, profile.min_duration)
    groups = people.groups_of(connection, row.owner_id)

    def allowed(length: int) -> bool:
        longer = replace(row, end=row.end + length)
        try:
            limits.check(connection, site, Draft(longer, frozenset(), groups), now, changed=row)
        except OverLimit:
            return False
        return True

    if free < least or not allowed(least):
        return None
    if allowed(free):
        return row.end + free
    shortest, longest = least // MINUTE, free // MINUTE  # the first is allowed, the last is not
    while longest - shortest > 1:
        middle = (shortest + longest) // 2
        shortest, longest = (middle, longest) if allowed(middle * MINUTE) else (shortest, middle)
    return row.end + max(least, shortest * MINUTE)


def _unwanted(connection: Connection, site: Site, row: Reservation, now: int) -> int:
    """For how long (ms) after its end nobody waits for units that this booking could give back."""
    begins = [
        max(other.start, row.end)
        for other in store.waiting(connection, now)
        if other.resource == row.resource
        and other.end > row.end
        and not planning.nodes_for_waiting(site, other).isdisjoint(row.nodes)
    ]
    return min(begins, default=row.end + site.catalog.profiles[row.profile].max_duration) - row.end
