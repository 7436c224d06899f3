"""What a back-end needs to know of an attempt, read from the database alone.

The starter on this machine, which may run as root, is told nothing but an attempt's id and reads the rest here.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from mlmp_spawner.errors import NotFound, TooLate
from mlmp_spawner.jobs.base import Order, Place
from mlmp_spawner.kube.job_queues import local_queue_name
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.job_guarantees import of_resource, tenant_of
from mlmp_spawner.rules.job_manifest import PRIORITIES, for_job
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store import reservations

LOG_LIMIT = 64 << 20
"""Bytes of an attempt's log that are kept."""

_PRIORITIES = {number: name for name, number in PRIORITIES.items()}


def order_of(connection: Connection, site: Site, attempt_id: str, *, log_limit: int = LOG_LIMIT) -> Order:
    """The order for an attempt that has not ended.

    :param log_limit: bytes of its log that are kept.
    :raises NotFound: there is no such attempt. :raises TooLate: it has ended.
    """
    job, attempt = find(connection, attempt_id)
    if attempt.ended_at is not None:
        raise TooLate(f"The attempt {attempt_id} has ended: it is not started again.")
    places = tuple(
        _place(site, job, place["node"], tuple(place["units"])) for place in store.places_of(connection, attempt)
    )
    asked = _wanted(connection, site, job, attempt.number, log_limit)
    return replace(asked, places=places, stop_at=attempt.stop_at, kill_at=attempt.kill_at)


def waiting_order(connection: Connection, site: Site, job: Job, *, log_limit: int = LOG_LIMIT) -> Order:
    """The order for the next attempt of a job that waits: nobody knows yet where and until when.

    :param job: as a whole, with its manifest and its attempts. :param log_limit: bytes of its log that are kept.
    """
    return _wanted(connection, site, job, len(job.attempts) + 1, log_limit)


def _wanted(connection: Connection, site: Site, job: Job, number: int, log_limit: int) -> Order:
    profile = site.catalog.profiles.get(job.profile)
    nodes = frozenset(node.name for node in site.catalog.nodes_for(profile)) if profile else frozenset()
    shares = [site.catalog.share(profile, node, job.units) for node in nodes] if profile else []
    image = site.catalog.image_of(job.profile, job.manifest.get("image"))
    return Order(
        id=f"{job.id}-{number}",
        job=job.id,
        number=number,
        owner=job.owner,
        manifest=for_job(job.manifest, job.id),
        places=(),
        stop_at=0,
        kill_at=0,
        grace=job.grace,
        code=job.code,
        secrets=store.secrets_of(connection, job.id),
        log_limit=log_limit,
        resource=job.resource,
        units=job.units,
        workers=job.workers,
        nodes=nodes,
        cpus=min((share.cpus for share in shares if share.cpus is not None), default=None),
        memory=min((share.memory for share in shares if share.memory is not None), default=None),
        length=job.length,
        group=job.group,
        priority="front" if job.front else _PRIORITIES.get(job.priority, "normal"),
        preemptible=job.preemptible,
        image=image.reference if image else "",
        queue=_queue(site, job),
        server=_server(connection, job),
    )


def _server(connection: Connection, job: Job) -> str:
    """Under which reservation the server was started that its workers talk with, "" for none."""
    booking = job.manifest.get("server")
    found = reservations.find(connection, booking) if booking else None
    return found.server_id if found is not None and found.owner_id == job.owner_id is not None else ""


def _queue(site: Site, job: Job) -> str:
    if job.inside is not None:
        return ""
    guaranteed = of_resource(site.job_guarantees, job.resource)
    return local_queue_name(job.resource, job.group, tenant_of(job.group, job.preemptible, guaranteed))


def find(connection: Connection, attempt_id: str) -> tuple[Job, Attempt]:
    """The attempt with this id (``JOB-NUMBER``), and its job.

    :raises NotFound: there is none.
    """
    job_id, _, number = attempt_id.rpartition("-")
    job = store.find(connection, job_id)
    found = next((one for one in job.attempts if str(one.number) == number), None) if job else None
    if job is None or found is None:
        raise NotFound(f"There is no attempt {attempt_id[:60]!r}.")
    return job, found


def _place(site: Site, job: Job, node: str, units: tuple[str, ...]) -> Place:
    profile = site.catalog.profiles.get(job.profile)
    if profile is None:  # it left the catalog while the job waited for its start
        return Place(node, units)
    share = site.catalog.share(profile, node, job.units)
    return Place(node, units, share.cpus, share.memory)
