"""What is due now: the clock's decisions, without doing anything.

:func:`due` looks at bookings and the time alone; whoever calls it claims each action in the database first, so that
two clocks, or one that was killed and started again, never do a thing twice that matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlmp_spawner.rules.reservations import Reservation, continues
from mlmp_spawner.units import MINUTE

WARN_BEFORE = (10 * MINUTE, 2 * MINUTE)
"""How long before the end the owner is told."""


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell the owner that the end is near."""

    reservation: Reservation


@dataclass(frozen=True, slots=True)
class Stop:
    """Begin to stop the server, or go on with it: ``first`` tells whether the stop has yet to be claimed."""

    reservation: Reservation
    first: bool


@dataclass(frozen=True, slots=True)
class Continue:
    """The owner's next booking takes over the running server."""

    reservation: Reservation
    following: Reservation


@dataclass(frozen=True, slots=True)
class NoShow:
    """Nobody came: give the rest of the booking back."""

    reservation: Reservation


@dataclass(frozen=True, slots=True)
class Promote:
    """Try to place a booking that waits."""

    reservation: Reservation


Action = Warn | Stop | Continue | NoShow | Promote


def following_of(reservation: Reservation, others: Iterable[Reservation]) -> Reservation | None:
    """The booking that carries on with this one's server, if there is one."""
    return next((o for o in others if o.id != reservation.id and continues(reservation, o)), None)


def is_live(reservation: Reservation) -> bool:
    """Whether a server of this booking may be running."""
    return reservation.starting_at is not None and reservation.stopped_at is None


def due(
    now: int,
    reservations: Iterable[Reservation],
    *,
    stop_lead: int,
    warn_before: tuple[int, ...] = WARN_BEFORE,
    no_show_grace: dict[str, int] | None = None,
) -> list[Action]:
    """The actions due at ``now``, the stops first.

    :param reservations: all bookings that are not over or whose server may still run.
    :param no_show_grace: for each reservation id that has one, how long after its start (ms) nobody may come.
    """
    rows = list(reservations)
    by_owner: dict[str, list[Reservation]] = {}
    for row in rows:
        by_owner.setdefault(row.owner, []).append(row)
    stops: list[Action] = []
    rest: list[Action] = []
    for row in rows:
        following = following_of(row, by_owner[row.owner])
        if is_live(row):
            if row.stopping_at is not None:
                stops.append(Stop(row, first=False))
            elif following is None and now >= row.stop_at(stop_lead):
                stops.append(Stop(row, first=True))
            elif following is not None and now >= following.start:
                stops.append(Continue(row, following))
        state = row.state(now)
        if state == "active" and following is None and _warning_due(now, row, warn_before) is not None:
            rest.append(Warn(row))
        grace = (no_show_grace or {}).get(row.id)
        if state == "active" and row.starting_at is None and grace is not None and now >= row.start + grace:
            rest.append(NoShow(row))
        if state == "waiting":
            rest.append(Promote(row))
    return stops + rest


def _warning_due(now: int, row: Reservation, warn_before: tuple[int, ...]) -> int | None:
    """The instant of the latest warning that is due and was not given; none precedes the start."""
    for instant in sorted((row.end - before for before in warn_before), reverse=True):
        if row.start < instant <= now:
            return instant if row.warned_at is None or row.warned_at < instant else None
    return None


def next_due(
    now: int,
    reservations: Iterable[Reservation],
    *,
    stop_lead: int,
    warn_before: tuple[int, ...] = WARN_BEFORE,
    no_show_grace: dict[str, int] | None = None,
) -> int | None:
    """The next instant after ``now`` at which something may become due; None if nothing will."""
    instants: list[int] = []
    for row in reservations:
        instants += [row.start, row.stop_at(stop_lead), row.end, *(row.end - before for before in warn_before)]
        grace = (no_show_grace or {}).get(row.id)
        if grace is not None:
            instants.append(row.start + grace)
    return min((i for i in instants if i > now), default=None)
