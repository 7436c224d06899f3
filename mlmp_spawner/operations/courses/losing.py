"""What becomes of a class whose nodes are away or have fewer units: it keeps what there is, and looks for the rest."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection

from mlmp_spawner.operations import history, planning
from mlmp_spawner.operations.courses import opening, placing
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import class_seats as rules
from mlmp_spawner.rules.due import is_live
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import classes as store
from mlmp_spawner.store import reservations


def lose(
    connection: Connection, site: Site, row: Reservation, now: int, *, actor: str, reason: str
) -> Literal["moved", "waiting", "kept"]:
    """Gives up the seats of a class for which its nodes have no room any more, but those whose server runs, and takes
    others for them. *waiting*: some are missing still; they are looked for until the class settles.

    The transaction holds all nodes of the resource.
    """
    has, rest = placing.there(row, now), placing.rest(row, now)
    boards = planning.view(connection, row.resource, sorted(has), rest, without={row.id}).boards
    room = rules.places((board.for_bookings() for board in boards), rest, row.units)
    over = {node: count - room.get(node, 0) for node, count in has.items() if count > room.get(node, 0)}
    if not over:
        return "kept"
    seats = placing.open_seats(connection, row.id, now)
    empty = {node: count - placing.taken(seats, rest.start).get(node, 0) for node, count in has.items()}
    for seat in reversed(seats):
        node = seat.nodes[0]
        if node in over and empty[node] < over[node] and not is_live(seat):
            placing.end_seat(connection, seat, reason="capacity_lost", action="seat_lost", actor=actor, now=now)
            empty[node] += 1
    # Where more runs than there is room for, nothing can be written: the class keeps its units until that has ended.
    stay = {node: has[node] if empty[node] < less else has[node] - less
            for node, less in ((node, over.get(node, 0)) for node in has)}  # fmt: skip
    if stay == has:
        return "kept"
    placing.resize(connection, row, stay, now)
    found, missing = store.find(connection, row.id), 0
    if found is not None and found[0].settled_at is None:
        opening.fill(connection, site, *found, now)
    again = reservations.find(connection, row.id) or row
    if found is not None and found[0].settled_at is None:
        missing = found[0].seats - sum(placing.there(again, now).values())
    lost = sum(has.values()) - sum(stay.values())
    action = "capacity_lost" if missing else "moved"
    told = {"missing": missing} if missing else {"target": list(again.nodes)}
    history.record(connection, action, actor=actor, at=now, reservation=row, source=sorted(over), seats=lost,
                   reason=reason, **told)  # fmt: skip
    return "waiting" if missing else "moved"
