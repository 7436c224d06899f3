"""What the service answers, as frozen values. Instants and durations are ms.

The API only grows: members that are not known here are ignored, and ``raw`` has the answer as it came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlmp_spawner.errors import NotNow
from mlmp_spawner.units import from_iso

Json = Mapping[str, Any]


def instant(value: object) -> int | None:
    """ISO 8601 to ms; None stays None."""
    return None if value is None else from_iso(str(value))


@dataclass(frozen=True, slots=True)
class Allocation:
    """Units of a resource on a node."""

    node: str
    resource: str
    units: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """One booking. ``owner``: None where the hub does not show it; ``units`` are per node.

    ``url`` is where its server answers, as the service names it: whole, or a path on the hub.
    """

    id: str
    owner: str | None
    profile: str
    title: str
    start: int
    end: int
    state: str
    server_state: str
    units: int = 1
    node_count: int = 1
    image: str | None = None
    mine: bool = True
    waiting_reason: str | None = None
    waitlist_position: int | None = None
    end_reason: str | None = None
    stops_at: int | None = None
    url: str | None = None
    etag: str | None = None
    series: str | None = None
    allocations: tuple[Allocation, ...] = ()
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, body: Json) -> Reservation:
        """From JSON.

        :raises ValueError, KeyError, TypeError: it is not a reservation.
        """
        return cls(
            id=str(body["id"]),
            owner=body["owner"],
            profile=str(body["profile"]),
            title=str(body.get("title") or ""),
            start=from_iso(body["start"]),
            end=from_iso(body["end"]),
            state=str(body["state"]),
            server_state=str(body.get("server_state", "none")),
            waiting_reason=body.get("waiting_reason"),
            waitlist_position=body.get("waitlist_position"),
            units=int(body.get("units", 1)),
            node_count=int(body.get("node_count", 1)),
            image=body.get("image"),
            mine=bool(body.get("mine", True)),
            end_reason=body.get("end_reason"),
            stops_at=instant(body.get("stops_at")),
            url=body.get("url"),
            etag=body.get("etag"),
            series=body.get("series"),
            raw=body,
            allocations=tuple(
                Allocation(str(a["node"]), str(a["resource"]), int(a["units"])) for a in body.get("allocations", ())
            ),
        )


@dataclass(frozen=True, slots=True)
class Step:
    """From ``start`` to ``end``, ``free`` units are free."""

    start: int
    end: int
    free: int


@dataclass(frozen=True, slots=True)
class NodeAvailability:
    """What is free on one node. ``first_free``: the earliest start for the duration that was asked for."""

    node: str
    capacity: int
    steps: tuple[Step, ...]
    first_free: int | None = None

    @classmethod
    def parse(cls, body: Json) -> NodeAvailability:
        """From JSON; raises as :meth:`Reservation.parse`."""
        return cls(
            node=str(body["node"]),
            capacity=int(body["capacity"]),
            steps=tuple(Step(from_iso(s["start"]), from_iso(s["end"]), int(s["free"])) for s in body["steps"]),
            first_free=instant(body.get("first_free")),
        )


@dataclass(frozen=True, slots=True)
class Availability:
    """What is free for a profile over a window; ``units`` are what was asked for on each node."""

    profile: str
    units: int
    start: int
    end: int
    nodes: tuple[NodeAvailability, ...]
    first_free: int | None = None
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, body: Json) -> Availability:
        """From JSON; raises as :meth:`Reservation.parse`."""
        return cls(
            profile=str(body["profile"]),
            units=int(body["units"]),
            start=from_iso(body["start"]),
            end=from_iso(body["end"]),
            nodes=tuple(NodeAvailability.parse(node) for node in body["nodes"]),
            first_free=instant(body.get("first_free")),
            raw=body,
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """What can be booked."""

    name: str
    title: str
    resource: str
    units: int
    max_units: int
    simulated: bool
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, body: Json) -> Profile:
        """From JSON; raises as :meth:`Reservation.parse`."""
        return cls(
            name=str(body["name"]),
            title=str(body.get("title") or body["name"]),
            resource=str(body["resource"]),
            units=int(body["units"]),
            max_units=int(body["max_units"]),
            simulated=bool(body.get("simulated")),
            raw=body,
        )


@dataclass(frozen=True, slots=True)
class Me:
    """Who the token belongs to."""

    name: str
    groups: tuple[str, ...]
    scopes: tuple[str, ...]
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, body: Json) -> Me:
        """From JSON; raises as :meth:`Reservation.parse`."""
        return cls(
            name=str(body["name"]),
            groups=tuple(str(g) for g in body.get("groups", ())),
            scopes=tuple(str(s) for s in body.get("scopes", ())),
            raw=body,
        )


@dataclass(frozen=True, slots=True)
class Ssh:
    """How SSH reaches the caller's servers.

    ``login``: the account inside them; ``authority``: the public key of the SSH CA; ``principal``: the host name of
    the default server, and whom certificates name; ``gateway``: host and port.
    """

    enabled: bool
    login: str
    authority: str
    principal: str
    gateway: tuple[str, int] | None

    @classmethod
    def parse(cls, body: Json) -> Ssh:
        """From JSON; raises as :meth:`Reservation.parse`. What goes into files of OpenSSH is checked.

        :raises NotNow: the account has a name that OpenSSH's files don't take.
        """
        gateway = body.get("gateway")
        return cls(
            enabled=bool(body["enabled"]),
            login=_account(body["login"]),
            authority=_word(body["authority"], r"([\w.@-]+ [A-Za-z0-9+/=]+)?"),
            principal=_word(body["principal"], r"[\w.-]+"),
            gateway=(_word(gateway["host"], r"[\w.:-]+"), int(gateway["port"])) if gateway else None,
        )


def _account(value: object) -> str:
    try:
        return _word(value, r"[\w.@+-]+")
    except ValueError:
        text = str(value)
        if not text.isprintable():
            raise
        if not text:
            raise NotNow("The account that your servers run as has no name there, so no SSH.") from None
        raise NotNow(
            f"Your servers run as the account {text[:60]!r}, and with that name there is no SSH: it may have ASCII "
            "letters, digits and . _ @ + -, and may not begin with -."
        ) from None


def _word(value: object, pattern: str) -> str:
    text = str(value)
    if not re.fullmatch(pattern, text, re.ASCII) or text.startswith("-"):
        raise ValueError(f"{text[:60]!r} is not what belongs there")
    return text
