"""Where a person's files are: from a user name, which may hold anything, to the name of a directory."""

from __future__ import annotations

import hashlib
import re
import unicodedata

LONGEST_PLAIN = 60
"""A name is taken as it is up to this length."""

_PLAIN = re.compile(r"[a-z0-9][a-z0-9._-]*")
_MARK = "---"
_LONGEST_SLUG = 40


def directory_name(username: str) -> str:
    """One path component for ``username``: safe on every file system, and another for every other name.

    A plain name (``[a-z0-9][a-z0-9._-]*``, at most 60 characters, without ``---``) stays as it is. Of any other, what
    can be read of it is followed by ``---`` and 16 hex digits of its SHA-256, so that no two names share a directory,
    on file systems that don't tell case either.
    """
    if _PLAIN.fullmatch(username) and len(username) <= LONGEST_PLAIN and _MARK not in username:
        return username
    digest = hashlib.sha256(username.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{_slug(username)}{_MARK}{digest}"


def _slug(username: str) -> str:
    """What can be read of a name: letters without their accents, '-' for the rest."""
    ascii_only = unicodedata.normalize("NFKD", username[:200]).encode("ascii", "ignore").decode("ascii")
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_only.lower()).strip("-")
    return slug[:_LONGEST_SLUG].rstrip("-") or "user"
