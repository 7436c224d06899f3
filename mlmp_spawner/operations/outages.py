"""Maintenance and drain: times at which a node takes no bookings, and what becomes of those that it has.

New bookings into an outage are refused by the database. What has not begun is moved where it fits, else it waits with
``waiting_reason: capacity_lost``; what has begun goes on, and its owner is told; preemptible jobs end in time. What
was is never rewritten: an outage that is over stays, one under way can be ended but not made to have begun at another
time.

Outages that the watch on a cluster's nodes opened (:mod:`.node_outages`) are shown among the others; here nobody
changes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection, select

from mlmp_spawner.errors import Changed, Invalid, NotAllowed, NotFound, Unavailable
from mlmp_spawner.operations import history, yielding
from mlmp_spawner.operations.booking import ATTEMPTS
from mlmp_spawner.operations.relocating import Outcome, relocate
from mlmp_spawner.operations.requests import LATE
from mlmp_spawner.operations.site import Actor, Site, new_id
from mlmp_spawner.rules.nodes import is_automatic
from mlmp_spawner.rules.reservations import LONGEST, Interval, Outage, Reservation
from mlmp_spawner.store import outages as store
from mlmp_spawner.store import reservations as bookings_of
from mlmp_spawner.store.tables import allocation
from mlmp_spawner.store.tables import reservation as reservation_table
from mlmp_spawner.store.transaction import Busy, Refused, read, transaction
from mlmp_spawner.units import format_duration, from_iso

NO_END = from_iso("2200-01-01T00:00:00Z")
"""The end of an outage that lasts until somebody ends it."""

MOST = 200
"""Outages of one node that are not over."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An outage as somebody asks for it. ``start`` None: from now on; ``end`` None: until somebody ends it."""

    start: int | None = None
    end: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A booking that an outage hits, as it was before, and what became of it; ``kept``: it goes on all the same."""

    reservation: Reservation
    outage: Outage
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Report:
    """The outages of a node that are not over, and the bookings that they hit."""

    outages: tuple[Outage, ...]
    hits: tuple[Hit, ...] = ()

    @property
    def version(self) -> str:
        """Changes with the outages."""
        return version_of(self.outages)


def version_of(outages: Iterable[Outage]) -> str:
    """A short text that differs where the outages do."""
    text = repr([(o.id, o.start, o.end, o.reason) for o in outages])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def get(site: Site, node: str, *, now: int) -> Report:
    """The outages of a node that are not over.

    :raises NotFound: there is no such node; the valid ones are named.
    """
    _known(site, node)
    with read(site.engine) as connection:
        return Report(tuple(store.of_node(connection, node, since=now)))


def during(site: Site, nodes: Collection[str], window: Interval) -> list[Outage]:
    """The outages of ``nodes`` that share an instant with ``window``, by start."""
    with read(site.engine) as connection:
        return sorted(bookings_of.outages(connection, window, nodes), key=lambda o: (o.start, o.node))


def set_outages(
    site: Site,
    node: str,
    wanted: Sequence[Wanted],
    *,
    actor: Actor,
    now: int,
    bookings: Literal["move", "keep"] = "move",
    dry_run: bool = False,
    if_match: str | None = None,
) -> Report:
    """Makes ``wanted`` the outages of a node from now on; those that are over stay as they were, and those that the
    watch on the cluster's nodes opened, whether they are among ``wanted`` or not.

    :param bookings: whether bookings that have not begun are moved away, or kept and left to their owners.
    :param dry_run: only says what would become of whom: all is done and undone.
    :param if_match: the :attr:`Report.version` that the caller saw.
    :raises Changed: they are other ones by now. :raises Invalid, NotAllowed, NotFound: nothing was changed.
    """
    if not actor.admin:
        raise NotAllowed("Only an admin takes nodes out of use.")
    _known(site, node)
    if len(wanted) > MOST:
        raise Invalid.field("items", f"{len(wanted)} outages; at most {MOST} at a time")
    for _ in range(ATTEMPTS):
        try:
            with read(site.engine) as connection:
                locks = store.keys_of(connection, node)
            with transaction(site.engine, lock=locks) as connection:
                before = store.of_node(connection, node, since=now)
                if if_match is not None and if_match != version_of(before):
                    raise Changed("The outages were changed meanwhile.", hint="Look at them and try again.")
                added = _write(connection, node, before, wanted, actor, now)
                outages = store.of_node(connection, node, since=now)
                hits = _resolve(connection, site, outages, added, actor, now, bookings)
                report = Report(tuple(outages), tuple(hits))
                if dry_run:
                    raise _Undone(report)
                return report
        except _Undone as undone:
            return undone.report
        except (Refused, Busy):
            continue
    raise Unavailable("The database is too busy just now.", hint="Nothing was changed; try again in a moment.")


class _Undone(Exception):
    """Leaves a transaction without writing anything."""

    def __init__(self, report: Report) -> None:
        super().__init__("undone")
        self.report = report


def _known(site: Site, node: str) -> None:
    if node not in site.catalog.nodes:
        valid = ", ".join(sorted(site.catalog.nodes)) or "none"
        raise NotFound(f"There is no node {node[:60]!r}; valid: {valid}.")


def _write(
    connection: Connection, node: str, before: Sequence[Outage], wanted: Sequence[Wanted], actor: Actor, now: int
) -> set[str]:
    """Writes what differs; returns the ids of the outages that are new, or longer than they were."""
    left = list(before)
    added: list[Outage] = []
    changed: list[tuple[Outage, Outage]] = []
    for number, one in enumerate(wanted):
        new = _outage(node, one, left, number, now)
        if new is None:
            continue
        same = next((o for o in left if (o.start, o.end, o.reason) == (new.start, new.end, new.reason)), None)
        begun = next((o for o in left if o.start < now and o.start == new.start and not is_automatic(o)), None)
        if same is not None:
            left.remove(same)
        elif begun is not None:
            left.remove(begun)
            changed.append((begun, replace(new, id=begun.id)))
        else:
            added.append(new)
    for old in (one for one in left if not is_automatic(one)):
        if old.start < now:
            changed.append((old, replace(old, end=now)))
        else:
            store.remove(connection, old)
            record(connection, old, "removed", actor, now)
    for old, new in changed:
        store.change(connection, old, end=new.end, reason=new.reason)
        record(connection, old, "removed", actor, now)
        if new.end > now:
            record(connection, new, "added", actor, now)
    store.add(connection, added)
    for new in added:
        record(connection, new, "added", actor, now)
    return {new.id for new in added} | {new.id for old, new in changed if new.end > old.end}


def _outage(node: str, one: Wanted, before: Iterable[Outage], number: int, now: int) -> Outage | None:
    """What is asked for, as an outage; None where it is over, and so as it was."""
    start = now if one.start is None else one.start
    end = NO_END if one.end is None else min(one.end, NO_END)
    if end <= start:
        raise Invalid.field(f"items.{number}.end", "an outage ends after it starts")
    if end <= now:
        return None
    if start < now and not any(o.start == start for o in before):
        if start < now - LATE:
            raise Invalid.field(
                f"items.{number}.start", f"it lies {format_duration(now - start)} in the past; name now or later"
            )
        start = now
    return Outage(new_id(), node, start, end, one.reason)


def record(connection: Connection, o: Outage, what: str, actor: Actor, now: int) -> None:
    """Writes into the history that an outage was ``added`` or ``removed``."""
    history.record(
        connection, "outage", actor=actor.name, at=now, node=o.node, nodes=[o.node], start=o.start,
        end=None if o.end >= NO_END else o.end, reason=o.reason, what=what,
    )  # fmt: skip


def _resolve(
    connection: Connection,
    site: Site,
    outages: Sequence[Outage],
    added: Collection[str],
    actor: Actor,
    now: int,
    bookings: Literal["move", "keep"],
) -> list[Hit]:
    """What becomes of the bookings and jobs during outages; who booked first is seen to first. Of bookings that go on,
    the owners are told of what was ``added`` alone: the rest they know. Preemptible jobs end before."""
    hits: list[Hit] = []
    for row, outage in hit_by(connection, sorted(outages, key=lambda o: (o.id not in added, o.start)), now):
        outcome: Outcome
        if row.kind == "job":
            yields = yielding.cut(connection, [row.id], outage.start, now)
            outcome = "yielded" if yields else "kept"
        elif row.start > now and bookings == "move":
            outcome = relocate(connection, site, row, now, actor=actor.name, reason="maintenance")
        else:
            outcome = "kept"
            if outage.id in added:
                tell(connection, row, outage, actor, now)
        hits.append(Hit(row, outage, outcome))
    return sorted(hits, key=lambda hit: (hit.reservation.start, hit.reservation.id))


def tell(connection: Connection, row: Reservation, outage: Outage, actor: Actor, now: int) -> None:
    """Tells the owner of a booking that goes on that its node is away."""
    history.record(
        connection, "maintenance", actor=actor.name, at=now, reservation=row, node=outage.node, start=outage.start,
        end=None if outage.end >= NO_END else outage.end, reason=outage.reason,
    )  # fmt: skip


def hit_by(connection: Connection, outages: Iterable[Outage], now: int) -> list[tuple[Reservation, Outage]]:
    """The bookings and jobs that have a place on a node during one of its outages, each with the first of
    ``outages``."""
    first: dict[str, Outage] = {}
    a = allocation.c
    for outage in outages:
        start = max(outage.start, now)
        during = (a.node == outage.node, a.start > start - LONGEST, a.start < outage.end, a.end > start)
        for found in connection.execute(select(a.reservation).where(*during, a.root.is_(None)).distinct()).scalars():
            first.setdefault(found, outage)
    rows = bookings_of.select_where(connection, reservation_table.c.id.in_(first)) if first else []
    return [(row, first[row.id]) for row in sorted(rows, key=lambda row: (row.created_at, row.id))]
