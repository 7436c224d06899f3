"""Start an attempt: in one transaction it gets its units, and from then on it is under way.

What is written here is all that is needed to submit it to the back-end, also after a crash. The database has the last
word on what fits: a booking that came meanwhile is in the way, and the job waits on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from mlmp_spawner.errors import NotNow
from mlmp_spawner.operations.admission import take_units
from mlmp_spawner.operations.jobs import telling
from mlmp_spawner.operations.site import Site, new_id
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.rules.reservations import Allocation, Reservation
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store import reservations
from mlmp_spawner.store.transaction import transaction


@dataclass(frozen=True, slots=True)
class Where:
    """Where and for how long an attempt is to run. ``nodes``: of each worker; ``stop_at``, ``kill_at``: ms UTC."""

    nodes: tuple[str, ...]
    stop_at: int
    kill_at: int


def start(site: Site, seen: Job, where: Where, *, now: int, number: int | None = None) -> Attempt:
    """Writes the attempt, with the reservation that holds its units from now on.

    :param seen: the job as it was decided on. :param number: which attempt it is to be; None: the next one.
    :raises NotNow: it is not waiting any more, or for another attempt.
    :raises WaitingForUnits: a former server is still seen on its units.
    :raises Refused, Busy: the units are taken, or the database gave up; nothing was written.
    """
    locks = [(node, seen.resource) for node in set(where.nodes)]
    with transaction(site.engine, lock=locks) as connection:
        job = store.lock(connection, seen.id)
        if job is None or job.state() != "queued" or job.cancel_asked_at is not None:
            raise NotNow("The job does not wait any more.")
        if number not in (None, len(job.attempts) + 1):
            raise NotNow("The job waits for another attempt by now.")
        holding = _reservation(connection, job, where, now)
        reservations.insert_reservation(connection, holding)
        places = _places(connection, site, job, holding, where.nodes, now)
        attempt = Attempt(
            job.id,
            len(job.attempts) + 1,
            holding.id,
            tuple(sorted(set(where.nodes))),
            where.stop_at,
            where.kill_at,
            now,
        )
        store.update_job(connection, job, front=False)
        store.insert_attempt(connection, attempt, places)
        telling.record(connection, "job_started", job, at=now, attempt=attempt.number,
                       nodes=list(attempt.nodes), stop_at=where.stop_at)  # fmt: skip
        return attempt


def _reservation(connection: Connection, job: Job, where: Where, now: int) -> Reservation:
    """What holds the units. Inside a booking it draws on what that has."""
    count = Counter(where.nodes)
    new = Reservation(
        id=new_id(), owner=job.owner, profile=job.profile, resource=job.resource,
        units=job.units * max(count.values()), start=now, end=where.kill_at, kind="job",
        owner_id=reservations.user_id(connection, job.owner) if job.owner_id is not None else None,
        parent=job.inside, title=job.name, node_count=len(count), preemptible=job.preemptible, created_at=now,
    )  # fmt: skip
    rows = tuple(
        Allocation(new.id, node, job.resource, job.units * workers, now, where.kill_at, job.inside)
        for node, workers in sorted(count.items())
    )
    return replace(new, allocations=rows)


def _places(
    connection: Connection, site: Site, job: Job, holding: Reservation, nodes: Sequence[str], now: int
) -> list[dict[str, object]]:
    """Of each worker its node and physical units; inside a booking of those that the booking has."""
    units: dict[str, list[str]] = {}
    for node, workers in Counter(nodes).items():
        if job.inside is None:
            taken = take_units(connection, site, replace(holding, units=job.units * workers), node, now)
        else:
            taken = _shared(connection, site, job.inside, node, now)
        units[node] = list(taken)
    places: list[dict[str, object]] = []
    for node in nodes:
        mine, units[node] = units[node][: job.units], units[node][job.units :]
        places.append({"node": node, "units": mine})
    return places


def _shared(connection: Connection, site: Site, booking_id: str, node: str, now: int) -> tuple[str, ...]:
    """The units of a booking, whether its server runs or not: those first that no other job of it uses."""
    booking = reservations.find(connection, booking_id)
    if booking is None:
        raise NotNow("The booking in which the job was to run is gone.")
    granted = sum(row.units for row in booking.allocations if row.node == node and row.start <= now < row.end)
    taken = take_units(connection, site, replace(booking, units=granted), node, now)
    used = store.units_inside(connection, booking_id, node)
    return tuple(sorted(taken, key=lambda unit: unit in used))
