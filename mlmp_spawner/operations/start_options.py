"""What somebody wants to start, out of a form or an API call. Both are hostile input until they have been here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlmp_spawner.errors import Invalid
from mlmp_spawner.operations.admission import StartOptions
from mlmp_spawner.units import parse_duration

FIELDS = ("reservation", "profile", "units", "node", "duration", "image")
"""What ``user_options`` may hold: texts, ``units`` also as a number, ``duration`` as people write it (``4h``)."""

_LONGEST = 300
_MOST_FIELDS = 200
_ID = re.compile(r"[a-z0-9]{8,30}")
_NOT_OURS = {"_xsrf"}


def from_form(form: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The ``user_options`` in the spawn form, which sends ``reservation=ID``, or the length that was chosen for one
    profile, ``duration:PROFILE=14400s``, with ``units:PROFILE=2`` and ``image:PROFILE=lab`` of every profile.

    :raises Invalid: it is no such form.
    """
    if len(form) > _MOST_FIELDS:
        raise Invalid("That is not the form of this page: it has too many fields.")
    plain: dict[str, Any] = {}
    of_profile: dict[str, dict[str, str]] = {"duration": {}, "units": {}, "image": {}}
    for name, values in form.items():
        if name in _NOT_OURS:
            continue
        value = _single(name, values)
        field, colon, profile = name.partition(":")
        if colon and field in of_profile:
            of_profile[field][profile] = value
        elif value:
            plain[name] = value
    if len(of_profile["duration"]) > 1:
        raise Invalid.field("duration", "choose one profile at a time")
    for profile, duration in of_profile["duration"].items():
        plain |= {"profile": profile, "duration": duration}
        plain |= {field: of_profile[field][profile] for field in ("units", "image") if profile in of_profile[field]}
    parse(plain)
    return plain


def parse(options: object) -> StartOptions:
    """``user_options`` as what they mean. Where a reservation is named nothing else counts.

    :raises Invalid: naming the first field that is wrong.
    """
    if not isinstance(options, Mapping):
        raise Invalid(f"user_options is an object with the fields {', '.join(FIELDS)}.")
    unknown = [name for name in options if name not in FIELDS]
    if unknown:
        raise Invalid.field(_shown(unknown[0]), f"there is no such option; valid: {', '.join(FIELDS)}")
    given = {name: value for name, value in options.items() if value is not None and value != ""}
    if "reservation" in given:
        return StartOptions(reservation=_id(given["reservation"]))
    return StartOptions(
        profile=_text("profile", given),
        units=_number("units", given),
        node=_text("node", given),
        duration=_duration(given),
        image=_text("image", given),
    )


def _single(name: str, values: Sequence[Any]) -> str:
    if isinstance(values, str) or len(values) != 1 or not isinstance(values[0], str):
        raise Invalid.field(_shown(name), "one value is enough")
    return values[0].strip()


def _id(value: object) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise Invalid.field("reservation", f"{_shown(value)} is not the id of a booking")
    return value


def _text(name: str, given: Mapping[str, Any]) -> str | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        raise Invalid.field(name, f"{_shown(value)} is not a name")
    return value


def _number(name: str, given: Mapping[str, Any]) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 6:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1_000_000:
        raise Invalid.field(name, f"{_shown(value)} is not a number of units; write 1, 2, 3 …")
    return value


def _duration(given: Mapping[str, Any]) -> int | None:
    value = given.get("duration")
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise Invalid.field("duration", f"{_shown(value)} is not a duration; write 90m, 4h or 2d")
    try:
        return parse_duration(value)
    except ValueError as error:
        raise Invalid.field("duration", str(error)) from None


def _shown(value: object) -> str:
    """Whatever it is, as a message may show it."""
    text = repr(value) if isinstance(value, (str, int, float)) else type(value).__name__
    return text if len(text) <= 60 else text[:60] + "…"
