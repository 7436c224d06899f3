"""The rules of sharing, applied: which hold for an owner, and what the owner has already."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from mlmp_spawner.errors import OverLimit
from mlmp_spawner.operations.requests import Draft
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import policy
from mlmp_spawner.rules.catalog import Limits, Profile
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.store import reservations as store


def of(site: Site, owner: str, groups: Iterable[str], profile: Profile | None) -> Limits:
    """The limits that hold for an owner, with the profile's own shortest and longest booking."""
    rules = site.catalog.limits_for(owner, groups)
    if profile is None:
        return rules
    shortest, longest = policy.durations(profile, rules)
    return rules.model_copy(update={"min_duration": shortest, "max_duration": longest})


def for_owner(site: Site, drafted: Draft) -> Limits:
    """The limits that hold for a draft."""
    new = drafted.reservation
    return of(site, new.owner, drafted.groups, site.catalog.profiles.get(new.profile))


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


def no_show_grace(site: Site, rows: Iterable[Reservation]) -> dict[str, int]:
    """How long (ms) after its start nobody may come, for each booking that has such a limit."""
    graces = {row.id: site.catalog.limits_for(row.owner, ()).no_show_grace for row in rows}
    return {reservation_id: grace for reservation_id, grace in graces.items() if grace is not None}


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
        opens=changed is None,
        extends=new.end - changed.end
        if changed is not None and changed.start <= now and new.end > changed.end
        else None,
    )
    since = min(now, new.start) - policy.WEEK
    others = [row for row in store.of_owner(connection, new.owner, since=since) if row.id != new.id]
    return for_owner(site, drafted), ask, policy.usage(ask, others, uncounted=uncounted)


def _violations(
    connection: Connection, site: Site, drafted: Draft, now: int, changed: Reservation | None
) -> list[policy.Violation]:
    return policy.check(*measure(connection, site, drafted, now, changed=changed))
