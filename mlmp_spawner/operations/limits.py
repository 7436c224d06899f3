"""The rules of sharing, applied: which hold for an owner, and what the owner has already.

The catalog's limits hold, with what an admin set meanwhile in place of the catalog's entry for the same. Both are read
anew for each question, in the connection of the question, so that hub and service never go by different ones.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date

from pydantic import Field, ValidationError
from sqlalchemy import Connection

from mlmp_spawner.errors import OverLimit
from mlmp_spawner.operations.requests import Draft, Wish
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import policy
from mlmp_spawner.rules.catalog import LimitRules, Limits, Profile
from mlmp_spawner.rules.guests import GUESTS, is_guest
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.rules.values import AS_WRITTEN
from mlmp_spawner.store import courses
from mlmp_spawner.store import limits as entries
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.transaction import read

log = logging.getLogger(__name__)


class Holding(LimitRules):
    """The limits that hold. What a course says of hours outside class holds for whom its roster calls a student or
    guest, whatever groups the hub has them in just now; ``study``: the groups that stand for that, by person."""

    study: dict[str, tuple[str, ...]] = Field(default={})

    def of(self, user: str, groups: Iterable[str]) -> Limits:
        """The limits that hold for ``user``, a member of ``groups``."""
        guests = (GUESTS,) if is_guest(user) else ()
        return super().of(user, {*groups, *guests, *self.study.get(user, ())})


def rules(connection: Connection, site: Site, person: str | None = None) -> Holding:
    """The limits that hold now. An entry that can't be read is left out: the catalog's holds in its place.

    :param person: whose courses are looked at; None: everybody's.
    """
    known = site.catalog.limits
    everybody, groups, users = known.everybody, dict(known.groups), dict(known.users)
    for entry in entries.entries(connection):
        try:
            said = parse(entry.limits)
        except ValidationError:
            log.warning("the limits that were set for %s %r can't be read; the catalog's hold", entry.kind, entry.name)
            continue
        if entry.kind == "everybody":
            everybody = said
        else:
            (groups if entry.kind == "group" else users)[entry.name] = said
    study: dict[str, tuple[str, ...]] = {}
    for name, found in courses.self_study(connection, person).items():
        mine = {course: hours for course, hours in found.items() if not _says_hours(groups, course)}
        groups |= {f"study:{course}": Limits(hours_per_week=hours) for course, hours in mine.items()}
        study[name] = tuple(f"study:{course}" for course in mine)
    return Holding(everybody=everybody, groups=groups, users=users, study=study)


def _says_hours(groups: Mapping[str, Limits], course: str) -> bool:
    """Whether who runs the machines said for a course how many hours its people have: that wins."""
    said = groups.get(f"course-{course}")
    return said is not None and "hours_per_week" in said.model_fields_set


def parse(stored: object) -> Limits:
    """What an entry says. :raises ValidationError: it is of another release, or was written by hand."""
    return Limits.model_validate(stored, context=AS_WRITTEN)


def of_person(site: Site, name: str, groups: Iterable[str]) -> Limits:
    """The limits that hold for somebody just now."""
    with read(site.engine) as connection:
        return rules(connection, site, name).of(name, groups)


def of(holding: LimitRules, owner: str, groups: Iterable[str], profile: Profile | None) -> Limits:
    """Of the limits that hold (:func:`rules`) those for an owner, with the profile's own shortest and longest
    booking."""
    found = holding.of(owner, groups)
    if profile is None:
        return found
    shortest, longest = policy.durations(profile, found)
    return found.model_copy(update={"min_duration": shortest, "max_duration": longest})


def for_owner(connection: Connection, site: Site, drafted: Draft) -> Limits:
    """The limits that hold for a draft."""
    new = drafted.reservation
    return of(rules(connection, site, new.owner), new.owner, drafted.groups, site.catalog.profiles.get(new.profile))


def check(connection: Connection, site: Site, drafted: Draft, now: int, *, changed: Reservation | None = None) -> None:
    """Refuses what a rule of sharing forbids.

    :param changed: the booking as it is, where the draft is a change of it.
    :raises OverLimit: with every rule that is broken and its numbers.
    """
    violations = _violations(connection, site, drafted, now, changed)
    if violations:
        raise policy.violations_error(violations)


def allows(connection: Connection, site: Site, drafted: Draft, now: int) -> bool:
    """Whether :func:`check` would pass."""
    try:
        check(connection, site, drafted, now)
    except OverLimit:
        return False
    return True


def measure(
    connection: Connection, site: Site, drafted: Draft, now: int, *, changed: Reservation | None = None
) -> tuple[Limits, policy.Ask, policy.Usage]:
    """What a draft is measured by: the limits that hold, what it asks for, what else its owner has."""
    new = drafted.reservation
    uncounted = site.catalog.uncounted()
    ask = policy.Ask(
        units_total=new.units * new.node_count,
        start=new.start,
        end=new.end,
        now=now,
        counted=new.profile not in uncounted,
        opens=int(changed is None),
        extends=new.end - changed.end
        if changed is not None and changed.start <= now and new.end > changed.end
        else None,
    )
    since = min(now, new.start) - policy.WEEK
    others = [row for row in store.of_owner(connection, new.owner, since=since) if row.id != new.id]
    return for_owner(connection, site, drafted), ask, policy.usage(ask, others, uncounted=uncounted)


def check_together(
    connection: Connection, site: Site, wishes: Sequence[Wish], now: int, *, changed: Collection[str] = ()
) -> None:
    """Refuses bookings of one person that pass a limit together, each counted with the others.

    :param changed: ids of the bookings that these are to stand for; none: they are further ones.
    :raises OverLimit: how many of them pass one, with the numbers of the first; ``clashes`` are their days.
    """
    drafts = [wish.draft for wish in wishes]
    first = drafts[0].reservation
    holding, uncounted = for_owner(connection, site, drafts[0]), site.catalog.uncounted()
    since = min(now, min(one.reservation.start for one in drafts)) - policy.WEEK
    others = [row for row in store.of_owner(connection, first.owner, since=since) if row.id not in changed]
    if not changed:
        opens = policy.Ask(0, first.start, first.end, now, counted=False, opens=len(drafts))
        only = Limits(open_bookings=holding.open_bookings)
        if too_many := policy.check(only, opens, policy.usage(opens, others, uncounted=uncounted)):
            raise policy.violations_error(too_many)
    everything = [*others, *(one.reservation for one in drafts)]
    passed: dict[date, list[policy.Violation]] = {}
    for wish in wishes:
        new = wish.draft.reservation
        near = [row for row in everything if row is not new and new.start - policy.WEEK < row.end
                and row.start < new.end + policy.WEEK]  # fmt: skip
        ask = policy.Ask(new.units * new.node_count, new.start, new.end, now, new.profile not in uncounted, opens=0)
        if found := policy.check(holding, ask, policy.usage(ask, near, uncounted=uncounted)):
            passed[wish.day] = found
    if passed:
        error = policy.violations_error(passed[min(passed)])
        number = f"{len(passed)} of {len(drafts)} bookings would pass a limit. "
        raise OverLimit(
            number + error.detail, hint=error.hint, clashes=[day.isoformat() for day in sorted(passed)], **error.data
        )


def _violations(
    connection: Connection, site: Site, drafted: Draft, now: int, changed: Reservation | None
) -> list[policy.Violation]:
    return policy.check(*measure(connection, site, drafted, now, changed=changed))
