"""Notices: which events their owner is told of, on which ways, and until when that is worth telling."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from mlmp_spawner.units import HOUR, SECOND

Kind = Literal[
    "booked", "starts_soon", "ends_soon", "promoted", "moved", "released", "idle", "maintenance", "job_ended",
    "job_failed", "job_requeued", "message", "test"
]  # fmt: skip
Channel = Literal["browser", "mail", "webhook"]
Shape = Literal["slack", "teams"]

KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != "test")
"""What people choose for; ``test`` goes out on every way that there is."""

CHANNELS: tuple[Channel, ...] = get_args(Channel)
SHAPES: tuple[Shape, ...] = get_args(Shape)

_QUIET: frozenset[Kind] = frozenset({"booked", "starts_soon", "job_ended", "job_requeued", "message"})

_KIND_OF: dict[str, Kind] = {
    "booked": "booked",
    "waitlisted": "booked",
    "announced": "starts_soon",
    "warned": "ends_soon",
    "offered": "ends_soon",
    "promoted": "promoted",
    "moved": "moved",
    "capacity_lost": "moved",
    "no_show": "released",
    "preempted": "released",
    "idle": "released",
    "idle_warned": "idle",
    "maintenance": "maintenance",
    "class_problem": "maintenance",
    "job_ended": "job_ended",
    "job_failed": "job_failed",
    "job_requeued": "job_requeued",
    "class_message": "message",
}
_BY_OTHERS: dict[str, Kind] = {"released": "released", "cancelled": "released", "changed": "moved"}

FIRST_WAIT = 30 * SECOND
LONGEST_WAIT = HOUR

# What mail servers take in practice; no quoting, no comments, nothing that could end a header.
_MAIL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@"
    r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*",
    re.ASCII,
)
_USER_IN_MAIL = re.compile(r"[A-Za-z0-9._+-]+(@[A-Za-z0-9.-]+)?", re.ASCII)


def kind_of(action: str, *, actor: str, owner: str | None) -> Kind | None:
    """What the owner of a booking is told when ``actor`` did this to it; None: nothing."""
    if owner is None:
        return None
    if action in _BY_OTHERS:
        return None if actor == owner else _BY_OTHERS[action]
    return _KIND_OF.get(action)


def channels_of(kind: Kind, choices: Mapping[str, Iterable[str]]) -> frozenset[Channel]:
    """On which ways a person is told of this kind, by their choices or else by default: all in the browser; what
    changes a booking, or soon ends it, by mail and webhook too."""
    if kind == "test":
        return frozenset(CHANNELS)
    if kind in choices:
        return frozenset(one for one in CHANNELS if one in choices[kind])
    return frozenset({"browser"}) if kind in _QUIET else frozenset(CHANNELS)


def useless_after(kind: Kind, at: int, details: Mapping[str, Any]) -> int | None:
    """The instant (ms UTC) after which nobody needs the notice any more; None: there is none."""
    start, end = details.get("start"), details.get("end")
    if kind == "starts_soon" and isinstance(start, int):
        return start
    if kind in ("booked", "ends_soon", "promoted", "moved", "idle", "maintenance", "message") and isinstance(end, int):
        return max(end, at)
    return at + HOUR if kind == "test" else None


def next_try(tries: int, now: int, *, at: int, keep_trying: int) -> int | None:
    """When to try again after ``tries`` failures: ever later, up to an hour; None: given up, ``keep_trying`` ms after
    the event (``at``)."""
    last = at + keep_trying
    if now >= last:
        return None
    return min(now + min(FIRST_WAIT << min(max(tries, 1) - 1, 20), LONGEST_WAIT), last)


def mail_address(text: str) -> str:
    """A mail address as it may stand in a header.

    :raises ValueError: it is none.
    """
    text = text.strip()
    if len(text) > 254 or not _MAIL.fullmatch(text) or len(text.partition("@")[0]) > 64:
        raise ValueError("this is not a mail address; write it like ann@example.org")
    return text


def address_of(username: str, template: str) -> str | None:
    """The address that the site's template gives a user; None where there is none (the name does not fit in one)."""
    if not template or not _USER_IN_MAIL.fullmatch(username):
        return None
    try:
        return mail_address(template.replace("{username}", username))
    except ValueError:
        return None


def webhook_address(text: str, hosts: Iterable[str]) -> str:
    """A webhook of a person's own, at one of the ``hosts`` (``chat.example.org`` or with ``:PORT``) that are allowed.

    :raises ValueError: anything else.
    """
    text, allowed = text.strip(), sorted(hosts)
    if not allowed:
        raise ValueError("webhooks of one's own are not allowed here")
    if len(text) > 500 or not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("this is not the address of a webhook: at most 500 printable characters, without spaces")
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError("this is not the address of a webhook") from None
    host = (url.hostname or "").lower()
    if url.scheme not in ("http", "https") or url.username is not None or url.password is not None:
        raise ValueError("the address of a webhook begins with https:// and holds no password")
    if (f"{host}:{port}" if port is not None else host) not in allowed:
        raise ValueError(f"webhooks may only be at {', '.join(allowed)}, not at {host or 'nowhere'}")
    return text
