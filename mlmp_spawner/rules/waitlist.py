"""The fair order of the waitlist: who is asked first when something becomes free.

First who had a place and lost it, the oldest booking first. Then in rounds: the first waiting request of each owner,
before anybody's second; within a round, who has waited longest. So twenty requests of one person cost everybody else
one place, not twenty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mlmp_spawner.rules.reservations import Reservation


def fair_order(waiting: Iterable[Reservation]) -> list[Reservation]:
    """Bookings that wait, the next one first. Whoever is earlier and fits gets a place first; one that does not fit
    keeps nobody behind it from one."""
    rows = list(waiting)
    lost = [row for row in rows if row.waiting_reason == "capacity_lost"]
    asked = sorted((row for row in rows if row.waiting_reason != "capacity_lost"), key=_asked)
    rounds: Counter[str] = Counter()
    ranked: list[tuple[int, Reservation]] = []
    for row in asked:
        ranked.append((rounds[row.owner], row))
        rounds[row.owner] += 1
    ranked.sort(key=lambda one: one[0])  # it keeps the order within a round
    return [*sorted(lost, key=lambda row: (row.created_at, row.id)), *(row for _, row in ranked)]


def _asked(row: Reservation) -> tuple[int, str]:
    return row.waitlist_position or 0, row.id
