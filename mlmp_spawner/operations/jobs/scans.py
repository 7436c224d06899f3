"""Scans: all jobs of one are submitted in one transaction or none; the failed are tried again, all are cancelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from mlmp_spawner.errors import Conflict, Invalid, NotAllowed, NotFound, Unavailable
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations import history
from mlmp_spawner.operations.idempotency import Repeatable
from mlmp_spawner.operations.jobs import quotas, snapshots
from mlmp_spawner.operations.jobs.cancel import ATTEMPTS
from mlmp_spawner.operations.jobs.cancel import cancel as cancel_job
from mlmp_spawner.operations.jobs.submit import Submission, draft
from mlmp_spawner.operations.site import Actor, Site, new_id
from mlmp_spawner.rules import job_manifest, scan_parameters
from mlmp_spawner.rules.job_manifest import Manifest
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.rules.scan_parameters import Kind, Row
from mlmp_spawner.rules.scans import Scan, last_of_rows
from mlmp_spawner.store import jobs as job_store
from mlmp_spawner.store import people
from mlmp_spawner.store import scans as store
from mlmp_spawner.store.tables import job as job_table
from mlmp_spawner.store.tables import scan as table
from mlmp_spawner.store.transaction import Busy, lock_owner, read, transaction

MOST_LISTED = 100
_SHELL = ("sh", "-c")


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks to scan. ``manifest``: of every job, without its parameters; the rest: see
    :func:`scan_parameters.rows`. ``out``: a template for the directory of each row's outputs; ``at_once``: how many
    may run at a time."""

    manifest: Mapping[str, Any] | str
    parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    kind: Kind = "grid"
    samples: int | None = None
    seed: int = 0
    out: str | None = None
    at_once: int | None = None
    name: str | None = None
    code: str | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """A scan, and of each row the job that was submitted for it last."""

    scan: Scan
    last: tuple[Job | None, ...]


def planned(wish: Wish) -> tuple[list[Row], list[Manifest]]:
    """The rows, and of each its manifest.

    :raises Invalid: nothing like this can run.
    """
    base = job_manifest.parse(wish.manifest)
    rows = scan_parameters.rows(wish.kind, wish.parameters, samples=wish.samples, seed=wish.seed)
    outs = [base.outputs] * len(rows) if wish.out is None else scan_parameters.outputs(wish.out, rows)
    normal = base.normal()
    return rows, [_of_row(normal, row, number, out) for number, (row, out) in enumerate(zip(rows, outs, strict=True))]


def submit(
    site: Site, wish: Wish, *, files: JobFiles, actor: Actor, now: int, idempotency_key: str | None = None
) -> Standing:
    """Puts a job for every row into the queue, or none at all.

    :param idempotency_key: the caller's own name for this request: repeated within a day, it answers with the same.
    :raises Invalid, NotAllowed, NotFound, Conflict, OverLimit: as of a job that is submitted.
    """
    rows, manifests = planned(wish)
    repeatable = Repeatable(actor, wish, idempotency_key)
    for _ in range(ATTEMPTS):
        try:
            with read(site.engine) as connection:
                if (known := repeatable.id_of_known(connection, now)) is not None:
                    return _standing(connection, known)
                first, groups = draft(connection, site, Submission(manifests[0], wish.code, wish.secrets), actor, now)
            made = Scan(new_id(), first.owner, wish.name or job_manifest.parse(wish.manifest).name, tuple(rows),
                        first.owner_id, wish.at_once, now)  # fmt: skip
            jobs = [_job(first, made, manifest, place) for place, manifest in enumerate(manifests)]
            with transaction(site.engine) as connection:
                lock_owner(connection, first.owner)
                if (known := repeatable.id_of_known(connection, now)) is not None:
                    return _standing(connection, known)
                store.insert_scan(connection, made)
                _put(connection, site, files, jobs, groups, wish.secrets, actor, now)
                repeatable.remember(connection, made, now)
                return Standing(made, tuple(jobs))
        except Busy:
            continue
    raise _busy()


def retry(site: Site, scan_id: str, *, files: JobFiles, actor: Actor, now: int) -> tuple[Standing, int]:
    """Puts each row whose last job failed into the queue once more; how many these are. Without such nothing changes.

    :raises NotFound, NotAllowed: see :func:`get`. :raises Conflict: it was cancelled, or its code is not kept.
    :raises Invalid, OverLimit: it could be submitted once, but not any more.
    """
    for _ in range(ATTEMPTS):
        try:
            with transaction(site.engine) as connection:
                scan = _own(store.find(connection, scan_id, lock=True), scan_id, actor)
                if scan.cancelled_at is not None:
                    raise Conflict("The scan was cancelled.", hint="Submit it as a new one.")
                if scan.owner_id is None:
                    raise NotFound(f"The account of {scan.owner!r}, whose scan it was, is gone.")
                lock_owner(connection, scan.owner)
                last = last_of_rows(scan, store.jobs_of(connection, scan))
                failed = [job for job in last if job is not None and job.outcome == "failed"]
                if failed:
                    _again(connection, site, files, scan, failed, actor, now)
                return _standing(connection, scan_id), len(failed)
        except Busy:
            continue
    raise _busy()


