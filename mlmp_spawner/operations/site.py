"""What every operation needs to know about the site: the database, the catalog, the times of the house."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from sqlalchemy import Engine

from mlmp_spawner.rules.catalog import Catalog
from mlmp_spawner.rules.due import WARN_BEFORE
from mlmp_spawner.rules.reservations import DEFAULT_STOP_LEAD


@dataclass(frozen=True, slots=True)
class Site:
    """A site as it is now; a changed catalog makes a new one. ``stop_lead`` and ``warn_before`` in ms."""

    engine: Engine
    catalog: Catalog
    stop_lead: int = DEFAULT_STOP_LEAD
    warn_before: tuple[int, ...] = WARN_BEFORE


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something. ``admin`` may act for others."""

    name: str
    groups: frozenset[str] = field(default=frozenset())
    admin: bool = False


CLOCK = Actor("clock", admin=True)
"""The clock itself, in the history."""

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # nothing that is mistaken for another when read aloud


def new_id() -> str:
    """A short opaque id, ``[a-z0-9]{12}``: also a valid name of a server."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(12))
