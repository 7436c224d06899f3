"""Sees to it that a user's folder is there before their server is, or gone, by a pod that does it in the cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from kubernetes_asyncio.client import ApiClient, CoreV1Api
from kubernetes_asyncio.client.exceptions import ApiException

from mlmp_spawner import units
from mlmp_spawner.errors import Unavailable
from mlmp_spawner.kube import creation
from mlmp_spawner.kube.client import Connection
from mlmp_spawner.kube.home_pods import ERASE, HAND_IN, MAKE, Home, Work, is_left_over, judge, manifest, pod_name
from mlmp_spawner.kube.labels import HOME, KIND
from mlmp_spawner.kube.outcomes import ASK, Fails, Going, NotStarted
from mlmp_spawner.rules.storage import Folders

LOOK = 0.2
"""Seconds between two looks at the pod."""


class Homes:
    """The folders in one claim.

    :param patience: seconds that one may take, all waiting for a file server included.
    """

    def __init__(self, folders: Folders, connection: Connection, patience: float) -> None:
        self.folders, self.patience = folders, patience
        self._connection = connection

    async def make(self, home: Home, tell: Callable[[int, str], None]) -> None:
        """Returns when the folder is there. May be killed and called again, by several at once too.

        :param tell: gets each step. :raises NotStarted: it can't be made; why.
        """
        await self._do(MAKE, home, tell)

    async def make_hand_in(self, home: Home, tell: Callable[[int, str], None]) -> None:
        """The same for a folder to hand in."""
        await self._do(HAND_IN, home, tell)

    async def erase(self, home: Home) -> None:
        """Returns when there is no such folder any more. May be killed and called again.

        :raises NotStarted: it can't be erased now; why.
        """
        await self._do(ERASE, home, lambda *_: None)

    async def _do(self, work: Work, home: Home, tell: Callable[[int, str], None]) -> None:
        ends, step, told, alive = time.monotonic() + self.patience, "", "", False
        while time.monotonic() < ends:
            try:
                pod = await self._pod(home, work)
                verdict = judge(pod, self.folders.image, work) if pod is not None else Going(42, work.doing)
                if verdict is None:
                    await self._take_away(pod)
                    return
                if isinstance(verdict, Fails) and not verdict.patience:
                    await self._take_away(pod)
                    if alive or not _has_failed(pod):  # else a former start's, for which nobody waited
                        raise NotStarted(verdict)
                alive = alive or (pod is not None and not _has_failed(pod))
                step = (verdict.step or verdict.detail) if isinstance(verdict, Fails) else verdict.step
            except Unavailable as error:
                step = f"{work.doing}: {error.detail}"
            if step != told:
                tell(42, step)
                told = step
            await asyncio.sleep(LOOK)
        where = f"pod {pod_name(home, self.folders, work)} in {self.folders.namespace}"
        what = f"{work.late} within {self.patience:g} s ({where}). {step.rstrip('.')}."
        raise NotStarted(Fails("storage", what, hint=f"Try again in a few minutes. {ASK}"))

    async def _pod(self, home: Home, work: Work) -> dict[str, Any] | None:
        """The pod, made where there is none; None while a former one goes."""
        name, namespace = pod_name(home, self.folders, work), self.folders.namespace
        found = await self._ask(lambda api: api.read_namespaced_pod(name, namespace))
        if found is None:
            body = manifest(home, self.folders, self.patience, work)
            try:
                found = await self._ask(lambda api: api.create_namespaced_pod(namespace, body))
            except ApiException as error:
                if error.status == 409:
                    return None  # another start was quicker
                raise NotStarted(_refused(error, self.folders, work)) from error
        return None if found is None or found["metadata"].get("deletionTimestamp") else found

    async def _take_away(self, done: dict[str, Any] | None) -> None:
        """Removes a pod that is over, and those that a killed hub left behind."""
        namespace = self.folders.namespace
        with suppress(Unavailable, ApiException):
            pods = await self._ask(lambda api: api.list_namespaced_pod(namespace, label_selector=f"{KIND}={HOME}"))
            left = [pod for pod in (pods or {}).get("items") or () if is_left_over(pod, units.now())]
            for pod in [*([done] if done else ()), *left]:
                await self._delete(pod["metadata"])

    async def _delete(self, metadata: dict[str, Any]) -> None:
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        with suppress(ApiException):  # another start has done so
            await self._ask(lambda api: api.delete_namespaced_pod(metadata["name"], self.folders.namespace, body=body))

    async def _ask(self, call: Callable[[Any], Awaitable[Any]]) -> dict[str, Any] | None:
        """What the cluster answers, as plain JSON; None where there is no such thing."""

        async def asked(client: ApiClient) -> Any:
            return client.sanitize_for_serialization(await call(CoreV1Api(client)))

        try:
            answer: dict[str, Any] = await self._connection.ask(asked)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return answer


def _has_failed(pod: dict[str, Any] | None) -> bool:
    return pod is not None and (pod.get("status") or {}).get("phase") == "Failed"


def _refused(error: ApiException, folders: Folders, work: Work) -> Fails:
    why = creation.refused(error.status, creation.message_of(error.body))
    if why.code != "not_permitted":
        return why
    hint = (
        f"The pod that makes folders runs as root: the namespace {folders.namespace} must not enforce more than Pod "
        "Security `baseline`; or set users.storage.folders.by to `user`."
        if folders.by == "root"
        else ASK
    )
    return Fails(why.code, f"{work.undone}. {why.detail}", hint=hint)
