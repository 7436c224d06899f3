"""Submit a job: names looked up, nonsense and what could never start refused, then one row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from mlmp_spawner.errors import Conflict, Invalid, NotAllowed, NotFound, Unavailable
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations import history
from mlmp_spawner.operations.idempotency import Repeatable
from mlmp_spawner.operations.jobs import listing, of_guests, quotas, snapshots
from mlmp_spawner.operations.jobs.cancel import ATTEMPTS
from mlmp_spawner.operations.requests import usable_image, usable_profile
from mlmp_spawner.operations.site import Actor, Site, new_id
from mlmp_spawner.rules import job_manifest
from mlmp_spawner.rules.catalog import Profile
from mlmp_spawner.rules.job_manifest import Manifest
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.store import courses, people, reservations, scans
from mlmp_spawner.store import jobs as store
from mlmp_spawner.store.transaction import Busy, lock_owner, read, transaction
from mlmp_spawner.units import format_duration, format_size

SECRETS = 64 << 10
"""Bytes that the values of a job's secrets may have together."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Submission:
    """What somebody asks to run. ``code``: the SHA-256 of a snapshot that is kept; ``secrets``: the values of those
    that the manifest names.

    ``owner`` is for whom, if not for oneself; ``owner_groups`` are that user's groups. ``batch`` and ``place``: the
    array of jobs that it belongs to, and where in it.
    """

    manifest: Manifest
    code: str | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    owner: str | None = None
    owner_groups: frozenset[str] | None = None
    batch: str | None = None
    place: int = 0


def submit(
    site: Site, asked: Submission, *, files: JobFiles, actor: Actor, now: int, idempotency_key: str | None = None
) -> Job:
    """Puts a job into the queue.

    :param files: where the snapshots are. :param idempotency_key: the caller's own name for this request: a
        repetition within a day answers with the job that the first one made.
    :raises Invalid, NotAllowed, NotFound, Conflict: see :func:`draft`; its code is not kept.
    :raises OverLimit: a quota of its owner's refuses it; the numbers are in ``limits``.
    """
    if asked.batch is not None:
        with read(site.engine) as connection:
            if scans.known(connection, asked.batch):
                told = f"{asked.batch[:40]!r} is the id of a scan, whose jobs are those of its rows."
                raise Conflict(told, hint="Choose another batch.")
    return _submit(site, asked, files=files, actor=actor, now=now, idempotency_key=idempotency_key)


def _submit(
    site: Site, asked: Submission, *, files: JobFiles, actor: Actor, now: int, idempotency_key: str | None,
    again: Job | None = None,
) -> Job:  # fmt: skip
    """:param again: the job that it repeats."""
    repeatable = Repeatable(actor, asked, idempotency_key)
    for _ in range(ATTEMPTS):
        try:
            with read(site.engine) as connection:
                if (known := repeatable.id_of_known(connection, now)) is not None:
                    return listing.known(store.find(connection, known), known)
                new, groups = draft(connection, site, asked, actor, now)
            with transaction(site.engine) as connection:
                lock_owner(connection, new.owner)
                if (known := repeatable.id_of_known(connection, now)) is not None:
                    return listing.known(store.find(connection, known), known)
                # Only now: of two at the same time one is the next of its row.
                if again is not None and scans.can_follow(connection, again):
                    new = replace(new, batch=again.batch, place=again.place)
                quotas.check(connection, site, new, groups)
                of_guests.check(connection, new, count=1, now=now)
                if new.code is not None:
                    snapshots.use(connection, files, new.owner, new.code, now=now)
                _write(connection, new, asked.secrets, actor, now)
                repeatable.remember(connection, new, now)
                return new
        except Busy:
            continue
    raise Unavailable("The database is too busy just now.", hint="Nothing was submitted; try again in a moment.")


def _write(connection: Connection, new: Job, secrets: Mapping[str, str], actor: Actor, now: int) -> None:
    store.insert_job(connection, new, dict(secrets))
    history.record(connection, "job_submitted", actor=actor.name, at=now, owner=new.owner, job=new.id,
                   profile=new.profile, units=new.units, title=new.name)  # fmt: skip


def check(site: Site, asked: Submission, *, actor: Actor, now: int, count: int = 1) -> Job:
    """The job that :func:`submit` would put into the queue. Whether its code is kept is not looked at.

    :param count: how many such are to be submitted.
    :raises Invalid, NotAllowed, NotFound, Conflict, OverLimit: it would be refused.
    """
    with read(site.engine) as connection:
        new, groups = draft(connection, site, asked, actor, now, whole=False)
        quotas.check(connection, site, new, groups, count=count)
        of_guests.check(connection, new, count=count, now=now)
        return new


