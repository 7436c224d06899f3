"""Which nodes the seats of a class go on, and what would fit where they don't.

A class is a booking of many seats, different numbers of them on different nodes; each seat takes the same units. All
instants are ms UTC, all lengths ms.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice, takewhile

from mlmp_spawner.rules.placement import Board, Taken, Yield, yields_to
from mlmp_spawner.rules.reservations import Interval, Step

LATE_OF = 20
"""One seat in so many is kept for who comes late, when the others that nobody uses are given back."""


@dataclass(frozen=True, slots=True)
class CourseClass:
    """What a class is beside its booking, whose interval begins earlier by the time for setting up.

    ``seats``: how many were booked. ``settles``: when those that nobody uses are given back. ``opened_at``: when the
    first seats were given out; ``settled_at``: when unused ones were given back.
    """

    reservation: str
    course: str
    begins: int
    seats: int
    settles: int
    opened_at: int | None = None
    settled_at: int | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """How many seats go on which node, and which preemptible jobs make way for them."""

    seats: Mapping[str, int]
    yields: tuple[Yield, ...] = ()


@dataclass(frozen=True, slots=True)
class Short:
    """A date on which a class does not fit. ``seats``: how many would; ``instead``: when on that day all would begin,
    None: at no time of it."""

    day: date
    begins: int
    end: int
    seats: int
    instead: int | None = None


def places(boards: Iterable[Board], interval: Interval, units: int) -> dict[str, int]:
    """How many seats of ``units`` there is room for on each node all that time."""
    return {board.node: max(0, board.room(interval)) // units for board in boards}


def spread(free: Mapping[str, int], seats: int) -> dict[str, int] | None:
    """How many of ``seats`` go on which node: on as few as can be, and the last of them with least left over.

    :param free: how many there is room for. :return: None where there is too little.
    """
    if sum(free.values()) < seats:
        return None
    found: dict[str, int] = {}
    left = seats
    for node in sorted(free, key=lambda name: (-free[name], name)):
        enough = [name for name in free if name not in found and free[name] >= left]
        if enough and left:
            found[min(enough, key=lambda name: (free[name], name))] = left
            return found
        found[node] = free[node]
        left -= free[node]
    return found


def place(boards: Sequence[Board], interval: Interval, units: int, seats: int) -> Placed | None:
    """Where the seats go: where nobody makes way for them if there is room for that, else with jobs that do."""
    quiet = spread(places(boards, interval, units), seats)
    if quiet is not None:
        return Placed(quiet)
    found = spread(places((board.for_bookings() for board in boards), interval, units), seats)
    if found is None:
        return None
    added = {node: Taken("", units * count, interval) for node, count in found.items()}
    return Placed(found, yields_to(boards, added))


def most(boards: Iterable[Board], interval: Interval, units: int) -> int:
    """How many seats would fit."""
    return sum(places((board.for_bookings() for board in boards), interval, units).values())


def other_times(
    boards: Iterable[Board], interval: Interval, units: int, seats: int, shifts: Sequence[int]
) -> list[int]:
    """Those of ``shifts`` (ms later), in their order, by which all seats would fit."""
    if not shifts:
        return []
    around = Interval(interval.start + min(shifts), interval.end + max(shifts))
    # What is free is reckoned once, not anew for each shift: a term on many nodes has very many.
    free = [board.for_bookings().steps(around) for board in boards]

    def fit(at: Interval) -> int:
        return sum(_fewest(steps, at) // units for steps in free)

    return [by for by in shifts if fit(interval.at(interval.start + by)) >= seats]


def _fewest(steps: Sequence[Step], window: Interval) -> int:
    """The fewest units free at any instant of ``window``, which the steps cover."""
    first = bisect_right(steps, window.start, key=lambda step: step.start) - 1
    inside = takewhile(lambda step: step.start < window.end, islice(steps, first, None))
    return min(step.free for step in inside)


def next_node(free: Mapping[str, int]) -> str | None:
    """The node of the next seat: one node is filled before the next; None where no seat is left.

    :param free: seats of the class that nobody has.
    """
    left = [node for node, count in free.items() if count > 0]
    return min(left, key=lambda node: (free[node], node), default=None)


def late_seats(seats: int) -> int:
    """How many seats are kept for who comes late."""
    return -(-seats // LATE_OF)


def kept(there: Mapping[str, int], used: Mapping[str, int], late: int) -> dict[str, int]:
    """How many seats stay on which node once the rest is given back: those in use, and ``late`` others, beside these
    where there is room for that, so that whole nodes become free."""
    stay = {node: min(count, used.get(node, 0)) for node, count in there.items()}
    for node in sorted(there, key=lambda name: (-stay[name], name)):
        more = min(late, there[node] - stay[node])
        stay[node] += more
        late -= more
    return {node: count for node, count in stay.items() if count}
