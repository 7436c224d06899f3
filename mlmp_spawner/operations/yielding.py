"""Jobs make way: their units are given to a booking in the booking's own transaction.

A preemptible job never stands in the way of a booking. What it holds is cut to where the booking begins, and its
attempt is told to end by then, with its grace before: SIGTERM, time to write a checkpoint, and back to the front of
the queue. Only a booking that begins within the grace finds units that are still in use, and waits for them.

Whoever looks after jobs reads the new times of the attempt; nothing is signalled from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, case, func, select, update

from mlmp_spawner.rules.jobs import Reason
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import reservations
from mlmp_spawner.store.tables import allocation, job, job_attempt, reservation


def cut(connection: Connection, reservation_ids: Iterable[str], at: int, now: int) -> list[str]:
    """Takes the units of preemptible jobs from ``at`` (ms UTC; what is past is now) on; the ids of those that had
    any. Other reservations, those of jobs that are not preemptible among them, are left as they are."""
    yielded = []
    for found in _holding(connection, reservation_ids, at=max(at, now), preemptible=True):
        _end(connection, found, max(at, now), now, "preempted")
        yielded.append(found)
    return yielded


def end_inside(connection: Connection, booking: Reservation, at: int, now: int) -> None:
    """Ends the jobs inside a booking that is shortened to ``at`` (ms UTC): before its own allocations are, since
    theirs lie within them."""
    for found in _holding(connection, _inside(connection, booking), at=max(at, now)):
        _end(connection, found, max(at, now), now, "time_limit")


def drop_inside(connection: Connection, booking: Reservation, now: int) -> None:
    """Ends the jobs inside a booking that leaves its place, and deletes what they held there: nothing of it stays."""
    end_inside(connection, booking, now, now)
    for found in _inside(connection, booking):
        reservations.delete_allocations(connection, found)


def _inside(connection: Connection, booking: Reservation) -> list[str]:
    mine = (reservation.c.parent == booking.id, reservation.c.kind == "job")
    return list(connection.execute(select(reservation.c.id).where(*mine)).scalars())


def lose(connection: Connection, reservation_id: str, now: int) -> None:
    """Ends a job of any kind whose units are gone: it is tried again elsewhere."""
    for found in _holding(connection, [reservation_id], at=now):
        _end(connection, found, now, now, "node_lost")


def preemptible(connection: Connection) -> set[str]:
    """The reservations of the preemptible jobs under way."""
    query = select(reservation.c.id).join(job_attempt, job_attempt.c.reservation == reservation.c.id)
    mine = (job_attempt.c.ended_at.is_(None), reservation.c.kind == "job", reservation.c.preemptible.is_(True))
    return set(connection.execute(query.where(*mine)).scalars())


def gone_at(connection: Connection, reservation_id: str) -> int | None:
    """When nothing is left of the attempt that holds this (ms UTC); None where none is under way."""
    a = job_attempt.c
    mine = (a.reservation == reservation_id, a.ended_at.is_(None))
    return connection.execute(select(a.kill_at).where(*mine)).scalar()


def overstaying(connection: Connection, holders: Iterable[str], now: int) -> dict[str, int]:
    """Those of these holders of physical units that are jobs which somebody else's booking found there: when each is
    gone (ms UTC), which is later than what it has them for."""
    a, r = job_attempt.c, reservation.c
    query = select(r.id, a.kill_at).join_from(reservation, job_attempt, a.reservation == r.id)
    query = query.where(r.id.in_(sorted(holders)), a.ended_at.is_(None), a.kill_at > r.end, a.kill_at > now)
    return {row.id: row.kill_at for row in connection.execute(query)}


def leaving(connection: Connection, node: str, now: int) -> tuple[str, int] | None:
    """Of the jobs that were told to end and are still on a node the one that is gone last: its owner, and when that
    is (ms UTC)."""
    a = job_attempt.c
    query = select(job.c.owner, a.kill_at, a.nodes).join(job, a.job == job.c.id)
    rows = connection.execute(query.where(a.ended_at.is_(None), a.stop_at <= now)).all()
    return max(((row.owner, row.kill_at) for row in rows if node in row.nodes), key=lambda one: one[1], default=None)


def held_inside(connection: Connection, booking_ids: Iterable[str]) -> set[str]:
    """Those of these bookings inside which a job may still run, on the physical units of the booking."""
    mine = (reservation.c.parent.in_(sorted(booking_ids)), job_attempt.c.ended_at.is_(None))
    query = select(reservation.c.parent).join(job_attempt, job_attempt.c.reservation == reservation.c.id).where(*mine)
    return set(connection.execute(query).scalars())


def has_inside(connection: Connection, booking_id: str) -> bool:
    """Whether a job was ever to run inside a booking."""
    return connection.execute(select(job.c.id).where(job.c.inside == booking_id).limit(1)).first() is not None


def held_by_jobs(connection: Connection, holders: Iterable[str]) -> set[str]:
    """Those of these holders of physical units that are jobs', or bookings inside which a job may still run."""
    ids = sorted(holders)
    jobs = connection.execute(select(reservation.c.id).where(reservation.c.id.in_(ids), reservation.c.kind == "job"))
    return set(jobs.scalars()) | held_inside(connection, ids)


def _holding(
    connection: Connection, reservation_ids: Iterable[str], *, at: int, preemptible: bool | None = None
) -> list[str]:
    """Which of these are of jobs and hold something after ``at``."""
    wanted = sorted(set(reservation_ids))
    conditions: list[Any] = [reservation.c.id.in_(wanted), reservation.c.kind == "job", allocation.c.end > at]
    if preemptible is not None:
        conditions.append(reservation.c.preemptible.is_(preemptible))
    query = select(reservation.c.id).join(allocation, allocation.c.reservation == reservation.c.id)
    return list(connection.execute(query.where(*conditions).distinct().order_by(reservation.c.id)).scalars())


def _end(connection: Connection, reservation_id: str, at: int, now: int, reason: Reason) -> None:
    """Nobody's version is compared: whatever else happens to the job meanwhile, its units are gone."""
    reservations.cut_allocations(connection, reservation_id, at)
    c = reservation.c
    shorter = case((c.start >= at, c.start + 1), (c.end > at, at), else_=c.end)
    connection.execute(update(reservation).where(c.id == reservation_id).values(end=shorter, version=c.version + 1))
    _tell(connection, reservation_id, at, now, reason)


def _tell(connection: Connection, reservation_id: str, at: int, now: int, reason: Reason) -> None:
    """Writes to the attempt when it ends now. Its times only ever move to earlier ones, and the first reason stays."""
    a = job_attempt.c
    query = select(job_attempt, job.c.grace).join(job, a.job == job.c.id)
    query = query.where(a.reservation == reservation_id, a.ended_at.is_(None))
    for row in connection.execute(query.with_for_update(of=job_attempt)).all():
        kill_at = min(row.kill_at, max(at, now + row.grace))
        stop_at = min(row.stop_at, max(now, kill_at - row.grace))
        if (stop_at, kill_at) == (row.stop_at, row.kill_at):
            continue
        mine = (a.job == row.job, a.number == row.number)
        values = {"stop_at": stop_at, "kill_at": kill_at, "stop_reason": func.coalesce(a.stop_reason, reason)}
        connection.execute(update(job_attempt).where(*mine).values(values))
