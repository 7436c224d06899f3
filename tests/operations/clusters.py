"""A hub that answers as a test says, pods that are kept in memory, and the servers on them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mlmp_spawner import units
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import NotNow, Unavailable
from mlmp_spawner.hub import HubClient
from mlmp_spawner.kube.pods import ServerPod
from mlmp_spawner.operations.clock import RunningServer
from mlmp_spawner.operations.pod_servers import PodServers
from tests.kube.pods import KeptPods

ANNS = RunningServer("ann000000001", "ann", "")
SILENCE = 0.3


class PlayedHub(HubClient):
    """A hub that answers a stop as the test says, and remembers what it was asked."""

    def __init__(self, answer: Callable[[], Awaitable[bool]]) -> None:
        super().__init__("http://127.0.0.1:1/hub/api", "none")
        self.answer = answer
        self.asked: list[tuple[str, str]] = []

    async def stop_server(self, user: str, server: str, *, remove: bool = False) -> bool:
        self.asked.append((user, server))
        return await self.answer()


async def hangs() -> bool:
    return await asyncio.Event().wait()


async def is_away() -> bool:
    raise Unavailable("The hub does not answer just now.")


async def refuses() -> bool:
    raise NotNow("ann's server is pending spawn")


async def knows_nothing() -> bool:
    return True


async def promises() -> bool:
    return False


class Cluster:
    """Pods, a hub, and the servers on them."""

    def __init__(self, *pods: ServerPod) -> None:
        self.pods = KeptPods(*pods)
        self.hub = PlayedHub(promises)
        self.servers = PodServers(self.pods, self.hub, silent_after=SILENCE)

    async def stopped(self, deadline: Deadline, server: RunningServer = ANNS) -> None:
        self.pods.now = units.now()
        await self.servers.stop(server, deadline)
        await self.servers.stops.over()

    def deleted(self) -> list[str]:
        return [one.pod for one in self.pods.deleted]
