"""What the service asks about nodes and about everybody's pods. It only reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from kubernetes_asyncio.client import ApiClient, CoreV1Api
from kubernetes_asyncio.client.exceptions import ApiException

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.plain import node_of, pod_of
from mlmp_spawner.rules.foreign_pods import ClusterPod
from mlmp_spawner.rules.nodes import ClusterNode

PAGE = 250
"""Items of one answer."""

_HAS_A_NODE = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"


@dataclass(frozen=True, slots=True)
class ClusterSeen:
    """All nodes, and where they are looked at, all pods that run; None: they are not."""

    nodes: tuple[ClusterNode, ...] = ()
    pods: tuple[ClusterPod, ...] | None = field(default=None)


class ClusterReader(Protocol):
    """Reads the cluster. A seam: a test has one of its own."""

    async def read(self, *, pods: bool) -> ClusterSeen:
        """All nodes, and with ``pods`` all pods.

        :raises Unavailable: the cluster does not answer, or lists no node at all. :raises ApiException: it refuses.
        """


class NodeReader:
    """Reads the cluster through a connection that somebody else closes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, *, pods: bool) -> ClusterSeen:
        """All nodes, and with ``pods`` all pods.

        :raises Unavailable: the cluster does not answer, or lists no node at all. :raises ApiException: it refuses.
        """
        nodes = await self._items("list_node")
        if not nodes:
            raise Unavailable("The Kubernetes cluster lists no node.")
        running = await self._items("list_pod_for_all_namespaces", field_selector=_HAS_A_NODE) if pods else None
        return ClusterSeen(
            tuple(node_of(one) for one in nodes),
            None if running is None else tuple(pod for one in running if (pod := pod_of(one)) is not None),
        )

    async def _items(self, listing: str, **which: str) -> list[dict[str, Any]]:
        """A whole list, page by page and without the models: thousands of pods shall not hold up the event loop."""
        items: list[dict[str, Any]] = []
        more = ""
        while True:
            where = {**which, "_continue": more} if more else which
            page = await self._connection.ask(partial(_page, listing, where))
            items += page.get("items") or []
            more = (page.get("metadata") or {}).get("continue") or ""
            if not more:
                return items


async def _page(listing: str, where: Mapping[str, str], client: ApiClient) -> dict[str, Any]:
    """:raises ApiException: the cluster refuses."""
    response = await getattr(CoreV1Api(client), listing)(limit=PAGE, _preload_content=False, **where)
    async with response:
        if not 200 <= response.status <= 299:
            raise ApiException(status=response.status, reason=response.reason)
        found = await response.json()
    return found if isinstance(found, dict) else {}
