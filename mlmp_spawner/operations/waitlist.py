"""The waitlist: bookings without a place, promoted in their order when something becomes free."""

from __future__ import annotations

from dataclasses import replace

from mlmp_spawner.operations import history, planning
from mlmp_spawner.operations.site import CLOCK, Site
from mlmp_spawner.rules.placement import Wanted
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.transaction import read, transaction


def promote(site: Site, waiting: Reservation, *, now: int) -> bool:
    """Places a booking that waits, if there is room for what is left of it; it keeps its end.

    The clock asks in the order of the waitlist, so whoever waits longer goes first.
    """
    if waiting.profile not in site.catalog.profiles:
        return False
    profile = site.catalog.profiles[waiting.profile]
    start = max(waiting.start, now)
    if waiting.end - start < min(profile.min_duration, waiting.interval.length):
        return False
    nodes = planning.nodes_of(site, waiting.profile)
    with read(site.engine) as connection:
        window = Interval(start, waiting.end)
        boards = planning.view(connection, waiting.resource, nodes, window).boards
        wanted = Wanted(waiting.units, window, waiting.node_count)
        if planning.plan(connection, site, waiting.resource, boards, wanted, now) is None:
            return False
    with transaction(site.engine, lock=[(node, waiting.resource) for node in nodes]) as connection:
        current = store.find(connection, waiting.id)
        if current is None or current.state(now) != "waiting":
            return False
        boards = planning.view(connection, waiting.resource, nodes, window).boards
        plan = planning.plan(connection, site, waiting.resource, boards, wanted, now)
        if plan is None:
            return False
        planning.carry_out_moves(connection, plan.moves, actor=CLOCK.name, now=now)
        placed = replace(current, start=start)
        store.insert_allocations(connection, planning.allocations(placed, plan.nodes))
        store.update_reservation(connection, current, start=start, waiting_reason=None, waitlist_position=None)
        history.record(connection, "promoted", actor=CLOCK.name, at=now, reservation=current, nodes=list(plan.nodes))
    return True
