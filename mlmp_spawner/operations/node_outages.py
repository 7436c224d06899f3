"""Nodes of a cluster that take no pods, as outages that begin and end by themselves.

Such an outage has an id of its own kind (:data:`mlmp_spawner.rules.nodes.MARK`), so that whatever restarts when finds
it again in the database, and an admin's own maintenance of the same node is left alone.

What has not begun, or has begun without a server, is moved or waits for a place. A server that runs is left alone,
also on a node of which nothing is heard: that a kubelet is silent says nothing about the work of its containers, which
may well go on; its owner is told. When the cluster itself gives the pod up, the booking has no server any more, and
finds another place with the next look. Every server still ends at the end of its booking. Jobs are seen to by whoever
looks after jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from sqlalchemy import Connection

from mlmp_spawner.operations.outages import NO_END, hit_by, record, tell
from mlmp_spawner.operations.relocating import Lost, relocate
from mlmp_spawner.operations.site import CLOCK, Site, new_id
from mlmp_spawner.rules.due import is_live
from mlmp_spawner.rules.nodes import MARK, is_automatic
from mlmp_spawner.rules.reservations import Outage
from mlmp_spawner.store import outages as store
from mlmp_spawner.store.transaction import Busy, Refused, read, transaction

T = TypeVar("T")

TRIES = 5


def under_way(connection: Connection, now: int) -> dict[str, Outage]:
    """The outages that the watch opened and has not closed, by node."""
    return {one.node: one for one in store.current(connection, since=now) if is_automatic(one) and one.start <= now}


def lost(connection: Connection, nodes: Iterable[str], now: int) -> str:
    """What is to be said of work that is gone without a trace, where one of its nodes is away; "" where none is."""
    away = under_way(connection, now)
    return next((f"Its node {node} is {away[node].reason}." for node in sorted(nodes) if node in away), "")


def begin(site: Site, node: str, reason: str, *, now: int) -> list[Lost]:
    """The node takes no bookings until :func:`end`; the owners of those that run there are told."""

    def write(connection: Connection) -> list[Lost]:
        if node in under_way(connection, now):
            return []
        outage = Outage(f"{MARK}{new_id()}", node, now, NO_END, reason)
        store.add(connection, [outage])
        record(connection, outage, "added", CLOCK, now)
        lost: list[Lost] = []
        for row, _ in hit_by(connection, [outage], now):
            if is_live(row):
                tell(connection, row, outage, CLOCK, now)
                lost.append(Lost(row.id, row.owner, "kept", node))
        return lost

    return _write(site, node, write)


def say(site: Site, node: str, reason: str, *, now: int) -> None:
    """The node is away for another reason."""

    def write(connection: Connection) -> None:
        if (outage := under_way(connection, now).get(node)) is not None:
            store.change(connection, outage, end=outage.end, reason=reason)

    _write(site, node, write)


def end(site: Site, node: str, *, now: int) -> None:
    """The node takes bookings again; who waits is promoted by the clock."""

    def write(connection: Connection) -> None:
        outage = under_way(connection, now).get(node)
        if outage is None:
            return
        if outage.start < now:
            store.change(connection, outage, end=now, reason=outage.reason)
        else:
            store.remove(connection, outage)
        record(connection, outage, "removed", CLOCK, now)

    _write(site, node, write)


def find_places(site: Site, *, now: int) -> list[Lost]:
    """Finds other places for what is booked on nodes that are away and has no server there."""
    lost: list[Lost] = []
    with read(site.engine) as connection:
        outages = under_way(connection, now)
    for node in sorted(outages):

        def write(connection: Connection, node: str = node) -> list[Lost]:
            outage = under_way(connection, now).get(node)
            rows = [row for row, _ in hit_by(connection, [outage], now)] if outage else []
            found = [
                Lost(row.id, row.owner, relocate(connection, site, row, now, reason=outage.reason), node)
                for row in rows
                if outage and not is_live(row) and row.end > now and row.kind != "job"
            ]
            return [one for one in found if one.outcome != "kept"]  # a class whose servers run

        lost += _write(site, node, write)
    return lost


def _write(site: Site, node: str, write: Callable[[Connection], T]) -> T:
    """:raises Busy, Refused: somebody was quicker, again and again."""
    for tried in range(TRIES):
        try:
            with read(site.engine) as connection:
                locks = store.keys_of(connection, node)
            with transaction(site.engine, lock=locks) as connection:
                return write(connection)
        except (Busy, Refused):
            if tried == TRIES - 1:
                raise
    raise AssertionError("it returned, or raised")
