"""Answers of the service, as the contract has them."""

from __future__ import annotations

from typing import Any

from mlmp_spawner.units import HOUR, MINUTE, now, to_iso

ID = "abcdefgh12345678"


def at(ahead: int) -> str:
    """The instant ``ahead`` ms from now, on a whole minute."""
    return to_iso((now() + ahead) // MINUTE * MINUTE)


def reservation(**changes: Any) -> dict[str, Any]:
    """A booking of Ann's for four hours, which has begun and has no server."""
    body = {
        "id": ID, "owner": "ann", "kind": "session", "parent": None, "profile": "gpu", "title": "", "start": at(-HOUR),
        "end": at(3 * HOUR), "units": 2, "node_count": 1, "image": None, "state": "active", "waiting_reason": None,
        "server_state": "none", "end_reason": None, "waitlist_position": None,
        "allocations": [{"node": "box", "resource": "nvidia.com/gpu", "units": 2}], "pinned": False, "server": "",
        "url": None, "stops_at": at(3 * HOUR - MINUTE), "warned_at": None, "started_at": None, "stopped_at": None,
        "mine": True, "etag": '"1-abc"',
    }  # fmt: skip
    return {**body, **changes}


def me(**changes: Any) -> dict[str, Any]:
    """Ann."""
    limits = {"units_at_once": 4, "hours_per_week": None}
    used = {"units_at_once": 2, "hours_per_week": 12.5}
    body = {"name": "ann", "groups": ["lab"], "scopes": [], "zone": "UTC", "limits": limits, "used": used}
    return {**body, **changes}


def catalog(*names: str, simulated: bool = False) -> dict[str, Any]:
    """Profiles of these names."""
    one = {"title": "A GPU", "resource": "nvidia.com/gpu", "units": 1, "max_units": 4, "simulated": simulated}
    return {"nodes": [], "images": [], "profiles": [{"name": name, **one} for name in names or ("gpu",)]}
