"""The part of a booking form that says how often: ``templates/recurrence.html``."""

from __future__ import annotations

import re

from mlmp_spawner.errors import Invalid

RULES = {"daily": "FREQ=DAILY", "weekdays": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR", "weekly": "FREQ=WEEKLY"}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def rule_of(repeat: str, until: str) -> str | None:
    """The rule (RFC 5545) that the two fields say; None: it does not repeat.

    :param repeat: "" or one of :data:`RULES`. :param until: the last day, as ``type=date`` sends it: ``2026-12-18``.
    :raises Invalid: anything else.
    """
    if not repeat:
        return None
    if repeat not in RULES:
        raise Invalid.field("repeat", f"{repeat[:40]!r} is not known; valid: {', '.join(RULES)}")
    if not _DATE.fullmatch(until):
        raise Invalid.field("until", f"{until[:40]!r} is not a day; say the last one, such as 2026-12-18")
    return f"{RULES[repeat]};UNTIL={until.replace('-', '')}"
