"""Registering public SSH keys: people's own, checked and noted in the history."""

from __future__ import annotations

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from mlmp_spawner.errors import Conflict, Invalid, NotFound, Unavailable
from mlmp_spawner.operations import history
from mlmp_spawner.operations.site import Actor, Site, new_id
from mlmp_spawner.rules import ssh_keys as rules
from mlmp_spawner.store import reservations, ssh_keys
from mlmp_spawner.store.ssh_keys import Key
from mlmp_spawner.store.transaction import Busy, lock_owner, read, transaction
from mlmp_spawner.units import MINUTE

MOST = 50
"""Keys of one person."""

ATTEMPTS = 3
USED_EVERY = MINUTE
"""A key's last use is noted no more often than this (ms)."""


def of_owner(site: Site, owner: str) -> list[Key]:
    """The keys of a person, the oldest first; none for somebody whom the hub does not know."""
    with read(site.engine) as connection:
        user_id = reservations.user_id(connection, owner)
        return [] if user_id is None else ssh_keys.of(connection, user_id)


def find(site: Site, owner: str, fingerprint: str) -> Key | None:
    """The person's key with this fingerprint (``SHA256:…``), None: they have no such key."""
    with read(site.engine) as connection:
        user_id = reservations.user_id(connection, owner)
        return None if user_id is None else ssh_keys.with_fingerprint(connection, user_id, fingerprint)


def add(site: Site, owner: str, text: str, title: str = "", *, actor: Actor, now: int) -> Key:
    """Registers a public key.

    :param text: as in a ``.pub`` file. :param title: the comment of the key, if it is left out.
    :raises Invalid: it is no public key, or too weak a one. :raises Conflict: they have it, or very many, already.
    :raises NotFound: the hub has no such user.
    """
    key = checked(text)
    for _ in range(ATTEMPTS):
        try:
            with transaction(site.engine) as connection:
                lock_owner(connection, owner)
                return _add(connection, owner, key, title, actor, now)
        except (Busy, IntegrityError):  # another request was faster; the next look sees what it did
            continue
    raise Unavailable("The database is too busy just now.", hint="The key was not added; try again in a moment.")


def _add(connection: Connection, owner: str, key: rules.PublicKey, title: str, actor: Actor, now: int) -> Key:
    user_id = _user_id(connection, owner)
    there = ssh_keys.with_fingerprint(connection, user_id, key.fingerprint)
    if there is not None:
        raise Conflict(
            f"This key is registered already, as {there.title!r}.", hint="Nothing is to be done.", id=there.id
        )
    if ssh_keys.count(connection, user_id) >= MOST:
        raise Conflict(f"There are {MOST} keys already, the most that one person may have.", hint="Remove one first.")
    made = Key(
        id=new_id(), user_id=user_id, owner=owner, algorithm=key.algorithm, key=key.blob, fingerprint=key.fingerprint,
        title=title.strip() or key.comment or key.algorithm, added_at=now,
    )  # fmt: skip
    ssh_keys.add(connection, made)
    _record(connection, "ssh_key_added", made, actor, now)
    return made


def remove(site: Site, owner: str, key_id: str, *, actor: Actor, now: int) -> Key:
    """Removes a key of a person; what it was.

    :raises NotFound: they have no such key.
    """
    for _ in range(ATTEMPTS):
        try:
            with transaction(site.engine) as connection:
                user_id = _user_id(connection, owner)
                found = ssh_keys.with_id(connection, user_id, key_id)
                if found is None or not ssh_keys.remove(connection, user_id, key_id):
                    raise NotFound("There is no such key.", hint="It may have been removed already.")
                _record(connection, "ssh_key_removed", found, actor, now)
                return found
        except Busy:
            continue
    raise Unavailable("The database is too busy just now.", hint="The key was not removed; try again in a moment.")


def used(site: Site, key_id: str, *, now: int) -> None:
    """Notes that a key logged in. :raises Busy: the database was too busy to note it."""
    with transaction(site.engine) as connection:
        ssh_keys.mark_used(connection, key_id, at=now, not_since=now - USED_EVERY)


def checked(text: str) -> rules.PublicKey:
    """A pasted key.

    :raises Invalid: it is no public key, or too weak a one.
    """
    try:
        return rules.parse(text)
    except ValueError as error:
        raise Invalid.field("key", str(error)) from error


def _user_id(connection: Connection, owner: str) -> int:
    user_id = reservations.user_id(connection, owner)
    if user_id is None:
        raise NotFound(f"There is no user {owner[:60]!r} on this hub.")
    return user_id


def _record(connection: Connection, action: str, key: Key, actor: Actor, now: int) -> None:
    history.record(
        connection, action, actor=actor.name, at=now, owner=key.owner, title=key.title, fingerprint=key.fingerprint
    )
