"""The public SSH keys that people registered. A row belongs to the hub's id of a person, not to a name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from mlmp_spawner.rules.ssh_keys import PublicKey
from mlmp_spawner.store.tables import ssh_key, users


@dataclass(frozen=True, slots=True)
class Key:
    """One registered key. ``added_at`` and ``used_at`` in ms UTC; ``used_at`` None: never."""

    id: str
    user_id: int
    owner: str
    algorithm: str
    key: str
    fingerprint: str
    title: str
    added_at: int
    used_at: int | None = None

    @property
    def line(self) -> str:
        """As OpenSSH's files have it: ``ssh-ed25519 AAAA…``."""
        return f"{self.algorithm} {self.key}"

    @property
    def public_key(self) -> PublicKey:
        """The key alone."""
        return PublicKey(self.algorithm, self.key, self.fingerprint, self.title)


_COLUMNS = [column for column in ssh_key.c if column.name != "owner"]


def of(connection: Connection, user_id: int) -> list[Key]:
    """A person's keys, the oldest first."""
    return _read(connection, ssh_key.c.user_id == user_id)


def with_id(connection: Connection, user_id: int, key_id: str) -> Key | None:
    """One of a person's keys."""
    return next(iter(_read(connection, ssh_key.c.user_id == user_id, ssh_key.c.id == key_id)), None)


def with_fingerprint(connection: Connection, user_id: int, fingerprint: str) -> Key | None:
    """One of a person's keys."""
    return next(iter(_read(connection, ssh_key.c.user_id == user_id, ssh_key.c.fingerprint == fingerprint)), None)


def of_people(connection: Connection, user_ids: Collection[int]) -> list[Key]:
    """The keys of several people."""
    return _read(connection, ssh_key.c.user_id.in_(user_ids))


def of_all_with_fingerprint(connection: Connection, fingerprint: str) -> list[Key]:
    """A key as often as somebody registered it: anyone may register anyone's public key."""
    return _read(connection, ssh_key.c.fingerprint == fingerprint)


def count(connection: Connection, user_id: int) -> int:
    """How many keys a person has."""
    return connection.execute(select(func.count()).where(ssh_key.c.user_id == user_id)).scalar() or 0


def add(connection: Connection, key: Key) -> None:
    """:raises sqlalchemy.exc.IntegrityError: the person has this key already."""
    connection.execute(insert(ssh_key).values(**asdict(key)))


def remove(connection: Connection, user_id: int, key_id: str) -> bool:
    """Whether it was there."""
    mine = (ssh_key.c.user_id == user_id, ssh_key.c.id == key_id)
    return connection.execute(delete(ssh_key).where(*mine)).rowcount > 0


def mark_used(connection: Connection, key_id: str, *, at: int, not_since: int) -> None:
    """Notes that a key logged in, unless that was noted after ``not_since`` already."""
    older = or_(ssh_key.c.used_at.is_(None), ssh_key.c.used_at < not_since)
    connection.execute(update(ssh_key).where(ssh_key.c.id == key_id, older).values(used_at=at))


def _read(connection: Connection, *conditions: object) -> list[Key]:
    # The person's name as it is now: the hub may have renamed them.
    query = select(*_COLUMNS, users.c.name.label("owner")).join(users, users.c.id == ssh_key.c.user_id)
    found = connection.execute(query.where(*conditions).order_by(ssh_key.c.added_at, ssh_key.c.id))  # type: ignore[arg-type]
    return [Key(**row._mapping) for row in found]
