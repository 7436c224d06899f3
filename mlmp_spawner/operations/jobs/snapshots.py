"""The snapshots of code that jobs run from: kept once for each owner, dropped when no job needs them any more.

Row and file are changed under the lock of the owner, and the file within the transaction of the row, so that a
snapshot that is being dropped is not taken for kept.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from mlmp_spawner.errors import Conflict, Unavailable
from mlmp_spawner.jobs.files import JobFiles
from mlmp_spawner.operations import limits
from mlmp_spawner.operations.jobs import quotas
from mlmp_spawner.operations.jobs.cancel import ATTEMPTS
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.store import job_code as store
from mlmp_spawner.store.transaction import Busy, lock_owner, read, transaction

MOST_UNUSED = 1000
"""How many snapshots of one person stay that no open job needs: small ones fill a disk, too."""


def kept(site: Site, files: JobFiles, owner: str, sha256: str) -> int | None:
    """Bytes of a snapshot, None where it is not kept."""
    with read(site.engine) as connection:
        size = store.size(connection, owner, sha256)
    return size if size is not None and files.code_path(owner, sha256).is_file() else None


def use(connection: Connection, files: JobFiles, owner: str, sha256: str, *, now: int) -> None:
    """A job runs from it: it stays as long as the job is open. Who calls this holds the lock of the owner.

    :raises Conflict: it is not kept.
    """
    if not store.use(connection, owner, sha256, now=now) or not files.code_path(owner, sha256).is_file():
        raise Conflict(
            f"The code {sha256[:12]}… is not kept here.", hint="Send it again (PUT jobs/code/SHA256), then submit."
        )


def keep(site: Site, files: JobFiles, sha256: str, sent: Path, *, owner: Actor, now: int) -> None:
    """Keeps what was sent, in place of what no open job needs where that is too much.

    :param sent: the file, beside those that are kept; its hash was checked.
    :raises OverLimit: the code of the owner's open jobs leaves no room for it.
    """
    size = sent.stat().st_size
    for _ in range(ATTEMPTS):
        try:
            with transaction(site.engine) as connection:
                lock_owner(connection, owner.name)
                if store.size(connection, owner.name, sha256) is None:
                    _make_room(connection, site, files, owner, size)
                store.keep(connection, owner.name, sha256, size, now=now)
                place = files.code_path(owner.name, sha256)
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if sent.exists():  # else it was moved by a transaction that was given up
                    sent.replace(place)
                return
        except Busy:
            continue
    raise Unavailable("The database is too busy just now.", hint="Try again in a moment.")


def _make_room(connection: Connection, site: Site, files: JobFiles, owner: Actor, asked: int) -> None:
    allowed = limits.rules(connection, site).of(owner.name, owner.groups).job_logs
    room = None if allowed is None else allowed - asked
    used = _shrink(connection, files, owner.name, room, most=MOST_UNUSED - 1)
    if allowed is not None and used + asked > allowed:
        raise quotas.too_much_kept(allowed, used, asked)


def shrink(site: Site, files: JobFiles, owner: str, room: int) -> int:
    """Drops what no open job needs until the rest has ``room`` bytes at most, or nothing such is left; what stays."""
    with transaction(site.engine) as connection:
        lock_owner(connection, owner)
        return _shrink(connection, files, owner, room, most=MOST_UNUSED)


def _shrink(connection: Connection, files: JobFiles, owner: str, room: int | None, *, most: int) -> int:
    used = store.total(connection, owner)
    unused = store.unused(connection, owner=owner)
    for place, (_, sha256, size) in enumerate(unused):
        if (room is None or used <= room) and len(unused) - place <= most:
            break
        drop(connection, files, owner, sha256)
        used -= size
    return used


def drop(connection: Connection, files: JobFiles, owner: str, sha256: str) -> None:
    """Keeps it no longer. Who calls this holds the lock of the owner."""
    store.drop(connection, owner, sha256)
    files.code_path(owner, sha256).unlink(missing_ok=True)


def drop_old(site: Site, files: JobFiles, *, before: int) -> int:
    """Drops what was last submitted before then (ms UTC) and no open job needs; how many."""
    with read(site.engine) as connection:
        found = store.unused(connection, before=before)
    for owner, sha256, _ in found:
        with transaction(site.engine) as connection:
            lock_owner(connection, owner)
            if any(one[1] == sha256 for one in store.unused(connection, owner=owner, before=before)):
                drop(connection, files, owner, sha256)
    return len(found)


def drop_strays(site: Site, files: JobFiles, *, before: int) -> None:
    """Drops files that came before then (ms UTC) and of which nothing is written: a crash came between the two."""
    found = files.all_code(before=before)
    with read(site.engine) as connection:
        known = {files.code_path(owner, sha256) for owner, sha256 in store.all_kept(connection)}
    for path in found:
        if path not in known:
            path.unlink(missing_ok=True)
