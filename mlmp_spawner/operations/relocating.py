"""What becomes of a booking that loses its place: it is moved where it fits, else it waits for a place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection

from mlmp_spawner.operations import history, planning, yielding
from mlmp_spawner.operations.courses.losing import lose
from mlmp_spawner.operations.site import CLOCK, Site
from mlmp_spawner.rules.placement import Wanted, place
from mlmp_spawner.rules.reservations import Interval, Reservation
from mlmp_spawner.store import reservations as store

Outcome = Literal["moved", "waiting", "ended", "kept", "yielded"]
"""``kept``: it goes on all the same; ``yielded``: a job that ends in time, and is tried again elsewhere."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What became of a booking, or a job, that lost its place on ``node``."""

    reservation: str
    owner: str
    outcome: Outcome
    node: str


def relocate(
    connection: Connection,
    site: Site,
    row: Reservation,
    now: int,
    *,
    actor: str = CLOCK.name,
    reason: str = "capacity_lost",
) -> Literal["moved", "waiting", "kept"]:
    """Gives a booking whose server does not run another place for the rest of its time, or puts it back on the
    waitlist with ``waiting_reason: capacity_lost``. The transaction holds all nodes of the resource.

    A class gives up only those of its seats for which there is no room any more; *kept*: none that it can.

    :param reason: why, for the history.
    """
    if row.kind == "class":
        return lose(connection, site, row, now, actor=actor, reason=reason)
    allowed = set(store.capacities(connection, row.resource))
    if row.profile in site.catalog.profiles:
        allowed &= set(planning.nodes_of(site, row.profile))
    left = Interval(max(row.start, now), row.end)
    boards = planning.view(connection, row.resource, sorted(allowed), left, without={row.id}).boards
    plan = place(boards, Wanted(row.units, left, row.node_count), repack=False)
    source = list(row.nodes)
    yielding.drop_inside(connection, row, now)
    store.delete_allocations(connection, row.id)  # no server ran on them
    if plan is not None:
        planning.make_room(connection, plan, actor=actor, now=now)
        moved = planning.allocations(row, plan.nodes)
        store.insert_allocations(connection, [planning.from_now(a, left.start) for a in moved])
        store.update_reservation(connection, row, pinned=row.pinned and plan.nodes == row.nodes)
        history.record(connection, "moved", actor=actor, at=now, reservation=row, source=source,
                       target=list(plan.nodes), reason=reason)  # fmt: skip
        return "moved"
    position = store.next_waitlist_position(connection)
    store.update_reservation(connection, row, waiting_reason="capacity_lost", waitlist_position=position)
    history.record(connection, "capacity_lost", actor=actor, at=now, reservation=row, source=source, reason=reason)
    return "waiting"
