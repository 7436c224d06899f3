"""A hub and its proxy for the servers of classes, played."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from mlmp_spawner.errors import MLMPError, Unavailable
from mlmp_spawner.operations import admission
from mlmp_spawner.operations.admission import StartOptions, admit
from mlmp_spawner.operations.courses.servers import ClassServers
from mlmp_spawner.operations.site import Actor, Site
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.units import SECOND
from tests.operations.conftest import NOW


class PlayedHub:
    """A hub that starts servers as it is told to, and a proxy that tells when somebody was there."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.now = NOW
        self.asked: list[str] = []
        self.refusals: dict[str, MLMPError] = {}
        self.slow = False
        self.visits: dict[tuple[str, str], int] = {}
        self.away = False

    async def start_server(self, user: str, server: str, options: Mapping[str, Any]) -> bool:
        self.asked.append(user)
        if user in self.refusals:
            raise self.refusals[user]
        admitted = admit(self.site, actor=Actor(user), server=server, options=StartOptions(**options), now=self.now)
        if not self.slow:
            self.comes_up(admitted.reservation)
        return not self.slow

    def comes_up(self, seat: Reservation) -> None:
        admission.started(self.site, seat.id, now=self.now)
        self.visits[seat.owner, seat.server] = self.now + 20 * SECOND

    async def last_activity(self) -> dict[tuple[str, str], int]:
        if self.away:
            raise Unavailable("The hub does not answer just now.")
        return dict(self.visits)


def looks(servers: ClassServers, hub: PlayedHub, now: int) -> None:
    hub.now = now

    async def look() -> None:
        await servers.look(now)
        await servers.idle()

    asyncio.run(look())
