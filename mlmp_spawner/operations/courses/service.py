"""What looks after classes while the service runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from mlmp_spawner.operations.backend import Backend
from mlmp_spawner.operations.courses.servers import ClassServers, Hub
from mlmp_spawner.operations.courses.watching import ClassWatch
from mlmp_spawner.operations.site import Site
from mlmp_spawner.settings import MLMP


class ClassService:
    """Starts the servers of classes, settles classes, and sees what would keep one from beginning in time."""

    def __init__(self, site: Callable[[], Site], hub: Hub, settings: MLMP, backend: Backend) -> None:
        self.servers = ClassServers(site, hub, at_once=settings.class_starts_at_once)
        self.watch = ClassWatch(
            site,
            activity=backend.activity,
            images=lambda: backend.images.last if backend.images else None,
            data=settings.data if settings.backend != "kubernetes" else "",
        )

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """What runs as long as the service does."""
        return [self.servers.run(), self.watch.run()]
