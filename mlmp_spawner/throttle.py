"""Rate limits: a bucket of requests for each caller, refilled at an even rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic

from mlmp_spawner.errors import TooManyRequests


class Throttle:
    """Token buckets by name. ``rate`` in requests per second, ``burst`` at once; a rate of 0 means no limit.

    :param of: what is counted, if not requests.
    """

    def __init__(
        self, rate: float, burst: int, *, of: str = "requests", clock: Callable[[], float] = monotonic
    ) -> None:
        self.rate = rate
        self.burst = max(1, burst)
        self._of = of
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, who: str, cost: float = 1.0) -> None:
        """Counts one request.

        :raises TooManyRequests: with ``retry_after`` in whole seconds.
        """
        if self.rate <= 0:
            return
        now = self._clock()
        level = self._level(who, cost, now)
        self._buckets[who] = (level - cost, now)
        if len(self._buckets) > 10_000:
            self._forget_full(now)

    def check(self, who: str, cost: float = 1.0) -> None:
        """Counts nothing.

        :raises TooManyRequests: as :meth:`take` would.
        """
        if self.rate > 0:
            self._level(who, cost, self._clock())

    def _level(self, who: str, cost: float, now: float) -> float:
        level, seen = self._buckets.get(who, (float(self.burst), now))
        level = min(float(self.burst), level + (now - seen) * self.rate)
        if level < cost:
            wait = max(1, math.ceil((cost - level) / self.rate))
            raise TooManyRequests(
                f"More than {self.rate:g} {self._of} a second.", hint=f"Try again in {wait} s.", retry_after=wait
            )
        return level

    def _forget_full(self, now: float) -> None:
        """Forgets callers whose bucket is full again, so that memory stays bounded."""
        full = self.burst / self.rate
        self._buckets = {who: seen for who, seen in self._buckets.items() if now - seen[1] < full}
