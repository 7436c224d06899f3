"""Keeps the cluster told of MLMP's own units, where an admin lets it: a node that is made anew has lost them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from mlmp_spawner.errors import MLMPError
from mlmp_spawner.kube.objects import Objects
from mlmp_spawner.kube.own_units import MANAGER, to_declare
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.nodes import ClusterNode

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two looks."""


class OwnUnits:
    """:param nodes: those of the cluster, as they were last seen."""

    def __init__(self, site: Callable[[], Site], nodes: Callable[[], Iterable[ClusterNode]], objects: Objects) -> None:
        self._site = site
        self._nodes = nodes
        self._objects = objects
        self._problem = ""

    async def run(self) -> None:
        """Looks again and again; no failure ends it."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        """Declares what differs. One node's failure is in no other's way, and tried again at the next look."""
        problem = ""
        for item in to_declare(self._site().catalog, self._nodes()):
            try:
                await self._objects.apply(item, MANAGER, status=True)
            except MLMPError as error:
                problem = problem or f"{item['metadata']['name']}: {error.detail}"
        if problem and problem != self._problem:  # once, not every few seconds
            log.warning("declaring MLMP's own units failed; tried again: %s", problem)
        self._problem = problem
