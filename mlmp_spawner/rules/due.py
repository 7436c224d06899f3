"""What is due now: the clock's decisions, without doing anything.

:func:`due` looks at bookings and the time alone. Whoever calls it claims each action in the database first, so that
two clocks, or one that was killed and started again, never do a thing twice that matters. Who is promoted from the
waitlist is the matter of :mod:`mlmp_spawner.rules.waitlist`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from mlmp_spawner.rules.reservations import Reservation, continues
from mlmp_spawner.units import HOUR, MINUTE

WARN_BEFORE = (10 * MINUTE, 2 * MINUTE)
"""How long before the end the owner is told."""

ANNOUNCE_BEFORE = 15 * MINUTE
OFFER_BEFORE = 30 * MINUTE
IDLE_AFTER = HOUR


class Times(Protocol):
    """The times of the house, all in ms; None: never.

    ``stop_lead``: before the end, the stop of a server begins. ``warn_before``: before the end, the owner is told.
    ``announce_before``: before the start, the owner is told. ``offer_before``: before the end, more time is offered.
    ``idle_after``: of doing nothing, the owner is told; ``idle_release``: after that, it is given back.
    """

    @property
    def stop_lead(self) -> int: ...
    @property
    def warn_before(self) -> tuple[int, ...]: ...
    @property
    def announce_before(self) -> int | None: ...
    @property
    def offer_before(self) -> int | None: ...
    @property
    def idle_after(self) -> int | None: ...
    @property
    def idle_release(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the owner that it starts soon."""

    reservation: Reservation


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell the owner that the end is near."""

    reservation: Reservation


@dataclass(frozen=True, slots=True)
class Offer:
    """Tell the owner how far it can be extended, if it can."""

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
class IdleWarn:
    """Tell the owner that the server does nothing."""

    reservation: Reservation


@dataclass(frozen=True, slots=True)
class IdleRelease:
    """It still does nothing: give the rest of the booking back."""

    reservation: Reservation


Action = Announce | Warn | Offer | Stop | Continue | NoShow | IdleWarn | IdleRelease


def following_of(reservation: Reservation, others: Iterable[Reservation]) -> Reservation | None:
    """The booking that carries on with this one's server, if there is one."""
    return next((o for o in others if o.id != reservation.id and continues(reservation, o)), None)


def is_live(reservation: Reservation) -> bool:
    """Whether a server of this booking may be running."""
    return reservation.starting_at is not None and reservation.stopped_at is None


def due(now: int, reservations: Iterable[Reservation], times: Times) -> list[Action]:
    """The actions due at ``now``, the stops first.

    :param reservations: all bookings that are not over or whose server may still run.
    """
    rows = list(reservations)
    by_owner: dict[str, list[Reservation]] = {}
    for row in rows:
        by_owner.setdefault(row.owner, []).append(row)
    stops: list[Action] = []
    rest: list[Action] = []
    for row in rows:
        if row.kind == "class":
            continue  # only its seats have servers, and it is opened by itself
        mine = by_owner[row.owner]
        following = following_of(row, mine)
        stops += _of_server(now, row, following, times)
        state = row.state(now)
        if state == "booked" and _announces(now, row, mine, times):
            rest.append(Announce(row))
        if state == "active":
            rest += _of_active(now, row, following, times)
    return stops + rest


def _of_server(now: int, row: Reservation, following: Reservation | None, times: Times) -> Iterator[Action]:
    if not is_live(row):
        return
    if row.stopping_at is not None:
        yield Stop(row, first=False)
    elif following is None and now >= row.stop_at(times.stop_lead):
        yield Stop(row, first=True)
    elif following is not None and now >= following.start:
        yield Continue(row, following)


def _of_active(now: int, row: Reservation, following: Reservation | None, times: Times) -> Iterator[Action]:
    if row.is_seat:  # how long it lasts and who loses it is the matter of its class
        if following is None and _warning_due(now, row, times.warn_before):
            yield Warn(row)
        return
    if row.starting_at is None and row.no_show_grace is not None and now >= row.start + row.no_show_grace:
        yield NoShow(row)
        return
    if _reached(now, _idle_release_at(row, times)):
        yield IdleRelease(row)
        return
    if row.idle_warned_at is None and _reached(now, _idle_warn_at(row, times)):
        yield IdleWarn(row)
    if following is not None:
        return
    if _warning_due(now, row, times.warn_before):
        yield Warn(row)
    if row.offered_at is None and row.stopping_at is None and _reached(now, _offer_at(row, times)):
        yield Offer(row)


def _reached(now: int, instant: int | None) -> bool:
    return instant is not None and now >= instant


def _announces(now: int, row: Reservation, mine: Iterable[Reservation], times: Times) -> bool:
    """Only what was booked earlier than that is announced, and nothing that carries on with a running server."""
    at = _announce_at(row, times)
    if row.announced_at is not None or at is None or not row.created_at <= at <= now:
        return False
    return not any(is_live(other) and continues(other, row) for other in mine)


def _announce_at(row: Reservation, times: Times) -> int | None:
    return row.start - times.announce_before if times.announce_before else None


def _offer_at(row: Reservation, times: Times) -> int | None:
    """Not before half of it is over: who booked for ten minutes is not asked at once whether that was meant."""
    return row.end - min(times.offer_before, row.interval.length // 2) if times.offer_before else None


def _idle_warn_at(row: Reservation, times: Times) -> int | None:
    if row.idle_since is None or times.idle_after is None or not is_live(row):
        return None
    return row.idle_since + times.idle_after


def _idle_release_at(row: Reservation, times: Times) -> int | None:
    if row.idle_since is None or row.idle_warned_at is None or times.idle_release is None or not is_live(row):
        return None
    return row.idle_warned_at + times.idle_release


def _warning_due(now: int, row: Reservation, warn_before: tuple[int, ...]) -> bool:
    """Whether the latest warning that is due was not given yet; none precedes the start."""
    for instant in sorted((row.end - before for before in warn_before), reverse=True):
        if row.start < instant <= now:
            return row.warned_at is None or row.warned_at < instant
    return False


def next_due(now: int, reservations: Iterable[Reservation], times: Times) -> int | None:
    """The next instant after ``now`` at which something may become due; None if nothing will."""
    instants: list[int | None] = []
    for row in reservations:
        instants += [row.start, row.stop_at(times.stop_lead), row.end]
        instants += [row.end - before for before in times.warn_before]
        instants += [_announce_at(row, times), _offer_at(row, times)]
        instants += [_idle_warn_at(row, times), _idle_release_at(row, times)]
        if row.no_show_grace is not None:
            instants.append(row.start + row.no_show_grace)
    return min((i for i in instants if i is not None and i > now), default=None)
