"""When the terminals are told that the booking ends, and in which words. Pure; instants and durations are ms."""

from __future__ import annotations

MOMENTS = (10 * 60_000, 2 * 60_000)
"""How long before the end."""


def due(left: int, told: int | None) -> int | None:
    """The moment of which a terminal is to be told now; None: of none.

    :param left: until the end. :param told: the last moment it was told of.
    """
    passed = [moment for moment in MOMENTS if left <= moment]
    if left <= 0 or not passed or (told is not None and told <= passed[-1]):
        return None
    return passed[-1]


def still_told(left: int, told: int | None) -> int | None:
    """What counts as told once the booking was extended: what lies ahead again is not."""
    return told if told is not None and left <= told else None


def words(left: int, reservation: str) -> str:
    """What the terminal shows."""
    minutes = max(1, round(left / 60_000))
    return f"Your booking ends in {minutes} min, and this terminal with it. More time: mlmp extend {reservation} 1h"
