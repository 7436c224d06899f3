"""The queues that Kueue has for jobs, kept as they should be: only what differs is told."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlmp_spawner.errors import NotTaken
from mlmp_spawner.jobs.kueue import Kueue
from mlmp_spawner.kube import job_queues
from mlmp_spawner.kube.job_queues import HOSTNAME, NodeQuota
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.job_guarantees import FIXED, POOL, Tenant, of_resource
from mlmp_spawner.rules.nodes import ClusterNode
from mlmp_spawner.units import MINUTE

log = logging.getLogger(__name__)

Json = dict[str, Any]
Parts = Mapping[Tenant, Mapping[str, int]]
"""Of each tenant its units on each node."""

AGAIN = 5 * MINUTE
"""After so long all is told again, whatever somebody else has made of it."""


class KueueQueues:
    """What Kueue was told of queues, and when.

    :param namespace: that of users' pods.
    """

    def __init__(self, kueue: Kueue, namespace: str) -> None:
        self._kueue = kueue
        self._namespace = namespace
        self._told: dict[tuple[str, str], Json] = {}
        self._parts: dict[str, dict[Tenant, dict[str, int]]] = {}
        self._since: int | None = None

    async def begin(self, site: Site, now: int) -> None:
        """What all queues need: priorities, and the check with somebody who answers it. Queues of tenants that there
        are no more lose their quota."""
        if self._since is None or now >= self._since + AGAIN:
            self._told.clear()
            await self._retire(site)
            self._since = now
        await self._tell(job_queues.priority_classes())
        check = job_queues.admission_check()
        if ("AdmissionCheck", check["metadata"]["name"]) not in self._told:
            (made,) = await self._kueue.apply([check])
            if not _is_active(made):
                generation = int(made["metadata"].get("generation") or 1)
                await self._kueue.status(job_queues.check_status(generation=generation, now=now))
            self._told["AdmissionCheck", check["metadata"]["name"]] = check

    async def _retire(self, site: Site) -> None:
        wanted = {
            job_queues.cluster_queue_name(resource, tenant)
            for _, resource in site.catalog.capacity()
            for tenant in (POOL, FIXED, *(Tenant("own", one) for one in of_resource(site.job_guarantees, resource)))
        }
        for item in await self._kueue.cluster_queues():
            name = job_queues.in_use(item, self._namespace)
            if name is not None and name not in wanted:
                await self._try(job_queues.retired_queue(name, self._namespace))

    async def lower(self, resource: str, nodes: Mapping[str, ClusterNode], parts: Parts) -> None:
        """Lowers quotas to those of ``parts`` where they are higher, and raises none."""
        former = self._parts.get(resource)
        if former is None:
            return  # nobody knows what it was told: all of it is told at once
        less = {
            tenant: {node: min(count, parts.get(tenant, {}).get(node, 0)) for node, count in units.items()}
            for tenant, units in former.items()
        }
        if less != former:
            await self._set(resource, nodes, less)

    async def set(
        self, resource: str, nodes: Mapping[str, ClusterNode], parts: Parts, groups: Iterable[tuple[str, Tenant]]
    ) -> bool:
        """Sets the quotas; whether they were others before.

        :param nodes: those of the cluster; what is on others can't be given away. :param groups: each with the tenant
            in whose queue its jobs are.
        """
        wanted = {tenant: dict(units) for tenant, units in parts.items()}
        changed = self._parts.get(resource) != wanted
        await self._set(resource, nodes, wanted)
        for group, tenant in sorted(groups, key=lambda one: (one[0], one[1].kind)):
            await self._try(job_queues.local_queue(resource, group, self._namespace, tenant))
        return changed

    async def _set(
        self, resource: str, nodes: Mapping[str, ClusterNode], parts: Mapping[Tenant, Mapping[str, int]]
    ) -> None:
        self._parts.pop(resource, None)  # nobody knows what it is while it is told
        there = sorted({node for units in parts.values() for node in units if node in nodes})
        every = [_quota(nodes[node], 0) for node in there]
        await self._tell(job_queues.resource_flavor(one) for one in every)
        await self._tell(
            job_queues.cluster_queue(
                resource, [_quota(nodes[node], units.get(node, 0)) for node in there], self._namespace, tenant
            )
            for tenant, units in parts.items()
        )
        self._parts[resource] = {tenant: dict(units) for tenant, units in parts.items()}

    async def _try(self, one: Json) -> None:
        """Tells one; if just that is refused it waits until all is told again, and the others do not."""
        try:
            await self._tell([one])
        except NotTaken as error:
            log.warning("jobs: %s", error.detail)
            self._told[_key(one)] = one

    async def _tell(self, objects: Iterable[Json]) -> None:
        news: Sequence[Json] = [one for one in objects if self._told.get(_key(one)) != one]
        for one in news:
            self._told.pop(_key(one), None)  # nobody knows what it is while it is told
            await self._kueue.apply([one])
            self._told[_key(one)] = one


def labels_of(nodes: Mapping[str, ClusterNode]) -> dict[str, Mapping[str, str]]:
    """Of each node's flavor the labels that Kueue makes its pods ask for."""
    return {job_queues.flavor_name(name): {HOSTNAME: _hostname(node)} for name, node in nodes.items()}


def _quota(node: ClusterNode, units: int) -> NodeQuota:
    return NodeQuota(node.name, _hostname(node), units, node.cpus, node.memory)


def _hostname(node: ClusterNode) -> str:
    return node.labels.get(HOSTNAME, node.name)


def _key(one: Json) -> tuple[str, str]:
    return str(one["kind"]), str(one["metadata"]["name"])


def _is_active(check: Mapping[str, Any]) -> bool:
    conditions = (check.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Active" and one.get("status") == "True" for one in conditions)
