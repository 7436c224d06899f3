"""Requests that were answered already: who repeats one within a day gets the booking, the job or the scan that the
first one made."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from mlmp_spawner.errors import Conflict
from mlmp_spawner.operations.site import Actor
from mlmp_spawner.rules.jobs import Job
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.rules.scans import Scan
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import idempotency
from mlmp_spawner.units import DAY

REMEMBERED = DAY
"""How long a key is remembered."""


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request (a dataclass) under the caller's own name for it; without a key nothing is remembered."""

    actor: Actor
    request: Any
    key: str | None

    def known(self, connection: Connection, now: int) -> Reservation | None:
        """The booking that the same request made before.

        :raises Conflict: the key was used for another request.
        """
        made = self.id_of_known(connection, now)
        return None if made is None else store.find(connection, made)

    def id_of_known(self, connection: Connection, now: int) -> str | None:
        """The id of what the same request made before.

        :raises Conflict: the key was used for another request.
        """
        if self.key is None:
            return None
        c = idempotency.c
        mine = (c.owner == self.actor.name, c.key == self.key, c.at > now - REMEMBERED)
        row = connection.execute(select(idempotency).where(*mine)).first()
        if row is None:
            return None
        if row.fingerprint != self._fingerprint():
            raise Conflict(
                "This idempotency key was used for another request.", hint="Use a new key for a new request."
            )
        return str(row.reservation)

    def remember(self, connection: Connection, made: Reservation | Job | Scan, now: int) -> None:
        """Keeps what it made, in the transaction that made it."""
        self.remember_id(connection, made.id, now)

    def remember_id(self, connection: Connection, made: str, now: int) -> None:
        """The same, where what it made has no id of its own: ``made`` is all that its answer needs."""
        if self.key is None:
            return
        c, name = idempotency.c, self.actor.name
        old = (c.at <= now - REMEMBERED) | (c.key == self.key)
        connection.execute(delete(idempotency).where(c.owner == name, old))
        row = {"owner": name, "key": self.key, "at": now, "fingerprint": self._fingerprint()}
        connection.execute(insert(idempotency).values(row | {"reservation": made}))

    def _fingerprint(self) -> str:
        fields = asdict(self.request)
        if "owner_groups" in fields:
            fields["owner_groups"] = None
        return hashlib.sha256(repr(sorted(fields.items())).encode("utf-8", "surrogatepass")).hexdigest()
