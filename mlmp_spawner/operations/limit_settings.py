"""The limits that an admin sets while the service runs, beside those of the catalog."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from mlmp_spawner.errors import Changed, Invalid, Unavailable
from mlmp_spawner.operations import history, limits
from mlmp_spawner.operations.booking import ATTEMPTS
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.catalog import LimitRules, Limits
from mlmp_spawner.rules.values import AS_WRITTEN
from mlmp_spawner.store import limits as entries
from mlmp_spawner.store.limits import Entry, Kind
from mlmp_spawner.store.transaction import Busy, lock_owner, read, transaction

SUBJECTS = "everybody, group:NAME or user:NAME"
UNSET = "catalog"
"""The tag of a subject for which nothing was set."""


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """Whom limits are for: everybody (``name`` is ""), a group, a person."""

    kind: Kind
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Subject:
        """``everybody``, ``group:students`` or ``user:ann``.

        :raises Invalid: none of these.
        """
        kind, _, name = text.partition(":")
        if text == "everybody":
            return cls("everybody")
        if kind in ("group", "user") and name.strip() and len(name) <= 255 and name.isprintable():
            return cls("group" if kind == "group" else "user", name)
        raise Invalid.field("name", f"{text[:60]!r} is nobody whom limits can be for; valid: {SUBJECTS}")

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


@dataclass(frozen=True, slots=True)
class Setting:
    """What the catalog says for a subject and what an admin set (None: nothing). ``unreadable``: something was set
    that can't be read, so that the catalog's holds. ``tag`` changes with each change of what was set."""

    subject: Subject
    catalog: Limits | None
    set: Limits | None = None
    unreadable: bool = False
    changed_at: int | None = None
    changed_by: str | None = None
    tag: str = UNSET


def look(site: Site) -> tuple[LimitRules, list[Setting]]:
    """The limits that hold now, and every subject that the catalog or an admin names: everybody, groups, people."""
    with read(site.engine) as connection:
        holding = limits.rules(connection, site)
        stored = entries.entries(connection)
    found = {setting.subject: setting for setting in (_setting(site, entry) for entry in stored)}
    known = [Subject("everybody")]
    known += [Subject("group", name) for name in site.catalog.limits.groups]
    known += [Subject("user", name) for name in site.catalog.limits.users]
    for subject in known:
        found.setdefault(subject, Setting(subject, _of_catalog(site, subject)))
    return holding, sorted(found.values(), key=lambda setting: setting.subject)


def look_at(site: Site, subject: Subject) -> tuple[LimitRules, Setting]:
    """The limits that hold now, and one subject."""
    with read(site.engine) as connection:
        return limits.rules(connection, site), _current(connection, site, subject)


def put(
    site: Site, subject: Subject, said: Limits | None, *, actor: Actor, now: int, if_match: str | None = None
) -> Setting:
    """Sets the limits of a subject, in place of what the catalog says for it; None: back to the catalog's.

    :param if_match: the tag that the caller saw.
    :raises Changed: it has another one by now. :raises Invalid: no booking could be both as long and as short.
    """
    if said and said.min_duration and said.max_duration is not None and said.min_duration > said.max_duration:
        raise Invalid.field("min_duration", "it is longer than max_duration")
    for _ in range(ATTEMPTS):
        try:
            with transaction(site.engine) as connection:
                lock_owner(connection, f"limits of {subject}")
                return _put(connection, site, subject, said, actor, now, if_match)
        except Busy:
            continue
    raise Unavailable("The database is too busy just now.", hint="Nothing was changed; try again in a moment.")


def as_written(said: Limits) -> dict[str, Any]:
    """What is said, and no more, as a catalog's file would have it: ``{"max_duration": "8h"}``."""
    return said.model_dump(mode="json", exclude_unset=True, context=AS_WRITTEN)


def _put(
    connection: Connection, site: Site, subject: Subject, said: Limits | None, actor: Actor, now: int, seen: str | None
) -> Setting:
    before = _current(connection, site, subject)
    if seen is not None and seen != before.tag:
        raise Changed("These limits were changed meanwhile.", hint="Look at them as they are now and try again.")
    if said is None:
        entries.remove(connection, subject.kind, subject.name)
    else:
        entries.put(connection, Entry(subject.kind, subject.name, as_written(said), now, actor.name))
    after = _current(connection, site, subject)
    if _told(after.set) != _told(before.set) or after.unreadable != before.unreadable:
        history.record(connection, "limits", actor=actor.name, at=now, kind=subject.kind, name=subject.name,
                       old=_told(before.set or before.catalog), new=_told(after.set or after.catalog))  # fmt: skip
    return after


def _told(said: Limits | None) -> Mapping[str, Any] | None:
    return None if said is None else as_written(said)


def _current(connection: Connection, site: Site, subject: Subject) -> Setting:
    mine = [e for e in entries.entries(connection) if (e.kind, e.name) == (subject.kind, subject.name)]
    return _setting(site, mine[0]) if mine else Setting(subject, _of_catalog(site, subject))


def _setting(site: Site, entry: Entry) -> Setting:
    subject = Subject(entry.kind, entry.name)
    try:
        said = limits.parse(entry.limits)
    except ValidationError:
        said = None
    seen = json.dumps([entry.limits, entry.changed_at], sort_keys=True)
    return Setting(
        subject, _of_catalog(site, subject), said, said is None, entry.changed_at, entry.changed_by,
        hashlib.sha256(seen.encode()).hexdigest()[:12],
    )  # fmt: skip


def _of_catalog(site: Site, subject: Subject) -> Limits | None:
    known = site.catalog.limits
    if subject.kind == "everybody":
        return known.everybody
    return (known.groups if subject.kind == "group" else known.users).get(subject.name)