def cancel(site: Site, scan_id: str, *, actor: Actor, now: int) -> Standing:
    """Ends all of its jobs: what waits at once, what runs by its grace. Again, it changes nothing.

    Who is killed halfway leaves the rest to the queue, which starts none of a scan that was cancelled and ends them.

    :raises NotFound, NotAllowed: see :func:`get`.
    """
    for _ in range(ATTEMPTS):
        try:
            with transaction(site.engine) as connection:
                scan = _own(store.find(connection, scan_id, lock=True), scan_id, actor)
                store.cancel(connection, scan_id, now)
            break
        except Busy:
            continue
    else:
        raise _busy()
    with read(site.engine) as connection:
        still = store.jobs_of(connection, scan, job_table.c.ended_at.is_(None))
    for job in sorted(still, key=lambda one: one.live is None):
        try:
            cancel_job(site, job.id, actor=actor, now=now, message="Its scan was cancelled.")
        except (Conflict, NotFound):
            continue  # it ended meanwhile
    return get(site, scan_id, actor=actor)


def get(site: Site, scan_id: str, *, actor: Actor) -> Standing:
    """A scan of the actor's; an admin's are all.

    :raises NotFound, NotAllowed: there is none, or it is somebody else's.
    """
    with read(site.engine) as connection:
        _own(store.find(connection, scan_id), scan_id, actor)
        return _standing(connection, scan_id)


def mine(site: Site, owner: str, *, limit: int = MOST_LISTED) -> list[Standing]:
    """The scans of the living user of that name, the newest first."""
    with read(site.engine) as connection:
        found = store.select_where(connection, table.c.owner == owner, table.c.owner_id.is_not(None), limit=limit)
        return [_with_jobs(connection, one) for one in found]


def _of_row(normal: dict[str, Any], row: Row, number: int, out: str) -> Manifest:
    said: dict[str, Any] = {key: value for key, value in normal.items() if value is not None}
    if "notebook" in said:
        said["parameters"] = {**said["parameters"], **row}
    elif "script" in said:
        said["arguments"] = [*said["arguments"], *scan_parameters.options(row)]
    elif tuple(said["command"][:2]) == _SHELL:
        raise Invalid.field("command", "a text that a shell runs takes no parameters: write the command as a list")
    else:
        said["command"] = [*said["command"], *scan_parameters.options(row)]
    return job_manifest.parse({**said, "name": f"{normal['name'][:90]}-{number + 1}", "outputs": out})


def _job(first: Job, scan: Scan, manifest: Manifest, place: int) -> Job:
    return replace(first, id=new_id(), name=manifest.name, manifest=manifest.normal(), batch=scan.id, place=place)


def _put(
    connection: Connection, site: Site, files: JobFiles, jobs: Sequence[Job], groups: Iterable[str],
    secrets: Mapping[str, str], actor: Actor, now: int,
) -> None:  # fmt: skip
    first = jobs[0]
    quotas.check(connection, site, first, groups, count=len(jobs))
    if first.code is not None:
        snapshots.use(connection, files, first.owner, first.code, now=now)
    job_store.insert_jobs(connection, jobs, dict(secrets))
    for one in jobs:
        history.record(connection, "job_submitted", actor=actor.name, at=now, owner=one.owner, job=one.id,
                       profile=one.profile, units=one.units, title=one.name)  # fmt: skip


def _again(
    connection: Connection, site: Site, files: JobFiles, scan: Scan, failed: Sequence[Job], actor: Actor, now: int
) -> None:
    groups = people.groups_of(connection, scan.owner_id)
    secrets = job_store.secrets_of(connection, failed[0].id)
    asked = Submission(job_manifest.parse(failed[0].manifest), failed[0].code, secrets, scan.owner, groups)
    first, groups = draft(connection, site, asked, actor, now)
    _put(
        connection, site, files,
        [replace(first, id=new_id(), name=one.name, manifest=one.manifest, batch=scan.id, place=one.place,
                 created_at=max(now, one.created_at + 1))  # by which it is the last of its row
         for one in failed],
        groups, secrets, actor, now,
    )  # fmt: skip


def _own(found: Scan | None, scan_id: str, actor: Actor) -> Scan:
    if found is None:
        raise NotFound(f"There is no scan {scan_id[:40]!r}.")
    if not actor.admin and (found.owner != actor.name or found.owner_id is None):
        raise NotAllowed("This scan is somebody else's.")
    return found


def _standing(connection: Connection, scan_id: str) -> Standing:
    found = store.find(connection, scan_id)
    if found is None:
        raise NotFound(f"There is no scan {scan_id[:40]!r} any more.")
    return _with_jobs(connection, found)


def _with_jobs(connection: Connection, scan: Scan) -> Standing:
    return Standing(scan, tuple(last_of_rows(scan, store.jobs_of(connection, scan))))


def _busy() -> Unavailable:
    return Unavailable("The database is too busy just now.", hint="Nothing was submitted; try again in a moment.")
