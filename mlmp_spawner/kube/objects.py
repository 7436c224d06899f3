"""Objects of the cluster as plain JSON: made, changed, listed, deleted, and what a container printed.

A seam: tests have a cluster of their own behind :class:`Objects`. All of it is of one namespace, or of none.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp
from kubernetes_asyncio.client import ApiClient
from kubernetes_asyncio.client.exceptions import ApiException

from mlmp_spawner.errors import Changed, NotFound, NotTaken, Unavailable
from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.creation import message_of
from mlmp_spawner.kube.job_queues import GROUP, VERSION
from mlmp_spawner.kube.outcomes import sentence
from mlmp_spawner.units import SECOND, to_iso

Json = Mapping[str, Any]

CORE, BATCH, NETWORK = "api/v1", "apis/batch/v1", "apis/networking.k8s.io/v1"
KUEUE = f"apis/{GROUP}/{VERSION}"

_NAMESPACED = {
    "ConfigMap": (CORE, "configmaps"),
    "Secret": (CORE, "secrets"),
    "Service": (CORE, "services"),
    "Pod": (CORE, "pods"),
    "Job": (BATCH, "jobs"),
    "NetworkPolicy": (NETWORK, "networkpolicies"),
    "Workload": (KUEUE, "workloads"),
    "LocalQueue": (KUEUE, "localqueues"),
}
_CLUSTER_WIDE = {
    "Node": (CORE, "nodes"),
    "ClusterQueue": (KUEUE, "clusterqueues"),
    "ResourceFlavor": (KUEUE, "resourceflavors"),
    "WorkloadPriorityClass": (KUEUE, "workloadpriorityclasses"),
    "AdmissionCheck": (KUEUE, "admissionchecks"),
    "Cohort": (KUEUE, "cohorts"),
}
_JSON, _MERGE, _APPLY = "application/json", "application/merge-patch+json", "application/apply-patch+yaml"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_OPENS_WITHIN, _SILENT_FOR = 10.0, 60.0
"""Seconds until a log begins to come, and without a word of it until it is asked for anew."""


class Objects(Protocol):
    """The objects. Every call raises :class:`~mlmp_spawner.errors.Unavailable` where the cluster does not answer, and
    :class:`~mlmp_spawner.errors.NotTaken`, which is one of these, where it does and refuses."""

    async def create(self, item: Json) -> bool:
        """Makes an object; False where one of that name is there already.

        :raises Unavailable: also while a former one of that name is still on its way out.
        """

    async def apply(self, item: Json, manager: str, *, status: bool = False) -> dict[str, Any]:
        """Server-side apply, taking over what others set; the object as it is then.

        :param status: of its status, and nothing else. :raises Changed: it is not the version that ``item`` names.
        :raises NotFound: there is none whose status that could be.
        """

    async def patch(self, item: Json) -> dict[str, Any]:
        """Merges ``item`` into the object that it names; the object as it is then.

        :raises Changed: it is not the version, or not the object, that ``item`` names.
        :raises NotFound: there is none.
        """

    async def metadata(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Of all objects of a kind with these labels, their metadata alone."""

    async def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """All objects of a kind with these labels."""

    async def delete(self, kind: str, name: str, *, uid: str = "", grace: int | None = None) -> None:
        """Deletes an object, and what depends on it after it; nothing happens where it is gone, or another one.

        :param grace: seconds; None: its own.
        """

    def log(self, pod: str, container: str, *, since: int | None = None) -> AsyncIterator[bytes]:
        """What a container printed, each line with its time, and what it prints until it ends.

        :param since: ms UTC, of which whole seconds count: what was printed earlier is left out.
        :raises NotFound: no such pod, or its container has not begun.
        """


