"""A site on which no jobs run: what is told to people, and what stands where a back-end would be.

The look at jobs goes on, since what is under way must end and give its units back.
"""

from __future__ import annotations

from mlmp_spawner.errors import JobsOff
from mlmp_spawner.jobs.base import Backend, LogPart, Order, Seen


def switched_off() -> JobsOff:
    """An admin does not want any."""
    return JobsOff(
        "No jobs run here: the people who run this have switched them off.",
        hint="An admin switches them on by c.MLMP.jobs = True in jupyterhub_config.py and a restart.",
    )


def not_in_clusters() -> JobsOff:
    """Servers are pods, and nobody has switched on what runs jobs beside them."""
    return JobsOff(
        "No jobs run here: this hub is in a Kubernetes cluster in which nobody has switched them on.",
        hint="Book a server and run your program in it. An admin switches jobs on by `jobs.enabled: true` in the "
        "values of the Helm chart, once Kueue is in the cluster: see docs/how-to/jobs-on-kubernetes.md.",
    )


class NoJobs:
    """:class:`~mlmp_spawner.jobs.base.Backend` where nothing runs: it has a queue, and nothing ever leaves it.

    What is under way by the books is gone, as after a move to another back-end.
    """

    queues = True

    async def submit(self, order: Order) -> None:
        """:raises JobsOff: always."""
        raise not_in_clusters()

    async def state(self, attempt: str) -> Seen | None:
        """Nothing is known of any."""
        return None

    async def logs(self, attempt: str, start: int, limit: int) -> LogPart:
        """:raises JobsOff: always."""
        raise not_in_clusters()

    async def cancel(self, attempt: str, *, stop_at: int, kill_at: int) -> None:
        """There is nothing to end."""

    async def list(self) -> dict[str, Seen]:
        """Nothing."""
        return {}

    async def forget(self, attempt: str) -> None:
        """Nothing is kept."""


class Drained:
    """A back-end in which what runs comes to its end and nothing else begins: what is submitted waits for ever."""

    queues = True

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def submit(self, order: Order) -> None:
        """:raises JobsOff: it does not run yet."""
        if await self._backend.state(order.id) is None:
            raise switched_off()

    async def state(self, attempt: str) -> Seen | None:
        """What is seen of one."""
        return await self._backend.state(attempt)

    async def logs(self, attempt: str, start: int, limit: int) -> LogPart:
        """A part of its log."""
        return await self._backend.logs(attempt, start, limit)

    async def cancel(self, attempt: str, *, stop_at: int, kill_at: int) -> None:
        """Brings its end forward."""
        await self._backend.cancel(attempt, stop_at=stop_at, kill_at=kill_at)

    async def list(self) -> dict[str, Seen]:
        """All that still runs, or has ended and is not written down."""
        return await self._backend.list()

    async def forget(self, attempt: str) -> None:
        """Its end was written down."""
        await self._backend.forget(attempt)
