"""The calls about the short pods that pull images ahead of time, and about what nodes have.

The pod is all there is of a pull: its name says image and node, so that there is one of a kind; its annotations say
for whom it is and what went wrong.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from kubernetes_asyncio.client import ApiClient, CoreV1Api
from kubernetes_asyncio.client.exceptions import ApiException

from mlmp_spawner.errors import Unavailable
from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.labels import ASKED_BY, KIND, PRELOAD, PROBLEM
from mlmp_spawner.kube.preload_pods import STARTED_AT, PullSettings, manifest, node_images, pull_pod, short
from mlmp_spawner.rules.preload import Key, NodeImages, Pull, PullPod
from mlmp_spawner.units import to_iso

MERGE = "application/merge-patch+json"


class Refused(Exception):
    """The cluster does not want a pod. ``key``: of which pull; ``why``: in its words."""

    def __init__(self, key: Key, why: str) -> None:
        super().__init__(why)
        self.key, self.why = key, why


class PreloadPods:
    """The pods that pull in one namespace, through a connection that somebody else closes.

    Every call raises :class:`~mlmp_spawner.errors.Unavailable` when the cluster does not answer, or refuses.
    """

    def __init__(self, connection: Connection, settings: PullSettings) -> None:
        self._connection = connection
        self.settings = settings

    async def nodes(self) -> dict[str, NodeImages]:
        """What every node of the cluster has."""
        found = await self._ask("list nodes", lambda api: api.list_node(resource_version="0", _preload_content=False))
        return {node.name: node for node in map(node_images, found)}

    async def pods(self) -> list[PullPod]:
        """All pods that pull, finished ones too."""
        found = await self._ask(
            "list pods",
            lambda api: api.list_namespaced_pod(
                self.settings.namespace, label_selector=f"{KIND}={PRELOAD}", _preload_content=False
            ),
        )
        return [pod for item in found if (pod := pull_pod(item, self.settings.timeout)) is not None]

    async def create(self, pull: Pull, *, asked_by: str = "") -> None:
        """Makes a pod that pulls; nothing where there is one. ``asked_by``: it is queued, for whom.

        :raises Refused: the cluster does not want it, and says why.
        """
        body = manifest(pull, self.settings, asked_by=asked_by)
        namespace = self.settings.namespace
        try:
            await self._connection.ask(lambda client: _api(client).create_namespaced_pod(namespace, body))
        except ApiException as error:
            if error.status != 409 or _quota(error):
                raise Refused(pull.key, _message(error)) from error

    async def start(self, pod: PullPod, now: int) -> None:
        """Lets a queued pod start."""
        annotations = {STARTED_AT: to_iso(now)}
        await self._patch(pod, {"metadata": {"annotations": annotations}, "spec": {"schedulingGates": None}})

    async def note(self, pod: PullPod, problem: str) -> None:
        """Writes on a pod what went wrong, so that it is known when the kubelet has forgotten it."""
        await self._patch(pod, {"metadata": {"annotations": {PROBLEM: problem}}})

    async def claim(self, pod: PullPod, asked_by: str) -> None:
        """Writes on a pod that somebody wants it."""
        await self._patch(pod, {"metadata": {"annotations": {ASKED_BY: asked_by}}})

    async def delete(self, pod: PullPod) -> None:
        """Deletes a pod at once: there is nothing in it to be ended gently."""
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
        namespace = self.settings.namespace
        with suppress(_Gone):
            await self._change(lambda api: api.delete_namespaced_pod(pod.name, namespace, body=body))

    async def _patch(self, pod: PullPod, change: dict[str, Any]) -> None:
        metadata = {**change.get("metadata", {}), "uid": pod.uid}
        body, namespace = {**change, "metadata": metadata}, self.settings.namespace
        with suppress(_Gone):
            await self._change(lambda api: api.patch_namespaced_pod(pod.name, namespace, body, _content_type=MERGE))

    async def _change(self, call: Callable[[Any], Awaitable[Any]]) -> None:
        try:
            await self._connection.ask(lambda client: call(_api(client)))
        except ApiException as error:
            if error.status in (404, 409) or (error.status == 422 and "metadata.uid" in str(error.body)):
                raise _Gone from error
            raise _unavailable("change pods", error) from error

    async def _ask(self, what: str, call: Callable[[Any], Awaitable[Any]]) -> list[dict[str, Any]]:
        """The items of a list, as plain JSON: the models of the library cost much more."""
        try:
            return await self._connection.ask(lambda client: _items(call(_api(client))))
        except ApiException as error:
            raise _unavailable(what, error) from error


class _Gone(Exception):
    """The pod is not there any more, or another one has its name."""


def _api(client: ApiClient) -> Any:
    """Its methods take plain JSON and answer with it, which their types don't say."""
    return CoreV1Api(client)


async def _items(response: Awaitable[Any]) -> list[dict[str, Any]]:
    async with await response as answer:
        if not 200 <= answer.status <= 299:
            raise ApiException(status=answer.status, reason=answer.reason)
        items = (await answer.json()).get("items")
    return items if isinstance(items, list) else []


def _unavailable(what: str, error: ApiException) -> Unavailable:
    return Unavailable(
        f"The Kubernetes cluster refuses to {what}: {error.status} {error.reason}.",
        hint="Does the service account have that right?",
    )


def _quota(error: ApiException) -> bool:
    """Whether a 409 is not about the name: two requests that met at a quota."""
    return "AlreadyExists" not in str(error.body)


def _message(error: ApiException) -> str:
    with suppress(ValueError, TypeError, AttributeError):
        return short(json.loads(error.body or "")["message"])
    return f"{error.status} {error.reason}"
