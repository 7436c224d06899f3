"""From the database to the boards that the placement rules look at, and from a plan back to rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, or_

from mlmp_spawner.operations import history, yielding
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.jobs import LONGEST_GRACE
from mlmp_spawner.rules.placement import Board, Move, Plan, Taken, Wanted, place
from mlmp_spawner.rules.reservations import Allocation, Interval, Reservation, continues
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import reservation as reservation_table


@dataclass(frozen=True, slots=True)
class View:
    """What was read to make a plan. ``versions`` tells later whether it still holds."""

    boards: tuple[Board, ...]
    versions: dict[str, int]


def nodes_of(site: Site, profile: str) -> list[str]:
    """The nodes that a profile fits on, sorted."""
    return sorted(node.name for node in site.catalog.nodes_for(site.catalog.profiles[profile]))


def nodes_for_waiting(site: Site, row: Reservation) -> frozenset[str]:
    """Where a booking that waits may go: to the node that was asked for, or wherever its profile fits; to any as well
    once it lost a place."""
    known = frozenset(nodes_of(site, row.profile)) if row.profile in site.catalog.profiles else frozenset()
    if row.wanted_node is None or row.waiting_reason == "capacity_lost":
        return known
    return known & {row.wanted_node}


def view(
    connection: Connection, resource: str, nodes: Collection[str], window: Interval, *, without: Collection[str] = ()
) -> View:
    """The boards of ``nodes`` over ``window``, preemptible jobs on them marked as what yields.

    :param without: ids of reservations that are left out, as if they had been given back.
    """
    capacity = store.capacities(connection, resource)
    known = sorted(node for node in nodes if node in capacity)
    taken: dict[str, list[Taken]] = {node: [] for node in known}
    preemptible = yielding.preemptible(connection)
    for reservation, node, units, start, end in store.taken(connection, resource, known, window):
        if reservation not in without:
            taken[node].append(Taken(reservation, units, Interval(start, end), yields=reservation in preemptible))
    away: dict[str, list[Interval]] = {node: [] for node in known}
    for outage in store.outages(connection, window, known):
        away[outage.node].append(Interval(outage.start, outage.end))
    boards = tuple(Board(node, capacity[node][0], tuple(taken[node]), tuple(away[node])) for node in known)
    return View(boards, {node: capacity[node][1] for node in known})


def plan(
    connection: Connection,
    site: Site,
    resource: str,
    boards: Sequence[Board],
    wanted: Wanted,
    now: int,
    *,
    without: Collection[str] = (),
) -> Plan | None:
    """The best fit; where nothing fits as it is, preemptible jobs yield, then bookings are moved that have not begun.

    :param without: what was left out of ``boards``.
    """
    found = place(boards, wanted, repack=False)
    if found is not None:
        return found
    if sum(board.capacity >= wanted.units for board in boards) < wanted.node_count:
        return None
    return place(_with_movable(connection, site, resource, boards, now, without), wanted)


def _with_movable(
    connection: Connection, site: Site, resource: str, boards: Sequence[Board], now: int, without: Collection[str]
) -> list[Board]:
    """The same boards, over as long as the bookings on them last, with those marked that may be moved."""
    ids = {t.reservation for board in boards for t in board.taken}
    rows = _load(connection, ids)
    rows += _neighbours(connection, rows)
    movable = {
        row.id: frozenset(nodes_of(site, row.profile))
        for row in rows
        if row.id in ids and _may_move(row, rows, site, now)
    }
    if not movable:
        return list(boards)
    intervals = [t.interval for board in boards for t in board.taken if t.reservation in movable]
    window = Interval(min(i.start for i in intervals), max(i.end for i in intervals))
    wider = view(connection, resource, [board.node for board in boards], window, without=without).boards
    # Whoever begins this soon is not moved onto a job: it would not have its grace, and they would begin late.
    soon = {row.id for row in rows if row.start < now + LONGEST_GRACE}
    with_jobs = frozenset(wide.node for wide in wider if any(t.yields for t in wide.taken))
    movable = {name: nodes - with_jobs if name in soon else nodes for name, nodes in movable.items()}
    result = []
    for board, wide in zip(boards, wider, strict=True):
        taken = tuple(
            replace(t, may_use=movable.get(t.reservation, frozenset()))
            for t in dict.fromkeys((*board.taken, *wide.taken))
        )
        # The movable may all lie on one side of an outage that the caller's window reaches into.
        outages = tuple(sorted({*board.outages, *wide.outages}))
        result.append(Board(board.node, board.capacity, taken, outages))
    return result


def _load(connection: Connection, ids: Iterable[str]) -> list[Reservation]:
    wanted = sorted(ids)
    return store.select_where(connection, reservation_table.c.id.in_(wanted)) if wanted else []


def _neighbours(connection: Connection, rows: Sequence[Reservation]) -> list[Reservation]:
    """The bookings that touch one of ``rows``: only those can make a chain with it."""
    table = reservation_table.c
    if not rows:
        return []
    touching = or_(table.end.in_({row.start for row in rows}), table.start.in_({row.end for row in rows}))
    owners = table.owner.in_({row.owner for row in rows})
    return store.select_where(connection, owners, touching, table.id.not_in({row.id for row in rows}))


def _may_move(row: Reservation, others: Sequence[Reservation], site: Site, now: int) -> bool:
    if row.pinned or row.start <= now or row.node_count != 1 or len(row.allocations) != 1 or row.kind != "session":
        return False
    if row.profile not in site.catalog.profiles:
        return False
    # Moving one link of an unbroken chain would cost its owner the running server.
    return not any(continues(other, row) or continues(row, other) for other in others)


def allocations(reservation: Reservation, nodes: Iterable[str]) -> tuple[Allocation, ...]:
    """The rows of a reservation that is placed on ``nodes``."""
    return tuple(
        Allocation(reservation.id, node, reservation.resource, reservation.units, reservation.start, reservation.end)
        for node in nodes
    )


def from_now(row: Allocation, start: int) -> Allocation:
    """The part of an allocation that is not over yet."""
    return replace(row, start=max(row.start, start))


def make_room(connection: Connection, plan: Plan, *, actor: str, now: int) -> None:
    """Does what a plan needs before its own rows are written: jobs yield, bookings move to other nodes."""
    for one in plan.yields:
        yielding.cut(connection, [one.reservation], one.at, now)
    _carry_out_moves(connection, plan.moves, actor=actor, now=now)


def _carry_out_moves(connection: Connection, moves: Sequence[Move], *, actor: str, now: int) -> None:
    """Moves bookings to other nodes: all their rows go first, so that they never stand in each other's way."""
    rows = {row.id: row for row in _load(connection, {move.reservation for move in moves})}
    for move in moves:
        store.delete_allocations(connection, move.reservation)
    for move in moves:
        row = rows[move.reservation]
        store.insert_allocations(connection, allocations(row, [move.target]))
        store.update_reservation(connection, row)
        history.record(connection, "moved", actor=actor, at=now, reservation=row, source=move.source,
                       target=move.target, reason="to make room")  # fmt: skip
