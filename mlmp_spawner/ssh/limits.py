"""How much of the gateway one address or one person may take.

Failures count for the address alone: counted by name, anybody could shut anybody out.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Protocol, TypeVar

from mlmp_spawner.errors import TooManyRequests
from mlmp_spawner.ssh.settings import MLMPSSHGateway
from mlmp_spawner.throttle import Throttle

_What = TypeVar("_What")


class Stranger(Protocol):
    """A connection that has not logged in yet."""

    @property
    def address(self) -> str:
        """Where it is from."""

    def turn_away(self, why: str) -> None:
        """Ends it."""


class Limits:
    """Counts, and says no. ``clock`` in seconds."""

    def __init__(self, settings: MLMPSSHGateway, *, clock: Callable[[], float] = monotonic) -> None:
        self.settings = settings
        self._failures = Throttle(settings.failures_per_minute / 60, settings.failures_at_once, clock=clock)
        burst = max(1, round(settings.opens_per_minute))
        self._opens = Throttle(settings.opens_per_minute / 60, burst, clock=clock)
        self._comes = Throttle(settings.connections_per_minute / 60, settings.connections_at_once, clock=clock)
        self._strangers: dict[Stranger, str] = {}  # and the network of each, the oldest first
        self._connections: Counter[int] = Counter()
        self._sessions: Counter[int] = Counter()

    @property
    def nothing_counted(self) -> bool:
        """Whether nobody has anything open."""
        return not (self._strangers or self._connections or self._sessions)

    def came(self, stranger: Stranger) -> None:
        """A connection came, of which nobody knows whose it is. :meth:`went` is due for it, but not after a refusal.

        Where there are too many of all addresses together, the newcomer is let in, and the oldest one of the address
        that holds the most has to go: silent ones would shut everybody out.

        :raises TooManyRequests: there are too many from this address, they come too fast, or too many logins failed.
        """
        place = network(stranger.address)
        held = Counter(self._strangers.values())
        if held[place] >= self.settings.unknown_connections_per_address:
            raise TooManyRequests("too many connections from this address that have not logged in")
        _counted(self._comes.take, place, "too many connections from this address")
        _counted(self._failures.check, place, "too many logins from this address failed")
        if len(self._strangers) >= self.settings.unknown_connections:
            most = max(held, key=held.__getitem__)
            oldest = next(one for one, where in self._strangers.items() if where == most)
            self.went(oldest)
            oldest.turn_away("too many connections that have not logged in")
        self._strangers[stranger] = place

    def went(self, stranger: Stranger) -> None:
        """It has logged in, or is gone."""
        self._strangers.pop(stranger, None)

    def failed(self, address: str) -> None:
        """A login from there failed."""
        with suppress(TooManyRequests):
            self._failures.take(network(address))

    def logged_in(self, user_id: int) -> None:
        """Somebody has one connection more. :meth:`logged_out` is due for it also after a refusal.

        :raises TooManyRequests: they have too many.
        """
        self._connections[user_id] += 1
        if self._connections[user_id] > self.settings.connections_per_user:
            raise TooManyRequests(f"more than {self.settings.connections_per_user} connections; close some")

    def logged_out(self, user_id: int) -> None:
        """Somebody has one connection less."""
        _less(self._connections, user_id)

    def open(self, user_id: int) -> None:
        """Somebody opens a session. :meth:`close` is due for it also after a refusal.

        :raises TooManyRequests: they have too many, or open them too fast.
        """
        self._sessions[user_id] += 1
        if self._sessions[user_id] > self.settings.connections_per_user:
            raise TooManyRequests(f"more than {self.settings.connections_per_user} sessions; close some")
        _counted(self._opens.take, str(user_id), "too many sessions a minute")

    def close(self, user_id: int) -> None:
        """It is closed."""
        _less(self._sessions, user_id)


def network(address: str) -> str:
    """What counts as one address: of IPv6, a network of 64 bits, of which one person has as many as they like."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def _counted(count: Callable[[str], None], who: str, what: str) -> None:
    try:
        count(who)
    except TooManyRequests as error:
        raise TooManyRequests(f"{what}; try again in {error.data['retry_after']} s") from error


def _less(counted: Counter[_What], what: _What) -> None:
    counted[what] -= 1
    if counted[what] <= 0:
        del counted[what]
