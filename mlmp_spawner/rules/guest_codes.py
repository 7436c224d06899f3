"""Codes by which guests come: secrets that people can type from a sheet.

16 characters of Crockford's base 32 in four groups, ``K7M2-9QXF-3HTB-W0ZC``: 13 of them drawn at random (65 bits), and
3 that follow from these, so that what was mistyped is told from what was never given, without looking anything up.
Only the SHA-256 of a code is kept: that is enough for 65 random bits.
"""

from __future__ import annotations

import hashlib
import secrets

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MEANT = str.maketrans("OIL", "011", " -\t\u00a0\u2010\u2011\u2012\u2013\u2014")
_RANDOM, _CHECK, _GROUP = 13, 3, 4
LENGTH = _RANDOM + _CHECK
LONGEST = 64
"""The longest text that is looked at: a code with everything that people type between its letters."""


def new() -> str:
    """A code, as it is printed."""
    body = "".join(secrets.choice(_LETTERS) for _ in range(_RANDOM))
    return shown(body + _check(body))


def read(text: str) -> str | None:
    """The code that somebody typed, in one piece: small letters, spaces, hyphens and letters that look like digits are
    all right. None: it can't be one, or was mistyped."""
    if len(text) > LONGEST:
        return None
    code = text.upper().translate(_MEANT)
    if len(code) != LENGTH or not set(code) <= set(_LETTERS):
        return None
    return code if secrets.compare_digest(code[_RANDOM:], _check(code[:_RANDOM])) else None


def shown(code: str) -> str:
    """As it is printed, in groups."""
    return "-".join(code[at : at + _GROUP] for at in range(0, len(code), _GROUP))


def digest(code: str) -> str:
    """What is kept of a code. :param code: as :func:`read` gives it."""
    return hashlib.sha256(f"mlmp guest {code}".encode()).hexdigest()


def _check(body: str) -> str:
    number = int.from_bytes(hashlib.sha256(body.encode()).digest()[:4], "big")
    return "".join(_LETTERS[number >> shift & 31] for shift in (10, 5, 0))
