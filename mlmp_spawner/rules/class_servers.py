"""The servers of a class's seats: which are started next, and in which somebody is. Instants in ms UTC, lengths in ms.

They are started in waves, so that a machine or a cluster bears it: so many at a time, and the next as one is up. One
that does not come up is tried again, later each time, and keeps no other from being started.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import MINUTE, SECOND

FIRST_WAIT, LONGEST_WAIT = 15 * SECOND, 4 * MINUTE
"""How long a start that failed waits for the next try; twice as long each time."""

BEFORE_END = 5 * MINUTE
"""Nothing is started any more when a class ends so soon."""

SLOW = MINUTE
"""How long a start counts among those under way: one that hangs shall not hold up the others."""

COMING_UP = 5 * MINUTE
"""How long after a server was started the proxy may have made its way to it, which counts as activity there."""

LOOKED_FOR = MINUTE
"""For how long a server is looked at before it is said that nobody is in it."""

PATIENCE = 2 * MINUTE
"""For how long a server that somebody just began to start, or that just came up, is not called unused."""

NO_WAY = 5 * MINUTE
"""After how long a server to which the proxy has no way counts as one that nobody is in."""


@dataclass(frozen=True, slots=True)
class Try:
    """How often it was tried to start a server, when last, and what was in the way: "" nothing that is known."""

    count: int
    at: int
    problem: str = ""

    @property
    def again_at(self) -> int:
        """When it is tried again."""
        return self.at + min((FIRST_WAIT << min(self.count - 1, 10)), LONGEST_WAIT)


What = Literal["start", "stop", "restart"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What who teaches wants of the server of a seat, since ``at``. It is done when the server was started later, by
    whomever."""

    what: What
    at: int

    def is_open(self, seat: Reservation) -> bool:
        """Whether it still holds for the seat."""
        return seat.starting_at is None or seat.starting_at <= self.at


@dataclass(frozen=True, slots=True)
class Visits:
    """What was seen of a server's traffic: ``first`` and ``last``: the last activity as it was told by the first look,
    at ``since``, and by the latest."""

    since: int
    first: int
    last: int


def is_to_start(seat: Reservation, wish: Wish | None = None) -> bool:
    """Whether nobody is starting the server of a seat, and it never came up or who teaches wants it up again."""
    if seat.server_state() != "none":
        return False
    return wish.what != "stop" if wish is not None and wish.is_open(seat) else seat.started_at is None


def is_to_stop(seat: Reservation, wish: Wish | None) -> bool:
    """Whether who teaches wants the server of a seat stopped that runs, or is about to."""
    live = seat.server_state() in ("starting", "running")
    return live and wish is not None and wish.what != "start" and wish.is_open(seat)


def next_starts(
    now: int,
    seats: Iterable[Reservation],
    tried: Mapping[str, Try],
    under_way: Collection[str],
    at_once: int,
    wishes: Mapping[str, Wish] = MappingProxyType({}),
) -> list[Reservation]:
    """The seats whose servers are started now: those that were tried least first.

    :param under_way: ids of those that are being asked for just now. :param at_once: how many may be starting.
    :param wishes: what who teaches wants, by seat.
    """
    rows = [seat for seat in seats if seat.state(now) == "active"]
    pending = [seat for seat in rows if seat.server_state() == "starting"]
    starting = {seat.id for seat in pending if (seat.starting_at or 0) > now - SLOW} | set(under_way)
    ready = [
        seat
        for seat in rows
        if is_to_start(seat, wishes.get(seat.id))
        and seat.id not in starting
        and now < seat.end - BEFORE_END
        and (seat.id not in tried or now >= tried[seat.id].again_at)
    ]
    ready.sort(key=lambda seat: (tried[seat.id].count if seat.id in tried else 0, seat.created_at, seat.owner))
    return ready[: max(0, at_once - len(starting))]


def came(seat: Reservation, visits: Visits | None) -> bool:
    """Whether somebody came into the server of a seat: there was traffic after the first look at it, or when its start
    was long over."""
    if visits is None or seat.started_at is None or visits.last <= seat.start:
        return False
    return visits.last > visits.first or visits.last > seat.started_at + COMING_UP


def in_use(now: int, seat: Reservation, visits: Visits | None, wish: Wish | None = None) -> bool:
    """Whether a seat is kept when unused ones are given back."""
    if wish is not None and wish.what == "restart" and wish.is_open(seat):
        return True  # who was in it is away only until it is up again
    begun = seat.starting_at if seat.started_at is None else seat.started_at
    recent = seat.server_state() in ("starting", "running") and begun is not None and begun > now - PATIENCE
    return recent or came(seat, visits)


def can_tell(now: int, seats: Iterable[Reservation], visits: Mapping[str, Visits]) -> bool:
    """Whether the servers were looked at for long enough to say in which nobody is: after a restart of what looks at
    them it takes a while."""

    def told(seat: Reservation) -> bool:
        found = visits.get(seat.id)
        if found is not None:
            return found.since <= now - LOOKED_FOR
        # The proxy knows no way to it, and for so long nobody can be there.
        return seat.started_at is not None and seat.started_at <= now - NO_WAY

    running = (seat for seat in seats if seat.server_state() == "running")
    return all(told(seat) or in_use(now, seat, visits.get(seat.id)) for seat in running)


def seen(now: int, former: Visits | None, last: int) -> Visits:
    """What is known of a server's traffic after another look."""
    return Visits(now, last, last) if former is None else Visits(former.since, former.first, max(former.last, last))