class ClusterObjects:
    """:class:`Objects` of a real cluster.

    :param connection, streams: for questions, and for logs, of which each keeps one open; closed by others.
    """

    def __init__(self, namespace: str, connection: Connection, streams: Connection) -> None:
        self.namespace = namespace
        self._connection = connection
        self._streams = streams

    async def create(self, item: Json) -> bool:
        """Makes it."""
        try:
            await self._asked("POST", self._path(item["kind"]), body=item)
        except Changed as error:
            if "is being deleted" in error.detail:
                raise Unavailable(error.detail) from None
            return False
        return True

    async def apply(self, item: Json, manager: str, *, status: bool = False) -> dict[str, Any]:
        """Applies it."""
        path = self._path(item["kind"], item["metadata"]["name"]) + ("/status" if status else "")
        query = [("fieldManager", manager), ("force", "true")]
        return await self._asked("PATCH", path, body=item, content=_APPLY, query=query)

    async def patch(self, item: Json) -> dict[str, Any]:
        """Merges it."""
        path = self._path(item["kind"], item["metadata"]["name"])
        return await self._asked("PATCH", path, body=item, content=_MERGE)

    async def metadata(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Lists their metadata."""
        query = [("labelSelector", selector)] if selector else []
        found = await self._asked("GET", self._path(kind), query=query, accept=_METADATA_LIST)
        return [one.get("metadata") or {} for one in found.get("items") or ()]

    async def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Lists them."""
        query = [("labelSelector", selector)] if selector else []
        found = await self._asked("GET", self._path(kind), query=query)
        return list(found.get("items") or ())

    async def delete(self, kind: str, name: str, *, uid: str = "", grace: int | None = None) -> None:
        """Deletes it."""
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        try:
            await self._asked("DELETE", self._path(kind, name), body=body)
        except (NotFound, Changed):
            return

    async def log(self, pod: str, container: str, *, since: int | None = None) -> AsyncIterator[bytes]:
        """Reads it, piece by piece."""
        query = [("container", container), ("follow", "true"), ("timestamps", "true")]
        if since is not None:
            query.append(("sinceTime", to_iso(since // SECOND * SECOND)))
        response = await self._open(f"{self._path('Pod', pod)}/log", query)
        async with response:
            try:
                async for piece in response.content.iter_any():
                    yield piece
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise Unavailable(f"The log of {pod} broke off: {error}.") from error

    async def _open(self, path: str, query: list[tuple[str, str]]) -> aiohttp.ClientResponse:
        async def ask(client: ApiClient) -> aiohttp.ClientResponse:
            timeout = aiohttp.ClientTimeout(sock_connect=_OPENS_WITHIN, sock_read=_SILENT_FOR)
            return await _call(client, "GET", path, query=query, accept="*/*", timeout=timeout)

        try:
            response = await self._streams.ask(ask)
        except ApiException as error:
            if error.status in (400, 404):  # 400: its container has not begun
                raise NotFound(_said(error)) from error
            raise _refused("read the log at", path, error) from error
        return response

    async def _asked(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        query: list[tuple[str, str]] | None = None,
        content: str = _JSON,
        accept: str = _JSON,
    ) -> dict[str, Any]:
        async def ask(client: ApiClient) -> dict[str, Any]:
            async with await _call(
                client, method, path, body=body, query=query, content=content, accept=accept
            ) as got:
                found = json.loads(await got.read())
            return found if isinstance(found, dict) else {}

        try:
            return await self._connection.ask(ask)
        except ApiException as error:
            if error.status == 404:
                raise NotFound(_said(error)) from error
            # A patch that names the uid of a former object is refused as one that would change it.
            if error.status == 409 or (error.status == 422 and "metadata.uid" in str(error.body)):
                raise Changed(_said(error)) from error
            raise _refused(method, path, error) from error

    def _path(self, kind: str, name: str | None = None) -> str:
        if kind in _CLUSTER_WIDE:
            group, plural = _CLUSTER_WIDE[kind]
            path = f"/{group}/{plural}"
        else:
            group, plural = _NAMESPACED[kind]
            path = f"/{group}/namespaces/{quote(self.namespace, safe='')}/{plural}"
        return path if name is None else f"{path}/{quote(name, safe='')}"


async def _call(
    client: ApiClient,
    method: str,
    path: str,
    *,
    body: Json | None = None,
    query: list[tuple[str, str]] | None = None,
    content: str = _JSON,
    accept: str = _JSON,
    timeout: aiohttp.ClientTimeout | None = None,
) -> aiohttp.ClientResponse:
    """:raises ApiException: the cluster refuses; with its ``body``."""
    response: aiohttp.ClientResponse = await client.call_api(
        path, method, header_params={"Accept": accept, "Content-Type": content}, query_params=query or [], body=body,
        auth_settings=["BearerToken"], _preload_content=False, _request_timeout=timeout,
    )  # fmt: skip
    if not 200 <= response.status <= 299:
        async with response:
            error = ApiException(status=response.status, reason=response.reason)
            error.body = await response.read()
        raise error
    return response


def _said(error: ApiException) -> str:
    return sentence(message_of(error.body)) or str(error.reason)


def _refused(method: str, path: str, error: ApiException) -> Unavailable:
    # Without a login nothing at all is taken.
    return (Unavailable if error.status == 401 else NotTaken)(
        f"The Kubernetes cluster refuses to {method} {path}: {error.status} {_said(error)}.",
        hint="Does the service account have that right there, and is Kueue installed?",
    )
