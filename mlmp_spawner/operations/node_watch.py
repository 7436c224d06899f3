"""The watch on a cluster's nodes: what they lack can't be booked, and what was booked there finds another place.

It looks every few seconds rather than following a stream of events: a look says all there is to know, so that nothing
can be missed or come twice. Only what was seen for ``c.MLMP.node_patience`` changes anything
(:mod:`mlmp_spawner.rules.nodes`); what was changed is in the database alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from mlmp_spawner import units
from mlmp_spawner.errors import MLMPError
from mlmp_spawner.kube.nodes import ClusterReader, ClusterSeen
from mlmp_spawner.operations import catalog_sync, node_outages
from mlmp_spawner.operations.cluster_look import ClusterLook
from mlmp_spawner.operations.relocating import Lost
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules import nodes as rules
from mlmp_spawner.rules.foreign_pods import foreigners
from mlmp_spawner.rules.nodes import Close, Key, Memory, Open, Reason, SetUnits
from mlmp_spawner.rules.reservations import Interval
from mlmp_spawner.settings import MLMP
from mlmp_spawner.store import reservations as store
from mlmp_spawner.store.transaction import read

log = logging.getLogger(__name__)

SELDOM, OFTEN = 10.0, 1.0
"""Seconds between two looks: a sixth of the patience, within these."""


@dataclass(frozen=True, slots=True)
class _Database:
    """What the database knows that a look is compared with."""

    away: dict[str, str]
    units: dict[Key, int]


class NodeWatch:
    """Looks at the cluster's nodes. ``last`` is what the last look saw.

    :param reader: asks the cluster.
    """

    def __init__(self, site: Callable[[], Site], settings: MLMP, reader: ClusterReader) -> None:
        self.site = site
        self.namespace = settings.namespace
        self.patience = round(settings.node_patience * 1000)
        self.every = min(SELDOM, max(OFTEN, settings.node_patience / 6))
        self.sees_pods = settings.see_all_pods
        self.reader = reader
        self.last = ClusterLook()
        self._memory = Memory()

    async def run(self) -> None:
        """Looks again and again; no failure ends it."""
        while True:
            await self.look()
            await asyncio.sleep(self.every)

    async def look(self, now: int | None = None) -> ClusterLook:
        """One look, with all that follows from it. One that fails is told in ``last``, and changes nothing."""
        try:
            seen = await self.reader.read(pods=self.sees_pods)
            at = units.now() if now is None else now
            self.last = await asyncio.to_thread(self._take, seen, at)
        except Exception as error:  # noqa: BLE001 -- no failure ends the loop
            said = error.detail if isinstance(error, MLMPError) else f"{type(error).__name__}: {error}"
            if self.last.problem != said:  # once, not every few seconds
                log.warning("looking at the cluster's nodes failed; tried again: %s", said)
            self.last = ClusterLook(self.last.at, self.last.nodes, self.last.foreign, said)
        return self.last

    def _take(self, seen: ClusterSeen, now: int) -> ClusterLook:
        site = self.site()
        self._memory = rules.look(self._memory, seen.nodes, site.catalog, now=now, patience=self.patience)
        known = _known(site, now)
        found = rules.actions(
            self._memory, site.catalog, away=known.away, units=known.units, now=now, patience=self.patience
        )
        lost: list[Lost] = []
        for action in found:
            lost += _carry_out(site, action, known, now)
        # With every look, so that what a crash or somebody quicker kept from being done is done by the next.
        lost += _places_for_what_lacks_units(site, now) + node_outages.find_places(site, now=now)
        for one in lost:
            log.warning("%s: booking %s of %r: %s", one.node, one.reservation, one.owner, one.outcome)
        foreign = None
        if seen.pods is not None:
            foreign = tuple(foreigners(seen.pods, site.catalog, namespace=self.namespace, booked=_booked(site, now)))
        return ClusterLook(now, seen.nodes, foreign)


def _known(site: Site, now: int) -> _Database:
    with read(site.engine) as connection:
        away = {node: one.reason for node, one in node_outages.under_way(connection, now).items()}
        return _Database(away, catalog_sync.known(connection))


def _carry_out(site: Site, action: rules.Action, known: _Database, now: int) -> list[Lost]:
    log.warning("the cluster's nodes: %s", action)
    if isinstance(action, Open):
        return node_outages.begin(site, action.node, action.reason, now=now)
    if isinstance(action, Reason):
        node_outages.say(site, action.node, action.reason, now=now)
    elif isinstance(action, Close):
        node_outages.end(site, action.node, now=now)
    elif isinstance(action, SetUnits):
        key = (action.node, action.resource)
        listed = site.catalog.capacity()[key]
        why = rules.lacks(action.resource, listed, action.units) if action.units < listed else ""
        catalog_sync.set_units(site, known.units, {key: action.units}, now=now, reason=why)
    return []


def _places_for_what_lacks_units(site: Site, now: int) -> list[Lost]:
    """Finds other places for bookings on nodes that have fewer units than the catalog lists."""
    with read(site.engine) as connection:
        there = catalog_sync.known(connection)
    short = [key for key, listed in sorted(site.catalog.capacity().items()) if there.get(key, listed) < listed]
    return [one for node, resource in short for one in catalog_sync.resolve(site, node, resource, now=now)]


def _booked(site: Site, now: int) -> dict[Key, int]:
    """Units that are booked just now."""
    found: dict[Key, int] = {}
    with read(site.engine) as connection:
        for resource in sorted({key[1] for key in site.catalog.capacity()}):
            for _, node, taken, _, _ in store.taken(connection, resource, site.catalog.nodes, Interval(now, now + 1)):
                found[node, resource] = found.get((node, resource), 0) + taken
    return found
