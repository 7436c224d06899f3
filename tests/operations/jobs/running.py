"""Jobs under way, as the look at the queue writes them."""

from __future__ import annotations

from mlmp_spawner.operations.admission import take_units
from mlmp_spawner.operations.site import Site, new_id
from mlmp_spawner.rules.jobs import GRACE, Attempt, Job
from mlmp_spawner.rules.reservations import Allocation, Reservation
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store import reservations
from mlmp_spawner.store.transaction import read, transaction
from mlmp_spawner.units import HOUR


def run_job(
    site: Site,
    *nodes: str,
    now: int,
    owner: str = "eve",
    units: int = 1,
    length: int = 4 * HOUR,
    grace: int = GRACE,
    preemptible: bool = True,
    inside: str | None = None,
) -> Attempt:
    """A job with one worker on each of ``nodes``, its first attempt starting now."""
    profile = site.catalog.profiles["gpu"]
    end = now + length + grace
    with transaction(site.engine) as connection:
        owner_id = reservations.user_id(connection, owner)
        job = Job(
            new_id(), owner, "train", profile.name, profile.resource, units, len(nodes), length, {},
            owner_id=owner_id, grace=grace, preemptible=preemptible, inside=inside, created_at=now, queued_at=now,
        )  # fmt: skip
        store.insert_job(connection, job, {})
        holding = Reservation(
            new_id(), owner, profile.name, profile.resource, units, now, end, kind="job", owner_id=owner_id,
            parent=inside, title=job.name, node_count=len(nodes), preemptible=preemptible, created_at=now,
        )  # fmt: skip
        reservations.insert_reservation(connection, holding)
        rows = [Allocation(holding.id, node, profile.resource, units, now, end, inside) for node in nodes]
        reservations.insert_allocations(connection, rows)
        places = []
        for node in nodes:
            holder = holding if inside is None else reservations.find(connection, inside) or holding
            places.append({"node": node, "units": list(take_units(connection, site, holder, node, now))[:units]})
        attempt = Attempt(job.id, 1, holding.id, tuple(sorted(nodes)), now + length, end, now)
        store.insert_attempt(connection, attempt, places)
        return attempt


def attempt_of(site: Site, seen: Attempt) -> Attempt:
    """The attempt as it is now."""
    with read(site.engine) as connection:
        job = store.find(connection, seen.job)
    assert job is not None
    return job.attempts[seen.number - 1]
