"""How a seat of a class is, as who teaches sees it. Instants in ms UTC, lengths in ms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, get_args

from mlmp_spawner.rules import class_servers as rules
from mlmp_spawner.rules.class_servers import Wish
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import MINUTE, format_duration

Status = Literal["in", "ready", "starting", "waiting", "stopping", "down", "stuck", "over"]
"""``in``: somebody is in its server; ``ready``: it runs, and nobody came yet; ``waiting``: for its turn to be started;
``down``: it was stopped; ``stuck``: it does not come up; ``over``: the seat was given back."""

STATUSES: tuple[Status, ...] = get_args(Status)

LONG = 3 * MINUTE
"""A server that has been starting for so long is stuck."""


def status_of(
    now: int, seat: Reservation, *, came: bool = False, problem: str = "", wish: Wish | None = None
) -> tuple[Status, str]:
    """How a seat is, and why where it is stuck.

    :param came: whether somebody was seen in its server. :param problem: why it is not up after it was tried.
    """
    if seat.state(now) == "ended":
        return "over", ""
    server = seat.server_state()
    if server == "stopping" or rules.is_to_stop(seat, wish):
        return "stopping", ""
    if server == "running":
        return ("in" if came else "ready"), ""
    if server == "starting":
        since = now - (now if seat.starting_at is None else seat.starting_at)
        if since < LONG:
            return "starting", ""
        return "stuck", f"It has been starting for {format_duration(since // MINUTE * MINUTE)}."
    if rules.is_to_start(seat, wish):
        return ("stuck", problem) if problem else ("waiting", "")
    return "down", ""


def counts(found: Iterable[Status]) -> dict[Status, int]:
    """How many there are of each, in the order of :data:`STATUSES`, without those of which there is none."""
    many = Counter(found)
    return {status: many[status] for status in STATUSES if many[status]}
