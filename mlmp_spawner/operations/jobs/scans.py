"""Scans: all jobs of one are submitted in one transaction or none; the failed are tried again, all are cancelled."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, TypeVar

from sqlalchemy import Connection

from mlmp_spawner.errors import Conflict, Invalid, NotAllowed, NotFound, Unavailable
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations import history
from mlmp_spawner.operations.idempotency import Repeatable
from mlmp_spawner.operations.jobs import of_guests, quotas, snapshots
from mlmp_spawner.operations.jobs.cancel import ATTEMPTS, cancel_all
from mlmp_spawner.operations.jobs.submit import Submission, draft
from mlmp_spawner.operations.site import Actor, Site, new_id
from mlmp_spawner.rules import job_manifest, scan_parameters
from mlmp_spawner.rules.job_manifest import Manifest
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.rules.scan_parameters import Kind, Row
from mlmp_spawner.rules.scans import Scan, last_of_rows
from mlmp_spawner.store import courses, people
from mlmp_spawner.store import jobs as job_store
from mlmp_spawner.store import scans as store
from mlmp_spawner.store.tables import job as job_table
from mlmp_spawner.store.tables import scan as table
from mlmp_spawner.store.transaction import Busy, lock_owner, read, transaction
from mlmp_spawner.units import format_size

MOST_LISTED = 100
LARGEST = 64 << 20
"""Bytes that the manifests and secrets of all of its jobs may have together."""
T = TypeVar("T")

_SHELLS = ("ash", "bash", "dash", "ksh", "sh", "zsh")


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
    """A scan, with the number of rows in each state, and of the rows from ``start`` on the job that was submitted for
    each last; None where it is not kept."""

    scan: Scan
    counts: Mapping[str, int]
    last: tuple[Job | None, ...] = ()
    start: int = 0


@dataclass(frozen=True, slots=True)
class _Retry:
    scan: str


def planned(wish: Wish) -> tuple[list[Row], list[Manifest]]:
    """The rows, and of each its manifest.

    :raises Invalid: nothing like this can run.
    """
    base = job_manifest.parse(wish.manifest)
    rows = scan_parameters.rows(wish.kind, wish.parameters, samples=wish.samples, seed=wish.seed)
    field = "outputs" if wish.out is None else "out"
    outs = scan_parameters.outputs(wish.out or base.outputs, rows, field=field)
    scan_parameters.outputs(base.checkpoint, rows, field="checkpoint")
    normal = base.normal()
    made = [_of_row(normal, row, number, out) for number, (row, out) in enumerate(zip(rows, outs, strict=True))]
    _check_size(made, wish.secrets)
    return rows, made


def submit(
    site: Site, wish: Wish, *, files: JobFiles, actor: Actor, now: int, idempotency_key: str | None = None
) -> Standing:
    """Puts a job for every row into the queue, or none at all.

    :param idempotency_key: the caller's own name for this request: repeated within a day, it answers with the same.
    :raises Invalid, NotAllowed, NotFound, Conflict, OverLimit: as of a job that is submitted.
    """
    rows, manifests = planned(wish)
    repeatable = Repeatable(actor, wish, idempotency_key)

    def put() -> Standing:
        with read(site.engine) as connection:
            if (known := repeatable.id_of_known(connection, now)) is not None:
                return _standing(connection, known)
            first, groups = draft(connection, site, Submission(manifests[0], wish.code, wish.secrets), actor, now)
        name = wish.name or job_manifest.parse(wish.manifest).name
        made = Scan(new_id(), first.owner, name, tuple(rows[0]), len(rows), tuple(rows), first.owner_id,
                    wish.at_once, now, out=wish.out)  # fmt: skip
        jobs = [_job(first, made, manifest, place) for place, manifest in enumerate(manifests)]
        with transaction(site.engine) as connection:
            lock_owner(connection, first.owner)
            if (known := repeatable.id_of_known(connection, now)) is not None:
                return _standing(connection, known)
            store.insert_scan(connection, made)
            _put(connection, site, files, jobs, groups, wish.secrets, actor, now)
            repeatable.remember(connection, made, now)
            return Standing(made, {"queued": len(jobs)}, tuple(jobs))

    return _patiently(put)


def retry(
    site: Site, scan_id: str, *, files: JobFiles, actor: Actor, now: int, idempotency_key: str | None = None
) -> tuple[Standing, int]:
    """Puts each row whose last job failed into the queue once more; how many these are. Without such nothing changes.

    :param idempotency_key: as of :func:`submit`.
    :raises NotFound, NotAllowed: see :func:`get`. :raises Conflict: it was cancelled, or its code is not kept.
    :raises Invalid, OverLimit: it could be submitted once, but not any more.
    """
    repeatable = Repeatable(actor, _Retry(scan_id), idempotency_key)

    def put() -> tuple[Standing, int]:
        with transaction(site.engine) as connection:
            scan = _own(store.find(connection, scan_id, lock=True), scan_id, actor)
            if (known := repeatable.id_of_known(connection, now)) is not None:
                return _standing(connection, scan_id, limit=0), int(known.rpartition(".")[2])
            if scan.cancelled_at is not None:
                raise Conflict("The scan was cancelled.", hint="Submit it as a new one.")
            if scan.owner_id is None:
                raise NotFound(f"The account of {scan.owner!r}, whose scan it was, is gone.")
            lock_owner(connection, scan.owner)
            if failed := store.failed(connection, scan):
                _again(connection, site, files, scan, failed, actor, now)
            repeatable.remember_id(connection, f"{scan_id}.{len(failed)}", now)
            return _standing(connection, scan_id, limit=0), len(failed)

    return _patiently(put)


def cancel(site: Site, scan_id: str, *, actor: Actor, now: int) -> Standing:
    """Ends all of its jobs, in one transaction: what waits at once, what runs by its grace. Again, it changes nothing.

    :raises NotFound, NotAllowed: see :func:`get`.
    """

    def end() -> Standing:
        with transaction(site.engine) as connection:
            scan = _own(store.find(connection, scan_id, lock=True), scan_id, actor)
            store.cancel(connection, scan_id, now)
            still = store.lock_open(connection, scan)
            cancel_all(connection, still, actor=actor, now=now, message="Its scan was cancelled.")
            return _standing(connection, scan_id, limit=0)

    return _patiently(end)


def get(site: Site, scan_id: str, *, actor: Actor, start: int = 0, limit: int = scan_parameters.MOST_ROWS) -> Standing:
    """A scan of the actor's; an admin's are all. :param start, limit: of which rows the jobs are read.

    :raises NotFound, NotAllowed: there is none, or it is somebody else's.
    """
    with read(site.engine) as connection:
        return _with_jobs(connection, _own(store.find(connection, scan_id), scan_id, actor), start, limit)


def mine(site: Site, owner: str, *, limit: int = MOST_LISTED) -> list[Standing]:
    """The scans of the living user of that name, the newest first, without rows."""
    with read(site.engine) as connection:
        found = store.brief(connection, table.c.owner == owner, table.c.owner_id.is_not(None), limit=limit)
        counts = store.counts(connection, found)
        return [Standing(one, counts[one.id]) for one in found]


def _check_size(manifests: Sequence[Manifest], secrets: Mapping[str, str]) -> None:
    """:raises Invalid: so much would be written that others would wait for it."""
    each = sum(len(name) + len(value) for name, value in secrets.items())
    size = sum(len(json.dumps(one.normal())) for one in manifests) + each * len(manifests)
    if size > LARGEST:
        raise Invalid.field("parameters", f"{len(manifests):,} rows with this manifest and these secrets have "
                            f"{format_size(size)} together; at most {format_size(LARGEST)}. Take fewer rows, or put "
                            "what is long into a file of the code")  # fmt: skip


def _of_row(normal: dict[str, Any], row: Row, number: int, out: str) -> Manifest:
    said: dict[str, Any] = {key: value for key, value in normal.items() if value is not None}
    if "notebook" in said:
        said["parameters"] = {**said["parameters"], **row}
    elif "script" in said:
        said["arguments"] = [*said["arguments"], *scan_parameters.options(row)]
    elif _is_shell(said["command"]):
        raise Invalid.field("command", "a text that a shell runs takes no parameters: write the command as a list")
    else:
        said["command"] = [*said["command"], *scan_parameters.options(row)]
    return job_manifest.parse({**said, "name": f"{normal['name'][:90]}-{number + 1}", "outputs": out})


def _is_shell(command: Sequence[str]) -> bool:
    """Whether what it runs is a text, to which its arguments would say nothing."""
    options = itertools.takewhile(lambda one: one.startswith("-"), command[1:])
    return PurePosixPath(command[0]).name in _SHELLS and any("c" in one for one in options if one[:2] != "--")


def _job(first: Job, scan: Scan, manifest: Manifest, place: int) -> Job:
    return replace(first, id=new_id(), name=manifest.name, manifest=manifest.normal(), batch=scan.id, place=place)


def _put(
    connection: Connection, site: Site, files: JobFiles, jobs: Sequence[Job], groups: Iterable[str],
    secrets: Mapping[str, str], actor: Actor, now: int,
) -> None:  # fmt: skip
    first = jobs[0]
    quotas.check(connection, site, first, groups, count=len(jobs))
    of_guests.check(connection, first, count=len(jobs), now=now)
    if first.code is not None:
        snapshots.use(connection, files, first.owner, first.code, now=now)
    job_store.insert_jobs(connection, jobs, dict(secrets))
    history.record_of_jobs(
        connection, "job_submitted", jobs, actor=actor.name, at=now,
        details=lambda one: {"profile": one.profile, "units": one.units, "title": one.name},
    )  # fmt: skip


def _again(
    connection: Connection, site: Site, files: JobFiles, scan: Scan, failed: Sequence[Job], actor: Actor, now: int
) -> None:
    groups = courses.counting_groups(connection, scan.owner, people.groups_of(connection, scan.owner_id))
    secrets = job_store.secrets_of(connection, failed[0].id)
    manifest = job_manifest.parse(failed[0].manifest)
    if missing := sorted(set(manifest.secrets) - set(secrets)):
        raise Conflict(
            f"The values of {', '.join(missing)[:200]} are not kept any more.", hint="Submit it as a new scan."
        )
    asked = Submission(manifest, failed[0].code, secrets, scan.owner, groups)
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


def _standing(connection: Connection, scan_id: str, *, limit: int = scan_parameters.MOST_ROWS) -> Standing:
    found = store.find(connection, scan_id)
    if found is None:
        raise NotFound(f"There is no scan {scan_id[:40]!r} any more.")
    return _with_jobs(connection, found, 0, limit)


def _with_jobs(connection: Connection, scan: Scan, start: int, limit: int) -> Standing:
    stop = min(start + limit, scan.size)
    jobs = store.jobs_of(connection, scan, job_table.c.place.between(start, stop - 1)) if start < stop else []
    return Standing(scan, store.counts(connection, [scan])[scan.id], last_of_rows(jobs, start, stop), start)


def _patiently(work: Callable[[], T]) -> T:
    """Does it once other transactions leave it the room.

    :raises Unavailable: they do not.
    """
    for _ in range(ATTEMPTS):
        try:
            return work()
        except Busy:
            continue
    raise Unavailable("The database is too busy just now.", hint="Nothing was changed; try again in a moment.")
