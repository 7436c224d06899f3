"""What looks after classes while the service runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from mlmp_spawner.operations.courses.forgetting import ClassForgetting
from mlmp_spawner.operations.courses.servers import ClassServers, Hub
from mlmp_spawner.operations.courses.watching import ClassWatch
from mlmp_spawner.operations.image_states import Preloading
from mlmp_spawner.operations.site import Site
from mlmp_spawner.operations.watch import Activity
from mlmp_spawner.settings import MLMP
from mlmp_spawner.units import DAY


class ClassService:
    """Starts the servers of classes, settles classes, sees what would keep one from beginning in time, and forgets who
    sat in those that are long over.

    :param activity: gives the last look at machine or cluster. :param images: what has images on their nodes.
    """

    def __init__(
        self,
        site: Callable[[], Site],
        hub: Hub,
        settings: MLMP,
        *,
        activity: Callable[[], Activity],
        images: Preloading | None,
    ) -> None:
        self.servers = ClassServers(site, hub, at_once=settings.class_starts_at_once)
        self.forgetting = ClassForgetting(site, settings.class_names_kept * DAY)
        data = settings.data if settings.backend != "kubernetes" else ""
        look = (lambda: images.last) if images else (lambda: None)
        self.watch = ClassWatch(site, activity=activity, images=look, data=data)

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """What runs as long as the service does."""
        return [self.servers.run(), self.watch.run(), self.forgetting.run()]
