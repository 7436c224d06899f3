"""Guests: people without an account who come by a code, see nobody else, and are erased afterwards.

Their names begin with ``guest-``, which no other login may give.
"""

from __future__ import annotations

import secrets

GUEST = "guest-"
"""How the names of guests begin; nobody else has such a name."""
GUESTS = "guests"
"""The group that MLMP counts every guest to, beside those of the hub: their limits are those of that group, and what
is not for one of their groups by name is not for them."""

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 10


def is_guest(name: str) -> bool:
    """Whether this is the name of a guest."""
    return name.startswith(GUEST)


def new_name() -> str:
    """A name that says nothing of its bearer: also that of an account of the system."""
    return GUEST + "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))


def may_use(profile: str) -> str:
    """The group that MLMP counts the guests to who may use a profile. No group of the hub has a ':' by accident."""
    return f"{GUESTS}:{profile}"