def resubmit(
    site: Site, job_id: str, *, files: JobFiles, actor: Actor, now: int, idempotency_key: str | None = None
) -> Job:
    """Puts the same job into the queue once more, as a new one: same manifest, code and secrets. Of a row of a scan
    whose last job is over it is the next.

    :raises NotFound, NotAllowed: there is no such job, or it is somebody else's.
    :raises Invalid, Conflict, OverLimit: see :func:`submit`; it could be submitted once, but not any more.
    """
    with read(site.engine) as connection:
        old = listing.known(store.find(connection, job_id), job_id)
        listing.check_own(old, actor)
        if old.owner_id is None:
            raise NotFound(f"The account of {old.owner!r}, whose job it was, is gone.")
        secrets = store.secrets_of(connection, job_id)
        groups = courses.counting_groups(connection, old.owner, people.groups_of(connection, old.owner_id))
    asked = Submission(job_manifest.parse(old.manifest), old.code, secrets, old.owner, groups)
    return _submit(site, asked, files=files, actor=actor, now=now, idempotency_key=idempotency_key, again=old)


def draft(
    connection: Connection, site: Site, asked: Submission, actor: Actor, now: int, *, whole: bool = True
) -> tuple[Job, frozenset[str]]:
    """What ``asked`` means, and the groups of its owner.

    :param whole: code and secrets must be given as well.
    :raises Invalid: unknown names, impossible numbers, secrets that do not fit the manifest.
    :raises NotAllowed: a profile or group that is not the owner's; submitting for others without being admin.
    :raises NotFound: the owner is not a user of the hub. :raises Conflict: the booking to run in is over.
    """
    manifest = asked.manifest
    owner, groups = _owner(asked, actor)
    profile = usable_profile(site, manifest.profile, groups)
    usable_image(site, profile, manifest.image)
    _check_image(site, profile, manifest.image)
    units = profile.units if manifest.units is None else manifest.units
    _check_size(site, profile, units, manifest.workers)
    length = profile.default_duration if manifest.length is None else manifest.length
    if length > profile.max_duration:
        longest = format_duration(profile.max_duration)
        raise Invalid.field("hours", f"with {profile.name!r} a job may have {longest} at most")
    if whole:
        _check_secrets(manifest, asked.secrets)
        _check_code(manifest, asked.code)
    owner_id = reservations.user_id(connection, owner)
    if owner_id is None:
        raise NotFound(f"There is no user {owner!r} on this hub.")
    if manifest.inside is not None:
        if site.cluster:
            raise _only_beside_bookings()
        _check_inside(connection, manifest, owner, profile, units, now)
    if manifest.server is not None:
        _check_server(connection, manifest.server, owner, now)
    new = Job(
        id=new_id(), owner=owner, owner_id=owner_id, name=manifest.name, profile=profile.name,
        resource=profile.resource, units=units, workers=manifest.workers, length=length,
        manifest=manifest.normal(), group=_group(manifest.group, profile, groups),
        batch=asked.batch, place=asked.place,
        grace=manifest.grace, retries=manifest.retries, priority=job_manifest.PRIORITIES[manifest.priority],
        preemptible=manifest.preemptible, inside=manifest.inside, code=asked.code, created_at=now, queued_at=now,
    )  # fmt: skip
    return new, groups


def _owner(asked: Submission, actor: Actor) -> tuple[str, frozenset[str]]:
    if asked.owner is None or asked.owner == actor.name:
        return actor.name, actor.groups
    if not actor.admin:
        raise NotAllowed("Only an admin submits jobs for somebody else.")
    return asked.owner, asked.owner_groups or frozenset()


def _group(wanted: str | None, profile: Profile, groups: frozenset[str]) -> str:
    """For whose share it counts: the group that was asked for, else the first of the owner's, by name, that may use
    the profile."""
    if wanted is None:
        return min((group for group in groups if profile.open_to([group])), default="")
    if wanted not in groups:
        valid = ", ".join(sorted(groups)) or "none"
        raise NotAllowed(f"Its owner is not in the group {wanted!r}.", hint=f"Possible groups: {valid}.")
    return wanted


def _check_image(site: Site, profile: Profile, name: str | None) -> None:
    """:raises Invalid: jobs run in images here, and it would have none."""
    if site.images and site.catalog.image_of(profile.name, name) is None:
        raise Invalid.field("image", f"the profile {profile.name!r} has none, and here jobs run in images; choose "
                            "another profile, or tell the people who run this")  # fmt: skip


