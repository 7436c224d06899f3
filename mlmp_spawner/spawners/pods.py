"""Users' servers as pods, each watched from its start to its end. What a pod may take is not decided here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from jupyterhub.utils import exponential_backoff, url_path_join
from kubernetes_asyncio.client import V1DeleteOptions, V1Pod
from kubernetes_asyncio.client.exceptions import ApiException
from kubespawner import KubeSpawner

from mlmp_spawner import units
from mlmp_spawner.errors import MLMPError
from mlmp_spawner.kube import creation, verdicts
from mlmp_spawner.kube.labels import RESERVATION, deadline_of
from mlmp_spawner.kube.outcomes import ASK, Fails, NotStarted, Waiting, sentence
from mlmp_spawner.kube.pods import FINISHED, grace
from mlmp_spawner.kube.scheduling import LACKING, Place
from mlmp_spawner.units import SECOND, format_duration

LOOK = 0.3
"""Seconds between two looks at what is known of a pod."""
LOOKS_AGAIN = 15.0
"""Seconds that the scheduler may take to try a pod again for which there is room now."""
ANSWERS = 10.0
"""Seconds that the cluster may take to list what there is."""
_LATER = (429, 500, 503, 504)
_DOWN = (aiohttp.ClientError, OSError, asyncio.TimeoutError)

_connecting = asyncio.Lock()


class WatchedPodSpawner(KubeSpawner):
    """A KubeSpawner that says what happens, fails as soon as the cluster says why, and ends pods on time."""

    server_id: str
    units_timeout: float
    _created = False
    _no_answer = ""
    _failed_at = float("-inf")
    _behind: tuple[float, Waiting | None] = (float("-inf"), None)

    def explain(self, error: MLMPError) -> Exception:
        """The error as the hub shows it."""
        return error

    def say(self, progress: int, message: str) -> None:
        """Tells who waits for the server what happens."""

    def place(self) -> Place:
        """Where the server that starts shall run."""
        raise NotImplementedError

    def waiting_for(self, owners: tuple[str, ...]) -> str:
        """The step of a start that waits for former servers to end."""
        raise NotImplementedError

    async def job_in_the_way(self) -> Waiting | None:
        """The job that makes way on the node where the server starts; None where there is none. Of those nothing is
        seen in the pods of servers."""
        raise NotImplementedError

    async def is_over(self) -> bool:
        """Whether no booking lets the server run; asked where its pod does not say until when it may."""
        raise NotImplementedError

    # -- start ----------------------------------------------------------------------------------------------------

    async def start(self) -> str:
        """Starts the server; returns its address once it listens there.

        :raises Exception: what :meth:`explain` makes of why it can't start.
        """
        self._created, self._no_answer, self._behind = False, "", (float("-inf"), None)
        await self._end_former()
        starting = asyncio.ensure_future(self._start_until_it_listens())
        watching = asyncio.ensure_future(self._watch())
        try:
            await asyncio.wait({starting, watching}, return_when=asyncio.FIRST_COMPLETED)
            return starting.result() if starting.done() else watching.result()
        finally:
            for task in (starting, watching):
                task.cancel()
            await asyncio.gather(starting, watching, return_exceptions=True)

    async def _end_former(self) -> None:
        """Ends a pod of the same name that the hub has lost sight of: nothing runs twice, nothing is forgotten."""
        while not await self.see():
            self.say(42, "Waiting for the cluster to answer")
            await asyncio.sleep(1)
        pod = self.pod
        if pod is not None:
            self.say(42, "Waiting for your former server to end")
            await self._remove(self._grace(pod))

    async def _start_until_it_listens(self) -> str:
        try:
            url = str(await super().start())
        except ApiException as error:
            raise self.explain(NotStarted(creation.refused(error.status, creation.message_of(error.body)))) from error
        except (asyncio.TimeoutError, TimeoutError) as error:
            said = sentence(self._no_answer or error)
            what = f"The cluster has not taken your server for {self.k8s_api_request_retry_timeout} s: {said}."
            raise self.explain(NotStarted(Fails("cluster_silent", what))) from error
        parts = urlsplit(url)
        limit = time.monotonic() + self.http_timeout
        while time.monotonic() < limit:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(parts.hostname, parts.port), 1)
            except _DOWN:
                await asyncio.sleep(0.1)
                continue
            writer.close()
            return url
        what = f"Your server runs, but has not answered for {format_duration(self.http_timeout * SECOND)}."
        raise self.explain(NotStarted(Fails("no_answer", what)))

    async def _make_create_pod_request(self, pod: V1Pod, request_timeout: float) -> bool:
        """Asks for the pod; False: to be tried again. What was created though its answer was lost is not made anew."""
        try:
            create = self.api.create_namespaced_pod(self.namespace, pod)
            await asyncio.wait_for(create, request_timeout)
        except _DOWN as error:
            self.log.warning("no answer to the creation of %s yet: %r", pod.metadata.name, error)
            self.say(45, "Waiting for the cluster to answer")
            return False
        except ApiException as error:
            if error.status == 409:
                return await self._is_there_already()
            if error.status in _LATER:
                self._no_answer = creation.message_of(error.body) or str(error.reason)
                self.log.warning("%s can't be created yet: %s", pod.metadata.name, self._no_answer)
                self.say(45, "Waiting for the cluster to take it")
                return False
            raise
        self._created = True
        return True

    async def _is_there_already(self) -> bool:
        """Whether the pod of that name is this start's; False: ask again, it may be gone or the cluster away."""
        try:
            reading = self.api.read_namespaced_pod(self.pod_name, self.namespace)
            pod = await asyncio.wait_for(reading, ANSWERS)
        except _DOWN as error:
            self.log.warning("no answer about %s yet: %r", self.pod_name, error)
            return False
        except ApiException as error:
            if error.status == 404 or error.status in _LATER:
                return False
            raise
        same = (pod.metadata.labels or {}).get(RESERVATION) == self.server_id
        if same and pod.metadata.deletion_timestamp is None:
            self._created = True
            return True
        self.say(45, "Waiting for your former server to end")
        await self._remove(1)
        return False

    async def _make_delete_pod_request(
        self, pod_name: str, delete_options: V1DeleteOptions, grace_seconds: int, request_timeout: float
    ) -> bool:
        """Deletes; False where the cluster does not answer just now."""
        try:
            deleting = super()._make_delete_pod_request(pod_name, delete_options, grace_seconds, request_timeout)
            return bool(await deleting)
        except _DOWN as error:
            self.log.warning("no answer to the deletion of %s yet: %r", pod_name, error)
            return False
        except ApiException as error:
            if error.status in _LATER:
                return False
            raise

    async def _watch(self) -> str:
        """Says what happens to the pod, until it is clear that it won't start."""
        since, failing, waiting_since = time.monotonic(), "", 0.0
        seen = False
        while True:
            await self.see()
            pod = self.pod if self._created else None
            now = time.monotonic()
            if seen and pod is None:
                raise self.explain(NotStarted(verdicts.STOPPED))
            seen = pod is not None
            verdict = self._judge(pod)
            if isinstance(verdict, Waiting) or (isinstance(verdict, Fails) and verdict.code in LACKING):
                verdict = await self._behind_a_job() or verdict
            if isinstance(verdict, Waiting):
                failing, waiting_since = "", waiting_since or now
                step = verdict.step or self.waiting_for(verdict.owners)
                late = units.now() > verdict.until + self.units_timeout * SECOND
                if late and now - waiting_since > self.units_timeout:
                    what = (
                        f"{step.removesuffix('.')}: not yet after {format_duration(round(self.units_timeout) * 1000)}."
                    )
                    raise self.explain(NotStarted(Fails("waiting_for_units", what, hint=f"Try again. {ASK}")))
                waited = round(now - waiting_since) * SECOND
                self.say(48, f"{step} ({format_duration(waited)})" if waited else step)
            elif isinstance(verdict, Fails):
                if verdict.code != failing:
                    since, failing = now, verdict.code
                if now - since >= verdict.patience:
                    self.log.error("%s can't start (%s): %s", self._log_name, verdict.code, verdict.detail)
                    raise self.explain(NotStarted(verdict))
                if verdict.step:
                    self.say(60, verdict.step)
            else:
                failing, waiting_since = "", 0.0
                self.say(verdict.progress, verdict.step)
            await asyncio.sleep(LOOK)

    async def _behind_a_job(self) -> Waiting | None:
        """The job that the start waits for, or has until a moment ago: the scheduler looks again in its own time."""
        now, found = time.monotonic(), await self.job_in_the_way()
        if found is not None:
            self._behind = (now, found)
        at, last = self._behind
        return last if now - at < LOOKS_AGAIN else None

    def _judge(self, pod: Mapping[str, Any] | None) -> verdicts.Verdict:
        events = list(self.event_reflector.resources.values()) if self.event_reflector else []
        return verdicts.judge(pod, events, self.place())

    # -- life -----------------------------------------------------------------------------------------------------

    async def poll(self) -> int | None:
        """None while the pod is there, or the cluster does not answer; else its exit status."""
        if not await self.see():
            return None
        pod = self.pod
        if pod is None:
            return 1
        if not self.server_id:
            self.server_id = (pod["metadata"].get("labels") or {}).get(RESERVATION, "")
            self.log.info("found %s running under %s", self._log_name, self.server_id)
        if pod["status"].get("phase") in FINISHED:
            status = _exit_status(pod)
            await self._remove(1)
            return status
        await self._enforce(pod)
        if self._check_pending and not self.is_pod_running(pod):
            return await self._adopt()
        status = await super().poll()
        return None if status is None else int(status)

    async def _adopt(self) -> int | None:
        """The hub was restarted while this pod started: waits until it is up, or clear that it won't be."""
        self._created = True
        watching = asyncio.ensure_future(self._watch())
        try:
            while not watching.done():
                if self.pod is not None and self.is_pod_running(self.pod):
                    return None
                await asyncio.sleep(LOOK)
            self.log.error("%s, found while it started: %s", self._log_name, watching.exception())
            return 1
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def get_url(self) -> str:
        """Where the server listens, by its pod: the hub may have died before it could write that down."""
        pod = self.pod
        if pod is None or not self.is_pod_running(pod):
            return str(await super().get_url())
        return str(url_path_join(self._get_pod_url(pod), self.server.base_url))

    async def stop(self, now: bool = False) -> None:
        """Ends the pod; returns when it is gone and its units are free. ``now``: without waiting for the server."""
        await self.see()
        pod = self.pod
        await self._remove(1 if now or pod is None else self._grace(pod))

    async def _enforce(self, pod: Mapping[str, Any]) -> None:
        """The second look at the deadline, after the clock's."""
        deadline, now = deadline_of(pod["metadata"].get("annotations")), units.now()
        if pod["metadata"].get("deletionTimestamp"):
            return
        if deadline is None:
            over, seconds = await self.is_over(), 1
        else:
            over, seconds = now >= deadline.acts_at, grace(deadline, now)
        if over:
            self.log.warning("%s is past its end: deleting its pod", self._log_name)
            options = V1DeleteOptions(grace_period_seconds=seconds)
            await self._make_delete_pod_request(self.pod_name, options, seconds, self.k8s_api_request_timeout)

    def _grace(self, pod: Mapping[str, Any]) -> int:
        """Seconds between the two signals: at the end of a booking what runs may save its work until the last one."""
        deadline, now = deadline_of(pod["metadata"].get("annotations")), units.now()
        if deadline is None:
            return max(1, int(self.delete_grace_period))
        left = grace(deadline, now)
        return left if now >= deadline.stop_at else max(1, min(int(self.delete_grace_period), left))

    async def _remove(self, seconds: int) -> None:
        """Deletes the pod and waits until it is gone, however long that takes: units that are in use are not free."""
        await exponential_backoff(
            partial(
                self._make_delete_pod_request, self.pod_name, V1DeleteOptions(grace_period_seconds=seconds), seconds,
                self.k8s_api_request_timeout,
            ),
            f"the cluster has not answered for {self.k8s_api_request_retry_timeout} s: {self.pod_name} is not deleted",
            timeout=self.k8s_api_request_retry_timeout,
        )  # fmt: skip
        begun = told = time.monotonic()
        while not await self.see() or self.pod is not None:
            if time.monotonic() > told + 60:
                told = time.monotonic()
                self.log.warning("pod %s takes long to end: %d s", self.pod_name, told - begun)
            await asyncio.sleep(0.1)

    # -- the cluster ----------------------------------------------------------------------------------------------

    @property
    def pod(self) -> Mapping[str, Any] | None:
        """The pod as it was last seen."""
        return self.pod_reflector.pods.get(f"{self.namespace}/{self.pod_name}") if self.pod_reflector else None

    async def see(self) -> bool:
        """Makes sure that pods and events are watched: a watch that could not reach the cluster gives up for good.

        False where it does not answer; what was last seen stays, and nothing is concluded from it.
        """
        kinds = {"pods": self._start_watching_pods} | (
            {"events": self._start_watching_events} if self.events_enabled else {}
        )
        if all(self._watched(kind) for kind in kinds):
            return True
        async with _connecting:
            for kind, begin in kinds.items():
                if self._watched(kind):
                    continue
                if time.monotonic() < WatchedPodSpawner._failed_at + 1:
                    return False
                key = self._get_reflector_key(kind)
                former = self.reflectors.get(key)
                try:
                    await asyncio.wait_for(begin(replace=former is not None), ANSWERS)
                except (ApiException, *_DOWN) as error:
                    self.log.warning("the cluster can't be watched just now: %r", error)
                    WatchedPodSpawner._failed_at = time.monotonic()
                    self.reflectors.pop(key, None)
                    if former is not None:
                        self.reflectors[key] = former
                    return False
        return True

    def _watched(self, kind: str) -> bool:
        reflector = self.reflectors.get(self._get_reflector_key(kind))
        return reflector is not None and reflector.watch_task is not None and not reflector.watch_task.done()


def _exit_status(pod: Mapping[str, Any]) -> int:
    for container in pod["status"].get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated")
        if container.get("name") == "notebook" and ended:
            return int(ended.get("exitCode", 1))
    return 1
