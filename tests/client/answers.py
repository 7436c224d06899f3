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


def job(**changes: Any) -> dict[str, Any]:
    """A job of Ann's that runs, in its first attempt."""
    body = {
        "id": ID, "owner": "ann", "name": "train", "group": "lab", "batch": None, "state": "running", "outcome": None,
        "reason": None, "message": "", "exit_status": None, "profile": "gpu", "resource": "nvidia.com/gpu", "units": 1,
        "workers": 1, "hours": 2.0, "created_at": at(-HOUR), "queued_at": at(-HOUR), "started_at": at(-MINUTE),
        "ended_at": None, "stops_at": at(2 * HOUR - MINUTE), "estimated_start": None, "why": None,
        "attempts": [attempt()], "manifest": None, "etag": '"1-abc"',
    }  # fmt: skip
    return {**body, **changes}


def attempt(number: int = 1, **changes: Any) -> dict[str, Any]:
    """One try of it."""
    body = {
        "number": number, "nodes": ["box"], "state": "running", "starting_at": at(-MINUTE), "started_at": at(-MINUTE),
        "ended_at": None, "stop_reason": None, "reason": None, "exit_status": None, "message": "",
    }  # fmt: skip
    return {**body, **changes}


def queued_job(**changes: Any) -> dict[str, Any]:
    """One that waits."""
    waits = {"state": "queued", "started_at": None, "stops_at": None, "attempts": [], "estimated_start": at(HOUR)}
    return job(**{**waits, "why": "Waits for 1 x gpu: booked until 14:00.", **changes})


def ended_job(outcome: str = "succeeded", **changes: Any) -> dict[str, Any]:
    """One that is over."""
    reason = {"succeeded": "succeeded", "failed": "exit_status", "cancelled": "cancelled"}[outcome]
    status = {"succeeded": 0, "failed": 3}.get(outcome)
    how = {"reason": reason, "exit_status": status, "ended_at": at(0)}
    over = {"state": "ended", "outcome": outcome, "stops_at": None, "attempts": [attempt(state="ended", **how)]}
    return job(**{**over, **how, **changes})
