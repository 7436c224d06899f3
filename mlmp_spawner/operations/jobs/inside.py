"""Jobs inside a booking of their owner: they use what it has, from its start to its end. And those that talk with its
server: they run on units of their own, and not beyond its end either."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from mlmp_spawner.operations.jobs.starting import Where
from mlmp_spawner.rules.job_queue import Outlook, Waiting, Why
from mlmp_spawner.rules.job_room import Room
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.rules.placement import Board, Taken
from mlmp_spawner.rules.reservations import LONGEST, Interval, Reservation
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store import reservations
from mlmp_spawner.store.tables import allocation


@dataclass(slots=True)
class Within:
    """Which jobs start now and where; the outlook of the others; those whose booking is over, which never will; and
    the instants (ms UTC) at which time alone changes that."""

    starts: list[tuple[Job, Where]] = field(default_factory=list)
    outlook: dict[str, Outlook] = field(default_factory=dict)
    over: list[Job] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)


def decide(connection: Connection, queued: Iterable[Job], now: int) -> Within:
    """Decides about jobs that are to run inside a booking."""
    by_booking: dict[str, list[Job]] = {}
    for job in queued:
        by_booking.setdefault(job.inside or "", []).append(job)
    found = Within()
    for booking_id, jobs in sorted(by_booking.items()):
        booking = reservations.find(connection, booking_id)
        if booking is None or booking.state(now) == "ended":
            found.over += jobs
            continue
        found.turns += [instant for instant in (booking.start, booking.end) if instant > now]
        start = booking.start if booking.start > now else None
        found.outlook |= {job.id: Outlook(start, Why("inside")) for job in jobs}
        if booking.state(now) == "active" and booking.allocations:
            found.starts += _within(connection, booking, jobs, now)
    return found


def apart(connection: Connection, queued: Iterable[Job], now: int) -> Within:
    """Of jobs that run outside of bookings, and talk with the server of one: those that have nobody to talk with any
    more, and when time alone makes it so of others."""
    servers, found = store.servers_of_open(connection), Within()
    bookings = {one: reservations.find(connection, one) for one in set(servers.values())}
    for job in queued:
        if job.id in servers:
            booking = bookings[servers[job.id]]
            if booking is None or booking.state(now) == "ended":
                found.over.append(job)
            else:
                found.turns.append(booking.end)
    return found


def _within(connection: Connection, booking: Reservation, jobs: Iterable[Job], now: int) -> list[tuple[Job, Where]]:
    room = Room(_boards(connection, booking, now), now)
    known = {job.id: job for job in jobs}
    found = []
    for waiting in sorted((Waiting.of(job, booking.nodes) for job in known.values()), key=lambda one: one.order):
        # It may get less than its hours: it ends with the booking.
        fit = room.fit(waiting.shape._replace(preemptible=True), now)
        if fit is not None:
            room.take(fit, now, waiting.shape.units, planned=False)
            grace = waiting.shape.grace
            found.append((known[waiting.id], Where(fit.nodes, fit.until - grace, fit.until)))
    return found


def _boards(connection: Connection, booking: Reservation, now: int) -> list[Board]:
    """What the booking has on its nodes until its end, and what is taken of that."""
    a = allocation.c
    rows = connection.execute(select(allocation).where(a.root == booking.id, a.end > now)).all()
    boards = []
    for node in booking.nodes:
        granted = sum(row.units for row in booking.allocations if row.node == node and row.start <= now < row.end)
        taken = [Taken(row.reservation, row.units, Interval(row.start, row.end)) for row in rows if row.node == node]
        after = Taken("", granted, Interval(booking.end, booking.end + LONGEST))
        boards.append(Board(node, granted, (*taken, after)))
    return boards
