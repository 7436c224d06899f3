"""Settle a class: a while after it began, the seats that nobody uses go back to everybody.

A few are kept for who comes late (:func:`~mlmp_spawner.rules.class_seats.late_seats`). One transaction does all of it,
so that a class is either as it was or settled, whatever is killed.
"""

from __future__ import annotations

from collections.abc import Collection

from mlmp_spawner.operations import history
from mlmp_spawner.operations.courses import placing
from mlmp_spawner.operations.site import CLOCK, Site
from mlmp_spawner.rules import class_seats as rules
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import classes as store
from mlmp_spawner.store import reservations
from mlmp_spawner.store.transaction import read, transaction


def due(site: Site, now: int) -> dict[str, list[Reservation]]:
    """The classes that are to be settled, by id, with the seats that people have."""
    with read(site.engine) as connection:
        found = [
            row.id for one, row in store.under_way(connection, now) if one.settled_at is None and now >= one.settles
        ]
        return {class_id: placing.open_seats(connection, class_id, now) for class_id in found}


def settle(site: Site, class_id: str, used: Collection[str], now: int) -> int | None:
    """Gives back the seats of a class but those in ``used`` (ids) and a few; how many units that are. None: it was
    settled already, or is over.

    A seat that somebody got meanwhile is kept: nobody knows yet whether it is used.

    :raises Refused, Busy: somebody else was in the way; nothing was changed.
    """
    with read(site.engine) as connection:
        row = reservations.find(connection, class_id)
        known = {seat.id for seat in placing.open_seats(connection, class_id, now)}
    if row is None:
        return None
    with transaction(site.engine, lock=[(node, row.resource) for node in row.nodes]) as connection:
        found = store.find(connection, class_id)
        if found is None or found[1].state(now) != "active" or now < found[0].settles:
            return None
        one, row = found
        if not store.settle_at(connection, class_id, now):
            return None
        seats = placing.open_seats(connection, class_id, now)
        unused = [seat for seat in seats if seat.id in known and seat.id not in used]
        for seat in unused:
            placing.end_seat(connection, seat, reason="no_show", action="seat_unused", actor=CLOCK.name, now=now)
        kept = [seat for seat in seats if seat not in unused]
        there = placing.there(row, now)
        stay = rules.kept(there, placing.taken(kept, now), rules.late_seats(one.seats))
        placing.resize(connection, row, stay, now)
        back = (sum(there.values()) - sum(stay.values())) * row.units
        history.record(connection, "settled", actor=CLOCK.name, at=now, reservation=row, used=len(kept),
                       seats=sum(stay.values()), units=back, nodes=list(row.nodes))  # fmt: skip
        return back
