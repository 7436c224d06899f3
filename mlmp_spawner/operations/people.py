"""What each person chose: which notices on which ways, mail address, webhook, calendar feed.

A row belongs to the hub's id of a person, not to a name.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine, RowMapping, insert, select, update
from sqlalchemy.exc import IntegrityError

from mlmp_spawner.errors import Invalid, NotAllowed
from mlmp_spawner.rules import notices as rules
from mlmp_spawner.rules.guests import is_guest
from mlmp_spawner.rules.notices import CHANNELS, KINDS, Channel, Kind, Shape, channels_of
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.tables import person, users
from mlmp_spawner.store.transaction import read, transaction


@dataclass(frozen=True, slots=True)
class Ways:
    """What the site allows. ``mail``: whether it sends any; ``template``: of an address, with ``{username}``;
    ``choose``: whether people may give their own; ``webhook_hosts``: where webhooks of their own may be, and the shape
    that each takes."""

    mail: bool = False
    template: str = ""
    choose: bool = False
    webhook_hosts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Person:
    """What a person chose; ``mail`` and ``webhook`` only where they gave one. ``calendar_since``: when the address of
    the calendar feed was made (ms UTC), None: there is none."""

    user_id: int
    name: str
    mail: str | None = None
    webhook: str | None = None
    choices: Mapping[str, list[str]] = field(default_factory=dict)
    calendar_since: int | None = None

    def channels(self, kind: Kind) -> frozenset[Channel]:
        """On which ways they are told of this."""
        return channels_of(kind, self.choices)

    def mail_address(self, ways: Ways) -> str | None:
        """Where their mail goes: to the address that they gave, else to the site's; None: there is none."""
        if not ways.mail or is_guest(self.name):
            return None
        own = self.mail if ways.choose else None
        return own or rules.address_of(self.name, ways.template)

    def webhook_address(self, ways: Ways) -> str | None:
        """Their webhook, if it is (still) allowed."""
        try:
            return rules.webhook_address(self.webhook, ways.webhook_hosts) if self.webhook else None
        except ValueError:
            return None


def find(engine: Engine, name: str) -> Person:
    """A person by name, with the defaults where nothing was chosen.

    :raises NotAllowed: the hub has no such user (a service, for example).
    """
    with read(engine) as connection:
        return _find(connection, name)


def by_id(connection: Connection, user_ids: set[int]) -> dict[int, Person]:
    """The living among these."""
    query = select(users.c.id, users.c.name, person).select_from(
        users.outerjoin(person, person.c.user_id == users.c.id)
    )
    found = connection.execute(query.where(users.c.id.in_(user_ids)))
    return {row.id: _person(row._mapping) for row in found}


def kinds_on(connection: Connection, user_id: int, channel: Channel) -> list[str]:
    """The kinds of which this person is told on this way, tests among them."""
    choices = connection.execute(select(person.c.choices).where(person.c.user_id == user_id)).scalar() or {}
    return [kind for kind in (*KINDS, "test") if channel in channels_of(kind, choices)]


def change(
    engine: Engine,
    name: str,
    ways: Ways,
    *,
    choices: Mapping[str, list[str]],
    mail: str | None = None,
    webhook: str | None = None,
) -> Person:
    """Keeps what a person chose; ``mail`` and ``webhook``: None or "" for none of their own.

    :raises Invalid: an address that is none, or is not allowed here. :raises NotAllowed: no user of the hub.
    """
    kept = {
        "mail": _checked("mail", mail, lambda text: _own_mail(text, ways)),
        "webhook": _checked("webhook", webhook, lambda text: rules.webhook_address(text, ways.webhook_hosts)),
        "choices": {kind: [c for c in CHANNELS if c in choices[kind]] for kind in KINDS if kind in choices},
    }
    return _write(engine, name, kept)


def make_calendar_token(engine: Engine, name: str, *, now: int) -> str:
    """A new secret for the address of the calendar feed; the one before it is dead. Only its hash is kept.

    :raises NotAllowed: no user of the hub.
    """
    token = secrets.token_urlsafe(32)
    _write(engine, name, {"calendar_token": hash_of(token), "calendar_token_at": now})
    return token


def revoke_calendar_token(engine: Engine, name: str) -> None:
    """The address of the calendar feed is dead from now on. :raises NotAllowed: no user of the hub."""
    _write(engine, name, {"calendar_token": None, "calendar_token_at": None})


def with_calendar_token(connection: Connection, token: str) -> Person | None:
    """Whose calendar feed this secret opens; None: nobody's. The time that it takes tells nothing of the secrets."""
    query = select(users.c.id, users.c.name, person).join(person, person.c.user_id == users.c.id)
    row = connection.execute(query.where(person.c.calendar_token == hash_of(token))).one_or_none()
    return None if row is None else _person(row._mapping)


def shape_of(url: str, ways: Ways) -> Shape:
    """The shape that a webhook of a person's own takes, by its host."""
    found = urlsplit(url)
    host = (found.hostname or "").lower()
    shape = ways.webhook_hosts.get(f"{host}:{found.port}", ways.webhook_hosts.get(host))
    return "teams" if shape == "teams" else "slack"


def hash_of(token: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _find(connection: Connection, name: str) -> Person:
    user_id = store.user_id(connection, name)
    if user_id is None:
        raise NotAllowed("Notices and calendars are for people who are users of the hub.")
    return by_id(connection, {user_id})[user_id]


def _write(engine: Engine, name: str, values: dict[str, Any]) -> Person:
    for _ in range(2):
        try:
            with transaction(engine) as connection:
                found = _find(connection, name)
                mine = update(person).where(person.c.user_id == found.user_id).values(**values)
                if not connection.execute(mine).rowcount:
                    connection.execute(insert(person).values(user_id=found.user_id, **{"choices": {}, **values}))
                return _find(connection, name)
        except IntegrityError:  # another request made the row meanwhile
            continue
    raise AssertionError("the row of a person is neither there nor can it be made")


def _person(row: RowMapping) -> Person:
    return Person(
        user_id=row["id"], name=row["name"], mail=row["mail"], webhook=row["webhook"], choices=row["choices"] or {},
        calendar_since=row["calendar_token_at"],
    )  # fmt: skip


def _own_mail(text: str, ways: Ways) -> str:
    if not ways.choose:
        raise ValueError("the address of one's mail can't be chosen here")
    return rules.mail_address(text)


def _checked(name: str, text: str | None, check: Any) -> str | None:
    if not text or not text.strip():
        return None
    try:
        checked: str = check(text)
    except ValueError as error:
        raise Invalid.field(name, str(error)) from error
    return checked
