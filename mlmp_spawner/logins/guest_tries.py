"""How often codes of guests may be tried: guessing is hopeless by their length, and this keeps it from being work."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from contextlib import suppress

from mlmp_spawner.errors import TooManyRequests
from mlmp_spawner.throttle import Throttle

OF_ONE = 1, 120
"""Tries of one address a second, and at once: a whole class comes by one."""
OF_ALL = 50, 1000
"""Wrong tries of all addresses."""
LATELY = 600
"""Seconds after a wrong try in which an address waits with the others while there are too many wrong ones in all."""


class Tries:
    """Counts tries by address. Too many wrong ones in all stop only the addresses that wrong ones came from."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._of_one = Throttle(*OF_ONE, of="codes", clock=clock)
        self._wrong = Throttle(*OF_ALL, of="wrong codes", clock=clock)
        self._no_wrong_lately = Throttle(1 / LATELY, 1, of="wrong codes", clock=clock)

    def take(self, address: str) -> None:
        """Counts a try.

        :raises TooManyRequests: it has to wait, whatever the code.
        """
        where = network_of(address)
        self._of_one.take(where)
        try:
            self._wrong.check("all")
        except TooManyRequests:
            self._no_wrong_lately.check(where)

    def was_wrong(self, address: str) -> None:
        """Counts a wrong code."""
        for throttle, who in ((self._wrong, "all"), (self._no_wrong_lately, network_of(address))):
            with suppress(TooManyRequests):
                throttle.take(who)


def network_of(address: str) -> str:
    """What counts as one address: of IPv6 the network, since everybody has a whole one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)
