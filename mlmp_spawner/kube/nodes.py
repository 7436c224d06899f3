"""What the service asks about nodes and about everybody's pods. It only reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from kubernetes_asyncio.client import CoreV1Api
from kubernetes_asyncio.client.exceptions import ApiException

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.plain import node_of, pod_of
from mlmp_spawner.rules.foreign_pods import ClusterPod
from mlmp_spawner.rules.nodes import ClusterNode


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
        nodes = await self._connection.ask(lambda client: _items(CoreV1Api(client).list_node))
        if not nodes:
            raise Unavailable("The Kubernetes cluster lists no node.")
        running = None
        if pods:
            running = await self._connection.ask(lambda client: _items(CoreV1Api(client).list_pod_for_all_namespaces))
        return ClusterSeen(
            tuple(node_of(one) for one in nodes),
            None if running is None else tuple(pod for one in running if (pod := pod_of(one)) is not None),
        )


async def _items(call: Callable[..., Awaitable[Any]]) -> list[dict[str, Any]]:
    """The items of a list: from the API server's own memory (resource version 0) and without the models, which is
    much cheaper for both sides.

    :raises ApiException: the cluster refuses.
    """
    response = await call(resource_version="0", _preload_content=False)
    async with response:
        if not 200 <= response.status <= 299:
            raise ApiException(status=response.status, reason=response.reason)
        body = await response.json()
    items = body.get("items")
    return items if isinstance(items, list) else []
