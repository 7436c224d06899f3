"""The users' servers on one machine, as the clock sees and reaches them.

What runs is known from the records that each ``mlmp run`` keeps in ``DATA/servers``; when it ends is told through
``DATA/deadlines``. A server is stopped through the hub, so that pages and proxy know at once; when the hub is silent,
by a deadline in the past, which ``mlmp run`` obeys by itself.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from mlmp_spawner import deadlines, processes, units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import MLMPError
from mlmp_spawner.hub import HubClient
from mlmp_spawner.operations.clock import RunningServer
from mlmp_spawner.operations.stops import StopsUnderWay

log = logging.getLogger(__name__)

YOUNG = 120.0
"""Seconds for which a deadline is kept although nothing is seen to run by it."""


class LocalServers:
    """:class:`~mlmp_spawner.operations.clock.Servers` on one machine.

    :param data: the data directory. :param silent_after: seconds after which the hub counts as silent.
    """

    def __init__(self, data: Path, hub: HubClient, *, silent_after: float = 10.0) -> None:
        self.deadlines = data / "deadlines"
        self.records = data / "servers"
        self.hub = hub
        self.silent_after = silent_after
        self.stops = StopsUnderWay()

    async def running(self) -> dict[str, RunningServer]:
        """The servers whose ``mlmp run`` is alive."""
        records = await asyncio.to_thread(processes.running, self.records)
        return {r.id: RunningServer(r.id, r.owner, r.server) for r in records}

    async def publish(self, server_id: str, deadline: Deadline) -> bool:
        """Writes the deadline where ``mlmp run`` reads it, if it differs; False where that may have acted before."""
        return await asyncio.to_thread(_publish, self.deadlines, server_id, deadline)

    async def stop(self, running: RunningServer, deadline: Deadline) -> None:
        """Asks the hub; a stop on its way is not asked for again, and nobody waits for it to be over."""
        self.stops.begin(running.server_id, lambda: self._stop(running, deadline))

    async def forget(self, live: set[str]) -> None:
        """Removes the deadlines of servers that are gone."""
        self.stops.forget(live)
        await asyncio.to_thread(_remove_others, self.deadlines, live)

    async def _stop(self, running: RunningServer, deadline: Deadline) -> None:
        try:
            await asyncio.wait_for(self.hub.stop_server(running.owner, running.server), self.silent_after)
            return
        except (MLMPError, asyncio.TimeoutError) as error:
            log.warning("the hub does not stop %s (%s): stopping it past the hub", running.server_id, error)
        await self.publish(running.server_id, deadline)


def _publish(directory: Path, server_id: str, deadline: Deadline) -> bool:
    former = deadlines.read(directory, server_id)
    if former != deadline:
        deadlines.write(directory, server_id, deadline)
    return former is None or units.now() < former.acts_at


def _remove_others(directory: Path, live: set[str]) -> None:
    for server_id, age in deadlines.published(directory).items():
        # A start writes its deadline before anybody can see that it runs.
        if server_id not in live and age > YOUNG:
            deadlines.remove(directory, server_id)
