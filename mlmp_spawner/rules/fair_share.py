"""Fair share: who goes first is who used least, first among the groups, then among the people of the group.

What somebody used is counted in unit-ms (two units for an hour: 7,200,000) and decays: after a half-life it counts
half. So nobody pays for ever, and nobody collects turns by waiting longer than that. While a job runs, it counts with
what it may still use as well, so that many started at once are shared evenly.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar


def decayed(used: float, at: int, now: int, half_life: float) -> float:
    """What of ``used`` (as of ``at``) counts at ``now``; all of it where ``now`` is earlier.

    :param half_life: ms, above 0.
    """
    return float(used * 0.5 ** (max(0, now - at) / half_life))


def consumed(units: int, start: int, end: int, half_life: float) -> float:
    """Unit-ms of ``units`` used over ``[start, end)``, each moment of it decayed to ``end``; 0 for an empty one."""
    spans = max(0, end - start) / half_life
    return units * half_life * -math.expm1(-spans * math.log(2)) / math.log(2)


@dataclass(slots=True)
class Shares:
    """What counts now for each group and each user, in unit-ms; who is in neither used nothing."""

    groups: dict[str, float] = field(default_factory=dict)
    users: dict[str, float] = field(default_factory=dict)

    def copy(self) -> Shares:
        """One that may be charged without changing this."""
        return Shares(dict(self.groups), dict(self.users))

    def charge(self, group: str, user: str, amount: float) -> None:
        """Adds ``amount`` unit-ms to both."""
        self.groups[group] = self.groups.get(group, 0.0) + amount
        self.users[user] = self.users.get(user, 0.0) + amount


class Turn(Protocol):
    """What waits for its turn. ``order`` sorts what is of one owner, ``queued_at`` (ms UTC) decides between owners
    who used the same. ``group`` "" is a group as others are."""

    @property
    def owner(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def queued_at(self) -> int: ...
    @property
    def order(self) -> tuple[Any, ...]: ...


T = TypeVar("T", bound=Turn)
Entry = tuple[float, int, str]


class Turns(Generic[T]):
    """Who is next, again and again, while ``shares`` are charged in between: each turn costs a few steps in a heap."""

    def __init__(self, waiting: Iterable[T], shares: Shares) -> None:
        self.shares = shares
        self._waiting: dict[str, dict[str, list[T]]] = {}
        for one in waiting:
            self._waiting.setdefault(one.group, {}).setdefault(one.owner, []).append(one)
        self._owners: dict[str, list[Entry]] = {}
        self._groups: list[Entry] = []
        for group, owners in self._waiting.items():
            for rows in owners.values():
                rows.sort(key=lambda one: one.order, reverse=True)  # the next one is popped from the end
            self._owners[group] = [self._owner_entry(group, owner) for owner in owners]
            heapq.heapify(self._owners[group])
            self._groups.append(self._group_entry(group))
        heapq.heapify(self._groups)

    def _owner_entry(self, group: str, owner: str) -> Entry:
        return self.shares.users.get(owner, 0.0), self._waiting[group][owner][-1].queued_at, owner

    def _group_entry(self, group: str) -> Entry:
        return self.shares.groups.get(group, 0.0), self._owners[group][0][1], group

    def next(self) -> T | None:
        """The next one, which leaves the turns; None when none is left."""
        while self._groups:
            group = self._groups[0][2]
            if self._groups[0][0] < self.shares.groups.get(group, 0.0):
                heapq.heapreplace(self._groups, self._group_entry(group))  # it was charged since
                continue
            found = self._next_of(group)
            if self._owners[group]:
                heapq.heapreplace(self._groups, self._group_entry(group))
            else:
                heapq.heappop(self._groups)
            return found
        return None

    def _next_of(self, group: str) -> T:
        owners = self._owners[group]
        while owners[0][0] < self.shares.users.get(owners[0][2], 0.0):
            heapq.heapreplace(owners, self._owner_entry(group, owners[0][2]))
        owner = owners[0][2]
        rows = self._waiting[group][owner]
        found = rows.pop()
        if rows:
            heapq.heapreplace(owners, self._owner_entry(group, owner))
        else:
            heapq.heappop(owners)
        return found
