"""What a booking would add to its owner's limits, in words, and what would stay within them."""

from __future__ import annotations

from dataclasses import replace

from mlmp_spawner.operations.preview import Preview
from mlmp_spawner.units import HOUR, MINUTE
from mlmp_spawner.web.sentence import Sentence
from mlmp_spawner.web.views import number


def line(preview: Preview) -> str:
    """What would be used of each limit that counts; "" where nothing is limited."""
    rules, ask, usage = preview.rules, preview.ask, preview.usage
    parts = []
    if ask.counted and rules.hours_per_week is not None:
        total = number(usage.hours_in_week + ask.hours)
        parts.append(f"{total} h of {number(rules.hours_per_week)} h in 7 days (this adds {number(ask.hours)} h)")
    if ask.counted and rules.units_at_once is not None:
        parts.append(f"{usage.units_at_peak + ask.units_total} of {rules.units_at_once} units at once")
    if rules.open_bookings is not None:
        parts.append(f"{usage.open_bookings + 1} of {rules.open_bookings} bookings")
    return " · ".join(parts)


def within(said: Sentence, preview: Preview) -> Sentence | None:
    """The sentence with so few units and so short that the limits let it pass; None where that is not enough."""
    rules, ask, usage = preview.rules, preview.ask, preview.usage
    units, length = said.units, said.duration
    if ask.counted and rules.units_at_once is not None:
        units = min(units, (rules.units_at_once - usage.units_at_peak) // said.node_count)
    if units < 1:
        return None
    if rules.max_duration is not None:
        length = min(length, rules.max_duration)
    if ask.counted and rules.hours_per_week is not None:
        left = (rules.hours_per_week - usage.hours_in_week) * HOUR / (units * said.node_count)
        length = min(length, int(left // MINUTE) * MINUTE)
    if length < (rules.min_duration or MINUTE) or (units, length) == (said.units, said.duration):
        return None
    opens = rules.open_bookings is None or usage.open_bookings < rules.open_bookings
    near = rules.ahead is None or ask.start - ask.now <= rules.ahead
    return replace(said, units=units, duration=length) if opens and near else None
