"""What a booking would do to its owner's limits, before it is made. Nothing is written."""

from __future__ import annotations

from dataclasses import dataclass

from mlmp_spawner.operations import limits
from mlmp_spawner.operations.requests import BookingRequest, draft
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules import policy
from mlmp_spawner.rules.catalog import Limits
from mlmp_spawner.store.transaction import read


@dataclass(frozen=True, slots=True)
class Preview:
    """The limits that hold, what is asked for, what else its owner has; ``refusal`` names the limits it would pass."""

    rules: Limits
    ask: policy.Ask
    usage: policy.Usage
    refusal: str | None


def preview(site: Site, request: BookingRequest, *, actor: Actor, now: int) -> Preview:
    """What the limits would say to a request.

    :raises Invalid, NotAllowed, NotFound: see :func:`~mlmp_spawner.operations.requests.draft`.
    """
    with read(site.engine) as connection:
        drafted = draft(connection, site, request, actor, now)
        rules, ask, usage = limits.measure(connection, site, drafted, now)
    passed = policy.check(rules, ask, usage)
    return Preview(rules, ask, usage, policy.violations_error(passed).detail if passed else None)
