"""A back-end that runs nothing and remembers what it was asked: what its attempts do, the test says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.jobs.base import LogPart, Order, Seen
from mlmp_spawner.rules.jobs import Reason


@dataclass
class RememberedJobs:
    """Attempts end when the test says so, at their ``kill_at`` at the latest; ``polite`` ones at their ``stop_at``.

    ``silent``: it does not answer. ``deaf``: nothing that is submitted arrives.
    """

    queues: bool = False
    polite: bool = True
    silent: bool = False
    deaf: bool = False
    now: int = 0
    orders: dict[str, Order] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    times: dict[str, tuple[int, int]] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)

    def _answer(self) -> None:
        if self.silent:
            raise Unavailable("The remembered back-end does not answer.")

    async def submit(self, order: Order) -> None:
        self._answer()
        if self.deaf or order.id in self.seen:
            return
        assert order.id not in self.forgotten, "what has ended is not submitted again"
        self.orders[order.id] = order
        self.times.setdefault(order.id, (order.stop_at, order.kill_at))
        self.seen[order.id] = Seen(order.id, "running", started_at=self.now)

    async def state(self, attempt: str) -> Seen | None:
        self._answer()
        return self.seen.get(attempt)

    async def logs(self, attempt: str, start: int, limit: int) -> LogPart:
        self._answer()
        return LogPart(b"", 0, 0, 0, True)

    async def cancel(self, attempt: str, *, stop_at: int, kill_at: int) -> None:
        self._answer()
        if attempt in self.times:
            old = self.times[attempt]
            self.times[attempt] = (min(old[0], stop_at), min(old[1], kill_at))

    async def list(self) -> dict[str, Seen]:
        self._answer()
        return dict(self.seen)

    async def forget(self, attempt: str) -> None:
        self._answer()
        if attempt in self.seen:
            assert self.seen[attempt].phase == "ended"
            del self.seen[attempt]
        self.forgotten.append(attempt)

    # -- what the test says ------------------------------------------------------------------------------------

    def running(self) -> dict[str, Order]:
        """What runs just now."""
        return {one.id: self.orders[one.id] for one in self.seen.values() if one.phase == "running"}

    def end(self, attempt: str, reason: Reason = "succeeded", status: int | None = 0, message: str = "") -> None:
        """An attempt ends now."""
        was = self.seen[attempt]
        assert was.phase == "running"
        self.seen[attempt] = replace(
            was, phase="ended", ended_at=self.now, reason=reason, exit_status=status, message=message
        )

    def vanish(self, attempt: str) -> None:
        """An attempt is gone and left nothing."""
        del self.seen[attempt]

    def pass_time(self, now: int) -> None:
        """It is ``now``, and whose time is over has ended, as it does whoever else is dead."""
        self.now = now
        for attempt in self.running():
            stop_at, kill_at = self.times[attempt]
            over = stop_at if self.polite else kill_at
            if now >= over:
                self.now = over
                self.end(attempt, "signal", None)
                self.now = now


class Killed(BaseException):
    """The process is killed here."""


@dataclass
class MortalJobs(RememberedJobs):
    """The back-end, reached from a process that is killed after some steps: a step is a verb, before it or after it
    was done, or a commit."""

    left: int | None = None
    done: set[str] = field(default_factory=set)
    """Jobs that have succeeded before anybody told them to end: they never run again."""

    def step(self, *_: object) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                raise Killed

    async def submit(self, order: Order) -> None:
        self.step()
        assert order.job not in self.done or order.id in self.seen
        await super().submit(order)
        self.step()

    async def cancel(self, attempt: str, *, stop_at: int, kill_at: int) -> None:
        self.step()
        await super().cancel(attempt, stop_at=stop_at, kill_at=kill_at)
        self.step()

    async def forget(self, attempt: str) -> None:
        self.step()
        await super().forget(attempt)
        self.step()
