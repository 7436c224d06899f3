"""What groups are guaranteed of the units that jobs may have, and how what there is is divided among their queues.

Of each resource there is a *pool*, for everybody. A group that is guaranteed units has a queue of its own with as
many. What one of them leaves unused the others may borrow, and a guaranteed group gets its own back: who borrowed it
is sent away. So what must not be sent away never borrows: jobs that are not preemptible have a queue apart, which is
given just what they use, and what those that can start now need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlmp_spawner.errors import ConfigurationError

Units = Mapping[str, int]
"""Of each node."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose queue it is. ``pool``: everybody's; ``own``: that of ``group``, which is guaranteed units; ``fixed``: that
    of the jobs which are not preemptible."""

    kind: Literal["pool", "own", "fixed"]
    group: str = ""


POOL, FIXED = Tenant("pool"), Tenant("fixed")


def checked(value: object) -> dict[str, dict[str, int]]:
    """A setting that says of each group what it is guaranteed: ``{"group": {"nvidia.com/gpu": 4}}``.

    :raises ConfigurationError: it says something else.
    """
    wrong = ConfigurationError(
        [f"c.MLMP.job_guarantees: {str(value)[:200]!r} is not possible: of each group it says how many units (whole "
         "numbers, 0 or more) of a resource are kept for its jobs, as in {'physics': {'nvidia.com/gpu': 4}}"]
    )  # fmt: skip
    if not isinstance(value, Mapping):
        raise wrong
    found: dict[str, dict[str, int]] = {}
    for group, units in value.items():
        if not isinstance(group, str) or not group or not isinstance(units, Mapping):
            raise wrong
        for resource, count in units.items():
            if not isinstance(resource, str) or isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise wrong
            if count:
                found.setdefault(group, {})[resource] = count
    return found


def of_resource(guarantees: Mapping[str, Mapping[str, int]], resource: str) -> dict[str, int]:
    """Of each group what it is guaranteed of a resource."""
    return {group: units[resource] for group, units in sorted(guarantees.items()) if units.get(resource)}


def tenant_of(group: str, preemptible: bool, guaranteed: Mapping[str, int]) -> Tenant:
    """In whose queue a job stands. :param guaranteed: of each group what it is guaranteed of the job's resource."""
    if not preemptible:
        return FIXED
    return Tenant("own", group) if group in guaranteed else POOL


def divide(
    quotas: Units, used: Mapping[Tenant, Units], guaranteed: Mapping[str, int], wanted: Units
) -> dict[Tenant, dict[str, int]]:
    """Divides the units that jobs may have among the queues: together they have just that, on each node.

    What can't be taken back comes first, then what is guaranteed: where the group's jobs are, then where nobody
    needs it for longer, and there is most. Where there is too little for all, each group gets a like part of what it
    is guaranteed.

    :param quotas: what jobs may have on each node, with what they use. :param used: what the jobs of each queue use.
    :param wanted: what jobs that are not preemptible and can start now need.
    """
    left = dict(quotas)
    parts: dict[Tenant, dict[str, int]] = {FIXED: {}}
    _move(used.get(FIXED, {}), left, parts[FIXED])
    missing = dict(guaranteed)
    for group in sorted(guaranteed):
        mine = parts.setdefault(Tenant("own", group), {})
        missing[group] -= _move(used.get(Tenant("own", group), {}), left, mine, most=missing[group])
    by_size = sorted(quotas, key=lambda node: (-quotas[node], node))
    while sum(left.values()) and any(missing.values()):
        poorest = min(
            (group for group in missing if missing[group]),
            key=lambda group: (1 - missing[group] / guaranteed[group], group),
        )
        spare = (node for node in by_size if left[node] > wanted.get(node, 0))
        node = next(spare, None) or next(node for node in by_size if left[node])
        mine = parts[Tenant("own", poorest)]
        mine[node] = mine.get(node, 0) + 1
        left[node] -= 1
        missing[poorest] -= 1
    _move(wanted, left, parts[FIXED])
    return parts | {POOL: left}


def _move(asked: Units, left: dict[str, int], to: dict[str, int], *, most: int | None = None) -> int:
    """Moves what is asked for, as far as it is there, ``most`` in all; how many."""
    moved = 0
    for node, count in sorted(asked.items()):
        part = min(count, left.get(node, 0), *(() if most is None else (most - moved,)))
        if part > 0:
            to[node] = to.get(node, 0) + part
            left[node] -= part
            moved += part
    return moved