def _check_size(site: Site, profile: Profile, units: int, workers: int) -> None:
    """:raises Invalid: the empty machines have no room for it."""
    if not 1 <= units <= profile.max_units:
        raise Invalid.field(
            "units", f"{units} is not possible with {profile.name!r}; valid is 1 to {profile.max_units}"
        )
    here = [node.units(profile.resource) // units for node in site.catalog.nodes_for(profile)]
    if not sum(here):
        raise Invalid.field("units", f"no node has {units} of what {profile.name!r} needs")
    if workers > sum(here):
        raise Invalid.field("workers", f"{workers} with {units} each are not possible; valid is 1 to {sum(here)}")


def _check_secrets(manifest: Manifest, secrets: Mapping[str, str]) -> None:
    """:raises Invalid: not exactly those that the manifest names, or values that no environment can hold."""
    missing = sorted(set(manifest.secrets) - set(secrets))
    if missing:
        raise Invalid.field("secrets", f"the manifest names {', '.join(missing)}, but gives no value: give it here "
                            "(those of a job that ended long ago are not kept)")  # fmt: skip
    if strange := sorted(set(secrets) - set(manifest.secrets)):
        raise Invalid.field("secrets", f"the manifest does not name {', '.join(strange)[:200]}")
    if any("\0" in value for value in secrets.values()):
        raise Invalid.field("secrets", "a value has a NUL in it")
    if any("\ud800" <= character <= "\udfff" for value in secrets.values() for character in value):
        raise Invalid.field("secrets", "a value has half a character (a surrogate) in it")
    if sum(len(value.encode("utf-8", "surrogatepass")) for value in secrets.values()) > SECRETS:
        raise Invalid.field("secrets", f"their values may have {format_size(SECRETS)} together")


def _check_code(manifest: Manifest, code: str | None) -> None:
    """:raises Invalid: no SHA-256; none, though the program is in it."""
    if code is not None and not _SHA256.fullmatch(code):
        raise Invalid.field("code", "the SHA-256 of a snapshot that was sent before: 64 hexadecimal digits")
    if code is None and manifest.command is None:
        raise Invalid.field("code", "a script or notebook is run from a snapshot: send it first, PUT jobs/code/SHA256")


def _check_server(connection: Connection, wanted: str, owner: str, now: int) -> None:
    """:raises NotFound, NotAllowed, Conflict: there is no such server of the owner's."""
    booking = reservations.find(connection, wanted)
    if booking is None or booking.kind == "job":
        raise NotFound(f"There is no booking {wanted[:40]!r}.")
    if booking.owner != owner or booking.owner_id is None:
        raise NotAllowed("The booking with whose server the job is to talk is somebody else's.")
    if booking.state(now) != "active":
        raise Conflict("The booking with whose server the job is to talk does not run.", hint="Leave `server` out.")


def _only_beside_bookings() -> Conflict:
    """In a cluster a device belongs to one pod: the server of a booking has all of those that were booked."""
    return Conflict(
        "Here no job runs inside a booking: its server has the units of the booking for itself.",
        hint="Leave `inside` out, and it waits for units that nobody booked; or run the program in your server.",
    )


def _check_inside(
    connection: Connection, manifest: Manifest, owner: str, profile: Profile, units: int, now: int
) -> None:
    """:raises NotFound, NotAllowed, Conflict, Invalid: the job can't run in that booking."""
    booking = reservations.find(connection, manifest.inside or "")
    if booking is None or booking.kind == "job":
        raise NotFound(f"There is no booking {(manifest.inside or '')[:40]!r}.")
    if booking.owner != owner or booking.owner_id is None:
        raise NotAllowed("The booking in which the job is to run is somebody else's.")
    if booking.is_seat:
        raise Conflict(
            "That is a seat of a class: no job runs inside one.", hint="Leave it out, or book for yourself."
        )
    if booking.state(now) not in ("booked", "active"):
        raise Conflict("The booking in which the job is to run is over, or has no place.", hint="Leave it out.")
    if booking.resource != profile.resource:
        raise Invalid.field("inside", f"the booking has {booking.resource}, but {profile.name!r} needs another")
    room = booking.units // units * booking.node_count
    if manifest.workers > room:
        raise Invalid.field(
            "inside", f"the booking has {booking.units} units on each of {booking.node_count} nodes, too few for "
            f"{manifest.workers} workers of {units}",
        )  # fmt: skip
