"""The pods of users' servers, and of jobs: see them, write a deadline on one, delete one.

Answers are read as the plain JSON that they are: hundreds of pods as models of the library would hold up the event
loop for a second. A pod is named *and* meant by its uid, so that a new one of the same name is never touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kubernetes_asyncio.client import ApiClient, CoreV1Api
from kubernetes_asyncio.client.exceptions import ApiException

from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Unavailable
from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.labels import (
    ATTEMPT,
    JOB,
    KIND,
    OWNER,
    RESERVATION,
    SERVER,
    SERVER_NAME,
    deadline_annotations,
    deadline_of,
)
from mlmp_spawner.units import SECOND, from_iso

FINISHED = {"Succeeded", "Failed"}
MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class ServerPod:
    """A pod of a user's server, or of the ``attempt`` of a job. ``version`` changes with everything about it, its
    status too.

    ``owner``, ``server`` and ``deadline`` are what is written on it, "" or None where that can't be read.
    ``deleting_at``: when its grace is over (ms UTC), None while nobody has deleted it.
    """

    name: str
    uid: str
    version: str
    server_id: str
    owner: str
    server: str
    deadline: Deadline | None
    phase: str
    node: str
    deleting_at: int | None = None
    attempt: str = ""

    @property
    def finished(self) -> bool:
        """Whether nothing of it runs any more, or will."""
        return self.phase in FINISHED


def server_pod(item: Mapping[str, Any]) -> ServerPod | None:
    """A pod as the cluster describes it; None where that is no description of a pod."""
    metadata = item.get("metadata") or {}
    name, uid = metadata.get("name"), metadata.get("uid")
    if not name or not uid:
        return None
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    deleting_at = None
    with suppress(ValueError):
        deleting_at = from_iso(metadata["deletionTimestamp"]) if metadata.get("deletionTimestamp") else None
    return ServerPod(
        name=name,
        uid=uid,
        version=metadata.get("resourceVersion", ""),
        server_id=labels.get(RESERVATION, ""),
        owner=annotations.get(OWNER, ""),
        server=annotations.get(SERVER_NAME, ""),
        deadline=deadline_of(annotations),
        phase=(item.get("status") or {}).get("phase", ""),
        node=(item.get("spec") or {}).get("nodeName") or "",
        deleting_at=deleting_at,
        attempt=labels.get(ATTEMPT, ""),
    )


def grace(deadline: Deadline, now: int) -> int:
    """The seconds between SIGTERM and SIGKILL of a stop that begins ``now``: what is left, and one at least."""
    return max(1, (deadline.kills_at - now) // SECOND)


def on_its_way(pod: ServerPod, deadline: Deadline, now: int) -> bool:
    """Whether a pod has been deleted already, and with no more grace than the deadline leaves."""
    latest = now + (grace(deadline, now) + 1) * SECOND
    return pod.deleting_at is not None and pod.deleting_at <= latest


class Pods:
    """The pods of servers in one namespace. Every call raises :class:`~mlmp_spawner.errors.Unavailable` when the
    cluster does not answer, or refuses.

    :param jobs: those of jobs too.
    """

    def __init__(self, namespace: str, connection: Connection | None = None, *, jobs: bool = False) -> None:
        self.namespace = namespace
        self._kinds = f"{KIND} in ({SERVER},{JOB})" if jobs else f"{KIND}={SERVER}"
        self.connection = connection or Connection()

    async def servers(self, server_id: str | None = None) -> list[ServerPod]:
        """All of them, finished ones too, or those of one server."""
        selector = self._kinds + (f",{RESERVATION}={server_id}" if server_id else "")

        async def ask(client: ApiClient) -> Any:
            api: Any = CoreV1Api(client)
            response = await api.list_namespaced_pod(self.namespace, label_selector=selector, _preload_content=False)
            content = await response.read()
            if response.status != 200:
                raise ApiException(status=response.status, reason=response.reason)
            return json.loads(content)

        try:
            found = await self.connection.ask(ask)
        except ApiException as error:
            raise self._refused("list", error) from error
        return [pod for item in found.get("items") or () if (pod := server_pod(item)) is not None]

    async def publish(self, pod: ServerPod, deadline: Deadline) -> bool:
        """Writes a deadline on a pod; False where that pod is no more."""
        # A uid in a patch is compared with that of the pod, never written.
        body = {"metadata": {"uid": pod.uid, "annotations": deadline_annotations(deadline)}}

        async def ask(client: ApiClient) -> Any:
            api: Any = CoreV1Api(client)
            return await api.patch_namespaced_pod(pod.name, self.namespace, body, _content_type=MERGE)

        return await self._change("annotate", pod, ask)

    async def delete(self, pod: ServerPod, *, grace: int, unchanged: bool = False) -> bool:
        """Deletes a pod; False where that pod is no more.

        :param grace: seconds between SIGTERM and SIGKILL.
        :param unchanged: only if nothing about it has changed since it was seen; else False.
        """
        preconditions = {"uid": pod.uid} | ({"resourceVersion": pod.version} if unchanged else {})
        body = {"gracePeriodSeconds": grace, "preconditions": preconditions}

        async def ask(client: ApiClient) -> Any:
            api: Any = CoreV1Api(client)
            return await api.delete_namespaced_pod(pod.name, self.namespace, body=body)

        return await self._change("delete", pod, ask)

    async def close(self) -> None:
        """Closes the connection."""
        await self.connection.close()

    async def _change(self, what: str, pod: ServerPod, ask: Any) -> bool:
        try:
            await self.connection.ask(ask)
        except ApiException as error:
            if _another(error):
                return False
            raise self._refused(f"{what} {pod.name}", error) from error
        return True

    def _refused(self, what: str, error: ApiException) -> Unavailable:
        return Unavailable(
            f"The Kubernetes cluster refuses to {what} pods in {self.namespace}: {error.status} {error.reason}.",
            hint="Does the service account have that right there?",
        )


def _another(error: ApiException) -> bool:
    """Whether it is gone, or not the pod (or not the version of it) that was meant; patches say so by a 422."""
    return error.status in (404, 409) or (error.status == 422 and "metadata.uid" in str(error.body))
